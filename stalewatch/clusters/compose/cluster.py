"""The base class of clusters of containers, which are controlled by the docker command."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from stalewatch.clusters.compose.containers import (
    UP_TIMEOUT_S,
    Container,
    compose,
    containers,
    docker,
    may_enter,
    project,
)
from stalewatch.clusters.local import home
from stalewatch.clusters.protocol import (
    ClusterError,
    LinkFault,
    NodeStatus,
    NotAllowed,
    NotReady,
    NotRunning,
    Progress,
    Recipe,
    ServerDied,
    UnknownNode,
)

READY_TIMEOUT_S = 300.0
"""Time for nodes to serve once their containers are up."""

STOP_TIMEOUT_S = 60
"""Seconds for a server to shut down cleanly before the engine kills it."""

_POLL_S = 0.5
_LAST_LINES = 5


class ComposeCluster(ABC):
    """Nodes of one database as services of docker-compose.yml, on this machine's engine."""

    database: str
    services: Sequence[str]
    """The nodes' services, in order."""

    one_shot: Sequence[str] = ()
    """Services that are started with the nodes, and end by themselves."""

    keeps_identity: bool = True
    """Whether other nodes recognize a node that was disconnected and may have a new address."""

    port: int
    """The port on which each node serves clients, inside the network."""

    data: Sequence[str]
    """The arguments of ``find`` that select a node's data."""

    @abstractmethod
    def addresses(self) -> Mapping[str, str]:
        """Return every node's HOST:PORT, as in histories, by service."""

    @abstractmethod
    def status(self) -> Sequence[NodeStatus]:
        """Return the status of every node."""

    @abstractmethod
    def uri(self) -> str:
        """Return the address that clients on this machine connect to."""

    @abstractmethod
    def client_options(self) -> Mapping[str, str]:
        """Return the client options that connect to this cluster, by argparse name."""

    @abstractmethod
    def serves(self, container: Container) -> bool:
        """Return whether a node answers clients."""

    def recipe(self) -> Recipe:
        """Return instructions for another process to create the same cluster object."""
        return Recipe(f"{type(self).__module__}:{type(self).__name__}", {})

    def primary(self) -> str | None:
        """Return the primary's address; None if every node accepts writes."""
        return None

    def nodes(self) -> Sequence[str]:
        """Return every node's address."""
        return list(self.addresses().values())

    def ensure(self, progress: Progress) -> None:
        """Start or repair the containers unless every node is healthy."""
        if not all(node.healthy for node in self.status()):
            self.start(progress)

    @contextmanager
    def reserved(self, progress: Progress) -> Iterator[None]:
        """Reserve the containers for a drill during a block; raise `Busy` if another command on this machine has."""
        del progress
        lock = home.cache() / f"{project()}-{self.database}.drill.lock"
        with home.writing(lock.parent):
            lock.parent.mkdir(parents=True, exist_ok=True)
        with home.reserved(lock, f"Compose {self.database}"):
            yield

    def start(self, progress: Progress) -> None:
        """Start or repair the containers and wait until all nodes serve; raise a `ClusterError` if that fails."""
        for container in self._containers().values():
            container.mend(())
            if container.state == "paused":
                progress(f"{container.service}: was paused, resuming it")
                docker("unpause", container.id)
        names = (*self.services, *self.one_shot)
        progress(f"docker compose up --detach {' '.join(names)} (pulls images if necessary)")
        compose("up", "--detach", *names, timeout_s=UP_TIMEOUT_S)
        progress(f"waiting for {', '.join(self.services)} to serve")
        self._await(lambda: all(node.healthy for node in self.status()), self.services)

    def stop(self, progress: Progress, *, wipe: bool = False) -> None:
        """Stop every node; with `wipe` delete the containers and their data."""
        names = (*self.services, *self.one_shot)
        progress(f"stopping {', '.join(self.services)}")
        compose("stop", "--timeout", str(STOP_TIMEOUT_S), *names, timeout_s=STOP_TIMEOUT_S * 2.0)
        if wipe:
            progress(f"deleting the data of {', '.join(self.services)}")
            compose("rm", "--force", "-v", *names)
            docker("volume", "rm", "--force", *(f"{project()}_{service}" for service in self.services))

    def kill(self, node: str) -> None:
        """Kill a node (SIGKILL) and wait until its process is gone; does nothing if it is dead."""
        container = self._container(node)
        if container.state != "dead":
            docker("kill", container.id)

    def restart(self, node: str) -> None:
        """Start a dead node, or shut a running one down cleanly and start it; return when it serves again."""
        container = self._container(node)
        if container.state == "paused":
            docker("unpause", container.id)
        docker("restart", "-t", str(STOP_TIMEOUT_S), container.id, timeout_s=STOP_TIMEOUT_S * 2.0)
        self._await(lambda: self.serves(self._by_service(container.service)), [container.service])

    def pause(self, node: str) -> None:
        """Freeze all processes of a node; raise `NotRunning` if it is dead."""
        container = self._running(node)
        if container.state != "paused":
            docker("pause", container.id)

    def resume(self, node: str) -> None:
        """Resume a frozen node; raise `NotRunning` if it is dead."""
        container = self._running(node)
        if container.state == "paused":
            docker("unpause", container.id)

    def cut(self, node: str, others: Sequence[str], *, clients: bool = False) -> None:
        """Block traffic between a node and other nodes, both ways; with `clients` also between it and all clients.

        If this process may not enter the container's network, a node can only be cut off from all of them.
        """
        container = self._running(node)
        if not may_enter():
            self._disconnect(container, others, clients=clients)
            return
        if others:
            container.cut(self._container_addresses([self._container(other).service for other in others]))
        if clients:
            container.cut_clients(self._container_addresses(self.services).values())

    def slow(self, node: str, delay_s: float) -> None:
        """Delay traffic to and from a node by `delay_s` seconds each way."""
        self._running(node).slow(delay_s)

    def lose(self, node: str, share: float) -> None:
        """Drop a random share of the packets to and from a node."""
        self._running(node).lose(share)

    def mend(self, node: str, *faults: LinkFault) -> None:
        """Remove these faults from a node's links, or all if none is given; does nothing if there are none."""
        self._container(node).mend(faults)

    def wipe(self, node: str) -> None:
        """Kill a node and delete its data; `restart` then starts it empty."""
        container = self._container(node)
        self.kill(node)
        # In a container of the node's own image, which is on this machine and has `find`: a dead one runs no commands.
        helper = ("run", "--rm", "--network", "none", "--user", "0", "--volumes-from", container.id)
        docker(*helper, "--entrypoint", "find", container.image, *self.data, "-delete")

    def _disconnect(self, container: Container, others: Sequence[str], *, clients: bool) -> None:
        names = {self._container(other).service for other in others}
        if not self.keeps_identity or not clients or names | {container.service} != set(self.services):
            raise NotAllowed(
                f"{container.service}: only root on the engine's machine may cut single links of a container; without "
                "root, a MongoDB member or CouchDB leader can only be disconnected from all nodes and clients at once"
            )
        if container.connected:
            container.disconnect()

    def _container_addresses(self, services: Collection[str]) -> dict[str, str]:
        """Return the addresses in the network by service; dead and disconnected containers have none."""
        found = self._containers()
        return {service: one.address for service, one in found.items() if one.address and service in services}

    def _containers(self) -> dict[str, Container]:
        return containers(self.services)

    def _by_service(self, service: str) -> Container:
        found = self._containers().get(service)
        if found is None:
            raise NotRunning(f"{service} has no container: docker compose up -d {' '.join(self.services)}")
        return found

    def _container(self, node: str) -> Container:
        """Return a node's container by the node's address, or by its service with or without the port."""
        for service, address in self.addresses().items():
            if node in {address, service, f"{service}:{self.port}"}:
                return self._by_service(service)
        raise UnknownNode(
            f"{node} is not a node of the {self.database} containers, whose nodes are {', '.join(self.nodes())}"
        )

    def _running(self, node: str) -> Container:
        container = self._container(node)
        if container.state == "dead":
            raise NotRunning(f"{container.service} is not running: restart it first")
        return container

    def _await(self, condition: Callable[[], bool], services: Sequence[str]) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not condition():
            for container in self._containers().values():
                if container.service in services and container.state == "dead":
                    raise ServerDied(f"{container.service} has exited: {_last_lines(container)}")
            if time.monotonic() > deadline:
                names = ", ".join(services)
                raise NotReady(f"{names}: not serving after {READY_TIMEOUT_S:.0f} s; see docker compose logs {names}")
            time.sleep(_POLL_S)


def _last_lines(container: Container) -> str:
    try:
        output = docker("logs", "--tail", str(_LAST_LINES), container.id)
    except ClusterError as error:
        return str(error)
    return " / ".join(output.splitlines()) or "without any output; see docker compose logs"
