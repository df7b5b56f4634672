"""A three-member MongoDB replica set as processes on this machine."""

import argparse
import math
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from stalewatch.clusters.local import assembly, diagnosis, home, mongod, ports, programs
from stalewatch.clusters.local.cluster import LocalCluster, Where, silent
from stalewatch.clusters.local.network import Loopback, Network
from stalewatch.clusters.local.process import ServerProcess
from stalewatch.clusters.local.replica_set import SERVING, NoAnswer, Refused, View, lag_s, leader, look, order
from stalewatch.clusters.protocol import DiskFull, NodeStatus, NotReady, PortTaken, Progress, Unable

USUAL_PORTS = {"mongo1": 27017, "mongo2": 27018, "mongo3": 27019}

READY_TIMEOUT_S = 120.0
"""How long the members may take to answer and elect; three seconds are usual."""

_POLL_S = 0.1
# A member that died and is back within half a second is still healthy in the primary's eyes, until a heartbeat on the
# old connection fails; only the one after that is about the new process.
_SETTLE_S = 1.5
_PORT_TRIES = 3


def ensure(progress: Progress) -> str:
    """Return the address of the local replica set, which is started, or mended, when it is not whole."""
    cluster = MongoCluster()
    cluster.ensure(progress)
    return cluster.uri()


