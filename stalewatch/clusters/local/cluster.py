"""What the local clusters of all databases share: a folder, one server process a node, a lock."""

import argparse
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from os import PathLike
from pathlib import Path
from typing import ClassVar, Self

from stalewatch.clusters.local import home
from stalewatch.clusters.local.network import Network
from stalewatch.clusters.local.process import ServerProcess
from stalewatch.clusters.protocol import NodeStatus, Progress, Recipe, UnknownNode

STOP_TIMEOUT_S = 30.0
"""How long a server may take to end in good order before it is killed."""


def silent(line: str) -> None:
    """Take a line of progress that nobody waits for."""
    del line


Where = PathLike[str] | str | None
"""The folder of all local clusters; None: as the environment says."""


class LocalCluster(ABC):
    """Nodes of one database as processes under ``<home>/<database>/<name>/``."""

    database: str
    kind: ClassVar[str] = ""
    """What stands behind the database in the names of folders, and as ``--kind`` in commands: nothing on loopback."""

    summary: ClassVar[str]
    """What is started, in a few words."""

    def __init__(self, names: Sequence[str], where: Where = None) -> None:
        self.home = (Path(where) if where else home.location()).resolve()
        self.folder = self.home / "-".join(filter(None, (self.database, self.kind)))
        self.network = self._network(names)
        self.servers = {name: ServerProcess(name, self.folder / name, self.network.enter(name)) for name in names}

    @abstractmethod
    def _network(self, names: Sequence[str]) -> Network:
        """Return the network in which the nodes of these names listen."""

    @classmethod
    @abstractmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Add what ``stalewatch cluster up`` takes for this database beyond its name."""

    @classmethod
    @abstractmethod
    def from_options(cls, arguments: argparse.Namespace) -> Self:
        """Return the cluster that the command's arguments speak of."""

    @abstractmethod
    def addresses(self) -> Mapping[str, str]:
        """Return HOST:PORT of every node by its name."""

    @abstractmethod
    def client_options(self) -> Mapping[str, str]:
        """Return what leads a client here, by the names of its options as argparse makes them of the flags."""

    @abstractmethod
    def _bring_up(self, progress: Progress) -> None:
        """Bring every node up, whatever state it is in, and wait until they serve; the lock is held."""

    @abstractmethod
    def status(self) -> Sequence[NodeStatus]:
        """Say how every node is."""

    @abstractmethod
    def uri(self) -> str:
        """Return what a client connects to."""

    @abstractmethod
    def primary(self) -> str | None:
        """Return the address of the node that takes the writes."""

    @abstractmethod
    def restart(self, node: str) -> None:
        """Start a node again and return when it serves."""

    def nodes(self) -> Sequence[str]:
        """Return every node's address."""
        return list(self.addresses().values())

    def words(self) -> str:
        """Return how a command speaks of this cluster."""
        return " --".join(filter(None, (self.database, self.kind)))

    def recipe(self) -> Recipe:
        """Say how another process makes an object of this cluster."""
        return Recipe(f"{type(self).__module__}:{type(self).__qualname__}", {"where": str(self.home)})

    def ensure(self, progress: Progress) -> None:
        """Start the cluster, or mend it, when it is not whole."""
        if not all(node.healthy for node in self.status()):
            where = home.shown(self.home)
            way_out = f"stop it with: stalewatch cluster down {self.words()}"
            progress(f"starting {self.summary} under {where}/ ({way_out})")
            self.start(progress)

    def start(self, progress: Progress) -> None:
        """Bring every node up and wait until they serve; raise a `ClusterError` when they do not."""
        with self._locked(progress):
            self.network.prepare(progress, lambda: self._kill_all(progress))
            self._bring_up(progress)

    def stop(self, progress: Progress, *, wipe: bool = False) -> None:
        """End every node, and with `wipe` delete data and logs."""
        if not self.home.exists() and all(server.state == "dead" for server in self.servers.values()):
            self.network.remove(progress)
            return
        with self._locked(progress):
            if wipe:  # what is to be deleted need not end in good order
                self._kill_all(progress)
            else:
                self._end(self.servers.values(), progress)
            self.network.remove(progress)
            if wipe:
                self._wipe(progress)

    def kill(self, node: str) -> None:
        """End a node at once (SIGKILL)."""
        self._server(node).kill()

    def wipe(self, node: str) -> None:
        """End a node at once and delete its data, as when its disk is lost."""
        server = self._server(node)
        server.kill()
        with home.writing(server.folder), suppress(FileNotFoundError):
            shutil.rmtree(server.folder / "data")

    def pause(self, node: str) -> None:
        """Freeze a node (SIGSTOP); raises `NotRunning` when it is dead."""
        self._server(node).pause()

    def resume(self, node: str) -> None:
        """Let a frozen node go on; raises `NotRunning` when it is dead."""
        self._server(node).resume()

    def _server(self, node: str) -> ServerProcess:
        for name, address in self.addresses().items():
            if address == node:
                return self.servers[name]
        raise UnknownNode(f"{node} is no node of the local {self.words()} cluster; it has {', '.join(self.nodes())}")

    def _locked(self, progress: Progress) -> AbstractContextManager[None]:
        home.create(self.home)
        # Beside the folder and not in it, so that wiping the folder takes no lock away from who waits for it.
        return home.locked(self.home / f"{self.folder.name}.lock", progress)

    def _end(self, servers: Iterable[ServerProcess], progress: Progress) -> None:
        living = [server for server in servers if server.state != "dead"]
        for server in living:
            progress(f"{server.name}: stopping (pid {server.pid})")
            server.terminate()
        for server in living:
            if not server.await_end(STOP_TIMEOUT_S):
                progress(f"{server.name}: still there after {STOP_TIMEOUT_S:.0f} s, killing it")
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
