"""Whether nodes still keep writes for others that missed them: only when they do not, a final read proves a loss."""

from cassandra import InvalidRequest, Unauthorized
from cassandra.cluster import Session

from stalewatch.clients.cassandra.nodes import Nodes
from stalewatch.history.clock import Clock

LOOK_EVERY_S = 1.0

FLUSH_S = 11.0
"""How long a hint may be in a node's memory, where it cannot be seen: Cassandra writes them out every 10 s.

Only a write at ANY can be acknowledged by a hint alone."""

_PENDING = "SELECT host_id FROM system_views.pending_hints LIMIT 1"


class PendingHints:
    """What the nodes say of their hints, asked for at most once a second.

    Only newer versions of Cassandra tell, and only users who may look. Where nothing is known there are taken to be
    none, unless a write at ANY may rest on one.
    """

    def __init__(self, session: Session, nodes: Nodes, clock: Clock) -> None:
        self._session = session
        self._nodes = nodes
        self._clock = clock
        self._looked_ns: int | None = None
        self._found: str | None = None
        self._last_any_ns: int | None = None

    def note_any(self) -> None:
        """Learn of a write that a hint alone may have acknowledged."""
        self._last_any_ns = self._clock.now()

    def reason(self) -> str | None:
        """Return why a final read would prove nothing yet, in a word, or None where it would (raises as drivers do)."""
        now = self._clock.now()
        if self._last_any_ns is not None and now - self._last_any_ns < FLUSH_S * 1e9:
            return "hints_unflushed"
        if self._looked_ns is None or now - self._looked_ns > LOOK_EVERY_S * 1e9:
            self._found = self._look()
            self._looked_ns = self._clock.now()
        return self._found

    def _look(self) -> str | None:
        for host in self._nodes.all():
            try:
                if self._session.execute(_PENDING, host=host).one() is not None:
                    return "hints_pending"
            except (InvalidRequest, Unauthorized):  # there is no such table, or not for this user
                return None if self._last_any_ns is None else "hints_unknown"
        return None
