"""Servers that answer as no database would: silent, slow, endless, garbage, TLS on a port for plain connections."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
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
        self.closing.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


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
