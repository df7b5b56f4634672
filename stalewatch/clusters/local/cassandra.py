"""A ring of three Cassandra nodes as processes on this machine, on 127.0.0.1, 127.0.0.2 and 127.0.0.3."""

import argparse
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from stalewatch.clusters.local import cassandra_node, home, java
from stalewatch.clusters.local.cassandra_members import (
    PROXY,
    STORAGE,
    Management,
    ManagementError,
    Probe,
    RingMember,
    reaches_all,
    serves,
)
from stalewatch.clusters.local.cassandra_node import (
    COMMITLOG_SYNCS,
    ERROR_LINES,
    FAILURES,
    HOSTS,
    USUAL_PORTS,
    Node,
    Settings,
)
from stalewatch.clusters.local.cluster import LocalCluster, Network, ReadyWait, Where, silent
from stalewatch.clusters.local.ports import Loopback
from stalewatch.clusters.local.process import ServerProcess, require_alive
from stalewatch.clusters.local.programs import Lazy
from stalewatch.clusters.protocol import NodeStatus, NoMemory, NotReady, PortTaken, Progress

if TYPE_CHECKING:
    import psutil
else:
    psutil = Lazy("psutil")

LOCK = Path(__file__).with_name("cassandra.lock")

READY_TIMEOUT_S = 180.0
"""Time for nodes to serve; twenty seconds are usual, twice that on a busy machine."""

_POLL_S = 0.3
_REPAIR_TIMEOUT_S = 180.0
_SWITCH = {"on": True, "off": False, None: None}


