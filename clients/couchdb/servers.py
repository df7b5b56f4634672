"""What two CouchDB leaders say of themselves: whether each is there. Both take writes.

How far one is behind the other, neither knows: their update sequences do not compare.
"""

from collections.abc import Sequence

from stalewatch.clients.couchdb.administration import Administration
from stalewatch.clients.couchdb.options import CouchClientOptions
from stalewatch.clients.errors import ClientError
from stalewatch.clients.protocol import NodeState

LOOK_S = 2.0
MISSING = 404
"""The database is not there yet; the leader is."""


class CouchServers:
    """Asks each leader for the database that is loaded."""

    def __init__(self, options: CouchClientOptions) -> None:
        """Set up the connections; raise `BadAddress` if a leader's address is missing."""
        self._database = options.db
        leaders = zip(("--couch-a", "--couch-b"), options.leaders, strict=True)
        self._leaders = [(leader.node, Administration(flag, leader, LOOK_S)) for flag, leader in leaders]

    def look(self) -> Sequence[NodeState]:
        """Return the state of both leaders."""
        return [self._state(node, leader) for node, leader in self._leaders]

    def _state(self, node: str, leader: Administration) -> NodeState:
        try:
            leader.ask("GET", self._database, allowed={MISSING})
        except ClientError:
            return NodeState(node, primary=False, healthy=False, lag_s=None)
        return NodeState(node, primary=True, healthy=True, lag_s=None)

    def close(self) -> None:
        """Drop the connections."""
        for _, leader in self._leaders:
            leader.close()
