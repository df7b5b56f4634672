"""A store that costs next to nothing: a server process that keeps versions in a dictionary, and its row of databases.

    python -m benchmarks.null [STALL_AFTER_S STALL_S SERVICE_S]

The server prints its port. It answers every request after SERVICE_S. If a stall is given, it answers no request that
arrives within STALL_S seconds, which begin STALL_AFTER_S after the first request, before the stall is over.
"""

import asyncio
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stalewatch.clients import databases
from stalewatch.clients.errors import Failure
from stalewatch.clients.options import option
from stalewatch.clients.protocol import Answer, Database, Levels, Value
from stalewatch.history.clock import Clock

VERSIONS: dict[bytes, int] = {}


class NullServer(asyncio.Protocol):
    """One connection: lines ``r KEY`` and ``w KEY VERSION``, each answered by the key's version."""

    stall = (float("inf"), float("inf"))
    """When the stall begins, in seconds after the first request, and how long it lasts."""
    service_s = 0.0
    first: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 # of a stream
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer one request; clients wait for each answer before they send the next request."""
        kind, key, *version = data.split()
        if kind == b"w":
            VERSIONS[key] = max(VERSIONS.get(key, 0), int(version[0]))
        answer = b"%d\n" % VERSIONS.get(key, 0)
        delay = self._delay_s()
        if delay:
            asyncio.get_running_loop().call_later(delay, self._transport.write, answer)
        else:
            self._transport.write(answer)

    def _delay_s(self) -> float:
        now = asyncio.get_running_loop().time()
        if NullServer.first is None:
            NullServer.first = now
        begin = NullServer.first + self.stall[0]
        left = begin + self.stall[1] - now if now >= begin else 0.0
        return max(0.0, left) + self.service_s


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(NullServer, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class NullSession:
    """One user's connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read(self, key: str) -> Answer:
        """Read a key."""
        self._socket.sendall(b"r %s\n" % key.encode())
        return Answer(version=int(self._socket.recv(64)), node="null")

    def write(self, key: str, value: Value) -> Answer:
        """Raise a key to a version."""
        self._socket.sendall(b"w %s %d\n" % (key.encode(), value.version))
        self._socket.recv(64)
        return Answer(node="null")


@dataclass(frozen=True, kw_only=True)
class NullOptions:
    """Where the server is."""

    port: int = option("--null-port", "the port of the null server", 0, parse=int)


class NullClient:
    """One process's access to the null server."""

    database = "null"

    def __init__(self, options: NullOptions, clock: Clock) -> None:
        self.clock = clock
        self._port = options.port

    def prepare(self) -> None:
        """Do nothing: sessions connect."""

    def preload(self, keys: Sequence[str], payload: str) -> None:
        """Do nothing: every key exists at version 0."""

    def session(self, name: str) -> NullSession:
        """Open a session."""
        return NullSession(self._port)

    def final(self, key: str) -> Answer:
        """Read a key."""
        return NullSession(self._port).read(key)

    def explain(self, error: BaseException) -> Failure:
        """Return the name of an error."""
        return Failure("unknown", type(error).__name__)

    def settings(self) -> dict[str, object]:
        """Return no settings."""
        return {}

    def levels(self) -> Levels:
        """Return the names that Locust's statistics show."""
        return Levels("null", "null")

    def remove(self, keys: Sequence[str]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def _open(options: Any, _users: int, _seed: int, clock: Clock) -> NullClient:  # noqa: ANN401 # the row's own options
    return NullClient(options, clock)


DATABASE = Database("null", "null server", "a store that costs next to nothing", NullOptions, _open)


def register() -> None:
    """Add the row to the table of databases; call this before anything else reads the table."""
    table: Any = databases.DATABASES
    table.setdefault(DATABASE.name, DATABASE)


def main(arguments: Sequence[str]) -> None:
    """Serve until the process is killed."""
    if arguments:
        after, lasts, NullServer.service_s = map(float, arguments)
        NullServer.stall = (after, lasts)
    asyncio.run(_serve())


if __name__ == "__main__":
    main(sys.argv[1:])
