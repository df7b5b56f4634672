"""Loopback addresses as a cluster's network, and free ports there."""

import random
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from stalewatch.clusters.protocol import PortTaken, Progress

LOOPBACK = "127.0.0.1"

# Below 32768, where Linux's ephemeral ports start: while a server is down, its port must not be assigned to a client's
# outgoing connection.
_SUBSTITUTES = range(20000, 32000)
_TRIES = 200


class Loopback(NamedTuple):
    """A network of loopback addresses, by node name; other programs may use ports there."""

    hosts: Mapping[str, str]

    def host(self, name: str) -> str:
        """Return the node's loopback address."""
        return self.hosts[name]

    def enter(self, name: str) -> Sequence[str]:
        """Return no prefix: every process can use loopback."""
        return ()

    def choose(self, names: Iterable[str], wanted: Sequence[int]) -> list[int]:
        """Return a free port for every wanted one; raise `PortTaken` if none is free."""
        return choose(wanted, *{self.host(name) for name in names})

    def is_free(self, name: str, port: int) -> bool:
        """Return whether the node could listen on this port now."""
        return is_free(port, self.host(name))

    def prepare(self, progress: Progress, clear: Callable[[], None]) -> None:
        """Do nothing."""

    def remove(self, progress: Progress) -> None:
        """Do nothing."""


def free(count: int, host: str = LOOPBACK) -> list[int]:
    """Return free ports that no database uses by default; raise `PortTaken` if there are not enough."""
    with ExitStack() as held:
        return [_substitute(held, host) for _ in range(count)]


def choose(wanted: Sequence[int], host: str = LOOPBACK) -> list[int]:
    """Return every wanted port if it is free, else a substitute; raise `PortTaken` if none is free.

    Each port is held until all are found, so that none is chosen twice.
    """
    with ExitStack() as held:
        is_own = [_hold(held, port, host) for port in wanted]
        return [port if own else _substitute(held, host) for port, own in zip(wanted, is_own, strict=True)]


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Return whether a server could listen on this port now."""
    with ExitStack() as held:
        return _hold(held, port, host)


def _substitute(held: ExitStack, host: str) -> int:
    for port in random.sample(_SUBSTITUTES, _TRIES):
        if _hold(held, port, host):
            return port
    raise PortTaken(
        f"no port is free on {host}: tried {_TRIES} ports from {_SUBSTITUTES.start} to {_SUBSTITUTES.stop - 1}; "
        "stop programs that listen there"
    )


def _hold(held: ExitStack, port: int, host: str) -> bool:
    probe = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    # As the servers do: a port with connections in TIME_WAIT does not count as taken.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((host, port))
        probe.listen(1)  # two sockets may be bound with SO_REUSEADDR; only one may listen
    except OSError:
        return False
    return True
