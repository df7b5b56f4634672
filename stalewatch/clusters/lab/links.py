"""Faults of a node's network link: packets dropped by nftables, and delayed by netem or else by a forwarder.

Packets are dropped in the node's own network namespace, incoming and outgoing, except those from the node to itself.
`enter` is a command prefix that runs a command in that namespace. Each kind of fault has an nftables table of its own,
which is deleted to remove the fault; the comment of a rule describes it in the cluster's status.

A delay changes no address, so that connections survive it. The alias of the node's port in the hub holds its
description.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from stalewatch.clusters.lab import forwarder
from stalewatch.clusters.local.process import ServerProcess
from stalewatch.clusters.protocol import ClusterError, LinkFault, MissingProgram, NotAllowed, Unable

PACKAGES = {"ip": "iproute2", "tc": "iproute2", "nft": "nftables", "nsenter": "util-linux"}
"""The required commands, with the Debian packages that contain them."""

_COMMAND_TIMEOUT_S = 20.0
_APPEAR_S = 10.0
_POLL_S = 0.02

_RESOLUTION = 100_000

_TABLE = """\
add table inet stalewatch-{fault}
add chain inet stalewatch-{fault} in {{ type filter hook input priority 0; policy accept; }}
add chain inet stalewatch-{fault} out {{ type filter hook output priority 0; policy accept; }}
"""
_RULE = """\
add rule inet stalewatch-{fault} in iifname != "lo" {incoming} drop comment "{comment}"
add rule inet stalewatch-{fault} out oifname != "lo" {outgoing} drop
"""
# Deleting a table that does not exist is an error; adding one that exists is not.
_DELETE = """\
add table inet stalewatch-{fault}
delete table inet stalewatch-{fault}
"""

_QUEUED_FRAMES = 10_000  # a full TCP window arrives at once, as one frame that the kernel splits

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


class CommandFailed(ClusterError):
    """A system command failed; the message quotes its error."""


def require_commands(reason: str) -> None:
    """Raise `MissingProgram` unless all required commands are installed; the message starts with `reason`."""
    for program, package in PACKAGES.items():
        if shutil.which(program) is None:
            raise MissingProgram(
                f"{reason} the command {program}: install it (Debian and Ubuntu: apt-get install {package})"
            )


def require_privileges() -> None:
    """Raise `NotAllowed` or `MissingProgram` if this process cannot create a lab."""
    if os.geteuid() != 0:
        raise NotAllowed("only root may create the network namespaces of a lab: use sudo, or leave out --lab")
    require_commands("a lab needs")


def run(*words: str, script: str = "") -> str:
    """Run a command with `script` as input and return its output; raise `CommandFailed` if it fails."""
    try:
        done = subprocess.run(  # noqa: S603 -- the commands above
            words, input=script, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{' '.join(words)}: timed out after {_COMMAND_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        raise CommandFailed(f"{' '.join(words)}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout


def inside(namespace: str) -> Sequence[str]:
    """Return a command prefix that runs a command in a network namespace, as the same process."""
    return ("nsenter", f"--net=/run/netns/{namespace}", "--")


def cut(enter: Sequence[str], others: Mapping[str, str]) -> None:
    """Drop all packets from and to other nodes, given by name and address."""
    listed = f"{{ {', '.join(others.values())} }}"
    _drop(enter, "cut", f"ip saddr {listed}", f"ip daddr {listed}", f"cut from {', '.join(others)}")


def cut_clients(enter: Sequence[str], nodes: Collection[str]) -> None:
    """Drop all packets from and to any address but those of the nodes."""
    listed = f"{{ {', '.join(nodes)} }}"
    _drop(enter, "cut", f"ip saddr != {listed}", f"ip daddr != {listed}", "cut from clients")


def lose(enter: Sequence[str], share: float) -> None:
    """Drop a random share of the incoming and of the outgoing packets."""
    # At least one number of the range and at most all: nft rejects "< 0", and a comparison that is always true.
    last = max(1, round(share * _RESOLUTION)) - 1
    chosen = f"numgen random mod {_RESOLUTION} <= {last}"
    _drop(enter, "lose", chosen, chosen, f"loses {share * 100:g}% each way")


def mend(enter: Sequence[str], faults: Collection[LinkFault], end_delay: Callable[[], None]) -> None:
    """Remove these faults, or all if none is given; `end_delay` removes a delay."""
    for fault in faults or ("cut", "lose", "slow"):
        if fault == "slow":
            end_delay()
        else:
            _nft(enter, "-f", "-", script=_DELETE.format(fault=fault))


def dropped(enter: Sequence[str]) -> Iterator[str]:
    """Yield a description of each rule that drops packets."""
    for entry in json.loads(_nft(enter, "--json", "list", "ruleset"))["nftables"]:
        if comment := entry.get("rule", {}).get("comment"):
            yield comment


def _drop(enter: Sequence[str], fault: LinkFault, incoming: str, outgoing: str, comment: str) -> None:
    rule = _RULE.format(fault=fault, incoming=incoming, outgoing=outgoing, comment=comment)
    _nft(enter, "-f", "-", script=_TABLE.format(fault=fault) + rule)


def _nft(enter: Sequence[str], *words: str, script: str = "") -> str:
    return run(*enter, "nft", *words, script=script)


class NodeLink(NamedTuple):
    """A node's link: its port at the bridge in the hub, and its interface in its own namespace."""

    hub: str
    bridge: str
    port: str
    namespace: str
    interface: str


