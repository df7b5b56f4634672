"""Delay on a node's link: by the kernel's netem where it has that, else by a forwarder that frames go through.

Neither changes an address, so that connections live on. The alias of the node's port in the hub says how long the delay
is, for whoever asks how things stand.
"""

import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

from stalewatch.clusters.lab import forwarder, system
from stalewatch.clusters.local.process import ServerProcess
from stalewatch.clusters.protocol import ClusterError, Unable

_APPEAR_S = 10.0
_POLL_S = 0.02

_QUEUED_FRAMES = 10_000  # a full window comes at once, as one frame that the kernel cuts to pieces

_DETOUR = """\
link add {detour} type bridge
link set {detour} addrgenmode none
link set {detour} up
link set {near} master {detour}
link set {far} master {bridge}
link set {near} addrgenmode none txqueuelen {frames}
link set {far} addrgenmode none txqueuelen {frames}
link set {near} up
link set {far} up
link set {port} master {detour}
"""


class Link(NamedTuple):
    """Where a node's link is: its port at the bridge in the hub, and its interface in its own namespace."""

    hub: str
    bridge: str
    port: str
    namespace: str
    interface: str


class Slowness:
    """The delay on one node's link; `folder` is where a forwarder's pid file and log go."""

    def __init__(self, link: Link, folder: Path) -> None:
        self._link = link
        self._forwarder = ServerProcess(f"forwarder of {link.port}", folder, system.inside(link.hub))
        self._detour, self._near, self._far = (f"{word}-{link.port}" for word in ("br", "n", "f"))

    def begin(self, delay_s: float) -> None:
        """Hold back what goes to and from the node from now on, by that many seconds each way."""
        self.end()
        if not self._ask_kernel(delay_s):
            self._make_detour(delay_s)
        self._say(f"{delay_s * 1e3:g} ms each way")

    def end(self) -> None:
        """Let everything pass at once; nothing where that is so. Frames under way are lost, and sent again by TCP."""
        link, hub = self._link, _links(self._link.hub)
        if hub[link.port].get("master") != link.bridge:
            _ip(link.hub, "link", "set", link.port, "master", link.bridge)
        self.end_forwarder()
        if self._detour in hub:
            _ip(link.hub, "link", "delete", self._detour)
        for namespace, interface in self._ends():
            standing = json.loads(_tc(namespace, "-json", "qdisc", "show", "dev", interface))
            if any(one["kind"] == "netem" for one in standing):
                _tc(namespace, "qdisc", "delete", "dev", interface, "root")
        if hub[link.port].get("ifalias"):
            self._say("")

    def end_forwarder(self) -> None:
        """End the forwarder, wherever it runs."""
        if self._forwarder.state != "dead":
            self._forwarder.kill()

    def note(self) -> str:
        """Return how long the delay is, in words; nothing where there is none."""
        return str(_links(self._link.hub)[self._link.port].get("ifalias", ""))

    def _ends(self) -> tuple[tuple[str, str], tuple[str, str]]:
        return (self._link.hub, self._link.port), (self._link.namespace, self._link.interface)

    def _ask_kernel(self, delay_s: float) -> bool:
        """Have netem delay what leaves at both ends; say whether this kernel has it."""
        try:
            for namespace, interface in self._ends():
                delay = ("delay", f"{delay_s * 1e6:.0f}us", "limit", str(_QUEUED_FRAMES))
                _tc(namespace, "qdisc", "replace", "dev", interface, "root", "netem", *delay)
        except system.Failed as error:
            if "unknown" not in str(error):
                raise
            return False
        return True

    def _make_detour(self, delay_s: float) -> None:
        if not Path(forwarder.CONTROL).exists():
            raise Unable(f"this machine cannot delay: its kernel has no netem, and there is no {forwarder.CONTROL}")
        link = self._link
        program = [sys.executable, "-I", "-S", str(forwarder.__file__)]
        self._forwarder.start([*program, self._near, self._far, str(delay_s)])
        self._await_devices()
        names = {"detour": self._detour, "near": self._near, "far": self._far}
        script = _DETOUR.format(**names, bridge=link.bridge, port=link.port, frames=_QUEUED_FRAMES)
        system.run("ip", "-netns", link.hub, "-batch", "-", script=script)

    def _await_devices(self) -> None:
        deadline = time.monotonic() + _APPEAR_S
        while not {self._near, self._far} <= _links(self._link.hub).keys():
            if self._forwarder.state == "dead" or time.monotonic() > deadline:
                words = " ".join(self._forwarder.last_words(1))
                raise ClusterError(f"the {self._forwarder.name} made no devices: {words or self._forwarder.log}")
            time.sleep(_POLL_S)

    def _say(self, words: str) -> None:
        _ip(self._link.hub, "link", "set", self._link.port, "alias", words)


def _links(namespace: str) -> dict[str, dict[str, object]]:
    return {link["ifname"]: link for link in json.loads(_ip(namespace, "-json", "link", "show"))}


def _ip(namespace: str, *words: str) -> str:
    return system.run("ip", "-netns", namespace, *words)


def _tc(namespace: str, *words: str) -> str:
    return system.run("tc", "-netns", namespace, *words)
