"""What clusters of containers share: they are found by Compose's labels, and acted on through the docker command."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence

from stalewatch.clusters.compose import links
from stalewatch.clusters.compose.containers import Container, containers
from stalewatch.clusters.compose.docker import UP_TIMEOUT_S, compose, docker, project
from stalewatch.clusters.protocol import (
    ClusterError,
    LinkTrouble,
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
"""How long nodes may take to serve once their containers are up."""

STOP_TIMEOUT_S = 60
"""How many seconds a server may take to end in good order before the engine kills it."""

_POLL_S = 0.5
_LAST_WORDS = 5


class ContainerCluster(ABC):
    """Nodes of one database as services of docker-compose.yml, on this machine's engine."""

    database: str
    services: Sequence[str]
    """The nodes' services, in order."""

    one_shot: Sequence[str] = ()
    """What is brought up beside them, and ends by itself."""

    stays_itself: bool = True
    """Whether the others know a node again that was disconnected, and that the engine may give another address."""

    port: int
    """The port that each node serves clients at, inside the network."""

    data: Sequence[str]
    """The words of ``find`` that name what a node has stored."""

    @abstractmethod
    def addresses(self) -> Mapping[str, str]:
        """Return HOST:PORT of every node, as histories have it, by its service."""

    @abstractmethod
    def status(self) -> Sequence[NodeStatus]:
        """Say how every node is."""

    @abstractmethod
    def uri(self) -> str:
        """Return what a client on this machine connects to."""

    @abstractmethod
    def client_options(self) -> Mapping[str, str]:
        """Return what leads a client here, by the names of its options as argparse makes them of the flags."""

    @abstractmethod
    def primary(self) -> str | None:
        """Return the address of the node that takes the writes."""

    @abstractmethod
    def serves(self, container: Container) -> bool:
        """Say whether a node answers clients."""

    def recipe(self) -> Recipe:
        """Say how another process makes an object of this cluster."""
        kind = type(self)
        return Recipe(f"{kind.__module__}:{kind.__name__}", {})

    def nodes(self) -> Sequence[str]:
        """Return every node's address."""
        return list(self.addresses().values())

    def ensure(self, progress: Progress) -> None:
        """Bring the containers up, or mend them, where a node does not serve."""
        if not all(node.healthy for node in self.status()):
            self.start(progress)

    def start(self, progress: Progress) -> None:
        """Bring the containers up and wait until all nodes serve; raise a `ClusterError` when they do not."""
        for container in self._containers().values():
            links.mend(container, ())
            if container.state == "paused":
                progress(f"{container.service}: was paused, goes on")
                docker("unpause", container.id)
        names = (*self.services, *self.one_shot)
        progress(f"docker compose up --detach {' '.join(names)} (images are fetched once)")
        compose("up", "--detach", *names, timeout_s=UP_TIMEOUT_S)
        progress(f"waiting for {', '.join(self.services)} to serve")
        self._await(lambda: all(node.healthy for node in self.status()), self.services)

    def stop(self, progress: Progress, *, wipe: bool = False) -> None:
        """End every node, and with `wipe` delete the containers and what they stored."""
        names = (*self.services, *self.one_shot)
        progress(f"stopping {', '.join(self.services)}")
        compose("stop", "--timeout", str(STOP_TIMEOUT_S), *names, timeout_s=STOP_TIMEOUT_S * 2.0)
        if wipe:
            progress(f"deleting what {', '.join(self.services)} stored")
            compose("rm", "--force", "-v", *names)
            docker("volume", "rm", "--force", *(f"{project()}_{service}" for service in self.services))

    def kill(self, node: str) -> None:
        """End a node at once (SIGKILL), and return when it has ended; a dead one stays so."""
        container = self._container(node)
        if container.state != "dead":
            docker("kill", container.id)

    def restart(self, node: str) -> None:
        """Start a dead node, or end a living one in good order and start it; return when it serves again."""
        container = self._container(node)
        if container.state == "paused":
            docker("unpause", container.id)
        timeout_s = STOP_TIMEOUT_S * 2.0
        docker("restart", "-t", str(STOP_TIMEOUT_S), container.id, timeout_s=timeout_s)
        self._await(lambda: self.serves(self._named(container.service)), [container.service])

    def pause(self, node: str) -> None:
        """Freeze every process of a node; raises `NotRunning` when it is dead."""
        container = self._living(node)
        if container.state != "paused":
            docker("pause", container.id)

    def resume(self, node: str) -> None:
        """Let a frozen node go on; raises `NotRunning` when it is dead."""
        container = self._living(node)
        if container.state == "paused":
            docker("unpause", container.id)

    def cut(self, node: str, others: Sequence[str], *, clients: bool = False) -> None:
        """Let nothing pass between a node and other nodes, both ways; with `clients` nor between it and any client.

        Where this process may not enter the container's network, a node can only be cut off from all of them.
        """
        container = self._living(node)
        if not links.may_enter():
            self._disconnect(container, others, clients=clients)
            return
        if others:
            links.cut(container, self._reached([self._container(other).service for other in others]))
        if clients:
            links.cut_all_but(container, self._reached(self.services))

    def slow(self, node: str, delay_s: float) -> None:
        """Hold back all that goes to and from a node by `delay_s` seconds each way."""
        links.slow(self._living(node), delay_s)

    def lose(self, node: str, share: float) -> None:
        """Drop a share of what goes to and from a node, chosen at random."""
        links.lose(self._living(node), share)

    def mend(self, node: str, *troubles: LinkTrouble) -> None:
        """Undo what was done to a node's links: the troubles that are named, or all; nothing where nothing was."""
        links.mend(self._container(node), troubles)

    def wipe(self, node: str) -> None:
        """End a node at once and delete what it stored; `restart` then brings it back with nothing."""
        container = self._container(node)
        self.kill(node)
        # By the node's own image, which is on this machine and has `find`: a dead container runs nothing itself.
        helper = ("run", "--rm", "--network", "none", "--user", "0", "--volumes-from", container.id)
        docker(*helper, "--entrypoint", "find", container.image, *self.data, "-delete")

    def _disconnect(self, container: Container, others: Sequence[str], *, clients: bool) -> None:
        names = {self._container(other).service for other in others}
        if not self.stays_itself or not clients or names | {container.service} != set(self.services):
            raise NotAllowed(
                f"{container.service}: only root on the engine's own machine may cut links of a container; without, "
                "a member or a leader can be cut off from all nodes and clients, by taking its network away"
            )
        if container.connected:
            links.disconnect(container)

    def _reached(self, services: Collection[str]) -> dict[str, str]:
        """Return the addresses in the network of those of the services that have one."""
        found = self._containers()
        return {service: one.address for service, one in found.items() if one.address and service in services}

    def _containers(self) -> dict[str, Container]:
        return containers(self.services)

    def _named(self, service: str) -> Container:
        found = self._containers().get(service)
        if found is None:
            raise NotRunning(f"{service} has no container: docker compose up -d {' '.join(self.services)}")
        return found

    def _container(self, node: str) -> Container:
        """Return a node's container by its address, or by its service's name, with the port or without."""
        for service, address in self.addresses().items():
            if node in {address, service, f"{service}:{self.port}"}:
                return self._named(service)
        raise UnknownNode(f"{node} is no node of the {self.database} containers, which are {', '.join(self.nodes())}")

    def _living(self, node: str) -> Container:
        container = self._container(node)
        if container.state == "dead":
            raise NotRunning(f"{container.service} does not run: restart it first")
        return container

    def _await(self, condition: Callable[[], bool], services: Sequence[str]) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not condition():
            for container in self._containers().values():
                if container.service in services and container.state == "dead":
                    raise ServerDied(f"{container.service} has ended: {_last_words(container)}")
            if time.monotonic() > deadline:
                names = ", ".join(services)
                raise NotReady(f"{names}: not serving after {READY_TIMEOUT_S:.0f} s; see docker compose logs {names}")
            time.sleep(_POLL_S)


def _last_words(container: Container) -> str:
    try:
        told = docker("logs", "--tail", str(_LAST_WORDS), container.id)
    except ClusterError as error:
        return str(error)
    return " / ".join(told.splitlines()) or "it said nothing; see docker compose logs"
