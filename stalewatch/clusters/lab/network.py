"""A network without a way out: a namespace for each node, a bridge between them, and one link to who started it.

No node has a route beyond the lab's own subnet, and nothing forwards for it. All names come from the cluster's folder,
so that another checkout's lab has others.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Network
from pathlib import Path

from stalewatch.clusters.lab import rules, subnet, system
from stalewatch.clusters.lab.slowness import Link, Slowness
from stalewatch.clusters.local import home
from stalewatch.clusters.protocol import LinkTrouble, NotAllowed, Progress

BRIDGE, INNER = "bridge", "eth0"
"""The bridge in the hub, and each node's only interface beside loopback."""

_OUTER_HOST = 254
_COMMENT_LENGTH = 120  # nft takes no more than 128

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


class Lab:
    """The network of one cluster, whose folder it is known by, and its nodes by their names in the order given."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder = folder
        self._file = folder / "network.json"
        self._numbers = {name: number for number, name in enumerate(names, start=1)}
        self._mark = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
        self.hub = f"stalewatch-{self._mark}"
        self.outer = f"sw-{self._mark}"

    @property
    def subnet(self) -> IPv4Network:
        """The lab's addresses: those of the last start, else those that come first."""
        known = home.recall(self._file).get("subnet")
        return IPv4Network(known) if known else subnet.usual(self._mark)

    def namespace(self, name: str) -> str:
        """Return the name of a node's network namespace."""
        return f"{self.hub}-{name}"

    def host(self, name: str) -> str:
        """Return a node's address."""
        return str(self.subnet[self._numbers[name]])

    def enter(self, name: str) -> Sequence[str]:
        """Return the words that lead a program into a node's namespace."""
        return system.inside(self.namespace(name))

    def choose(self, names: Iterable[str], wanted: Sequence[int]) -> list[int]:
        """Return the ports as wanted: nobody else listens in a node's namespace."""
        return list(wanted)

    def is_free(self, name: str, port: int) -> bool:
        """Return True: nobody else listens there."""
        return True

    def prepare(self, progress: Progress, clear: Callable[[], None]) -> None:
        """Make the network where it is not whole, and mend every link; raise a `ClusterError` where it cannot be."""
        system.require()
        if self._stands():
            for name in self._numbers:
                self.mend(name)
            return
        clear()
        self.remove(progress)
        self._settle()
        progress(f"making a network of its own for {', '.join(self._numbers)}: {self.subnet}, without a way out")
        self._build()

    def remove(self, progress: Progress) -> None:
        """Remove every interface and namespace of the lab, however much of it there is."""
        for name in self._numbers:
            self.slowness(name).end_forwarder()
        left = [name for name in self._namespaces() if name in _listed()]
        is_linked = _is_link(self.outer)
        if not left and not is_linked:
            return
        system.require()
        progress(f"removing the lab's network {self.subnet}")
        # A namespace that is gone takes its links with it, but not at once.
        if is_linked:
            system.run("ip", "link", "delete", self.outer)
        for name in left:
            system.run("ip", "netns", "delete", name)

    def cut(self, name: str, others: Sequence[str], *, clients: bool) -> None:
        """Let nothing pass between a node and others, nor with `clients` between it and who is no node."""
        enter = self.enter(name)
        if others:
            rules.cut(enter, [self.host(other) for other in others], f"cut from {', '.join(others)}")
        if clients:
            rules.cut_all_but(enter, [self.host(node) for node in self._numbers], "cut from clients")

    def lose(self, name: str, share: float) -> None:
        """Drop a share of what comes to a node and of what goes from it."""
        rules.lose(self.enter(name), share, f"loses {share * 100:g}% each way")

    def slow(self, name: str, delay_s: float) -> None:
        """Hold back what goes to and from a node."""
        self.slowness(name).begin(delay_s)

    def mend(self, name: str, *troubles: LinkTrouble) -> None:
        """Undo what was done to a node's links: these troubles, or all."""
        for trouble in troubles or _MENDS:
            _MENDS[trouble](self, name)

    def note(self, name: str) -> str:
        """Return what is done to a node's links, in words."""
        if os.geteuid() != 0 or self.namespace(name) not in _listed():
            return ""
        words = (*rules.standing(self.enter(name)), self.slowness(name).note())
        return "; ".join(filter(None, words))

    def slowness(self, name: str) -> Slowness:
        """Return the delay on a node's link."""
        link = Link(self.hub, BRIDGE, name, self.namespace(name), INNER)
        return Slowness(link, self._folder / "links" / name)

    def _settle(self) -> None:
        """Remember the addresses for good: the nodes keep each other's in their data."""
        if home.recall(self._file):
            subnet.require_free(self.subnet)
            return
        chosen = subnet.choose(self._mark)
        with home.writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            home.remember(self._file, {"subnet": str(chosen)})

    def _build(self) -> None:
        try:
            for name in self._namespaces():
                system.run("ip", "netns", "add", name)
        except system.Failed as error:
            raise NotAllowed(
                f"this machine lets nobody make network namespaces here, as a container without the right to does: "
                f"{error}; go without --lab"
            ) from error
        system.run("ip", "link", "add", self.outer, "type", "veth", "peer", "name", "out", "netns", self.hub)
        _batch(self.hub, _HUB_SCRIPT.format(bridge=BRIDGE))
        for name in self._numbers:
            namespace, address = self.namespace(name), f"{self.host(name)}/{self.subnet.prefixlen}"
            _batch(self.hub, _PORT_SCRIPT.format(name=name, inner=INNER, namespace=namespace, bridge=BRIDGE))
            _batch(namespace, _NODE_SCRIPT.format(address=address, inner=INNER))
        # Last, for a network whose outer link is up is whole.
        address = f"{self.subnet[_OUTER_HOST]}/{self.subnet.prefixlen}"
        system.run("ip", "-batch", "-", script=_OUTER_SCRIPT.format(outer=self.outer, address=address))

    def _stands(self) -> bool:
        if not _is_link(self.outer) or not set(self._namespaces()) <= _listed():
            return False
        (link,) = json.loads(system.run("ip", "-json", "-4", "address", "show", "dev", self.outer))
        own = {address["local"] for address in link["addr_info"]}
        return "UP" in link["flags"] and own == {str(self.subnet[_OUTER_HOST])}

    def _namespaces(self) -> list[str]:
        return [self.hub, *map(self.namespace, self._numbers)]


_MENDS: Mapping[LinkTrouble, Callable[[Lab, str], None]] = {
    "cut": lambda lab, name: rules.delete(lab.enter(name), rules.CUT),
    "lose": lambda lab, name: rules.delete(lab.enter(name), rules.LOSE),
    "slow": lambda lab, name: lab.slowness(name).end(),
}


def _batch(namespace: str, script: str) -> None:
    system.run("ip", "-netns", namespace, "-batch", "-", script=script)


def _listed() -> set[str]:
    folder = Path("/run/netns")
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _is_link(name: str) -> bool:
    return Path("/sys/class/net", name).exists()