class MongoCluster(LocalCluster):
    """Three mongod processes on 127.0.0.1 with an election timeout of 2 s; data are kept from one start to the next.

    `delay_secondary_s` makes the third member apply everything that many whole seconds late (0: no longer; None: as
    it is). It then is never elected, and votes as before.
    """

    database = "mongo"
    summary = "a 3-member replica set"

    def __init__(self, where: Where = None, *, delay_secondary_s: int | None = None) -> None:
        super().__init__(list(USUAL_PORTS), where)
        self._delay_s = delay_secondary_s
        self._state_file = self.folder / "state.json"

    def _network(self, names: Sequence[str]) -> Network:
        return Loopback(dict.fromkeys(names, ports.LOOPBACK))

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Add ``--delay-secondary``."""
        parser.add_argument(
            "--delay-secondary",
            type=_whole_seconds,
            metavar="SECONDS",
            help="whole seconds by which the third member applies everything late (0: no longer; default: as it was)",
        )

    @classmethod
    def from_options(cls, arguments: argparse.Namespace) -> Self:
        """Return the cluster, with the delay if one was asked for."""
        return cls(delay_secondary_s=getattr(arguments, "delay_secondary", None))

    def addresses(self) -> Mapping[str, str]:
        """Return HOST:PORT of every member by its name; with the usual ports before the first start."""
        return {name: f"{self.network.host(name)}:{port}" for name, port in {**USUAL_PORTS, **self._ports()}.items()}

    def uri(self) -> str:
        """Return the connection string, which names all three members."""
        return f"mongodb://{','.join(self.nodes())}/?replicaSet={assembly.SET_NAME}"

    def client_options(self) -> Mapping[str, str]:
        """Return the connection string as an option."""
        return {"mongo_uri": self.uri()}

    def ensure(self, progress: Progress) -> None:
        """Start the replica set, or mend it, when it is not whole; say what a measurement should know of members."""
        super().ensure(progress)
        for node in self.status():
            if node.note:
                progress(f"{node.address}: {node.note}")

    def _bring_up(self, progress: Progress) -> None:
        """Bring the members up and wait for a primary and two secondaries."""
        program = programs.find(mongod.PROGRAM)
        if not self._ports():  # then nobody knows where a server that still runs listens
            self._end(self.servers.values(), progress)
        for tries_left in reversed(range(_PORT_TRIES)):
            try:
                self._assemble(_Bout(program, progress))
            except PortTaken:
                # Between the look at a port and the server's start somebody else took it: look again.
                if not tries_left:
                    raise
            else:
                return

    def status(self) -> Sequence[NodeStatus]:
        """Say how every member is, by its process, its own word and the primary's."""
        views = self._views()
        led = leader(views)
        nodes = [self._node(name, view, led) for name, view in zip(self.servers, views, strict=True)]
        late = assembly.delays(views)
        return [
            node._replace(note=f"delayed by {late[node.address]} s") if node.address in late else node for node in nodes
        ]

    def primary(self) -> str | None:
        """Return the primary's address; of two that claim to be, the one elected last."""
        led = leader(self._views())
        return led.address if led else None

    def restart(self, node: str) -> None:
        """Start a member again, on its port, and return when it is a primary or secondary."""
        server = self._server(node)
        program = programs.find(mongod.PROGRAM)
        with self._locked(silent):
            self._end([server], silent)
            self._launch(server, program)
            self._await_service(server, node)

    def lag(self, node: str, delay_s: int) -> None:
        """Let a secondary apply everything that many whole seconds late, and not be elected; 0: no longer.

        Raises `Unable` for the primary, `NotReady` where the members do not agree on it.
        """
        self._server(node)
        deadline, trouble = time.monotonic() + READY_TIMEOUT_S, ""
        while step := assembly.lag_step(views := self._views(), node, delay_s):
            led = leader(views)
            if delay_s and led and led.address == node:
                raise Unable(f"{node} is the primary, and only a secondary can lag: choose another one")
            trouble = _carry_out(step) or trouble
            if time.monotonic() > deadline:
                raise NotReady(f"{step.text}: not done after {READY_TIMEOUT_S:.0f} s. {trouble} {self._way_out()}")
            time.sleep(_POLL_S)

    def _ports(self) -> dict[str, int]:
        known = home.recall(self._state_file).get("ports")
        return known if isinstance(known, dict) and known.keys() == USUAL_PORTS.keys() else {}

    def _keep_running(self, bout: "_Bout") -> None:
        dead = [server for server in self.servers.values() if server.state == "dead"]
        self._require_living(server for server in dead if server.name in bout.launched)
        if dead:
            self._require_room(dead)
            self._settle_ports([server.name for server in dead], bout.progress)
        for server in dead:
            bout.progress(f"{server.name}: starting on {self.addresses()[server.name]}")
            self._launch(server, bout.program)
            bout.launched.add(server.name)
            bout.touched = time.monotonic()
        for server in self.servers.values():
            if server.state == "paused":
                bout.progress(f"{server.name}: was paused, goes on")
                server.resume()
                bout.touched = time.monotonic()

    def _settle_ports(self, names: Sequence[str], progress: Progress) -> None:
        settled = {**USUAL_PORTS, **self._ports()}
        chosen = self.network.choose(names, [settled[name] for name in names])
        for name, port in zip(names, chosen, strict=True):
            if port != settled[name]:
                progress(f"{name}: port {settled[name]} is taken by another program, using {port}")
            settled[name] = port
        with home.writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            home.remember(self._state_file, {"ports": settled})

    def _launch(self, server: ServerProcess, program: Path) -> None:
        data = server.folder / "data"
        with home.writing(server.folder):
            data.mkdir(parents=True, exist_ok=True)
            server.start(mongod.arguments(program, data, self.addresses()[server.name]))

    def _require_room(self, servers: Sequence[ServerProcess]) -> None:
        new = [server.name for server in servers if not (server.folder / "data").exists()]
        needed, free = len(new) * mongod.BYTES_A_NODE, shutil.disk_usage(self.home).free
        if free < needed:
            raise DiskFull(
                f"{', '.join(new)} need {needed >> 20} MB below {home.shown(self.home)}, where only {free >> 20} MB "
                f"are free: make room or set {home.VARIABLE} to a folder elsewhere"
            )

    def _assemble(self, bout: "_Bout") -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        told, trouble = "", ""
        while step := self._next_step(bout):
            if step.text != told:
                bout.progress(told := step.text)
            trouble = _carry_out(step) or trouble
            if time.monotonic() > deadline:
                raise NotReady(f"{told}: not done after {READY_TIMEOUT_S:.0f} s. {trouble} {self._way_out()}")
            time.sleep(_POLL_S)

    def _next_step(self, bout: "_Bout") -> assembly.Step | None:
        # A member may still have been dying at the first look, so every look is followed by launching what it misses;
        # but one that ends right after it was launched would do so again.
        self._keep_running(bout)
        step = assembly.next_step(assembly.Wanted(self.addresses(), self._delay_s), self._views())
        if step is None and time.monotonic() < bout.touched + _SETTLE_S:
            return assembly.Step("waiting for the next heartbeats")
        return step

    def _await_service(self, server: ServerProcess, node: str) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while (role := look([node])[0].role) not in SERVING:
            self._require_living([server])
            if time.monotonic() > deadline:
                raise NotReady(
                    f"{server.name} ({node}) is {role or 'silent'} after {READY_TIMEOUT_S:.0f} s. {self._way_out()}"
                )
            time.sleep(_POLL_S)

    def _way_out(self) -> str:
        logs = home.shown(self.folder / "*" / "server.log")
        return f"See {logs}, or begin anew: stalewatch cluster down {self.words()} --wipe"

    @staticmethod
    def _require_living(servers: Iterable[ServerProcess]) -> None:
        for server in servers:
            if server.state == "dead":
                raise diagnosis.of_death(server, mongod.SIGNS, mongod.TELLING)

    def _views(self) -> list[View]:
        addresses = self.addresses()
        running = [address for name, address in addresses.items() if self.servers[name].state == "running"]
        seen = {view.address: view for view in look(running)}
        return [seen.get(address, View(address)) for address in addresses.values()]

    def _node(self, name: str, view: View, led: View | None) -> NodeStatus:
        server = self.servers[name]
        seen = led.members.get(view.address) if led else None
        # A primary that was frozen still calls itself one when another has long been elected.
        healthy = view.role in SERVING and seen is not None and seen.healthy and seen.role == view.role
        return NodeStatus(name, view.address, server.pid, server.state, view.role, healthy, lag_s(led, view.address))


@dataclass(slots=True)
class _Bout:
    """One attempt to bring the members up: which ones it launched, and when it last touched one."""

    program: Path
    progress: Progress
    launched: set[str] = field(default_factory=set)
    touched: float = -math.inf


def _carry_out(step: assembly.Step) -> str:
    if step.command is None:
        return ""
    try:
        order(step.address, step.command)
    except (NoAnswer, Refused) as error:
        # Members that elect or settle refuse for a moment; the next look shows what is left to do.
        return str(error)
    return ""


def _whole_seconds(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of seconds, 0 or more")
    return int(text)
