"""Servers that answer as no database would: silent, slow, endless, garbage, TLS on a port for plain connections."""

import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Self

from tests.clients.certificates import certificate

Answer = Callable[[socket.socket, threading.Event], None]
"""Answers one connection; the event is set once the server closes."""

Beginning = Callable[[bytes], bytes]
"""Returns how the answer to a request begins."""

OPTIONS, SUPPORTED, AUTHENTICATE = 5, 6, 3
"""Opcodes of Cassandra's protocol."""

DRIP_S = 0.2
BLOCK = bytes(range(256)) * 256


class HostileServer:
    """A server on a free port that treats every connection alike, each in its own thread."""

    def __init__(self, answer: Answer) -> None:
        self.closing = threading.Event()
        self._answer = answer
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def node(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._treat, args=(client,), daemon=True).start()

    def _treat(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            self._answer(client, self.closing)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Accept no more connections, and end those that wait for this event."""
        self.closing.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


Turn = Callable[[socket.socket, bytes, threading.Event], bool]
"""Passes on what a real server has answered, in a hostile way; returns whether the connection stays open."""


class TurningProxy(HostileServer):
    """A proxy before a real server, which passes everything on until it turns hostile to some of its clients."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.turns: dict[bytes, Turn] = {}
        """How clients are treated from now on who name themselves so in the first message of a connection."""
        self.hostilities: Counter[bytes] = Counter()
        """How many answers to each were treated so."""
        self._target = (host, port)
        super().__init__(self._pass_on)

    def _pass_on(self, client: socket.socket, closing: threading.Event) -> None:
        with socket.create_connection(self._target) as server:
            first = client.recv(65536)
            server.sendall(first)
            threading.Thread(target=_copy, args=(client, server), daemon=True).start()
            while answer := server.recv(65536):
                name = next((name for name in self.turns if name in first), None)
                if name is None:
                    client.sendall(answer)
                    continue
                self.hostilities[name] += 1
                if not self.turns[name](client, answer, closing):
                    return


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while sent := source.recv(65536):
            target.sendall(sent)
        target.shutdown(socket.SHUT_RDWR)


def slowly(client: socket.socket, answer: bytes, closing: threading.Event) -> bool:
    """Send one byte after another."""
    for byte in answer:
        if closing.wait(DRIP_S):
            return False
        client.sendall(bytes((byte,)))
    return True


def without_end(client: socket.socket, answer: bytes, closing: threading.Event) -> bool:
    """Begin well, and never stop."""
    client.sendall(answer[: len(answer) // 2])
    while not closing.is_set():
        client.sendall(BLOCK)
    return False


def as_garbage(client: socket.socket, answer: bytes, _closing: threading.Event) -> bool:
    """Send something else."""
    client.sendall(Random(len(answer)).randbytes(len(answer)))
    return True


def not_at_all(_client: socket.socket, _answer: bytes, _closing: threading.Event) -> bool:
    """Keep the answer, and the connection open."""
    return True


def by_half(client: socket.socket, answer: bytes, _closing: threading.Event) -> bool:
    """Close the connection in the middle of the answer."""
    client.sendall(answer[: len(answer) // 2])
    return False


TURNS: Mapping[str, Turn] = {
    "slow": slowly,
    "endless": without_end,
    "garbage": as_garbage,
    "half-open": not_at_all,
    "cut": by_half,
}


def silent(_client: socket.socket, closing: threading.Event) -> None:
    """Accept, and say nothing."""
    closing.wait()


def dripping(beginning: Beginning) -> Answer:
    """Send an answer that begins well, one byte after another, without end."""

    def drip(client: socket.socket, closing: threading.Event) -> None:
        answer, sent = beginning(client.recv(65536)), 0
        while not closing.wait(DRIP_S):
            client.sendall(answer[sent : sent + 1] or b" ")
            sent += 1

    return drip


def endless(beginning: Beginning) -> Answer:
    """Send an answer that begins well, as fast as it can be received, without end."""

    def flood(client: socket.socket, closing: threading.Event) -> None:
        client.sendall(beginning(client.recv(65536)))
        while not closing.is_set():
            client.sendall(BLOCK)

    return flood


def saying(answer: Beginning) -> Answer:
    """Send an answer to each request."""

    def say(client: socket.socket, _closing: threading.Event) -> None:
        while request := client.recv(65536):
            client.sendall(answer(request))

    return say


def speaking_tls(folder: Path) -> Answer:
    """Expect TLS on the port."""
    _, cert, key = certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)

    def handshake(client: socket.socket, closing: threading.Event) -> None:
        with context.wrap_socket(client, server_side=True):
            closing.wait()

    return handshake


def cassandra_message(request: bytes) -> bytes:
    """Answer a request of Cassandra's protocol as a node that asks for a password, whatever it is sent."""
    version, stream, opcode = request[0], request[2:4], request[4]
    if opcode == OPTIONS:
        answer, body = (
            SUPPORTED,
            struct.pack(">HH11sHH5sH11sH", 2, 11, b"CQL_VERSION", 1, 5, b"3.4.5", 11, b"COMPRESSION", 0),
        )
    else:
        name = b"org.apache.cassandra.auth.PasswordAuthenticator"
        answer, body = AUTHENTICATE, struct.pack(">H", len(name)) + name
    return struct.pack(">BB2sBI", version | 0x80, 0, stream, answer, len(body)) + body
