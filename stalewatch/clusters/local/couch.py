"""Two or three leaders that speak CouchDB's protocol, as processes on this machine, and the links between them."""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Self, TypeVar

from stalewatch.clusters.local import couchdb, diagnosis, home, leaders, node, ports
from stalewatch.clusters.local.cluster import LocalCluster, Where, silent
from stalewatch.clusters.local.couch_server import Kind, Server
from stalewatch.clusters.local.network import Loopback, Network
from stalewatch.clusters.local.process import ServerProcess
from stalewatch.clusters.local.topologies import TOPOLOGIES, Link
from stalewatch.clusters.protocol import ClusterError, NodeStatus, NotReady, PortTaken, Progress, UnknownNode

SERVERS = (Kind(couchdb.PROGRAM, couchdb.find), Kind(node.PROGRAM, node.server))
"""What leaders can run on, the best first; what the environment names goes before. A new one is one row."""

USUAL_PORTS = {"couch1": 5984, "couch2": 5985, "couch3": 5986}

DATABASE = "bench"
"""The database that is linked at the start; a bench that asks for another sets that up itself."""

READY_TIMEOUT_S = 60.0
"""How long a leader may take to answer, and a document to be everywhere; two seconds are usual."""

_POLL_S = 0.1
_PORT_TRIES = 3
_FEWEST = 2

T = TypeVar("T")


def ensure(progress: Progress) -> Mapping[str, str]:
    """Return the URLs of the first two local leaders, which are started, or mended, when one is missing."""
    cluster = CouchCluster()
    cluster.ensure(progress)
    return cluster.client_options()


