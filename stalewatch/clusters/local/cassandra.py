"""A ring of three Cassandra nodes as processes on this machine, on 127.0.0.1, 127.0.0.2 and 127.0.0.3."""

import argparse
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Self

from stalewatch.clusters.local import cassandra_node, cql, diagnosis, home, jars, java
from stalewatch.clusters.local.cassandra_node import COMMITLOG_SYNCS, Node
from stalewatch.clusters.local.cassandra_state import HOSTS, USUAL_PORTS, RingState
from stalewatch.clusters.local.cluster import LocalCluster, Where, silent
from stalewatch.clusters.local.management import PROXY, STORAGE, Management, Member, NoOrders
from stalewatch.clusters.local.network import Loopback, Network
from stalewatch.clusters.local.packages import Lazy
from stalewatch.clusters.local.process import ServerProcess
from stalewatch.clusters.protocol import DiskFull, NodeStatus, NoMemory, NotReady, PortTaken, Progress

if TYPE_CHECKING:
    import psutil
else:
    psutil = Lazy("psutil")

LOCK = Path(__file__).with_name("cassandra.lock")

READY_TIMEOUT_S = 180.0
"""How long nodes may take to serve; twenty seconds are usual, twice that on a busy machine."""

_POLL_S = 0.3
_REPAIR_TIMEOUT_S = 180.0
_SWITCH = {"on": True, "off": False, None: None}


def ensure(progress: Progress) -> str:
    """Return the addresses of the local ring, which is started, or mended, when it is not whole."""
    cluster = CassandraCluster()
    cluster.ensure(progress)
    return cluster.uri()


