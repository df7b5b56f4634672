"""What the local clusters of all databases share: a folder, one server process a node, a lock."""

import argparse
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from replication.local import home
from replication.local.process import ServerProcess
from replication.protocol import NodeStatus, Progress, UnknownNode

STOP_TIMEOUT_S = 30.0
"""How long a server may take to end in good order before it is killed."""


def silent(line: str) -> None:
    """Take a line of progress that nobody waits for."""
    del line


class LocalCluster(ABC):
    """Nodes of one database as processes under ``<home>/<database>/<name>/``."""

    database: str

    def __init__(self, names: Sequence[str], where: Path | None = None) -> None:
        self.home = (where or home.location()).resolve()
        self.folder = self.home / self.database
        self.servers = {name: ServerProcess(name, self.folder / name) for name in names}

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
    def start(self, progress: Progress) -> None:
        """Bring every node up and wait until they serve."""

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

    def stop(self, progress: Progress, *, wipe: bool = False) -> None:
        """End every node, and with `wipe` delete data and logs."""
        if not self.home.exists() and all(server.state == "dead" for server in self.servers.values()):
            return
        with self._locked(progress):
            if wipe:  # what is to be deleted need not end in good order
                self._kill_all(progress)
                self._wipe(progress)
            else:
                self._end(self.servers.values(), progress)

    def kill(self, node: str) -> None:
        """End a node at once (SIGKILL)."""
        self._server(node).kill()

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
        raise UnknownNode(f"{node} is no node of the local {self.database} cluster; it has {', '.join(self.nodes())}")

    def _locked(self, progress: Progress) -> AbstractContextManager[None]:
        home.create(self.home)
        # Beside the folder and not in it, so that wiping the folder takes no lock away from who waits for it.
        return home.locked(self.home / f"{self.database}.lock", progress)

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