class CouchCluster(LocalCluster):
    """Leaders on 127.0.0.1, linked as a topology says; data are kept from one start to the next.

    `count` leaders (2 or 3) and `topology` are as at the last start where they are not given.
    """

    database = "couch"
    summary = "two leaders"

    def __init__(self, where: Where = None, *, count: int | None = None, topology: str | None = None) -> None:
        super().__init__(list(USUAL_PORTS), where)
        self._state_file = self.folder / "state.json"
        self._count = count
        self._topology = topology

    def _network(self, names: Sequence[str]) -> Network:
        return Loopback(dict.fromkeys(names, ports.LOOPBACK))

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Add ``--leaders`` and ``--topology``."""
        counts = range(_FEWEST, len(USUAL_PORTS) + 1)
        parser.add_argument("--leaders", type=int, choices=counts, help="how many (default: as they were, else 2)")
        parser.add_argument(
            "--topology",
            choices=tuple(TOPOLOGIES),
            help="who sends changes to whom; with two leaders all are the same (default: as it was, else all)",
        )

    @classmethod
    def from_options(cls, arguments: argparse.Namespace) -> Self:
        """Return the cluster that was asked for."""
        return cls(count=getattr(arguments, "leaders", None), topology=getattr(arguments, "topology", None))

    def addresses(self) -> Mapping[str, str]:
        """Return HOST:PORT of every leader by its name; with the usual ports before the first start."""
        known = {**USUAL_PORTS, **self._remembered("ports", {})}
        return {name: f"{self.network.host(name)}:{known[name]}" for name in list(USUAL_PORTS)[: self.count]}

    @property
    def count(self) -> int:
        """How many leaders there are, or will be after the next start."""
        return self._count or int(self._remembered("leaders", _FEWEST))

    @property
    def topology(self) -> str:
        """The pattern of their links."""
        return self._topology or str(self._remembered("topology", "all"))

    def links(self) -> set[Link]:
        """Return the links that the topology asks for."""
        return TOPOLOGIES[self.topology](list(self.addresses()))

    def uri(self) -> str:
        """Return every leader's URL, apart by blanks: a client connects to two of them."""
        return " ".join(leaders.url(address) for address in self.nodes())

    def primary(self) -> str | None:
        """Return None: every leader takes writes."""
        return None

    def client_options(self) -> Mapping[str, str]:
        """Return the URLs of the first two leaders as options."""
        first, second, *_ = self.nodes()
        return {"couch_a": leaders.url(first), "couch_b": leaders.url(second)}

    def _bring_up(self, progress: Progress) -> None:
        """Bring the leaders up, link them, and prove each link."""
        software = self._choose(progress)
        for tries_left in reversed(range(_PORT_TRIES)):
            try:
                started = self._serve(software, progress)
            except PortTaken:
                # Between the look at a port and the server's start somebody else took it: look again.
                if not tries_left:
                    raise
            else:
                break
        self._link(started, progress)

    def status(self) -> Sequence[NodeStatus]:
        """Say how every leader is, and to whom it sends its changes."""
        addresses = self.addresses()
        running = {name: address for name, address in addresses.items() if self.servers[name].state == "running"}
        up = leaders.serving(running.values())
        living = {name: address for name, address in running.items() if address in up}
        sent = leaders.links(living, DATABASE)
        return [self._node(name, address, sent, serves=name in living) for name, address in addresses.items()]

    def restart(self, node: str) -> None:
        """Start a leader again, on its port, and return when it serves."""
        server = self._server(node)
        software = self._choose(silent)
        with self._locked(silent):
            self._end([server], silent)
            empty = not (server.folder / "data").exists()
            self._launch(server, software)
            self._await_service([server.name], software)
            if empty:  # its links were stored where the documents were
                self._link([server.name], silent)

    def streams(self) -> Sequence[tuple[str, str]]:
        """Return the ends of every link that the topology asks for, as HOST:PORT."""
        addresses = self.addresses()
        return sorted((addresses[link.source], addresses[link.target]) for link in self.links())

    def unlink(self, source: str, target: str) -> None:
        """Let the changes of one leader reach another no longer on the direct way; both are HOST:PORT."""
        leaders.remove_link(self.addresses(), self._link_between(source, target), DATABASE)

    def relink(self, source: str, target: str) -> None:
        """Undo `unlink`."""
        leaders.put_link(self.addresses(), self._link_between(source, target), DATABASE)

    def prove(self, timeout_s: float = READY_TIMEOUT_S) -> float:
        """Return how many seconds a document takes from each leader to all others; raise `NotReady` when it is lost."""
        return leaders.prove(self.nodes(), DATABASE, timeout_s)

    def _choose(self, progress: Progress) -> Server:
        """Return the first server that this machine has, if it can read what the leaders have stored."""
        kinds = sorted(SERVERS, key=lambda kind: not kind.program.is_named)
        chosen = next(found for kind in kinds if (found := kind.find(progress)))
        owner = self._remembered("server", chosen.name)
        if owner != chosen.name:
            variables = ", ".join(kind.program.variable for kind in SERVERS)
            raise ClusterError(
                f"the leaders under {home.shown(self.folder)} are those of {owner}, and {chosen.title} cannot go on "
                f"with their data: set {variables} or PATH as they were, or delete the data: "
                f"stalewatch cluster down {self.words()} --wipe"
            )
        return chosen

    def _serve(self, software: Server, progress: Progress) -> Sequence[str]:
        """Let every leader serve, and return which of them had to be started."""
        wanted = list(self.addresses())
        self._end([server for name, server in self.servers.items() if name not in wanted], progress)
        dead = [name for name in wanted if self.servers[name].state == "dead"]
        self._settle(dead, software, progress)
        for name in dead:
            progress(f"{name}: starting {software.title} on {self.addresses()[name]}")
            self._launch(self.servers[name], software)
        for name in wanted:
            if self.servers[name].state == "paused":
                progress(f"{name}: was paused, goes on")
                self.servers[name].resume()
        self._await_service(wanted, software)
        return dead

    def _settle(self, dead: Sequence[str], software: Server, progress: Progress) -> None:
        """Remember what the leaders are and how they are linked, and ports that are free for those to be started."""
        settled = {**USUAL_PORTS, **self._remembered("ports", {})}
        for name, port in zip(dead, self.network.choose(dead, [settled[name] for name in dead]), strict=True):
            if port != settled[name]:
                progress(f"{name}: port {settled[name]} is taken by another program, using {port}")
            settled[name] = port
        with home.writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            facts = {
                "ports": settled,
                "leaders": self.count,
                "topology": self.topology,
                "server": software.name,
            }
            home.remember(self._state_file, facts)

    def _launch(self, server: ServerProcess, software: Server) -> None:
        with home.writing(server.folder):
            launch = software.prepare(server.folder, self.addresses()[server.name])
            server.start(launch.arguments, launch.environment)

    def _await_service(self, names: Sequence[str], software: Server) -> None:
        addresses = self.addresses()

        def serve() -> bool:
            for name in names:
                if self.servers[name].state == "dead":
                    raise diagnosis.of_death(self.servers[name], software.signs, software.telling)
            return leaders.serving(addresses[name] for name in names) == {addresses[name] for name in names}

        _await(serve, f"{', '.join(names)}: no answer after {READY_TIMEOUT_S:.0f} s; {self._way_out()}")

    def _link(self, started: Sequence[str], progress: Progress) -> None:
        addresses, wanted = self.addresses(), self.links()
        for address in addresses.values():
            leaders.create_database(address, leaders.JOBS)
            leaders.create_database(address, DATABASE)
        leaders.remove_strays(addresses)
        standing = leaders.links(addresses, DATABASE)
        # CouchDB lets ever more time pass (30 s, 60 s, ... hours) between tries to reach a leader that was down; a
        # document that is new it tries at once.
        tired = {link for link in standing if link.target in started and link.source not in started}
        for link in (standing - wanted) | tired:
            leaders.remove_link(addresses, link, DATABASE)
        for link in wanted - (standing - tired):
            leaders.put_link(addresses, link, DATABASE)
        progress(f"waiting for a document from each of {', '.join(addresses)} to reach the others ({self.topology})")
        try:
            progress(f"replication works: the slowest way took {self.prove() * 1e3:.0f} ms")
        except NotReady as error:
            raise NotReady(f"{error} within {READY_TIMEOUT_S:.0f} s; {self._way_out()}") from None

    def _node(self, name: str, address: str, sent: set[Link], *, serves: bool) -> NodeStatus:
        server = self.servers[name]
        targets = sorted(link.target for link in sent if link.source == name)
        note = f"sends to {', '.join(targets)}" if targets else ""
        role = "leader" if serves else None
        return NodeStatus(name, address, server.pid, server.state, role, serves, None, note)

    def _link_between(self, source: str, target: str) -> Link:
        names = {address: name for name, address in self.addresses().items()}
        for address in (source, target):
            if address not in names:
                raise UnknownNode(f"{address} is no leader of the local cluster; it has {', '.join(names)}")
        return Link(names[source], names[target])

    def _remembered(self, fact: str, otherwise: T) -> T:
        found = home.recall(self._state_file).get(fact, otherwise)
        return found if isinstance(found, type(otherwise)) else otherwise

    def _way_out(self) -> str:
        logs = home.shown(self.folder / "*" / "server.log")
        return f"see {logs}, or begin anew: stalewatch cluster down {self.words()} --wipe"


def _await(condition: Callable[[], bool], trouble: str) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise NotReady(trouble)
        time.sleep(_POLL_S)
