"""Containers of docker-compose.yml: the docker command, the containers' state, and faults of their network links.

Links are broken by this machine's nft and tc in the container's network namespace, which is entered through the
container's process. That needs root on the engine's machine, but nothing in the container. Without root a container
can only be disconnected from the whole network.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stalewatch.clusters.lab import links
from stalewatch.clusters.local.process import KnownFailure
from stalewatch.clusters.protocol import (
    ClusterError,
    LinkFault,
    MissingProgram,
    NotAllowed,
    NotReady,
    NotRunning,
    PortTaken,
    State,
)

# In a checkout this is a link to its folder replication/, from which Compose resolves relative paths.
FILE = (Path(__file__).parents[2] / "data" / "replication" / "docker-compose.yml").resolve()

TIMEOUT_S = 30.0
"""For commands that return at once; a busy engine may take seconds."""

UP_TIMEOUT_S = 900.0
"""For starting containers, which includes pulling their images."""

PROJECT = "COMPOSE_PROJECT_NAME"
"""The environment variable with the project's name, which Compose reads too."""

NETWORK = "replication_default"
"""The containers' network; docker-compose.yml sets its name independently of the project's."""

INSIDE = "eth0"
"""A container's only interface besides loopback."""

INCOMING = "ifb-stalewatch"
"""The device that delays incoming packets: the kernel can only delay what an interface sends."""

_LABELS = "com.docker.compose."
_STATES: Mapping[str, State] = {"running": "running", "restarting": "running", "paused": "paused"}

_FAILURES = (
    KnownFailure(
        r"permission denied.*docker(\.sock| daemon)|docker daemon socket.*permission denied",
        NotAllowed,
        "this user may not use the Docker engine: use sudo, or join the group docker",
    ),
    KnownFailure(
        r"cannot connect to the docker daemon|error during connect|docker daemon is not running",
        NotReady,
        "the Docker engine is not running: start it",
    ),
    KnownFailure(r"port is already allocated|address already in use", PortTaken, "another program listens on its port"),
    KnownFailure(r"is not running|no such container", NotRunning, "restart it first"),
    KnownFailure(
        r"unknown (shorthand )?flag|unknown command|is not a docker command",
        MissingProgram,
        "this docker has no Compose: install its plugin docker-compose-plugin, or docker-compose 1.29 or later",
    ),
)


def project() -> str:
    """Return the name of the Compose project."""
    return os.environ.get(PROJECT) or "replication"


def docker(*words: str, timeout_s: float = TIMEOUT_S) -> str:
    """Run ``docker WORDS`` and return its output.

    Raises `MissingProgram` if docker is not installed, `NotReady` if it times out, else the error that its output
    means.
    """
    return _run(["docker", *words], timeout_s)


def compose(*words: str, timeout_s: float = TIMEOUT_S) -> str:
    """Run Compose on docker-compose.yml, whatever the current folder; raises the same errors as `docker`."""
    return _run([*_compose(), "--file", str(FILE), "--project-name", project(), *words], timeout_s)


def _compose() -> Sequence[str]:
    """Return the Compose command: docker's plugin, else the older docker-compose."""
    try:
        docker("compose", "version")
    except ClusterError as error:
        if isinstance(error, NotReady) or shutil.which("docker-compose") is None:
            raise
        return ["docker-compose"]
    return ["docker", "compose"]


