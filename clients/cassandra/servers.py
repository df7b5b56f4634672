"""State of a ring's nodes: which are up, and for which of them others keep hints.

No node leads, and none knows how far it is behind. But while a node is down, the others keep hints (writes that it
missed) and report how old the oldest one is; a node without hints has caught up. Which nodes are up is what the
driver's connections show.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from cassandra import DriverException, InvalidRequest, Unauthorized
from cassandra.cluster import NoHostAvailable, Session
from cassandra.pool import Host

from stalewatch.clients.cassandra.connection import RingNodes, open_cluster
from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clients.protocol import NodeState, NoServerAnswers
from stalewatch.history.clock import Clock

POLL_TIMEOUT_S = 2.0
CHECK_EVERY_S = 1.0

FLUSH_S = 11.0
"""How long a hint may stay in a node's memory, where it is not visible: Cassandra flushes hints every 10 s.

Only a write at ANY can be acknowledged by a hint alone."""

_OLDEST_HINTS = "SELECT address, port, oldest FROM system_views.pending_hints"
_ANY_HINT = "SELECT host_id FROM system_views.pending_hints LIMIT 1"

_HINTS_HIDDEN = (InvalidRequest, Unauthorized)
"""Raised if this version has no such table, or the user may not read it."""


class CassandraServers:
    """A poller of all nodes with connections of its own, opened by the first poll; it creates nothing."""

    def __init__(self, options: CassandraClientOptions) -> None:
        """Set up the connections; raise `BadAddress` for unusable options."""
        self._options = options
        self._cluster = open_cluster(options)
        self._session: Session | None = None

    def look(self) -> Sequence[NodeState]:
        """Return the state of every node."""
        try:
            if self._session is None:
                self._session = self._cluster.connect()
            nodes = RingNodes(self._cluster, self._options)
            lags = _hint_ages(self._session, [host for host in nodes.all() if host.is_up])
        except (DriverException, NoHostAvailable, OSError) as error:
            raise NoServerAnswers(str(error)) from error
        return [_state(nodes.name(host), host, lags) for host in nodes.all()]

    def close(self) -> None:
        """Close the connections."""
        self._cluster.shutdown()


def _hint_ages(session: Session, hosts: Sequence[Host]) -> Mapping[str, float] | None:
    """Return the age in seconds of the oldest hint for each node, by address; None if hints are not visible."""
    oldest: dict[str, datetime] = {}
    try:
        for host in hosts:
            for address, _port, since in session.execute(_OLDEST_HINTS, host=host, timeout=POLL_TIMEOUT_S):
                oldest[address] = min(since, oldest.get(address, since))
    except _HINTS_HIDDEN:
        return None
    now = datetime.now(UTC).replace(tzinfo=None)
    return {address: (now - since).total_seconds() for address, since in oldest.items()}


def _state(name: str, host: Host, lags: Mapping[str, float] | None) -> NodeState:
    lag_s = None if lags is None else lags.get(host.address, 0.0)
    return NodeState(name, primary=False, healthy=bool(host.is_up), lag_s=lag_s)


class PendingHints:
    """A check whether any node keeps hints, at most once per second: only without hints does a final read prove a loss.

    Only newer versions of Cassandra report hints, and only to users with the right to read them. If nothing is known,
    there are assumed to be none, unless a write at ANY may depend on one.
    """

    def __init__(self, session: Session, nodes: RingNodes, clock: Clock) -> None:
        self._session = session
        self._nodes = nodes
        self._clock = clock
        self._checked_ns: int | None = None
        self._found: str | None = None
        self._last_any_ns: int | None = None

    def note_any(self) -> None:
        """Record the time of a write that a hint alone may have acknowledged."""
        self._last_any_ns = self._clock.now()

    def reason(self) -> str | None:
        """Return in one word why a final read would prove nothing yet, or None; raise driver exceptions."""
        now = self._clock.now()
        if self._last_any_ns is not None and now - self._last_any_ns < FLUSH_S * 1e9:
            return "hints_unflushed"
        if self._checked_ns is None or now - self._checked_ns > CHECK_EVERY_S * 1e9:
            self._found = self._check()
            self._checked_ns = self._clock.now()
        return self._found

    def _check(self) -> str | None:
        for host in self._nodes.all():
            try:
                if self._session.execute(_ANY_HINT, host=host).one() is not None:
                    return "hints_pending"
            except _HINTS_HIDDEN:
                return None if self._last_any_ns is None else "hints_unknown"
        return None
