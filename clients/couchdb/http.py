"""HTTP requests to one leader over a persistent connection; geventhttpclient parses the answers.

geventhttpclient's own client would silently repeat a PUT whose connection broke; here every request is sent at most
once, so that a write that may have been applied counts as unknown. Sockets are those of the standard library: they
block a greenlet if gevent has patched it, else a thread.
"""

import base64
import json
import select
import socket
import ssl
import time
from typing import Any

from geventhttpclient.response import HTTPSocketResponse

from stalewatch.clients.couchdb.errors import NotConnected
from stalewatch.clients.couchdb.options import Leader

IDLE_S = 1.0
"""After an idle time this long, the server may have closed the connection, so it is checked before use."""

_BLOCK_BYTES = 16 << 10


class Connection:
    """A session's connection to one leader, by TLS if there is a context; used by one thread at a time."""

    def __init__(self, leader: Leader, timeout_s: float, tls: ssl.SSLContext | None = None) -> None:
        self._leader = leader
        self._timeout_s = timeout_s
        self._tls = tls
        self._socket: socket.socket | None = None
        self._used_s = 0.0
        self._headers = (
            f" HTTP/1.1\r\nHost: {leader.node}\r\nAccept: application/json\r\n{_authorization(leader)}"
            "Content-Type: application/json\r\nContent-Length: "
        )

    def ask(self, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
        """Send one request and return the answer's status and content.

        Raises `NotConnected` if nothing was sent, else what the socket or the parser raises.
        """
        request = f"{method} {target}{self._headers}{len(body)}\r\n\r\n".encode() + body
        opened = self._open()
        try:
            opened.sendall(request)
            response = HTTPSocketResponse(opened, block_size=_BLOCK_BYTES, method=method)
            content = response.read()
        except BaseException:  # also if the greenlet is killed: its answer must not be taken for the next one's
            self.close()
            raise
        if response.should_close():
            self.close()
        return response.get_code(), content

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self) -> socket.socket:
        now = time.monotonic()
        if self._socket is not None and now - self._used_s > IDLE_S and _is_readable(self._socket):
            self.close()
        self._used_s = now
        if self._socket is None:
            self._socket = self._connect()
        return self._socket

    def _connect(self) -> socket.socket:
        try:
            plain = socket.create_connection((self._leader.host, self._leader.port), self._timeout_s)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return self._tls.wrap_socket(plain, server_hostname=self._leader.host) if self._tls else plain
        except OSError as error:
            raise NotConnected(f"{self._leader.node}: {error}") from error


def _authorization(leader: Leader) -> str:
    if leader.user is None:
        return ""
    pair = base64.b64encode(f"{leader.user}:{leader.password or ''}".encode()).decode()
    return f"Authorization: Basic {pair}\r\n"


def _is_readable(idle: socket.socket) -> bool:
    """Return whether an idle connection has something to read, which means that the server closed it."""
    return bool(select.select([idle], [], [], 0)[0])


def decoded(content: bytes) -> Any:  # noqa: ANN401 # JSON
    """Return an answer's JSON value; raise json.JSONDecodeError if it is not JSON."""
    return json.loads(content)


def encoded(value: object) -> bytes:
    """Return a value as JSON."""
    return json.dumps(value, separators=(",", ":")).encode()
