"""What the members of a MongoDB replica set say of themselves, by `replSetGetStatus`.

The primary is asked, to which its followers tell every batch that they have applied; where there is none, whoever
answers. The optime of a member has whole seconds only; the wall time of its newest write, which the primary took, has
milliseconds.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from pymongo import ReadPreference
from pymongo.errors import OperationFailure, PyMongoError

from stalewatch.clients.errors import Unreachable
from stalewatch.clients.mongodb.address import Address, node_names
from stalewatch.clients.mongodb.diagnosis import reason
from stalewatch.clients.mongodb.options import MongoClientOptions
from stalewatch.clients.protocol import NodeState, NoServerAnswers

SERVING = frozenset({"PRIMARY", "SECONDARY"})
NO_RIGHTS = frozenset({11, 13, 18})

Member = dict[str, Any]


class MongoServers:
    """Asks through a connection of its own; it connects at the first look."""

    def __init__(self, options: MongoClientOptions) -> None:
        """Connect in the background; raise `BadAddress` for a URI that makes no sense."""
        self._address = Address(replace(options, pool_size=2))
        self._client = self._address.open()

    def look(self) -> Sequence[NodeState]:
        """Return the state of every member that holds data."""
        try:
            status = self._client.admin.command("replSetGetStatus", read_preference=ReadPreference.PRIMARY_PREFERRED)
        except OperationFailure as error:
            if error.code in NO_RIGHTS:
                raise Unreachable(
                    f"MongoDB at {node_names(self._address.hosts)} does not let the user ask for the replica set's "
                    f"state ({reason(error)}); grant it clusterMonitor to see replication lag and primary changes",
                ) from error
            raise NoServerAnswers(reason(error)) from error
        except PyMongoError as error:
            raise NoServerAnswers(reason(error)) from error
        return states([member for member in status["members"] if member["stateStr"] != "ARBITER"])

    def close(self) -> None:
        """Drop the connections."""
        self._client.close()


def states(members: Sequence[Member]) -> list[NodeState]:
    """Return what one answer says of every member."""
    newest = max((_applied(member) for member in members if _serves(member)), default=None)
    return [_state(member, newest) for member in members]


def _state(member: Member, newest: datetime | None) -> NodeState:
    serves = _serves(member)
    lag_s = (newest - _applied(member)).total_seconds() if serves and newest is not None else None
    return NodeState(member["name"], serves and member["stateStr"] == "PRIMARY", serves, lag_s)


def _serves(member: Member) -> bool:
    return bool(member["health"]) and member["stateStr"] in SERVING


def _applied(member: Member) -> datetime:
    applied: datetime = member.get("lastAppliedWallTime") or member["optimeDate"]
    return applied