class CassandraCluster(LocalCluster):
    """Three nodes with an even share of the keys each; data and settings are kept between starts.

    `hints` turns the storing of hints on or off. `commitlog_sync` is ``periodic`` (the commit log is synced every ten
    seconds; a killed node may lose acknowledged writes) or ``batch`` (it is synced before a write is acknowledged).
    None leaves a setting unchanged; a new ring has Cassandra's defaults, hints and ``periodic``.
    """

    database = "cassandra"
    summary = "a ring of 3 nodes"

    def __init__(self, where: Where = None, *, hints: bool | None = None, commitlog_sync: str | None = None) -> None:
        super().__init__(list(HOSTS), where)
        asked = {"hints": hints, "commitlog_sync": commitlog_sync}
        self._asked: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}

    def _network(self, names: Sequence[str]) -> Network:
        return Loopback(HOSTS)

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Add ``--hints`` and ``--commitlog-sync``."""
        parser.add_argument(
            "--hints",
            choices=("on", "off"),
            help="whether nodes store writes that a dead node missed (default: unchanged; on for a new ring)",
        )
        parser.add_argument(
            "--commitlog-sync",
            choices=COMMITLOG_SYNCS,
            help="batch: sync the commit log before acknowledging a write; periodic: every ten seconds, so that a "
            "killed node may lose writes (default: unchanged; periodic for a new ring)",
        )

    @classmethod
    def from_options(cls, arguments: argparse.Namespace) -> Self:
        """Return the ring with the settings given on the command line."""
        return cls(
            hints=_SWITCH[getattr(arguments, "hints", None)],
            commitlog_sync=getattr(arguments, "commitlog_sync", None),
        )

    @property
    def settings(self) -> Settings:
        """The settings asked for, else those of the last start."""
        return self._last_settings()._replace(**self._asked)

    def _last_settings(self) -> Settings:
        return Settings(**self._recall("settings", {}))

    def _nodes(self) -> dict[str, Node]:
        hosts = {name: self.network.host(name) for name in self.servers}
        return cassandra_node.ring(hosts, self._recall("ports", {}), self.settings)

    def addresses(self) -> Mapping[str, str]:
        """Return every node's HOST:PORT by name; before the first start, with the usual ports."""
        return {name: node.address for name, node in self._nodes().items()}

    def uri(self) -> str:
        """Return the value of the option ``--hosts``."""
        return ",".join(self.nodes())

    def client_options(self) -> Mapping[str, str]:
        """Return the addresses as a client option."""
        return {"hosts": self.uri()}

    def _bring_up(self, progress: Progress) -> None:
        began = time.monotonic()
        program, classpath = java.find(), java.fetch_jars(LOCK, progress)
        self._settle(progress)
        self._resume_paused(progress)
        lost = self._lost()
        self._launch([server for server in self._dead() if server not in lost], program, classpath, progress)
        if lost:
            # A replacement asks the living nodes to replace the lost one, so they must be up first.
            self._await([one for one in self.servers.values() if one not in lost], progress, "to serve", serves)
            self._launch(lost, program, classpath, progress, replaces=True)
        self._await(self.servers.values(), progress, "to reach all other nodes", reaches_all)
        self._remember(formed=True)
        for node in self.nodes():
            self.keep_hints(node, keep=None)
        seconds, memory_gb = time.monotonic() - began, self.memory() / 1e9
        progress(f"3 nodes are ready after {seconds:.1f} s and use {memory_gb:.1f} GB of memory")

    def status(self) -> Sequence[NodeStatus]:
        """Return every node's status according to its process, its port, and another node (in nodetool's notation)."""
        members = self._members()
        return [self._status(server, node, members) for server, node in self._pairs()]

    def restart(self, node: str) -> None:
        """Restart a node and return when it serves."""
        server = self._server(node)
        with self._locked(silent):
            self._end([server], silent)
            program, classpath = java.find(), java.fetch_jars(LOCK, silent)
            self._launch([server], program, classpath, silent, replaces=server in self._lost())
            self._await([server], silent, "to serve", serves)

    def keep_hints(self, node: str, *, keep: bool | None) -> None:
        """Turn a node's hints on or off; None restores the ring's setting."""
        self.management(node).write(PROXY, "HintedHandoffEnabled", self.settings.hints if keep is None else keep)

    def repair(self, keyspace: str) -> None:
        """Repair all replicas of a keyspace; raise `NotReady` if that fails."""
        for node in self.nodes():
            self._repair(self.management(node), keyspace)

    def management(self, node: str) -> Management:
        """Return a node's management interface."""
        found = self._nodes()[self._server(node).name]
        return Management(found.host, found.ports.management)

    def memory(self) -> int:
        """Return the nodes' resident memory in bytes."""
        return sum(_resident(server.pid) for server in self.servers.values())

    def _pairs(self) -> list[tuple[ServerProcess, Node]]:
        return list(zip(self.servers.values(), self._nodes().values(), strict=True))

    def _lost(self) -> list[ServerProcess]:
        """Return the nodes whose data are gone although the others know them."""
        empty = [server for server in self._dead() if not _has_data(server)]
        return empty if self._recall("formed", default=False) and len(empty) < len(self.servers) else []

    def _settle(self, progress: Progress) -> None:
        """Choose ports for a new ring; stop nodes that run with another commit log setting."""
        if not self._recall("ports", {}):
            self._end(self.servers.values(), progress)  # the ports of nodes that still run are unknown
            self._remember(ports={name: self.network.choose([name], USUAL_PORTS) for name in self.servers})
        settings = self.settings
        if settings.commitlog_sync != self._last_settings().commitlog_sync:
            progress(f"commitlog_sync changes to {settings.commitlog_sync}: restarting the nodes")
            self._end(self.servers.values(), progress)
        self._remember(settings=settings._asdict())

    def _launch(
        self,
        servers: Sequence[ServerProcess],
        program: Path,
        classpath: Sequence[Path],
        progress: Progress,
        *,
        replaces: bool = False,
    ) -> None:
        self._require_room(servers)
        for server in servers:
            node = self._nodes()[server.name]
            self._require_free_ports(server.name, node)
            with home.writing(server.folder):
                cassandra_node.write_files(server.folder, node)
            progress(f"{server.name}: starting on {node.address}" + (" to replace the lost node" if replaces else ""))
            server.start(cassandra_node.arguments(program, classpath, server.folder, node, replaces=replaces))

    def _require_room(self, servers: Sequence[ServerProcess]) -> None:
        needed, free = len(servers) * cassandra_node.MEMORY_PER_NODE, psutil.virtual_memory().available
        if free < needed:
            names = ", ".join(server.name for server in servers)
            raise NoMemory(
                f"{names} need {needed >> 20} MB of memory, but only {free >> 20} MB are free: end other programs"
            )
        new = [server.name for server in servers if not _has_data(server)]
        home.require_space(self.home, new, cassandra_node.BYTES_PER_NODE)

    def _require_free_ports(self, name: str, node: Node) -> None:
        for port in node.ports:
            if not self.network.is_free(name, port):
                raise PortTaken(
                    f"{name}: another program listens on {node.host}:{port}, which the ring uses: end that program, "
                    f"or start over on other ports with `stalewatch cluster down {self.cli_name()} --wipe`"
                )

    def _repair(self, management: Management, keyspace: str) -> None:
        deadline = time.monotonic() + _REPAIR_TIMEOUT_S
        number = management.call(STORAGE, "repairAsync", keyspace, {"incremental": "false"})
        while not (state := management.call(STORAGE, "getParentRepairStatus", number)) or state[0] == "IN_PROGRESS":
            if time.monotonic() > deadline:
                raise NotReady(f"the repair of {keyspace} is not done after {_REPAIR_TIMEOUT_S:.0f} s")
            time.sleep(_POLL_S)
        if state[0] != "COMPLETED":
            raise NotReady(f"the repair of {keyspace} failed: {' '.join(state)}. {self._advice()}")

    def _await(self, servers: Iterable[ServerProcess], progress: Progress, what: str, done: Probe) -> None:
        waiting, wait = list(servers), ReadyWait(progress, READY_TIMEOUT_S, self._advice())
        while waiting := [server for server in waiting if not done(self.addresses()[server.name])]:
            require_alive(waiting, FAILURES, ERROR_LINES)
            wait.report(f"waiting for {', '.join(server.name for server in waiting)} {what}")
            wait.sleep(_POLL_S)

    def _members(self) -> Mapping[str, RingMember]:
        """Return the nodes as a running one sees them: if views differ, the one that sees the most nodes up."""
        running = [node.address for server, node in self._pairs() if server.state == "running"]
        with ThreadPoolExecutor(max_workers=len(self.servers)) as pool:
            views = list(pool.map(self._view, running))
        return max(views, key=lambda view: sum(one.state.startswith("U") for one in view.values()), default={})

    def _view(self, node: str) -> Mapping[str, RingMember]:
        try:
            return self.management(node).members()
        except ManagementError:
            return {}  # it is starting, hangs, or cannot be reached

    def _status(self, server: ServerProcess, node: Node, members: Mapping[str, RingMember]) -> NodeStatus:
        state, member = server.state, members.get(f"{node.host}:{node.ports.storage}")
        if member is None:
            return NodeStatus(server.name, node.address, server.pid, state)
        healthy = state == "running" and member.state == "UN" and serves(node.address)
        note = f"load {member.load}, owns {member.owns}, {member.id}"
        if not node.settings.hints:
            note += ", keeps no hints"
        return NodeStatus(server.name, node.address, server.pid, state, member.state, healthy, note=note)


def _resident(pid: int | None) -> int:
    try:
        return 0 if pid is None else int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _has_data(server: ServerProcess) -> bool:
    return (server.folder / "data").is_dir()