class CassandraCluster(LocalCluster):
    """Three nodes that share the keys evenly; data and settings are kept from one start to the next.

    `hints` says whether a node keeps what another one missed, `commitlog_sync` when a write is safe from a crash:
    ``periodic`` (within ten seconds; a killed node may forget acknowledged writes) or ``batch`` (before it is
    acknowledged). None leaves a setting as it is; a new ring has hints and the periodic log, as Cassandra by default.
    """

    database = "cassandra"
    summary = "a ring of 3 nodes"

    def __init__(self, where: Where = None, *, hints: bool | None = None, commitlog_sync: str | None = None) -> None:
        super().__init__(list(HOSTS), where)
        asked = {"hints": hints, "commitlog_sync": commitlog_sync}
        hosts = {name: self.network.host(name) for name in HOSTS}
        self._ring = RingState(self.folder, hosts, {name: value for name, value in asked.items() if value is not None})

    def _network(self, names: Sequence[str]) -> Network:
        return Loopback(HOSTS)

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Add ``--hints`` and ``--commitlog-sync``."""
        parser.add_argument(
            "--hints",
            choices=("on", "off"),
            help="whether nodes keep what another one missed while it was down (default: as it was; at first on)",
        )
        parser.add_argument(
            "--commitlog-sync",
            choices=COMMITLOG_SYNCS,
            help="batch: a write is on the disk before it is acknowledged; periodic: within ten seconds, and a killed "
            "node may forget it (default: as it was; at first periodic, as Cassandra's own)",
        )

    @classmethod
    def from_options(cls, arguments: argparse.Namespace) -> Self:
        """Return the ring, with what was asked for."""
        return cls(
            hints=_SWITCH[getattr(arguments, "hints", None)],
            commitlog_sync=getattr(arguments, "commitlog_sync", None),
        )

    def addresses(self) -> Mapping[str, str]:
        """Return HOST:PORT of every node by its name; with the usual ports before the first start."""
        return {name: node.address for name, node in self._ring.nodes().items()}

    def uri(self) -> str:
        """Return what the option ``--hosts`` takes."""
        return ",".join(self.nodes())

    def primary(self) -> str | None:
        """Return None: every node takes writes."""
        return None

    def client_options(self) -> Mapping[str, str]:
        """Return the addresses as an option."""
        return {"hosts": self.uri()}

    def _bring_up(self, progress: Progress) -> None:
        """Bring the nodes up and wait until each of them reaches all."""
        program, began = java.find(), time.monotonic()
        classpath = jars.fetch(LOCK, progress)
        self._settle(progress)
        self._resume_paused(progress)
        lost = self._lost()
        self._launch([server for server in self._dead() if server not in lost], program, classpath, progress)
        if lost:
            # A new node asks the living ones for the place of the old one, so they must be there first.
            self._await_service([server for server in self.servers.values() if server not in lost], progress)
            self._launch(lost, program, classpath, progress, replaces=True)
        self._await_whole(progress)
        self._ring.keep_formed(formed=True)
        for node in self.nodes():
            self.keep_hints(node, keep=None)
        progress(f"3 nodes serve after {time.monotonic() - began:.1f} s, with {self.memory() / 1e9:.1f} GB of memory")

    def status(self) -> Sequence[NodeStatus]:
        """Say how every node is: by its process, by its port, and as one that answers sees it, in nodetool's words."""
        members = self._members()
        return [self._status(server, node, members) for server, node in self._pairs()]

    def restart(self, node: str) -> None:
        """Start a node again and return when it serves; raises a `ClusterError` when it does not."""
        server = self._server(node)
        with self._locked(silent):
            self._end([server], silent)
            program, classpath = java.find(), jars.fetch(LOCK, silent)
            self._launch([server], program, classpath, silent, replaces=server in self._lost())
            self._await_service([server], silent)

    def keep_hints(self, node: str, *, keep: bool | None) -> None:
        """Let a node keep what others miss from now on, or not; None: as the ring was started with."""
        kept = self._ring.settings.hints if keep is None else keep
        self.management(node).write(PROXY, "HintedHandoffEnabled", kept)

    def repair(self, keyspace: str) -> None:
        """Make all replicas of a keyspace alike, and return when they are; raises a `ClusterError` else."""
        for node in self.nodes():
            self._repair(self.management(node), keyspace)

    def management(self, node: str) -> Management:
        """Return what nodetool would ask of a node, and order it."""
        found = self._ring.nodes()[self._server(node).name]
        return Management(found.host, found.ports.management)

    def memory(self) -> int:
        """Return the bytes of memory that the nodes occupy now."""
        return sum(map(_resident, (server.pid for server in self.servers.values())))

    def _pairs(self) -> list[tuple[ServerProcess, Node]]:
        nodes = self._ring.nodes()
        return [(server, nodes[name]) for name, server in self.servers.items()]

    def _dead(self) -> list[ServerProcess]:
        return [server for server in self.servers.values() if server.state == "dead"]

    def _lost(self) -> list[ServerProcess]:
        """Return the nodes that the others know and that have no data any more."""
        empty = [server for server in self._dead() if not _has_data(server)]
        return empty if self._ring.formed and len(empty) < len(self.servers) else []

    def _settle(self, progress: Progress) -> None:
        """Find ports for a new ring; end nodes that run with another commit log than asked for."""
        ring = self._ring
        if not ring.has_ports:
            self._end(self.servers.values(), progress)  # nobody knows where one that still runs listens
            ring.keep_ports({name: self.network.choose([name], USUAL_PORTS) for name in self.servers})
        if ring.settings.commitlog_sync != ring.settings_before.commitlog_sync:
            progress(f"commitlog_sync is {ring.settings.commitlog_sync} from now on: nodes that run start anew")
            self._end(self.servers.values(), progress)
        ring.keep_settings()

    def _resume_paused(self, progress: Progress) -> None:
        for server in self.servers.values():
            if server.state == "paused":
                progress(f"{server.name}: was paused, goes on")
                server.resume()

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
            node = self._ring.nodes()[server.name]
            self._require_free_ports(server.name, node)
            with home.writing(server.folder):
                cassandra_node.write_files(server.folder, node)
            progress(f"{server.name}: starting on {node.address}" + (" in place of the lost one" if replaces else ""))
            server.start(cassandra_node.arguments(program, classpath, server.folder, node, replaces=replaces))

    def _require_room(self, servers: Sequence[ServerProcess]) -> None:
        names = ", ".join(server.name for server in servers)
        needed, free = len(servers) * cassandra_node.MEMORY_A_NODE, psutil.virtual_memory().available
        if free < needed:
            raise NoMemory(
                f"{names} need {needed >> 20} MB of memory, where only {free >> 20} MB are free: end programs"
            )
        new = [server.name for server in servers if not _has_data(server)]
        needed, free = len(new) * cassandra_node.BYTES_A_NODE, shutil.disk_usage(self.home).free
        if free < needed:
            raise DiskFull(
                f"{', '.join(new)} need {needed >> 20} MB below {home.shown(self.home)}, where only {free >> 20} MB "
                f"are free: make room or set {home.VARIABLE} to a folder elsewhere"
            )

    def _repair(self, manage: Management, keyspace: str) -> None:
        deadline = time.monotonic() + _REPAIR_TIMEOUT_S
        number = manage.call(STORAGE, "repairAsync", keyspace, {"incremental": "false"})
        while not (said := manage.call(STORAGE, "getParentRepairStatus", number)) or said[0] == "IN_PROGRESS":
            if time.monotonic() > deadline:
                raise NotReady(f"the repair of {keyspace} is not done after {_REPAIR_TIMEOUT_S:.0f} s")
            time.sleep(_POLL_S)
        if said[0] != "COMPLETED":
            raise NotReady(f"the repair of {keyspace}: {' '.join(said)}. {self._way_out()}")

    def _await_whole(self, progress: Progress) -> None:
        self._await(self.servers.values(), progress, "to reach all others", cql.reaches_all)

    def _await_service(self, servers: Iterable[ServerProcess], progress: Progress) -> None:
        self._await(servers, progress, "to serve", cql.serves)

    def _await(self, servers: Iterable[ServerProcess], progress: Progress, what: str, done: "cql.Probe") -> None:
        deadline, told = time.monotonic() + READY_TIMEOUT_S, ""
        waiting = list(servers)
        while waiting := [server for server in waiting if not done(self.addresses()[server.name])]:
            self._require_living(waiting)
            text = f"waiting for {', '.join(server.name for server in waiting)} {what}"
            if text != told:
                progress(told := text)
            if time.monotonic() > deadline:
                raise NotReady(f"{text}: not done after {READY_TIMEOUT_S:.0f} s. {self._way_out()}")
            time.sleep(_POLL_S)

    def _way_out(self) -> str:
        logs = home.shown(self.folder / "*" / "server.log")
        return f"See {logs}, or begin anew: stalewatch cluster down {self.words()} --wipe"

    def _require_free_ports(self, name: str, node: Node) -> None:
        for port in node.ports:
            if not self.network.is_free(name, port):
                raise PortTaken(
                    f"{name}: another program listens on {node.host}:{port}, where the ring expects it: end that "
                    f"program, or begin anew on other ports with `stalewatch cluster down {self.words()} --wipe`"
                )

    @staticmethod
    def _require_living(servers: Iterable[ServerProcess]) -> None:
        for server in servers:
            if server.state == "dead":
                raise diagnosis.of_death(server, cassandra_node.SIGNS, cassandra_node.TELLING)

    def _members(self) -> Mapping[str, Member]:
        """Return how the nodes are by one that answers: where views differ, by the one that reaches the most."""
        running = [node.address for server, node in self._pairs() if server.state == "running"]
        with ThreadPoolExecutor(max_workers=len(self.servers)) as pool:
            views = list(pool.map(self._view, running))
        return max(views, key=lambda view: sum(one.state.startswith("U") for one in view.values()), default={})

    def _view(self, node: str) -> Mapping[str, Member]:
        try:
            return self.management(node).members()
        except NoOrders:
            return {}  # it is starting, hangs, or cannot be reached

    def _status(self, server: ServerProcess, node: Node, members: Mapping[str, Member]) -> NodeStatus:
        state, member = server.state, members.get(f"{node.host}:{node.ports.storage}")
        if member is None:
            return NodeStatus(server.name, node.address, server.pid, state)
        healthy = state == "running" and member.state == "UN" and cql.serves(node.address)
        note = f"load {member.load}, owns {member.owns}, {member.id}" + (
            "" if node.settings.hints else ", keeps no hints"
        )
        return NodeStatus(server.name, node.address, server.pid, state, member.state, healthy, note=note)


def _resident(pid: int | None) -> int:
    try:
        return 0 if pid is None else int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _has_data(server: ServerProcess) -> bool:
    return (server.folder / "data").is_dir()