def _run(words: Sequence[str], timeout_s: float) -> str:
    shown = " ".join(words)
    try:
        done = subprocess.run(  # noqa: S603 -- docker
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except FileNotFoundError:
        raise MissingProgram(
            f"the command {words[0]} is missing: install Docker, or use a local cluster (stalewatch cluster up)"
        ) from None
    except subprocess.TimeoutExpired:
        raise NotReady(f"`{shown}` timed out after {timeout_s:.0f} s: check whether the Docker engine hangs") from None
    if done.returncode:
        raise _error(shown, done.stderr.strip() or f"exit code {done.returncode}")
    return done.stdout


def _error(shown: str, output: str) -> ClusterError:
    last = output.splitlines()[-1].rstrip(".?")
    for failure in _FAILURES:
        if re.search(failure.pattern, output, re.IGNORECASE):
            return failure.error(f"`{shown}`: {last}: {failure.advice}")
    return ClusterError(f"`{shown}`: {last}")


class Container(NamedTuple):
    """One container.

    `pid` is that of its main process on this machine (None if it has exited), `address` is in the network (None if it
    has exited or is disconnected), and `published` is where each of its ports is published on this machine.
    """

    service: str
    id: str
    image: str
    state: State
    pid: int | None
    address: str | None
    connected: bool
    published: Mapping[int, str]

    def cut(self, others: Mapping[str, str]) -> None:
        """Drop all packets from and to other containers, given by service and address."""
        links.cut(self._enter(), others)

    def cut_clients(self, nodes: Collection[str]) -> None:
        """Drop all packets from and to any address but those of the nodes."""
        links.cut_clients(self._enter(), nodes)

    def lose(self, share: float) -> None:
        """Drop a random share of the incoming and of the outgoing packets."""
        links.lose(self._enter(), share)

    def slow(self, delay_s: float) -> None:
        """Delay outgoing packets, and incoming ones by redirecting them to a device; replaces an earlier delay."""
        delay = ("root", "netem", "delay", f"{delay_s * 1e6:.0f}us", "limit", "100000")
        if INCOMING not in self._devices():
            self._run("ip", "link", "add", INCOMING, "type", "ifb")
            self._run("ip", "link", "set", INCOMING, "up")
            self._run("tc", "qdisc", "add", "dev", INSIDE, "ingress")
            redirect = ("action", "mirred", "egress", "redirect", "dev", INCOMING)
            self._run("tc", "filter", "add", "dev", INSIDE, "parent", "ffff:", "matchall", *redirect)
        for device in (INSIDE, INCOMING):
            self._run("tc", "qdisc", "replace", "dev", device, *delay)

    def disconnect(self) -> None:
        """Disconnect the container from the network, and so from everything, including this machine."""
        docker("network", "disconnect", NETWORK, self.id)

    def mend(self, faults: Collection[LinkFault]) -> None:
        """Remove these link faults, or all if none is given; does nothing if there are none."""
        if self.state == "dead":
            return  # its namespace no longer exists
        if not self.connected and (not faults or "cut" in faults):
            docker("network", "connect", "--alias", self.service, NETWORK, self.id)
        if may_enter():
            links.mend(self._enter(), faults, self._end_delay)

    def _end_delay(self) -> None:
        disciplines = json.loads(self._run("tc", "-json", "qdisc", "show", "dev", INSIDE))
        for kind, place in (("netem", "root"), ("ingress", "ingress")):
            if any(discipline["kind"] == kind for discipline in disciplines):
                self._run("tc", "qdisc", "delete", "dev", INSIDE, place)
        if INCOMING in self._devices():
            self._run("ip", "link", "delete", INCOMING)

    def _devices(self) -> set[str]:
        return {link["ifname"] for link in json.loads(self._run("ip", "-json", "link", "show"))}

    def _run(self, *words: str) -> str:
        """Run one of this machine's commands in the container's network namespace."""
        return links.run(*self._enter(), *words)

    def _enter(self) -> Sequence[str]:
        """Return a command prefix that enters the container's network namespace, or raise a `ClusterError`."""
        if self.pid is None:
            raise NotRunning(f"{self.service} is not running: restart it first")
        if os.geteuid() != 0:
            raise NotAllowed(
                f"{self.service}: only root on the engine's machine may break single links of a container: use "
                "sudo, or cut it off from all nodes and clients"
            )
        links.require_commands("breaking links of containers needs")
        return ("nsenter", "--target", str(self.pid), "--net", "--")


def may_enter() -> bool:
    """Return whether this process may enter the network namespaces of containers."""
    return os.geteuid() == 0 and shutil.which("nsenter") is not None


def containers(services: Collection[str]) -> dict[str, Container]:
    """Return the containers of these services by service, in the services' order; some may have none."""
    label = f"label={_LABELS}project={project()}"
    ids = docker("ps", "--all", "--quiet", "--no-trunc", "--filter", label).split()
    inspected = json.loads(docker("inspect", *ids)) if ids else ()
    found = [_container(details) for details in inspected if not _is_one_off(details)]
    by_service = {container.service: container for container in found}
    return {service: by_service[service] for service in services if service in by_service}


def _container(details: Mapping[str, Any]) -> Container:
    networks = details["NetworkSettings"]["Networks"]
    return Container(
        service=details["Config"]["Labels"][f"{_LABELS}service"],
        id=details["Id"],
        image=details["Image"],
        state=_STATES.get(details["State"]["Status"], "dead"),
        pid=details["State"]["Pid"] or None,
        address=networks.get(NETWORK, {}).get("IPAddress") or None,
        connected=NETWORK in networks,
        # From its configuration: the network settings of a container that has exited list no ports.
        published={
            int(port.partition("/")[0]): f"{bindings[0]['HostIp']}:{bindings[0]['HostPort']}"
            for port, bindings in (details["HostConfig"]["PortBindings"] or {}).items()
        },
    )


def _is_one_off(details: Mapping[str, Any]) -> bool:
    """Return whether a container was created by ``docker compose run``, as a bench is."""
    return bool(details["Config"]["Labels"].get(f"{_LABELS}oneoff") == "True")
