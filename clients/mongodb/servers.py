"""The members of a MongoDB replica set, polled during a run: their states, and which of them claim to be the primary.

States come from `replSetGetStatus` on the primary, to which followers report every batch that they have applied;
without a primary, from any member. A member's optime has whole seconds only; the wall time of its newest write, which
the primary set, has milliseconds. Claims come from `hello`, which needs no rights, on each member itself.
"""

import socket
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from bson import ObjectId
from pymongo import ReadPreference
from pymongo.errors import OperationFailure, PyMongoError

from stalewatch.clients.errors import Unreachable
from stalewatch.clients.mongodb.address import DriverClient, MongoAddress, node_names
from stalewatch.clients.mongodb.diagnosis import reason
from stalewatch.clients.mongodb.options import MongoOptions, member_address
from stalewatch.clients.protocol import NodeState, NoServerAnswers

SERVING = frozenset({"PRIMARY", "SECONDARY"})
NO_RIGHTS = frozenset({11, 13, 18})

ASK_S = 0.5
"""The longest wait for a claim: a later answer says little about now."""

_ASK_SETTINGS = dict.fromkeys(("serverSelectionTimeoutMS", "connectTimeoutMS", "socketTimeoutMS"), int(ASK_S * 1000))

_MemberStatus = dict[str, Any]


class MongoServers:
    """The states of all members, over a connection of its own that opens with the first look."""

    def __init__(self, options: MongoOptions) -> None:
        """Connect in the background; raise `BadAddress` for an invalid URI."""
        self._address = MongoAddress(replace(options, sessions=1))
        self._client = self._address.open()

    def look(self) -> Sequence[NodeState]:
        """Return the state of every member that holds data."""
        try:
            status = self._client.admin.command("replSetGetStatus", read_preference=ReadPreference.PRIMARY_PREFERRED)
        except OperationFailure as error:
            if error.code in NO_RIGHTS:
                raise Unreachable(
                    f"MongoDB at {node_names(self._address.hosts)} refused replSetGetStatus ({reason(error)}); grant "
                    "the user clusterMonitor to see replication lag and primary changes"
                ) from error
            raise NoServerAnswers(reason(error)) from error
        except PyMongoError as error:
            raise NoServerAnswers(reason(error)) from error
        return states([member for member in status["members"] if member["stateStr"] != "ARBITER"])

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def states(members: Sequence[_MemberStatus]) -> list[NodeState]:
    """Return the state of every member in one answer to `replSetGetStatus`."""
    newest = max((_applied(member) for member in members if _serves(member)), default=None)
    return [_state(member, newest) for member in members]


def _state(member: _MemberStatus, newest: datetime | None) -> NodeState:
    serves = _serves(member)
    lag_s = (newest - _applied(member)).total_seconds() if serves and newest is not None else None
    return NodeState(member["name"], serves and member["stateStr"] == "PRIMARY", serves, lag_s)


def _serves(member: _MemberStatus) -> bool:
    return bool(member["health"]) and member["stateStr"] in SERVING


def _applied(member: _MemberStatus) -> datetime:
    applied: datetime = member.get("lastAppliedWallTime") or member["optimeDate"]
    return applied


class MongoPrimaryClaims:
    """The members that claim to be the primary, each asked over a connection of its own."""

    def __init__(self, options: MongoOptions) -> None:
        """Find the members; raise `BadAddress` for an invalid URI, or `Unreachable`."""
        address = MongoAddress(replace(options, sessions=1))
        self.nodes = _members(address)
        self._clients: dict[str, DriverClient] = {
            node: address.open_stranger(*member_address(node), _ASK_SETTINGS) for node in self.nodes
        }

    def ask(self, node: str) -> int | None:
        """Return the term in which the member claims to be the primary; None if it does not, or is not running."""
        try:
            return term(self._clients[node].admin.command("hello"))
        except PyMongoError as error:
            if _refuses_connections(node):
                return None
            raise NoServerAnswers(reason(error)) from error

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            client.close()


def term(hello: dict[str, Any]) -> int | None:
    """Return the term that an answer to `hello` claims: a primary's election id ends in it."""
    election = hello.get("electionId")
    if not hello.get("isWritablePrimary") or not isinstance(election, ObjectId):
        return None
    return int.from_bytes(election.binary[-8:], "big")


def _members(address: MongoAddress) -> list[str]:
    try:
        with address.open() as client:
            hello = client.admin.command("hello", read_preference=ReadPreference.NEAREST)
    except PyMongoError as error:
        raise Unreachable(
            f"MongoDB at {node_names(address.hosts)} did not list the members of its replica set: {reason(error)}"
        ) from error
    return list(hello.get("hosts", [hello["me"]] if "me" in hello else []))


def _refuses_connections(node: str) -> bool:
    """Return whether nothing listens there: a process that has ended leads nothing."""
    host, port = member_address(node)
    try:
        socket.create_connection((host, port), ASK_S).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
