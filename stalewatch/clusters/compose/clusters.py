"""The databases of docker-compose.yml as clusters, in one table."""

import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote

from stalewatch.clusters.compose.cluster import ComposeCluster
from stalewatch.clusters.compose.containers import Container, docker
from stalewatch.clusters.local import cassandra_members, couch_leaders, home
from stalewatch.clusters.local.mongo_members import (
    SERVING,
    SET_NAME,
    MemberView,
    is_healthy,
    lag_s,
    member_views,
    primary_view,
)
from stalewatch.clusters.protocol import ClusterError, NodeStatus, NotReady, Reachable


class MongoCompose(ComposeCluster):
    """A replica set whose members, and so their clients, know each other as mongo1:27017 and so on.

    This process queries them at the ports published on this machine; a client that follows the primary must be able
    to reach them by name.
    """

    database = "mongo"
    services = ("mongo1", "mongo2", "mongo3")
    one_shot = ("mongosetup",)
    port = 27017
    data = ("/data/db", "-mindepth", "1")

    def addresses(self) -> Mapping[str, str]:
        """Return the members' names for each other."""
        return {service: f"{service}:{self.port}" for service in self.services}

    def uri(self) -> str:
        """Return the connection string; raise `NotReady` if this machine cannot resolve the members' names.

        The message has the lines to add to /etc/hosts.
        """
        unresolved = [one for one in self._containers().values() if one.address and not _is_resolved(one)]
        if unresolved:
            lines = "; ".join(f"{one.address} {one.service}" for one in unresolved)
            raise NotReady(
                "clients on this machine cannot follow the replica set, because its members' names do not resolve "
                f"here. On Linux, add to /etc/hosts: {lines}. Elsewhere run the load in a container: "
                "docker compose run --rm bench mongo"
            )
        return f"mongodb://{','.join(self.nodes())}/?replicaSet={SET_NAME}"

    def client_options(self) -> Mapping[str, str]:
        """Return the connection string as a client option."""
        return {"mongo_uri": self.uri()}

    def primary(self) -> str | None:
        """Return the primary's address: of two primaries, the one elected last."""
        primary = primary_view(self._views(self._containers()).values())
        return primary.address if primary else None

    def serves(self, container: Container) -> bool:
        """Return whether a member is a primary or a secondary."""
        return self._views({container.service: container})[container.service].role in SERVING

    def status(self) -> Sequence[NodeStatus]:
        """Return every member's status according to its container, itself and the primary."""
        found = self._containers()
        views = self._views(found)
        primary = primary_view(views.values())
        return [
            _status(service, view.address, found.get(service), view.role, healthy=is_healthy(view, primary))._replace(
                lag_s=lag_s(primary, view.address)
            )
            for service, view in views.items()
        ]

    def _views(self, found: Mapping[str, Container]) -> dict[str, MemberView]:
        """Return the views of the running members, each under its own name; those of the others are empty."""
        asked = {
            one.published[self.port]: service
            for service, one in found.items()
            if one.state == "running" and self.port in one.published
        }
        answers = {asked[view.address]: view for view in member_views(asked)}
        return {
            service: replace(answers.get(service, MemberView(address)), address=address)
            for service, address in self.addresses().items()
        }


_NODETOOL_LINE = re.compile(r"^(?P<state>[UD][NJLM])\s+(?P<address>\S+)", re.MULTILINE)
"""A node's line of ``nodetool status``."""

_NODETOOL_TIMEOUT_S = 10.0


class CassandraCompose(ComposeCluster):
    """A ring whose nodes, and so their clients, know each other by their addresses in the network.

    On Linux this machine can reach those. They are stored, because a container that has exited has no address.
    """

    database = "cassandra"
    services = ("cassandra1", "cassandra2", "cassandra3")
    keeps_identity = False
    port = 9042
    # Without its system tables a node would be a new one with a known address, which the ring rejects. It keeps its
    # identity, and loses all keys and its commit log.
    data = ("/var/lib/cassandra", "-mindepth", "2", "-type", "f", "-not", "-path", "*/data/system*")

    def addresses(self) -> Mapping[str, str]:
        """Return the address of every node in the network; before the first start, its name."""
        file = home.location() / "compose" / "cassandra.json"
        known = home.recall(file)
        current = {one.service: one.address for one in self._containers().values() if one.address}
        if not current.items() <= known.items():
            known = {**known, **current}
            home.create(home.location())
            home.remember(file, known)
        return {service: f"{known.get(service, service)}:{self.port}" for service in self.services}

    def uri(self) -> str:
        """Return the value of the option ``--hosts``."""
        return ",".join(self.nodes())

    def client_options(self) -> Mapping[str, str]:
        """Return the nodes as a client option."""
        return {"hosts": self.uri()}

    def serves(self, container: Container) -> bool:
        """Return whether a node answers clients, at the port published on this machine."""
        return container.state == "running" and cassandra_members.serves(container.published[self.port])

    def keep_hints(self, node: str, *, keep: bool | None) -> None:
        """Turn a node's hints on or off; None restores the default, which is on."""
        order = "disablehandoff" if keep is False else "enablehandoff"
        docker("exec", self._running(node).id, "nodetool", order)

    def status(self) -> Sequence[NodeStatus]:
        """Return every node's status according to its container, its port, and another node's nodetool."""
        addresses, found = self.addresses(), self._containers()
        serving = {service for service, container in found.items() if self.serves(container)}
        states = next((_nodetool_states(found[service]) for service in self.services if service in serving), {})
        return [
            _status(service, address, found.get(service), role, healthy=service in serving and role == "UN")
            for service, address in addresses.items()
            for role in [states.get(address.rpartition(":")[0])]
        ]


