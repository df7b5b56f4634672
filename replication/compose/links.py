"""Breaking a container's links: in its network namespace, with this machine's nft and tc, or by disconnecting it.

The namespace is entered by the container's process, so this needs root on the machine of the engine, but nothing in the
container. What is not this process's to enter can only be disconnected from the whole network.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence

from replication.compose.containers import NETWORK, Container
from replication.compose.docker import docker
from replication.protocol import ClusterError, LinkTrouble, MissingProgram, NotAllowed, NotRunning

PACKAGES = {"nsenter": "util-linux", "nft": "nftables", "tc": "iproute2", "ip": "iproute2"}
"""Debian's packages of the commands."""

INSIDE = "eth0"
"""A container's only interface beside loopback."""

INCOMING = "ifb-stalewatch"
"""The device that holds back what comes in: only what goes out of an interface can be delayed."""

_TIMEOUT_S = 20.0
_RESOLUTION = 100_000

_TABLE = """\
add table inet stalewatch-{trouble}
add chain inet stalewatch-{trouble} in {{ type filter hook input priority 0; policy accept; }}
add chain inet stalewatch-{trouble} out {{ type filter hook output priority 0; policy accept; }}
add rule inet stalewatch-{trouble} in iifname != "lo" {incoming} drop
add rule inet stalewatch-{trouble} out oifname != "lo" {outgoing} drop
"""


def may_enter() -> bool:
    """Say whether this process may enter the namespaces of containers."""
    return os.geteuid() == 0 and shutil.which("nsenter") is not None


def cut(container: Container, others: Collection[str]) -> None:
    """Drop all that comes from these addresses or goes to them."""
    listed = f"{{ {', '.join(others)} }}"
    _filter(container, "cut", f"ip saddr {listed}", f"ip daddr {listed}")


def cut_all_but(container: Container, others: Collection[str]) -> None:
    """Drop all that comes from or goes to any address but these."""
    listed = f"{{ {', '.join(others)} }}"
    _filter(container, "cut", f"ip saddr != {listed}", f"ip daddr != {listed}")


def lose(container: Container, share: float) -> None:
    """Drop a share of all that comes in and of all that goes out, chosen at random."""
    # All of them is no number below the modulus, which nft refuses; hence the last one that is dropped.
    last = max(1, round(share * _RESOLUTION)) - 1
    chosen = f"numgen random mod {_RESOLUTION} <= {last}"
    _filter(container, "lose", chosen, chosen)


def slow(container: Container, delay_s: float) -> None:
    """Hold back what goes out, and by a detour over a device of its own what comes in; a second delay takes over."""
    delay = ("root", "netem", "delay", f"{delay_s * 1e6:.0f}us", "limit", "100000")
    if INCOMING not in _devices(container):
        _enter(container, "ip", "link", "add", INCOMING, "type", "ifb")
        _enter(container, "ip", "link", "set", INCOMING, "up")
        _enter(container, "tc", "qdisc", "add", "dev", INSIDE, "ingress")
        into = ("action", "mirred", "egress", "redirect", "dev", INCOMING)
        _enter(container, "tc", "filter", "add", "dev", INSIDE, "parent", "ffff:", "matchall", *into)
    for device in (INSIDE, INCOMING):
        _enter(container, "tc", "qdisc", "replace", "dev", device, *delay)


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


def _filter(container: Container, trouble: str, incoming: str, outgoing: str) -> None:
    script = _TABLE.format(trouble=trouble, incoming=incoming, outgoing=outgoing)
    _enter(container, "nft", "-f", "-", script=script)


def _drop_table(trouble: str) -> Callable[[Container], None]:
    # Deleting what was never made is an error, making what is there is none.
    script = f"add table inet stalewatch-{trouble}\ndelete table inet stalewatch-{trouble}\n"

    def drop(container: Container) -> None:
        _enter(container, "nft", "-f", "-", script=script)

    return drop


def _hasten(container: Container) -> None:
    standing = json.loads(_enter(container, "tc", "-json", "qdisc", "show", "dev", INSIDE))
    for kind, place in (("netem", "root"), ("ingress", "ingress")):
        if any(discipline["kind"] == kind for discipline in standing):
            _enter(container, "tc", "qdisc", "delete", "dev", INSIDE, place)
    if INCOMING in _devices(container):
        _enter(container, "ip", "link", "delete", INCOMING)


_MENDS: Mapping[LinkTrouble, Callable[[Container], None]] = {
    "cut": _drop_table("cut"),
    "lose": _drop_table("lose"),
    "slow": _hasten,
}


def _devices(container: Container) -> set[str]:
    return {link["ifname"] for link in json.loads(_enter(container, "ip", "-json", "link", "show"))}


def _enter(container: Container, *words: str, script: str = "") -> str:
    """Run a command of this machine in the container's network."""
    if container.pid is None:
        raise NotRunning(f"{container.service} does not run, and so has no links: restart it first")
    if os.geteuid() != 0:
        raise NotAllowed(
            f"{container.service}: only root on the engine's own machine may break single links of a container: use "
            "sudo, or cut it off from everybody, clients too"
        )
    command = ["nsenter", "--target", str(container.pid), "--net", "--", *words]
    return _run(command, script)


def _run(command: Sequence[str], script: str) -> str:
    for program in (command[0], command[5]):
        if shutil.which(program) is None:
            raise MissingProgram(
                f"the command {program} is missing: install it (Debian and Ubuntu: apt-get install {PACKAGES[program]})"
            )
    shown = " ".join(command)
    try:
        done = subprocess.run(  # noqa: S603 -- the commands above
            command, input=script, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise ClusterError(f"`{shown}` did not end within {_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        raise ClusterError(f"`{shown}`: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout
