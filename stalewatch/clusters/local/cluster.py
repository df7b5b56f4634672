"""The base class of local clusters: one folder, one server process per node, and a lock for starting and stopping."""

import argparse
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import ClassVar, Protocol, Self, TypeVar

from stalewatch.clusters.local import home, ports
from stalewatch.clusters.local.process import ServerProcess
from stalewatch.clusters.protocol import NodeStatus, NotReady, PortTaken, Progress, Recipe, UnknownNode

STOP_TIMEOUT_S = 30.0
"""Time for a server to shut down cleanly before it is killed."""

_PORT_TRIES = 3

Where = PathLike[str] | str | None
"""The folder of all local clusters; None: as configured in the environment."""

T = TypeVar("T")


def silent(line: str) -> None:
    """Discard a line of progress."""
    del line


class Network(Protocol):
    """The network that a cluster's nodes, identified by name, listen in."""

    def host(self, name: str) -> str:
        """Return a node's address, without a port."""
        ...

    def enter(self, name: str) -> Sequence[str]:
        """Return a command prefix that runs a program in the node's network, as the same process."""
        ...

    def choose(self, names: Iterable[str], wanted: Sequence[int]) -> list[int]:
        """Return every wanted port if it is free, else another one, all different; the nodes share an address."""
        ...

    def is_free(self, name: str, port: int) -> bool:
        """Return whether the node could listen on this port now."""
        ...

    def prepare(self, progress: Progress, clear: Callable[[], None]) -> None:
        """Create or repair the network; `clear` kills all servers, which a lost network leaves unreachable."""
        ...

    def remove(self, progress: Progress) -> None:
        """Remove the network, in which no server runs any more; does nothing if there is none."""
        ...


class ReadyWait:
    """A wait with a deadline, which reports each new state once; `advice` ends the error message."""

    def __init__(self, progress: Progress, timeout_s: float, advice: str) -> None:
        self._progress = progress
        self._timeout_s = timeout_s
        self._advice = advice
        self._deadline = time.monotonic() + timeout_s
        self._text = ""

    def report(self, text: str) -> None:
        """Report what is being waited for, unless it was the last thing reported."""
        if text != self._text:
            self._text = text
            self._progress(text)

    def sleep(self, poll_s: float, error: str = "") -> None:
        """Sleep until the next poll; raise `NotReady` with the last error if the time is up."""
        if time.monotonic() > self._deadline:
            details = " ".join(filter(None, (error, self._advice)))
            raise NotReady(f"{self._text}: not done after {self._timeout_s:.0f} s. {details}")
        time.sleep(poll_s)


class LocalCluster(ABC):
    """Nodes of one database as processes, with files in ``<home>/<database>/<name>/``."""

    database: str
    variant: ClassVar[str] = ""
    """Suffix of the folder's name, and option of ``stalewatch cluster``; empty for a cluster on loopback."""

    summary: ClassVar[str]
    """A short description of the cluster."""

    def __init__(self, names: Sequence[str], where: Where = None) -> None:
        self.home = (Path(where) if where else home.location()).resolve()
        self.folder = self.home / "-".join(filter(None, (self.database, self.variant)))
        self.network = self._network(names)
        self.servers = {name: ServerProcess(name, self.folder / name, self.network.enter(name)) for name in names}
        self._state_file = self.folder / "state.json"
        self._reservation = self.home / f"{self.folder.name}.drill.lock"
        self._is_reserved = False
        """Whether by this object."""

    @classmethod
    @abstractmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Add this database's options of ``stalewatch cluster up``."""

    @classmethod
    @abstractmethod
    def from_options(cls, arguments: argparse.Namespace) -> Self:
        """Return the cluster with the options given on the command line."""

    @abstractmethod
    def addresses(self) -> Mapping[str, str]:
        """Return every node's HOST:PORT by name; before the first start, with the usual ports."""

    @abstractmethod
    def client_options(self) -> Mapping[str, str]:
        """Return the client options that connect to this cluster, by argparse name."""

    @abstractmethod
    def _bring_up(self, progress: Progress) -> None:
        """Start or repair every node and wait until all serve; the lock is held."""

    @abstractmethod
    def status(self) -> Sequence[NodeStatus]:
        """Return the status of every node."""

    @abstractmethod
    def uri(self) -> str:
        """Return the address that clients connect to."""

    @abstractmethod
    def restart(self, node: str) -> None:
        """Stop a node if it runs, start it, and return when it serves."""

    def _network(self, names: Sequence[str]) -> Network:
        """Return the network in which the nodes of these names listen."""
        return ports.Loopback(dict.fromkeys(names, ports.LOOPBACK))

    def primary(self) -> str | None:
        """Return the primary's address; None if every node accepts writes."""
        return None

    def nodes(self) -> Sequence[str]:
        """Return every node's address."""
        return list(self.addresses().values())

    def cli_name(self) -> str:
        """Return the arguments of ``stalewatch cluster`` that select this cluster."""
        return " --".join(filter(None, (self.database, self.variant)))

    def recipe(self) -> Recipe:
        """Return instructions for another process to create the same cluster object."""
        return Recipe(f"{type(self).__module__}:{type(self).__qualname__}", {"where": str(self.home)})

    def ensure(self, progress: Progress) -> None:
        """Start or repair the cluster unless every node is healthy."""
        if not all(node.healthy for node in self.status()):
            where = home.shown(self.home)
            how_to_stop = f"stop it with: stalewatch cluster down {self.cli_name()}"
            progress(f"starting {self.summary} in {where}/ ({how_to_stop})")
            self.start(progress)

    def start(self, progress: Progress) -> None:
        """Start or repair every node and wait until all serve; raise a `ClusterError` if that fails."""
        with self._changing(progress):
            self.network.prepare(progress, lambda: self._kill_all(progress))
            self._bring_up(progress)

    def stop(self, progress: Progress, *, wipe: bool = False) -> None:
        """Stop every node; with `wipe` also delete data and logs."""
        if not self.home.exists() and all(server.state == "dead" for server in self.servers.values()):
            self.network.remove(progress)
            return
        with self._changing(progress):
            if wipe:  # data about to be deleted need no clean shutdown
                self._kill_all(progress)
            else:
                self._end(self.servers.values(), progress)
            self.network.remove(progress)
            if wipe:
                self._wipe(progress)

    def kill(self, node: str) -> None:
        """Kill a node (SIGKILL)."""
        self._server(node).kill()

    def wipe(self, node: str) -> None:
        """Kill a node and delete its data, as if it lost its disk."""
        server = self._server(node)
        server.kill()
        with home.writing(server.folder), suppress(FileNotFoundError):
            shutil.rmtree(server.folder / "data")

    def pause(self, node: str) -> None:
        """Freeze a node (SIGSTOP); raise `NotRunning` if it is dead."""
        self._server(node).pause()

    def resume(self, node: str) -> None:
        """Resume a frozen node (SIGCONT); raise `NotRunning` if it is dead."""
        self._server(node).resume()

    def _server(self, node: str) -> ServerProcess:
        for name, address in self.addresses().items():
            if address == node:
                return self.servers[name]
        raise UnknownNode(
            f"{node} is not a node of the local {self.cli_name()} cluster, whose nodes are {', '.join(self.nodes())}"
        )

    @contextmanager
    def reserved(self, progress: Progress) -> Iterator[None]:
        """Reserve the cluster for this object during a block: no other command may break, start or stop it.

        Raises `Busy` if another command has reserved it, now or when it tries to start or stop it.
        """
        with ExitStack() as held:
            with self._locked(progress):  # not while another command starts or stops it
                held.enter_context(home.reserved(self._reservation, self._label()))
            self._is_reserved = True
            try:
                yield
            finally:
                self._is_reserved = False

    @contextmanager
    def _changing(self, progress: Progress) -> Iterator[None]:
        """Hold the lock to start or stop the cluster; raise `Busy` if another object has reserved it."""
        with self._locked(progress):
            if not self._is_reserved:
                home.require_unreserved(self._reservation, self._label())
            yield

    def _label(self) -> str:
        return f"local {self.cli_name()}"

    def _locked(self, progress: Progress) -> AbstractContextManager[None]:
        home.create(self.home)
        # Not inside the folder, whose deletion would remove the lock from under a command that waits for it.
        return home.locked(self.home / f"{self.folder.name}.lock", progress)

    def _dead(self) -> list[ServerProcess]:
        return [server for server in self.servers.values() if server.state == "dead"]

    def _resume_paused(self, progress: Progress) -> bool:
        """Resume frozen nodes, and return whether there were any."""
        paused = [server for server in self.servers.values() if server.state == "paused"]
        for server in paused:
            progress(f"{server.name}: was paused, resuming it")
            server.resume()
        return bool(paused)

    def _end(self, servers: Iterable[ServerProcess], progress: Progress) -> None:
        living = [server for server in servers if server.state != "dead"]
        for server in living:
            progress(f"{server.name}: stopping (pid {server.pid})")
            server.terminate()
        for server in living:
            if not server.await_end(STOP_TIMEOUT_S):
                progress(f"{server.name}: still running after {STOP_TIMEOUT_S:.0f} s, killing it")
                server.kill()

    def _kill_all(self, progress: Progress) -> None:
        for server in self.servers.values():
            if server.state != "dead":
                progress(f"{server.name}: killing it (pid {server.pid})")
                server.kill()

    def _wipe(self, progress: Progress) -> None:
        if not self.folder.exists():
            return
        progress(f"deleting {home.shown(self.folder)}")
        with home.writing(self.folder):
            shutil.rmtree(self.folder)

    def _recall(self, fact: str, default: T) -> T:
        """Return a fact stored by `_remember`, else the default."""
        found = home.recall(self._state_file).get(fact, default)
        return found if isinstance(found, type(default)) else default

    def _remember(self, **facts: object) -> None:
        """Store facts for later commands, next to those stored before."""
        home.remember(self._state_file, {**home.recall(self._state_file), **facts})

    def _ports(self, usual: Mapping[str, int]) -> dict[str, int]:
        """Return the ports of the last start by node name, else the usual ones."""
        known: dict[str, int] = self._recall("ports", {})
        return {**usual, **known}

    def _free_ports(self, names: Sequence[str], usual: Mapping[str, int], progress: Progress) -> dict[str, int]:
        """Return every node's port; those of the named nodes, which are about to start, are free now."""
        settled = self._ports(usual)
        for name, port in zip(names, self.network.choose(names, [settled[name] for name in names]), strict=True):
            if port != settled[name]:
                progress(f"{name}: port {settled[name]} is taken by another program, using {port}")
            settled[name] = port
        return settled

    def _advice(self) -> str:
        logs = home.shown(self.folder / "*" / "server.log")
        return f"See {logs}, or start over: stalewatch cluster down {self.cli_name()} --wipe"


def retry_taken_ports(start: Callable[[], T]) -> T:
    """Call `start` again if another program took a port after it was chosen and before the server listened on it."""
    for _ in range(_PORT_TRIES - 1):
        with suppress(PortTaken):
            return start()
    return start()