_COUCH_PUBLISHED = {"couch1": "127.0.0.1:5984", "couch2": "127.0.0.1:5985"}
"""Where docker-compose.yml publishes the leaders, unless a container says otherwise."""


class CouchCompose(ComposeCluster):
    """Two leaders, which clients on this machine know by their published ports."""

    database = "couch"
    services = tuple(_COUCH_PUBLISHED)
    port = 5984
    data = ("/opt/couchdb/data", "-mindepth", "1")

    def addresses(self) -> Mapping[str, str]:
        """Return where every leader is published."""
        found = {one.service: one.published[self.port] for one in self._containers().values()}
        return {service: found.get(service, usual) for service, usual in _COUCH_PUBLISHED.items()}

    def uri(self) -> str:
        """Return both leaders' URLs with Compose's credentials, separated by a space."""
        return " ".join(self.client_options().values())

    def client_options(self) -> Mapping[str, str]:
        """Return both leaders' URLs as client options."""
        login = ":".join(quote(one, safe="") for one in _couch_login())
        a, b = self.nodes()
        return {"couch_a": f"http://{login}@{a}", "couch_b": f"http://{login}@{b}"}

    def restart(self, node: str) -> None:
        """Restart a leader, and return when it serves and replication with it is about to go on."""
        super().restart(node)
        self._renew_links(node)

    def resume(self, node: str) -> None:
        """Resume a frozen leader, with its replication; raise `NotRunning` if it is dead."""
        super().resume(node)
        self._renew_links(node)

    def _renew_links(self, node: str) -> None:
        """Let replication with a leader that is back go on at once; the leaders know each other by their services."""
        peers = {service: f"{service}:{self.port}" for service in self.services}
        couch_leaders.renew_links(self.addresses(), [self._container(node).service], peers, _couch_login())

    def serves(self, container: Container) -> bool:
        """Return whether a leader answers."""
        return container.state == "running" and bool(couch_leaders.serving([container.published[self.port]]))

    def status(self) -> Sequence[NodeStatus]:
        """Return the status of both leaders."""
        found = self._containers()
        up = couch_leaders.serving(one.published[self.port] for one in found.values() if one.state == "running")
        return [
            _status(service, address, found.get(service), "leader" if address in up else None, healthy=address in up)
            for service, address in self.addresses().items()
        ]


CLUSTERS: Mapping[str, Callable[[], Reachable]] = {
    "mongo": MongoCompose,
    "cassandra": CassandraCompose,
    "couch": CouchCompose,
}
"""The clusters of docker-compose.yml by database."""


def _couch_login() -> tuple[str, str]:
    """Return the user and the password that Compose gives to the leaders."""
    user, password = (os.environ.get(name) for name in ("COUCHDB_USER", "COUCHDB_PASSWORD"))
    return user or couch_leaders.USER, password or couch_leaders.PASSWORD


def _is_resolved(container: Container) -> bool:
    """Return whether this machine resolves the service's name to the container."""
    try:
        return socket.gethostbyname(container.service) == container.address
    except OSError:
        return False


def _nodetool_states(container: Container) -> Mapping[str, str]:
    """Return every node's state by address, as this node sees it; empty if it does not answer in time."""
    try:
        output = docker("exec", container.id, "nodetool", "status", timeout_s=_NODETOOL_TIMEOUT_S)
    except ClusterError:
        return {}
    return {found["address"]: found["state"] for found in _NODETOOL_LINE.finditer(output)}


def _status(service: str, address: str, container: Container | None, role: str | None, *, healthy: bool) -> NodeStatus:
    if container is None:
        return NodeStatus(service, address, None, "dead")
    return NodeStatus(service, address, container.pid, container.state, role, healthy)
