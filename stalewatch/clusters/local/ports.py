"""Ports on loopback for servers that are about to start."""

import random
import socket
from collections.abc import Sequence
from contextlib import ExitStack

from stalewatch.clusters.protocol import PortTaken

LOOPBACK = "127.0.0.1"

# Below 32768, where Linux starts to hand out ports for outgoing connections: a server that is down for a moment must
# not find its port lent to somebody's client.
_SUBSTITUTES = range(20000, 32000)
_TRIES = 200


def free(count: int, host: str = LOOPBACK) -> list[int]:
    """Return that many free ports that no database uses by habit; raise `PortTaken` when there are none."""
    with ExitStack() as held:
        return [_substitute(held, host) for _ in range(count)]


def choose(wanted: Sequence[int], host: str = LOOPBACK) -> list[int]:
    """Return for every wanted port itself when it is free, else another that is; all different.

    Every port is held until all are found, so that none is chosen twice. Raises `PortTaken` when nothing is free.
    """
    with ExitStack() as held:
        is_own = [_hold(held, port, host) for port in wanted]
        return [port if own else _substitute(held, host) for port, own in zip(wanted, is_own, strict=True)]


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Say whether a server could listen there now."""
    with ExitStack() as held:
        return _hold(held, port, host)


def _substitute(held: ExitStack, host: str) -> int:
    for port in random.sample(_SUBSTITUTES, _TRIES):
        if _hold(held, port, host):
            return port
    raise PortTaken(
        f"no port is free on {host}: {_TRIES} between {_SUBSTITUTES.start} and {_SUBSTITUTES.stop} were tried; "
        "end what listens there"
    )


def _hold(held: ExitStack, port: int, host: str) -> bool:
    probe = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    # As the servers do: connections of the last run that linger in TIME_WAIT do not count as taken.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((host, port))
        probe.listen(1)  # two sockets may be bound with SO_REUSEADDR; only one may listen
    except OSError:
        return False
    return True
