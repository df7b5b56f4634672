"""An isolated network: a namespace for each node, a bridge between them, and one link to this machine.

Nodes have no route beyond the lab's subnet, and nothing forwards their packets. All names are derived from the
cluster's folder, so that labs of different checkouts do not collide. Addresses are from 198.18.0.0/15, the range
reserved for network benchmarks (RFC 2544).
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import IPv4Network, ip_network
from pathlib import Path

from stalewatch.clusters.lab import links
from stalewatch.clusters.lab.links import CommandFailed, LinkDelay, NodeLink, run
from stalewatch.clusters.local import home
from stalewatch.clusters.protocol import ClusterError, LinkFault, NotAllowed, Progress

BRIDGE, INNER = "bridge", "eth0"
"""The bridge in the hub, and each node's only interface besides loopback."""

RANGE = IPv4Network("198.18.0.0/15")
"""These addresses are not used on the internet, so that a lab hides no other host from this machine."""

_SUBNETS = list(RANGE.subnets(new_prefix=24))
_OUTER_HOST = 254

_HUB_SCRIPT = """\
link add {bridge} type bridge
link set {bridge} addrgenmode none
link set {bridge} up
link set out master {bridge}
link set out addrgenmode none
link set out up
"""
_PORT_SCRIPT = """\
link add {name} type veth peer name {inner} netns {namespace}
link set {name} master {bridge}
link set {name} addrgenmode none
link set {name} up
"""
_NODE_SCRIPT = """\
link set lo up
addr add {address} dev {inner}
link set {inner} addrgenmode none
link set {inner} up
"""
_OUTER_SCRIPT = """\
link set {outer} addrgenmode none
addr add {address} dev {outer}
link set {outer} up
"""


class RangeTaken(ClusterError):
    """This machine has routes to the addresses of labs."""


class Lab:
    """The network of one cluster, identified by the cluster's folder; nodes get addresses in the order given."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder = folder
        self._file = folder / "network.json"
        self._numbers = {name: number for number, name in enumerate(names, start=1)}
        self._mark = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
        self.hub = f"stalewatch-{self._mark}"
        self.outer = f"sw-{self._mark}"

    @property
    def subnet(self) -> IPv4Network:
        """The lab's subnet: that of the last start, else the first candidate."""
        known = home.recall(self._file).get("subnet")
        return IPv4Network(known) if known else next(_candidates(self._mark))

    def namespace(self, name: str) -> str:
        """Return the name of a node's network namespace."""
        return f"{self.hub}-{name}"

    def host(self, name: str) -> str:
        """Return a node's address."""
        return str(self.subnet[self._numbers[name]])

    def enter(self, name: str) -> Sequence[str]:
        """Return a command prefix that runs a program in a node's namespace."""
        return links.inside(self.namespace(name))

    def choose(self, names: Iterable[str], wanted: Sequence[int]) -> list[int]:
        """Return the wanted ports: nothing else listens in a node's namespace."""
        return list(wanted)

    def is_free(self, name: str, port: int) -> bool:
        """Return True: nothing else listens in a node's namespace."""
        return True

    def prepare(self, progress: Progress, clear: Callable[[], None]) -> None:
        """Create or repair the network, and remove every link fault; raise a `ClusterError` if it cannot be created."""
        links.require_privileges()
        if self._is_complete():
            for name in self._numbers:
                self.mend(name)
            return
        clear()
        self.remove(progress)
        self._settle()
        progress(f"creating an isolated network for {', '.join(self._numbers)}: {self.subnet}")
        self._build()

    def remove(self, progress: Progress) -> None:
        """Remove every interface and namespace of the lab, even if only some exist."""
        for name in self._numbers:
            self.delay(name).end_forwarder()
        left = [name for name in self._namespaces() if name in _existing_namespaces()]
        is_linked = _is_interface(self.outer)
        if not left and not is_linked:
            return
        links.require_privileges()
        progress(f"removing the lab's network {self.subnet}")
        # Deleting a namespace deletes its links too, but not at once.
        if is_linked:
            self._delete_outer()
        for name in left:
            run("ip", "netns", "delete", name)

    def _delete_outer(self) -> None:
        """Delete the link to the lab, unless it goes by itself: the namespace of its other end was deleted just now."""
        try:
            run("ip", "link", "delete", self.outer)
        except CommandFailed:
            if _is_interface(self.outer):
                raise

    def cut(self, name: str, others: Sequence[str], *, clients: bool) -> None:
        """Block traffic between a node and other nodes; with `clients` also between it and anything else."""
        if others:
            links.cut(self.enter(name), {other: self.host(other) for other in others})
        if clients:
            links.cut_clients(self.enter(name), [self.host(node) for node in self._numbers])

    def lose(self, name: str, share: float) -> None:
        """Drop a random share of the packets to and from a node."""
        links.lose(self.enter(name), share)

    def slow(self, name: str, delay_s: float) -> None:
        """Delay traffic to and from a node."""
        self.delay(name).begin(delay_s)

    def mend(self, name: str, *faults: LinkFault) -> None:
        """Remove these faults from a node's link, or all if none is given."""
        links.mend(self.enter(name), faults, self.delay(name).end)

    def note(self, name: str) -> str:
        """Return a description of the faults of a node's link."""
        if os.geteuid() != 0 or self.namespace(name) not in _existing_namespaces():
            return ""
        return "; ".join(filter(None, (*links.dropped(self.enter(name)), self.delay(name).description())))

    def delay(self, name: str) -> LinkDelay:
        """Return the delay on a node's link."""
        link = NodeLink(self.hub, BRIDGE, name, self.namespace(name), INNER)
        return LinkDelay(link, self._folder / "links" / name)

    def _settle(self) -> None:
        """Choose the subnet for good: the nodes store each other's addresses with their data."""
        if home.recall(self._file):
            _require_free(self.subnet)
        else:
            home.remember(self._file, {"subnet": str(_free_subnet(self._mark))})

    def _build(self) -> None:
        try:
            for name in self._namespaces():
                run("ip", "netns", "add", name)
        except CommandFailed as error:
            raise NotAllowed(
                f"this process may not create network namespaces, as in an unprivileged container: {error}; "
                "leave out --lab"
            ) from error
        run("ip", "link", "add", self.outer, "type", "veth", "peer", "name", "out", "netns", self.hub)
        _batch(self.hub, _HUB_SCRIPT.format(bridge=BRIDGE))
        for name in self._numbers:
            namespace, address = self.namespace(name), f"{self.host(name)}/{self.subnet.prefixlen}"
            _batch(self.hub, _PORT_SCRIPT.format(name=name, inner=INNER, namespace=namespace, bridge=BRIDGE))
            _batch(namespace, _NODE_SCRIPT.format(address=address, inner=INNER))
        # Last, because a network whose outer link is up counts as complete.
        address = f"{self.subnet[_OUTER_HOST]}/{self.subnet.prefixlen}"
        run("ip", "-batch", "-", script=_OUTER_SCRIPT.format(outer=self.outer, address=address))

    def _is_complete(self) -> bool:
        if not _is_interface(self.outer) or not set(self._namespaces()) <= _existing_namespaces():
            return False
        (link,) = json.loads(run("ip", "-json", "-4", "address", "show", "dev", self.outer))
        own = {address["local"] for address in link["addr_info"]}
        return "UP" in link["flags"] and own == {str(self.subnet[_OUTER_HOST])}

    def _namespaces(self) -> list[str]:
        return [self.hub, *map(self.namespace, self._numbers)]


