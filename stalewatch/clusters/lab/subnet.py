"""Which addresses a lab has: a part of the range that is set aside for benchmarks of networks (RFC 2544)."""

import hashlib
import json
from collections.abc import Iterator
from ipaddress import IPv4Network, ip_network

from stalewatch.clusters.lab import system
from stalewatch.clusters.protocol import ClusterError

RANGE = IPv4Network("198.18.0.0/15")
"""No address of it is anybody's on the internet, so that nothing is hidden from this machine."""

_SUBNETS = list(RANGE.subnets(new_prefix=24))


class RangeTaken(ClusterError):
    """This machine uses the addresses of labs for something else."""


def usual(seed: str) -> IPv4Network:
    """Return the subnet that comes first for a lab; another folder's lab most likely begins with another one."""
    return _SUBNETS[_place(seed)]


def choose(seed: str) -> IPv4Network:
    """Return a subnet that this machine has no way to; raise `RangeTaken` where there is none."""
    routes = list(_routes())
    for subnet in _in_turn(seed):
        if not any(route.overlaps(subnet) for route in routes):
            return subnet
    raise RangeTaken(
        f"this machine has routes into all of {RANGE}, where labs have their addresses (a VPN or a proxy does that): "
        f"{', '.join(str(route) for route in routes if route.overlaps(RANGE))}; end it, or go without --lab"
    )


def require_free(subnet: IPv4Network) -> None:
    """Raise `RangeTaken` where this machine has a way to the subnet already."""
    for route in _routes():
        if route.overlaps(subnet):
            raise RangeTaken(
                f"this machine has a route to {route}, where this lab has its addresses ({subnet}): end what made it, "
                "go without --lab, or delete the lab's data (stalewatch cluster down ... --lab --wipe), and it moves"
            )


def _place(seed: str) -> int:
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4]) % len(_SUBNETS)


def _in_turn(seed: str) -> Iterator[IPv4Network]:
    place = _place(seed)
    yield from _SUBNETS[place:]
    yield from _SUBNETS[:place]


def _routes() -> Iterator[IPv4Network]:
    """Yield where this machine knows a way to, but for the one to everywhere."""
    for route in json.loads(system.run("ip", "-json", "-4", "route", "show", "table", "all") or "[]"):
        if route["dst"] != "default":
            network = ip_network(route["dst"], strict=False)
            if isinstance(network, IPv4Network) and network.prefixlen:
                yield network
