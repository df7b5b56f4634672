"""HTTP requests to one leader over a persistent connection; geventhttpclient parses the answers.

geventhttpclient's own client would silently repeat a PUT whose connection broke; here every request is sent at most
once, so that a write that may have been applied counts as unknown. Sockets are those of the standard library: they
block a greenlet if gevent has patched it, else a thread. Every answer has a deadline as a whole, not only each wait for
some of it, and a largest size: a server may send one byte a second, or never stop.
"""

import base64
import json
import select
import socket
import ssl
import time
from typing import Any

from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError, HTTPSocketResponse

from stalewatch.clients.couchdb.errors import AnswerTooLarge, MalformedAnswer, NotConnected
from stalewatch.clients.couchdb.options import Leader

IDLE_S = 1.0
"""After an idle time this long, the server may have closed the connection, so it is checked before use."""

LARGEST_ANSWER = 16 << 20
"""Bytes of the largest answer to an operation; CouchDB's own largest document has 8 MB unless configured otherwise."""

_LARGEST_HEADERS = 64 << 10
_BLOCK_BYTES = 16 << 10
_BEGINNING_BYTES = 60


class _Incoming:
    """The bytes of one answer, for the parser: at most `limit` of them, none of them after the deadline."""

    __slots__ = ("_deadline", "_received", "_socket", "beginning", "limit")

    def __init__(self, opened: socket.socket, deadline: float) -> None:
        self._socket = opened
        self._deadline = deadline
        self._received = 0
        self.limit = _LARGEST_HEADERS
        self.beginning = b""

    def recv(self, size: int) -> bytes:
        """Return what has arrived; raise TimeoutError at the deadline, `AnswerTooLarge` beyond the limit."""
        if self._received:  # the first wait has the time-out that the socket was given
            self._socket.settimeout(_left(self._deadline))
        data = self._socket.recv(size)
        if not self._received:
            self.beginning = data[:_BEGINNING_BYTES]
        self._received += len(data)
        if self._received > self.limit:
            raise AnswerTooLarge(f"more than {self.limit:,} bytes, {_quoted(self.beginning)}...,")
        return data

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class Connection:
    """A session's connection to one leader, by TLS if there is a context; used by one thread at a time."""

    def __init__(
        self, leader: Leader, timeout_s: float, tls: ssl.SSLContext | None = None, largest: int = LARGEST_ANSWER
    ) -> None:
        self._leader = leader
        self._timeout_s = timeout_s
        self._tls = tls
        self._largest = largest
        self._socket: socket.socket | None = None
        self._used_s = 0.0
        self._headers = (
            f" HTTP/1.1\r\nHost: {leader.node}\r\nAccept: application/json\r\n{_authorization(leader)}"
            "Content-Type: application/json\r\nContent-Length: "
        )

    def ask(self, method: str, target: str, body: bytes = b"", timeout_s: float | None = None) -> tuple[int, bytes]:
        """Send one request and return the answer's status and content.

        Raises `NotConnected` if nothing was sent, TimeoutError if the whole answer has not arrived after `timeout_s`
        (default: that of the connection), `MalformedAnswer`, `AnswerTooLarge`, or what the socket raises.
        """
        request = f"{method} {target}{self._headers}{len(body)}\r\n\r\n".encode() + body
        wait_s = timeout_s or self._timeout_s
        opened = self._open()
        try:
            if opened.gettimeout() != wait_s:
                opened.settimeout(wait_s)
            _send(opened, request, time.monotonic() + wait_s)
            return self._answer(opened, method, time.monotonic() + wait_s)
        except BaseException:  # also if the greenlet is killed: its answer must not be taken for the next one's
            self.close()
            raise

    def _answer(self, opened: socket.socket, method: str, deadline: float) -> tuple[int, bytes]:
        incoming = _Incoming(opened, deadline)
        try:
            response = HTTPSocketResponse(incoming, block_size=_BLOCK_BYTES, method=method)
            incoming.limit = self._largest
            content = response.read()
        except HTTPConnectionClosed:
            raise
        except HTTPParseError as error:
            raise MalformedAnswer(_quoted(incoming.beginning)) from error
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
        if self._socket is not None and now - self._used_s > IDLE_S and _wait(self._socket, select.POLLIN, 0):
            self.close()  # there is something to read, which means that the server closed it
        self._used_s = now
        if self._socket is None:
            self._socket = self._connect()
        return self._socket

    def _connect(self) -> socket.socket:
        try:
            plain = socket.create_connection((self._leader.host, self._leader.port), self._timeout_s)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return plain if self._tls is None else self._encrypted(plain, self._tls)
        except OSError as error:
            raise NotConnected(f"{self._leader.node}: {error}") from error

    def _encrypted(self, plain: socket.socket, tls: ssl.SSLContext) -> ssl.SSLSocket:
        """Return the socket after TLS's handshake; gevent's own has a time-out for each byte that is waited for."""
        deadline = time.monotonic() + self._timeout_s
        secured = tls.wrap_socket(plain, server_hostname=self._leader.host, do_handshake_on_connect=False)
        try:
            secured.settimeout(0)
            while (event := _handshake(secured)) is not None:
                _wait(secured, event, _left(deadline))
        except BaseException:
            secured.close()
            raise
        return secured


def _handshake(secured: ssl.SSLSocket) -> int | None:
    """Go on with TLS's handshake; return what to wait for, or None once it is complete."""
    try:
        secured.do_handshake()
    except ssl.SSLWantReadError:
        return select.POLLIN
    except ssl.SSLWantWriteError:
        return select.POLLOUT
    return None


def _send(opened: socket.socket, data: bytes, deadline: float) -> None:
    """Send all of a request; TLS sends large ones in pieces, each with a time-out of its own."""
    sent = opened.send(data)
    while sent < len(data):
        opened.settimeout(_left(deadline))
        sent += opened.send(memoryview(data)[sent:])


def _left(deadline: float) -> float:
    """Return the seconds until a deadline; raise TimeoutError if it has passed."""
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("no complete answer in time")
    return left_s


def _wait(opened: socket.socket, event: int, timeout_s: float) -> bool:
    """Wait until a socket can be read or written; return whether it can."""
    poll = select.poll()  # unlike select, for any number of open files
    poll.register(opened, event)
    return bool(poll.poll(timeout_s * 1000))


def _quoted(content: bytes) -> str:
    return repr(content[:_BEGINNING_BYTES].decode(errors="replace"))


def _authorization(leader: Leader) -> str:
    if leader.user is None:
        return ""
    pair = base64.b64encode(f"{leader.user}:{leader.password or ''}".encode()).decode()
    return f"Authorization: Basic {pair}\r\n"


def decoded(content: bytes) -> Any:  # noqa: ANN401 # JSON
    """Return an answer's JSON value; raise `MalformedAnswer` if it is not JSON."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise MalformedAnswer(_quoted(content)) from error


def encoded(value: object) -> bytes:
    """Return a value as JSON."""
    return json.dumps(value, separators=(",", ":")).encode()
