"""The nodes of a ring: their names, and which of them takes a session's requests."""

import socket
from collections import Counter
from collections.abc import Mapping
from itertools import count
from typing import NamedTuple

from cassandra.cluster import Cluster
from cassandra.pool import Host

from stalewatch.clients.cassandra.options import COORDINATORS, CassandraClientOptions, address
from stalewatch.clients.errors import BadAddress


class Route(NamedTuple):
    """Who takes a session's writes and its reads; None leaves it to the driver."""

    writes: Host | None
    reads: Host | None


class Nodes:
    """The nodes as the driver sees them. Raises `BadAddress` for an option that names none of them."""

    def __init__(self, cluster: Cluster, options: CassandraClientOptions) -> None:
        self._cluster = cluster
        self._options = options
        # By identity, which costs less than the driver's hash; the host is kept, so that no other has its identity.
        self._names: dict[int, tuple[str, Host]] = {}
        self._sessions = count()
        self._one = None if options.coordinator in COORDINATORS else self._named(options.coordinator)
        self._reader = None if options.read_from is None else self._named(options.read_from)

    def all(self) -> list[Host]:
        """Return every node, in the order of their addresses."""
        return sorted(self._cluster.metadata.all_hosts(), key=self.name)

    def eligible(self) -> list[Host]:
        """Return the nodes that may take requests, in the order of their addresses."""
        wanted = self._options.data_center
        return [host for host in self.all() if wanted in (None, host.datacenter)]

    def data_centers(self) -> Mapping[str, int]:
        """Return how many nodes each data center has, by its name."""
        return Counter(host.datacenter for host in self.all())

    def name(self, host: Host) -> str:
        """Return a node's name in histories: HOST:PORT."""
        known = self._names.get(id(host))
        if known is None:
            place, port = host.endpoint.address, host.endpoint.port
            known = self._names[id(host)] = (f"[{place}]:{port}" if ":" in place else f"{place}:{port}", host)
        return known[0]

    def route(self) -> Route:
        """Return who takes the next session's requests."""
        number, there = next(self._sessions), self.eligible()
        first, second = there[number % len(there)], there[(number + 1) % len(there)]
        routes = {"any": (None, None), "token": (None, None), "pinned": (first, first), "split": (first, second)}
        writes, reads = routes.get(self._options.coordinator, (self._one, self._one))
        return Route(writes, self._reader or reads)

    def _named(self, text: str) -> Host:
        place, port = address(text)
        try:
            places = {found[4][0] for found in socket.getaddrinfo(place, port, type=socket.SOCK_STREAM)}
        except OSError as error:
            raise BadAddress(f"{text}: {error}") from None
        for host in self.all():
            if host.endpoint.port == port and host.endpoint.address in places:
                return host
        raise BadAddress(f"{text} is no node of the ring, which has {', '.join(map(self.name, self.all()))}")