class LinkDelay:
    """The delay on one node's link; `folder` holds the forwarder's pid file and log."""

    def __init__(self, link: NodeLink, folder: Path) -> None:
        self._link = link
        self._forwarder = ServerProcess(f"forwarder of {link.port}", folder, inside(link.hub))
        self._detour, self._near, self._far = (f"{word}-{link.port}" for word in ("br", "n", "f"))

    def begin(self, delay_s: float) -> None:
        """Delay all traffic to and from the node by `delay_s` seconds each way."""
        self.end()
        if not self._use_netem(delay_s):
            self._use_forwarder(delay_s)
        self._describe(f"{delay_s * 1e3:g} ms each way")

    def end(self) -> None:
        """Remove the delay, if any. Frames in flight are lost, and TCP sends them again."""
        link, hub = self._link, _interfaces(self._link.hub)
        if hub[link.port].get("master") != link.bridge:
            _ip(link.hub, "link", "set", link.port, "master", link.bridge)
        self.end_forwarder()
        if self._detour in hub:
            _ip(link.hub, "link", "delete", self._detour)
        for namespace, interface in self._ends():
            disciplines = json.loads(_tc(namespace, "-json", "qdisc", "show", "dev", interface))
            if any(one["kind"] == "netem" for one in disciplines):
                _tc(namespace, "qdisc", "delete", "dev", interface, "root")
        if hub[link.port].get("ifalias"):
            self._describe("")

    def end_forwarder(self) -> None:
        """Kill the forwarder if it runs."""
        if self._forwarder.state != "dead":
            self._forwarder.kill()

    def description(self) -> str:
        """Return a description of the delay, empty if there is none."""
        return str(_interfaces(self._link.hub)[self._link.port].get("ifalias", ""))

    def _ends(self) -> tuple[tuple[str, str], tuple[str, str]]:
        return (self._link.hub, self._link.port), (self._link.namespace, self._link.interface)

    def _use_netem(self, delay_s: float) -> bool:
        """Delay the packets sent at both ends, and return whether this kernel can."""
        try:
            for namespace, interface in self._ends():
                delay = ("delay", f"{delay_s * 1e6:.0f}us", "limit", str(_QUEUED_FRAMES))
                _tc(namespace, "qdisc", "replace", "dev", interface, "root", "netem", *delay)
        except CommandFailed as error:
            if "unknown" not in str(error):
                raise
            return False
        return True

    def _use_forwarder(self, delay_s: float) -> None:
        if not Path(forwarder.CONTROL).exists():
            raise Unable(
                f"this machine cannot delay packets: its kernel has neither netem nor TAP devices ({forwarder.CONTROL})"
            )
        link = self._link
        program = [sys.executable, "-I", "-S", str(forwarder.__file__)]
        self._forwarder.start([*program, self._near, self._far, str(delay_s)])
        self._await_devices()
        names = {"detour": self._detour, "near": self._near, "far": self._far}
        script = _DETOUR.format(**names, bridge=link.bridge, port=link.port, frames=_QUEUED_FRAMES)
        run("ip", "-netns", link.hub, "-batch", "-", script=script)

    def _await_devices(self) -> None:
        deadline = time.monotonic() + _APPEAR_S
        while not {self._near, self._far} <= _interfaces(self._link.hub).keys():
            if self._forwarder.state == "dead" or time.monotonic() > deadline:
                output = " ".join(self._forwarder.last_lines(1)) or f"see {self._forwarder.log}"
                raise ClusterError(f"the {self._forwarder.name} created no devices: {output}")
            time.sleep(_POLL_S)

    def _describe(self, text: str) -> None:
        _ip(self._link.hub, "link", "set", self._link.port, "alias", text)


def _interfaces(namespace: str) -> dict[str, dict[str, object]]:
    return {link["ifname"]: link for link in json.loads(_ip(namespace, "-json", "link", "show"))}


def _ip(namespace: str, *words: str) -> str:
    return run("ip", "-netns", namespace, *words)


def _tc(namespace: str, *words: str) -> str:
    return run("tc", "-netns", namespace, *words)