def _batch(namespace: str, script: str) -> None:
    run("ip", "-netns", namespace, "-batch", "-", script=script)


def _existing_namespaces() -> set[str]:
    folder = Path("/run/netns")
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _is_interface(name: str) -> bool:
    return Path("/sys/class/net", name).exists()


def _candidates(seed: str) -> Iterator[IPv4Network]:
    """Yield all subnets, starting at one that most likely differs between labs."""
    place = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4]) % len(_SUBNETS)
    yield from _SUBNETS[place:]
    yield from _SUBNETS[:place]


def _free_subnet(seed: str) -> IPv4Network:
    """Return a subnet that this machine has no route to; raise `RangeTaken` if there is none."""
    routes = list(_routes())
    for subnet in _candidates(seed):
        if not any(route.overlaps(subnet) for route in routes):
            return subnet
    raise RangeTaken(
        f"this machine has routes to all of {RANGE}, the addresses of labs, as with some VPNs and proxies: "
        f"{', '.join(str(route) for route in routes if route.overlaps(RANGE))}; remove them, or leave out --lab"
    )


def _require_free(subnet: IPv4Network) -> None:
    """Raise `RangeTaken` if this machine has another route to the subnet."""
    for route in _routes():
        if route.overlaps(subnet):
            raise RangeTaken(
                f"this machine has a route to {route}, which overlaps this lab's subnet {subnet}: remove the route, "
                "leave out --lab, or delete the lab's data so that it moves (stalewatch cluster down ... --lab --wipe)"
            )


def _routes() -> Iterator[IPv4Network]:
    """Yield the destinations of this machine's routes, except the default route."""
    for route in json.loads(run("ip", "-json", "-4", "route", "show", "table", "all") or "[]"):
        if route["dst"] != "default":
            network = ip_network(route["dst"], strict=False)
            if isinstance(network, IPv4Network) and network.prefixlen:
                yield network
