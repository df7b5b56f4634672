"""Which members of a MongoDB replica set say that they are its primary, each asked for itself, and in which term.

The answer to `hello` needs no rights. A primary's election id ends in the number of its term.
"""

import socket
from dataclasses import replace
from typing import Any

import pymongo
from bson import ObjectId
from pymongo.errors import PyMongoError

from stalewatch.clients.errors import Unreachable
from stalewatch.clients.mongodb.address import Address, DriverClient, node_names
from stalewatch.clients.mongodb.diagnosis import reason
from stalewatch.clients.mongodb.options import MongoClientOptions, member_address
from stalewatch.clients.protocol import NoServerAnswers

ASK_S = 0.5
"""How long an answer may take: one that comes later says little of now."""

_ASKED = {
    "serverSelectionTimeoutMS": int(ASK_S * 1000),
    "connectTimeoutMS": int(ASK_S * 1000),
    "socketTimeoutMS": int(ASK_S * 1000),
}


class MongoClaims:
    """Asks each member over a connection of its own."""

    def __init__(self, options: MongoClientOptions) -> None:
        """Find the members; raise `BadAddress` for a URI that makes no sense, or `Unreachable`."""
        address = Address(replace(options, pool_size=2))
        self.nodes = _members(address)
        self._clients: dict[str, DriverClient] = {
            node: address.open_member(*member_address(node), _ASKED) for node in self.nodes
        }

    def ask(self, node: str) -> int | None:
        """Return the term in which it says that it is the primary; None where it says no, or surely does not run."""
        try:
            return term(self._clients[node].admin.command("hello"))
        except PyMongoError as error:
            if _refuses(node):
                return None
            raise NoServerAnswers(reason(error)) from error

    def close(self) -> None:
        """Drop the connections."""
        for client in self._clients.values():
            client.close()


def term(hello: dict[str, Any]) -> int | None:
    """Return the term that a member's answer claims."""
    election = hello.get("electionId")
    if not hello.get("isWritablePrimary") or not isinstance(election, ObjectId):
        return None
    return int.from_bytes(election.binary[-8:], "big")


def _members(address: Address) -> list[str]:
    try:
        with address.open() as client:
            hello = client.admin.command("hello", read_preference=pymongo.ReadPreference.NEAREST)
    except PyMongoError as error:
        raise Unreachable(
            f"MongoDB at {node_names(address.hosts)} does not say who its members are: {reason(error)}"
        ) from error
    return list(hello.get("hosts", [hello["me"]] if "me" in hello else []))


def _refuses(node: str) -> bool:
    """Tell whether nobody listens there: a process that is no more leads nothing."""
    host, port = member_address(node)
    try:
        socket.create_connection((host, port), ASK_S).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
