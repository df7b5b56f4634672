"""Two or three leaders that speak CouchDB's protocol, as processes on this machine, and the links between them."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Self

from stalewatch.clusters.local import couch_leaders, home
from stalewatch.clusters.local.cluster import LocalCluster, ReadyWait, Where, retry_taken_ports, silent
from stalewatch.clusters.local.couch_leaders import TOPOLOGIES, ReplicationLink
from stalewatch.clusters.local.couch_servers import SERVERS, CouchServer
from stalewatch.clusters.local.process import ServerProcess, require_alive
from stalewatch.clusters.protocol import ClusterError, NodeStatus, NotReady, Progress, UnknownNode

USUAL_PORTS = {"couch1": 5984, "couch2": 5985, "couch3": 5986}

DATABASE = "bench"
"""The database whose links are set up at the start; a bench with another database sets up its own."""

READY_TIMEOUT_S = 60.0
"""Time for a leader to answer, and for a document to reach all leaders; two seconds are usual."""

_POLL_S = 0.1
_MIN_LEADERS = 2


class CouchCluster(LocalCluster):
    """Leaders on 127.0.0.1, linked in a topology; data are kept between starts.

    `count` (2 or 3 leaders) and `topology` default to those of the last start.
    """

    database = "couch"
    summary = "two leaders"

    def __init__(self, where: Where = None, *, count: int | None = None, topology: str | None = None) -> None:
        super().__init__(list(USUAL_PORTS), where)
        self._count = count
        self._topology = topology

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Add ``--leaders`` and ``--topology``."""
        counts = range(_MIN_LEADERS, len(USUAL_PORTS) + 1)
        parser.add_argument(
            "--leaders", type=int, choices=counts, help="number of leaders (default: unchanged; 2 for a new cluster)"
        )
        parser.add_argument(
            "--topology",
            choices=tuple(TOPOLOGIES),
            help="which of three leaders replicate to which (default: unchanged; all for a new cluster)",
        )

    @classmethod
    def from_options(cls, arguments: argparse.Namespace) -> Self:
        """Return the cluster with the leaders and topology given on the command line."""
        return cls(count=getattr(arguments, "leaders", None), topology=getattr(arguments, "topology", None))

    def addresses(self) -> Mapping[str, str]:
        """Return every leader's HOST:PORT by name; before the first start, with the usual ports."""
        known = self._ports(USUAL_PORTS)
        return {name: f"{self.network.host(name)}:{known[name]}" for name in list(USUAL_PORTS)[: self.count]}

    @property
    def count(self) -> int:
        """The number of leaders, after the next start."""
        return self._count or self._recall("leaders", _MIN_LEADERS)

    @property
    def topology(self) -> str:
        """The name of the links' topology, after the next start."""
        return self._topology or self._recall("topology", "all")

    def links(self) -> set[ReplicationLink]:
        """Return the links of the topology."""
        return TOPOLOGIES[self.topology](list(self.addresses()))

    def uri(self) -> str:
        """Return the leaders' URLs, separated by spaces; a client connects to two of them."""
        return " ".join(couch_leaders.url(address) for address in self.nodes())

    def client_options(self) -> Mapping[str, str]:
        """Return the URLs of the first two leaders as client options."""
        first, second, *_ = self.nodes()
        return {"couch_a": couch_leaders.url(first), "couch_b": couch_leaders.url(second)}

    def _bring_up(self, progress: Progress) -> None:
        software = self._choose(progress)
        started = retry_taken_ports(lambda: self._serve(software, progress))
        self._link(started, progress)

    def status(self) -> Sequence[NodeStatus]:
        """Return every leader's status; the note lists the leaders that it sends changes to."""
        addresses = self.addresses()
        running = {name: address for name, address in addresses.items() if self.servers[name].state == "running"}
        up = couch_leaders.serving(running.values())
        living = {name: address for name, address in running.items() if address in up}
        links = couch_leaders.links(living, DATABASE)
        return [self._status(name, address, links, serves=name in living) for name, address in addresses.items()]

    def restart(self, node: str) -> None:
        """Restart a leader on its port, and return when it serves and replication with it is about to go on."""
        server = self._server(node)
        software = self._choose(silent)
        with self._locked(silent):
            self._end([server], silent)
            empty = not (server.folder / "data").exists()
            self._launch(server, software)
            self._await_service([server.name], software)
            if empty:  # its links were deleted with the documents
                self._link([server.name], silent)
            else:
                couch_leaders.renew_links(self.addresses(), [server.name])

    def resume(self, node: str) -> None:
        """Resume a frozen leader (SIGCONT), with its replication; raise `NotRunning` if it is dead."""
        super().resume(node)
        couch_leaders.renew_links(self.addresses(), [self._server(node).name])

    def streams(self) -> Sequence[tuple[str, str]]:
        """Return the links of the topology as (source, target) addresses."""
        addresses = self.addresses()
        return sorted((addresses[link.source], addresses[link.target]) for link in self.links())

    def unlink(self, source: str, target: str) -> None:
        """Stop direct replication from one leader to another, both given as HOST:PORT."""
        couch_leaders.remove_link(self.addresses(), self._link_between(source, target), DATABASE)

    def relink(self, source: str, target: str) -> None:
        """Undo `unlink`."""
        couch_leaders.put_link(self.addresses(), self._link_between(source, target), DATABASE)

    def prove(self, timeout_s: float = READY_TIMEOUT_S) -> float:
        """Return the seconds until a document from each leader has reached all others; raise `NotReady` if it fails."""
        return couch_leaders.prove(self.nodes(), DATABASE, timeout_s)

    def _choose(self, progress: Progress) -> CouchServer:
        """Return the best server on this machine; raise `ClusterError` if it cannot read the leaders' data."""
        specs = sorted(SERVERS, key=lambda spec: not spec.program.is_named)
        chosen = next(found for spec in specs if (found := spec.find(progress)))
        owner = self._recall("server", chosen.name)
        if owner != chosen.name:
            variables = ", ".join(spec.program.variable for spec in SERVERS)
            raise ClusterError(
                f"the data in {home.shown(self.folder)} were written by {owner}, and {chosen.title} cannot read them: "
                f"set {variables} or PATH as before, or delete the data: "
                f"stalewatch cluster down {self.cli_name()} --wipe"
            )
        return chosen

    def _serve(self, software: CouchServer, progress: Progress) -> Sequence[str]:
        """Start or resume every leader, wait until all serve, and return the names of those that were started."""
        wanted = list(self.addresses())
        self._end([server for name, server in self.servers.items() if name not in wanted], progress)
        dead = [name for name in wanted if self.servers[name].state == "dead"]
        self._remember(
            ports=self._free_ports(dead, USUAL_PORTS, progress),
            leaders=self.count,
            topology=self.topology,
            server=software.name,
        )
        for name in dead:
            progress(f"{name}: starting {software.title} on {self.addresses()[name]}")
            self._launch(self.servers[name], software)
        self._resume_paused(progress)
        self._await_service(wanted, software)
        return dead

    def _launch(self, server: ServerProcess, software: CouchServer) -> None:
        with home.writing(server.folder):
            launch = software.prepare(server.folder, self.addresses()[server.name])
            server.start(launch.arguments, launch.environment)

    def _await_service(self, names: Sequence[str], software: CouchServer) -> None:
        servers, addresses = [self.servers[name] for name in names], {self.addresses()[name] for name in names}
        wait = ReadyWait(silent, READY_TIMEOUT_S, self._advice())
        while couch_leaders.serving(addresses) != addresses:
            require_alive(servers, software.failures, software.error_lines)
            wait.report(f"waiting for {', '.join(names)} to answer")
            wait.sleep(_POLL_S)

    def _link(self, started: Sequence[str], progress: Progress) -> None:
        addresses, wanted = self.addresses(), self.links()
        for address in addresses.values():
            couch_leaders.create_database(address, couch_leaders.REPLICATOR)
            couch_leaders.create_database(address, DATABASE)
        couch_leaders.remove_strays(addresses)
        existing = couch_leaders.links(addresses, DATABASE)
        # CouchDB waits longer and longer (30 s, 60 s, ... hours) between attempts to reach a leader that was down; a
        # new document is tried at once.
        backed_off = {link for link in existing if link.target in started and link.source not in started}
        backed_off |= couch_leaders.broken_links(addresses, DATABASE)
        for link in (existing - wanted) | backed_off:
            couch_leaders.remove_link(addresses, link, DATABASE)
        for link in wanted - (existing - backed_off):
            couch_leaders.put_link(addresses, link, DATABASE)
        progress(f"waiting for a document from each of {', '.join(addresses)} to reach the others ({self.topology})")
        try:
            progress(f"replication works: the slowest document took {self.prove() * 1e3:.0f} ms")
        except NotReady as error:
            raise NotReady(f"{error} within {READY_TIMEOUT_S:.0f} s. {self._advice()}") from None

    def _status(self, name: str, address: str, links: set[ReplicationLink], *, serves: bool) -> NodeStatus:
        server = self.servers[name]
        targets = sorted(link.target for link in links if link.source == name)
        note = f"sends to {', '.join(targets)}" if targets else ""
        role = "leader" if serves else None
        return NodeStatus(name, address, server.pid, server.state, role, serves, None, note)

    def _link_between(self, source: str, target: str) -> ReplicationLink:
        names = {address: name for name, address in self.addresses().items()}
        for address in (source, target):
            if address not in names:
                raise UnknownNode(f"{address} is not a leader of the local cluster; its leaders are {', '.join(names)}")
        return ReplicationLink(names[source], names[target])
