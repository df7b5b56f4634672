"""What the nodes of a Cassandra ring say of themselves: who is up, and for whom writes are kept that it missed.

No node leads, and none knows how far it is behind. But the others keep hints for one that was away, and tell how old
the oldest is: a node that caught up with everything has none. Which nodes are up is what the driver's connections say.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from cassandra import DriverException, InvalidRequest, Unauthorized
from cassandra.cluster import NoHostAvailable, Session
from cassandra.pool import Host

from stalewatch.clients.cassandra.connection import open_cluster
from stalewatch.clients.cassandra.nodes import Nodes
from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clients.protocol import NodeState, NoServerAnswers

LOOK_S = 2.0
_HINTS = "SELECT address, port, oldest FROM system_views.pending_hints"

Place = tuple[str, int]
"""Address and port at which the nodes reach each other."""


class CassandraServers:
    """Asks through connections of its own, made at the first look; it creates nothing."""

    def __init__(self, options: CassandraClientOptions) -> None:
        """Set up the connections; raise `BadAddress` for options that make no sense."""
        self._options = options
        self._cluster = open_cluster(self._options)
        self._session: Session | None = None

    def look(self) -> Sequence[NodeState]:
        """Return the state of every node."""
        try:
            if self._session is None:
                self._session = self._cluster.connect()
            nodes = Nodes(self._cluster, self._options)
            kept = self._kept([host for host in nodes.all() if host.is_up])
        except (DriverException, NoHostAvailable, OSError) as error:
            raise NoServerAnswers(str(error)) from error
        return [_state(nodes.name(host), host, kept) for host in nodes.all()]

    def _kept(self, hosts: Sequence[Host]) -> dict[str, float] | None:
        """Return by address how many seconds ago the oldest write was put aside for a node; None: nobody tells."""
        assert self._session is not None  # noqa: S101 # `look` has connected
        oldest: dict[str, datetime] = {}
        try:
            for host in hosts:
                for address, _port, since in self._session.execute(_HINTS, host=host, timeout=LOOK_S):
                    oldest[address] = min(since, oldest.get(address, since))
        except (InvalidRequest, Unauthorized):  # there is no such table, or not for this user
            return None
        now = datetime.now(UTC).replace(tzinfo=None)
        return {address: (now - since).total_seconds() for address, since in oldest.items()}

    def close(self) -> None:
        """Drop the connections."""
        self._cluster.shutdown()


def _state(name: str, host: Host, kept: dict[str, float] | None) -> NodeState:
    up = bool(host.is_up)
    return NodeState(name, primary=False, healthy=up, lag_s=None if kept is None else kept.get(host.address, 0.0))
