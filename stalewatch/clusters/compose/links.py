"""Breaking a container's links: in its network namespace, with this machine's nft and tc, or by disconnecting it.

The namespace is entered by the container's process, so this needs root on the machine of the engine, but nothing in the
container. What is not this process's to enter can only be disconnected from the whole network.
"""

import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence

from stalewatch.clusters.compose.containers import NETWORK, Container
from stalewatch.clusters.compose.docker import docker
from stalewatch.clusters.lab import rules, system
from stalewatch.clusters.protocol import LinkTrouble, MissingProgram, NotAllowed, NotRunning

INSIDE = "eth0"
"""A container's only interface beside loopback."""

INCOMING = "ifb-stalewatch"
"""The device that holds back what comes in: only what goes out of an interface can be delayed."""


def may_enter() -> bool:
    """Say whether this process may enter the namespaces of containers."""
    return os.geteuid() == 0 and shutil.which("nsenter") is not None


def cut(container: Container, others: Mapping[str, str]) -> None:
    """Drop all that comes from others or goes to them; they are addresses by services."""
    rules.cut(_enter(container), list(others.values()), f"cut from {', '.join(others)}")


def cut_all_but(container: Container, others: Mapping[str, str]) -> None:
    """Drop all that comes from or goes to any but these."""
    rules.cut_all_but(_enter(container), list(others.values()), "cut from clients")


def lose(container: Container, share: float) -> None:
    """Drop a share of all that comes in and of all that goes out, chosen at random."""
    rules.lose(_enter(container), share, f"loses {share * 100:g}% each way")


def slow(container: Container, delay_s: float) -> None:
    """Hold back what goes out, and by a detour over a device of its own what comes in; a second delay takes over."""
    delay = ("root", "netem", "delay", f"{delay_s * 1e6:.0f}us", "limit", "100000")
    if INCOMING not in _devices(container):
        _run(container, "ip", "link", "add", INCOMING, "type", "ifb")
        _run(container, "ip", "link", "set", INCOMING, "up")
        _run(container, "tc", "qdisc", "add", "dev", INSIDE, "ingress")
        into = ("action", "mirred", "egress", "redirect", "dev", INCOMING)
        _run(container, "tc", "filter", "add", "dev", INSIDE, "parent", "ffff:", "matchall", *into)
    for device in (INSIDE, INCOMING):
        _run(container, "tc", "qdisc", "replace", "dev", device, *delay)


def disconnect(container: Container) -> None:
    """Take the network away, and with it everybody, this machine included."""
    docker("network", "disconnect", NETWORK, container.id)


def mend(container: Container, troubles: Collection[LinkTrouble]) -> None:
    """Undo these troubles, or all where none is named; nothing where nothing was done."""
    if container.state == "dead":
        return  # its namespace went with it
    if not container.connected and (not troubles or "cut" in troubles):
        docker("network", "connect", "--alias", container.service, NETWORK, container.id)
    if may_enter():
        for trouble in troubles or _MENDS:
            _MENDS[trouble](container)


def _hasten(container: Container) -> None:
    standing = json.loads(_run(container, "tc", "-json", "qdisc", "show", "dev", INSIDE))
    for kind, place in (("netem", "root"), ("ingress", "ingress")):
        if any(discipline["kind"] == kind for discipline in standing):
            _run(container, "tc", "qdisc", "delete", "dev", INSIDE, place)
    if INCOMING in _devices(container):
        _run(container, "ip", "link", "delete", INCOMING)


_MENDS: Mapping[LinkTrouble, Callable[[Container], None]] = {
    "cut": lambda container: rules.delete(_enter(container), rules.CUT),
    "lose": lambda container: rules.delete(_enter(container), rules.LOSE),
    "slow": _hasten,
}


def _devices(container: Container) -> set[str]:
    return {link["ifname"] for link in json.loads(_run(container, "ip", "-json", "link", "show"))}


def _run(container: Container, *words: str) -> str:
    """Run a command of this machine in the container's network."""
    return system.run(*_enter(container), *words)


def _enter(container: Container) -> Sequence[str]:
    """Return the words that lead a command into the container's network; raise a `ClusterError` where they cannot."""
    if container.pid is None:
        raise NotRunning(f"{container.service} does not run, and so has no links: restart it first")
    if os.geteuid() != 0:
        raise NotAllowed(
            f"{container.service}: only root on the engine's own machine may break single links of a container: use "
            "sudo, or cut it off from everybody, clients too"
        )
    for program, package in system.PACKAGES.items():
        if shutil.which(program) is None:
            raise MissingProgram(
                f"the command {program} is missing: install it (Debian and Ubuntu: apt-get install {package})"
            )
    return ("nsenter", "--target", str(container.pid), "--net", "--")
