"""The databases of docker-compose.yml as clusters that can be broken: by database, in one table."""

import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote

from stalewatch.clusters.compose.cluster import ContainerCluster
from stalewatch.clusters.compose.containers import Container
from stalewatch.clusters.compose.docker import docker
from stalewatch.clusters.local import assembly, cql, home, leaders
from stalewatch.clusters.local.replica_set import SERVING, View, lag_s, leader, look
from stalewatch.clusters.protocol import ClusterError, NodeStatus, NotReady, Reachable


class MongoContainers(ContainerCluster):
    """A replica set. Its members call each other, and so their clients, mongo1:27017 and so on.

    They are asked at the ports that are published on this machine; a client that is to follow the primary needs to
    reach them by their own names.
    """

    database = "mongo"
    services = ("mongo1", "mongo2", "mongo3")
    one_shot = ("mongosetup",)
    port = 27017
    data = ("/data/db", "-mindepth", "1")

    def addresses(self) -> Mapping[str, str]:
        """Return the members' own names for each other."""
        return {service: f"{service}:{self.port}" for service in self.services}

    def uri(self) -> str:
        """Return the connection string; raise `NotReady` where this machine does not know the members by their names.

        The message has the lines that teach it.
        """
        strangers = [one for one in self._containers().values() if one.address and not _is_known(one)]
        if strangers:
            lines = "; ".join(f"{one.address} {one.service}" for one in strangers)
            raise NotReady(
                "clients on this machine cannot follow the replica set, whose members call each other by names that "
                f"it does not know. On Linux, put into /etc/hosts: {lines}. Elsewhere let the load run beside them: "
                "docker compose run --rm bench mongo"
            )
        return f"mongodb://{','.join(self.nodes())}/?replicaSet={assembly.SET_NAME}"

    def client_options(self) -> Mapping[str, str]:
        """Return the connection string as an option."""
        return {"mongo_uri": self.uri()}

    def primary(self) -> str | None:
        """Return the primary's address; of two that claim to be, the one elected last."""
        led = leader(self._views(self._containers()).values())
        return led.address if led else None

    def serves(self, container: Container) -> bool:
        """Say whether a member is a primary or a secondary."""
        return self._views({container.service: container})[container.service].role in SERVING

    def status(self) -> Sequence[NodeStatus]:
        """Say how every member is, by its container, its own word and the primary's."""
        found = self._containers()
        views = self._views(found)
        led = leader(views.values())
        return [self._node(service, found.get(service), views[service], led) for service in self.services]

    def _node(self, service: str, container: Container | None, view: View, led: View | None) -> NodeStatus:
        seen = led.members.get(view.address) if led else None
        # A primary that was frozen still calls itself one when another has long been elected.
        healthy = view.role in SERVING and seen is not None and seen.healthy and seen.role == view.role
        status = _status(service, view.address, container, view.role, healthy=healthy)
        return status._replace(lag_s=lag_s(led, view.address))

    def _views(self, found: Mapping[str, Container]) -> dict[str, View]:
        """Return what the members that run say, each under its own name; of the others nothing."""
        asked = {
            one.published[self.port]: service
            for service, one in found.items()
            if one.state == "running" and self.port in one.published
        }
        said = {asked[view.address]: view for view in look(asked)}
        return {
            service: replace(said.get(service, View(address)), address=address)
            for service, address in self.addresses().items()
        }


_MEMBER = re.compile(r"^(?P<state>[UD][NJLM])\s+(?P<address>\S+)", re.MULTILINE)
"""A line of ``nodetool status``."""

_NODETOOL_TIMEOUT_S = 10.0


class CassandraContainers(ContainerCluster):
    """A ring. Its nodes, and so its clients, know each other by their addresses in the network.

    On Linux this machine reaches these. What a container's address was is remembered, for one that has ended has none.
    """

    database = "cassandra"
    services = ("cassandra1", "cassandra2", "cassandra3")
    stays_itself = False
    port = 9042
    # Without its system tables a node would be a stranger of a known address, which the ring refuses: it stays who it
    # is, and has lost every key and the log of those it had taken.
    data = ("/var/lib/cassandra", "-mindepth", "2", "-type", "f", "-not", "-path", "*/data/system*")

    def addresses(self) -> Mapping[str, str]:
        """Return the address of every node in the network; before the first start, its name."""
        file = home.location() / "compose" / "cassandra.json"
        known = home.recall(file)
        now = {one.service: one.address for one in self._containers().values() if one.address}
        if not now.items() <= known.items():
            known = {**known, **now}
            home.create(home.location())
            with home.writing(file):
                file.parent.mkdir(parents=True, exist_ok=True)
                home.remember(file, known)
        return {service: f"{known.get(service, service)}:{self.port}" for service in self.services}

    def uri(self) -> str:
        """Return what the option ``--hosts`` takes."""
        return ",".join(self.nodes())

    def client_options(self) -> Mapping[str, str]:
        """Return the nodes as an option."""
        return {"hosts": self.uri()}

    def primary(self) -> str | None:
        """Return None: every node takes writes."""
        return None

    def serves(self, container: Container) -> bool:
        """Say whether a node answers clients, at the port that is published on this machine."""
        return container.state == "running" and cql.serves(container.published[self.port])

    def keep_hints(self, node: str, *, keep: bool | None) -> None:
        """Let a node keep what others miss from now on, or not; None: as by default, which is to keep it."""
        order = "disablehandoff" if keep is False else "enablehandoff"
        docker("exec", self._living(node).id, "nodetool", order)

    def status(self) -> Sequence[NodeStatus]:
        """Say how every node is: by its container, by its port, and as one of them sees it, in nodetool's words."""
        addresses, found = self.addresses(), self._containers()
        serving = {service for service, container in found.items() if self.serves(container)}
        words = next((_nodetool(found[service]) for service in self.services if service in serving), {})
        return [
            _status(service, address, found.get(service), role, healthy=service in serving and role == "UN")
            for service, address in addresses.items()
            for role in [words.get(address.rpartition(":")[0])]
        ]


_COUCH_PUBLISHED = {"couch1": "127.0.0.1:5984", "couch2": "127.0.0.1:5985"}
"""Where docker-compose.yml publishes the leaders; a container knows better."""


class CouchContainers(ContainerCluster):
    """Two leaders, which clients on this machine know by the ports that are published."""

    database = "couch"
    services = tuple(_COUCH_PUBLISHED)
    port = 5984
    data = ("/opt/couchdb/data", "-mindepth", "1")

    def addresses(self) -> Mapping[str, str]:
        """Return where every leader is published."""
        found = {one.service: one.published[self.port] for one in self._containers().values()}
        return {service: found.get(service, usual) for service, usual in _COUCH_PUBLISHED.items()}

    def uri(self) -> str:
        """Return both leaders' URLs, apart by a blank, with the user and the password that Compose gave them."""
        return " ".join(self.client_options().values())

    def client_options(self) -> Mapping[str, str]:
        """Return both leaders' URLs as options."""
        given = {"COUCHDB_USER": leaders.USER, "COUCHDB_PASSWORD": leaders.PASSWORD}
        login = ":".join(quote(os.environ.get(name) or usual, safe="") for name, usual in given.items())
        a, b = self.nodes()
        return {"couch_a": f"http://{login}@{a}", "couch_b": f"http://{login}@{b}"}

    def primary(self) -> str | None:
        """Return None: both take writes."""
        return None

    def serves(self, container: Container) -> bool:
        """Say whether a leader answers."""
        return container.state == "running" and bool(leaders.serving([container.published[self.port]]))

    def status(self) -> Sequence[NodeStatus]:
        """Say how both leaders are."""
        found = self._containers()
        up = leaders.serving(one.published[self.port] for one in found.values() if one.state == "running")
        return [
            _status(service, address, found.get(service), "leader" if address in up else None, healthy=address in up)
            for service, address in self.addresses().items()
        ]


CLUSTERS: Mapping[str, Callable[[], Reachable]] = {
    "mongo": MongoContainers,
    "cassandra": CassandraContainers,
    "couch": CouchContainers,
}
"""Every database of docker-compose.yml. A new one is one row."""


def _is_known(container: Container) -> bool:
    """Tell whether this machine knows a container by its service's name."""
    try:
        return socket.gethostbyname(container.service) == container.address
    except OSError:
        return False


def _nodetool(container: Container) -> Mapping[str, str]:
    """Return how a node sees each node, by its address; nothing where it does not say so in time."""
    try:
        told = docker("exec", container.id, "nodetool", "status", timeout_s=_NODETOOL_TIMEOUT_S)
    except ClusterError:
        return {}
    return {found["address"]: found["state"] for found in _MEMBER.finditer(told)}


def _status(service: str, address: str, container: Container | None, role: str | None, *, healthy: bool) -> NodeStatus:
    if container is None:
        return NodeStatus(service, address, None, "dead")
    return NodeStatus(service, address, container.pid, container.state, role, healthy)
