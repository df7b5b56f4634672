"""Why a MongoDB cannot be used, in one line: what happened, where, and what to do next."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from bson.errors import InvalidDocument
from pymongo import errors as driver
from pymongo.server_description import ServerDescription
from pymongo.topology_description import TopologyDescription

from stalewatch.clients.errors import BadAddress, ClientError, Unreachable
from stalewatch.clients.mongodb.address import Address, DriverClient, Server, node_name, node_names
from stalewatch.clients.mongodb.errors import server_code
from stalewatch.clients.mongodb.options import MongoClientOptions

START_LOCAL = "start a local one with `stalewatch cluster up mongo`"
_HANGERS_ON = re.compile(r"(, full error| \(configured timeouts|, Timeout: ).*")
_REFUSED_COMMAND = re.compile(r"execute command \{ (\w+):.*")
NEEDS_A_SET = "reads from followers, majority writes and the final linearizable reads need a replica set"


@contextmanager
def explained(address: Address, options: MongoClientOptions) -> Iterator[None]:
    """Turn what the driver raises inside into a `ClientError` that says what to do."""
    try:
        yield
    except driver.PyMongoError as error:
        trouble = _TROUBLES.get(server_code(error) or 0, _lost)
        raise trouble(error, address, options) from error
    except InvalidDocument as error:
        raise _too_large(error, address, options) from error


def _too_large(error: Exception, _address: Address, _options: MongoClientOptions) -> ClientError:
    return ClientError(f"MongoDB cannot hold such a value ({reason(error)}): make it smaller")


def _lost(error: Exception, address: Address, _options: MongoClientOptions) -> ClientError:
    return Unreachable(f"MongoDB at {node_names(address.hosts)}: {reason(error)}; check the servers, or {START_LOCAL}")


def _wrong_user(error: Exception, address: Address, _options: MongoClientOptions) -> ClientError:
    return Unreachable(
        f"MongoDB at {node_names(address.hosts)} refused the user or the password in --mongo-uri ({reason(error)}); "
        "check both, and authSource, the database that knows the user",
    )


def _no_rights(error: Exception, address: Address, options: MongoClientOptions) -> ClientError:
    remedy = (
        f"grant the user readWrite on {options.db}"
        if address.has_user
        else "name a user: mongodb://USER:PASSWORD@HOST:PORT,..."
    )
    return Unreachable(
        f"MongoDB at {node_names(address.hosts)} gives no rights on {options.db}.{options.coll} ({reason(error)}); "
        f"{remedy}",
    )


def _unsatisfiable(error: Exception, address: Address, options: MongoClientOptions) -> ClientError:
    return BadAddress(
        f"write concern {options.write_concern or 'of --mongo-uri'} can never be met by {node_names(address.hosts)} "
        f"({reason(error)}); ask for fewer members",
    )


_TROUBLES: Mapping[int, Callable[[Exception, Address, MongoClientOptions], ClientError]] = {
    11: _wrong_user,
    13: _no_rights,
    18: _wrong_user,
    79: _unsatisfiable,
    100: _unsatisfiable,
    10334: _too_large,
    8000: _wrong_user,
}


def reason(error: BaseException) -> str:
    """Return the server's or the driver's own words, without what pymongo hangs on them: documents and time-outs."""
    details = getattr(error, "details", None)
    words = _words(details) if isinstance(details, Mapping) else None
    line = " ".join(str(words or error).split())
    return _HANGERS_ON.sub("", _REFUSED_COMMAND.sub(r"\1", line)) or type(error).__name__


def _words(details: Mapping[str, Any]) -> str | None:
    told = [details, *details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]
    return next((str(document["errmsg"]) for document in told if "errmsg" in document), None)


def no_primary(topology: TopologyDescription, address: Address) -> ClientError:
    """Say why no primary was found in time."""
    servers = topology.server_descriptions().values()
    if not servers:
        return _strangers(address)
    kinds = {server.server_type_name for server in servers}
    if kinds == {"Unknown"}:
        silent = ", ".join(f"{node_name(server.address)} ({_silence(server)})" for server in servers)
        return Unreachable(f"no MongoDB server answers at {silent}; check --mongo-uri, or {START_LOCAL}")
    if "RSGhost" in kinds:
        return Unreachable(
            f"MongoDB at {node_names(address.hosts)} runs with --replSet, but the set was never initiated: "
            f"run rs.initiate() in mongosh, or {START_LOCAL}",
        )
    states = ", ".join(f"{node_name(server.address)} {server.server_type_name}" for server in servers)
    return Unreachable(
        f"replica set {topology.replica_set_name} has no primary ({states}): start the missing members, "
        "since only a majority of them can elect one",
    )


def _silence(server: ServerDescription) -> str:
    if server.error is None:
        return "no answer in time"
    return reason(server.error).removeprefix(f"{node_name(server.address)}: ")


def _strangers(address: Address) -> ClientError:
    """Say what the servers are: pymongo puts aside any that is not of the set that the URI names."""
    for host, port in address.hosts:
        with address.open_member(host, port) as member:
            theirs = member.admin.command("hello").get("setName")
        if theirs is None:
            return standalone([(host, port)])
        if theirs != address.settings.get("replicaset"):
            return BadAddress(
                f"{node_name((host, port))} belongs to replica set {theirs}, "
                f"not {address.settings.get('replicaset')}: correct replicaSet in --mongo-uri",
            )
    return Unreachable(f"no server at {node_names(address.hosts)} is a member of the set that --mongo-uri names")


def standalone(servers: Sequence[Server]) -> ClientError:
    """Say that a server is not a member of a replica set."""
    return BadAddress(
        f"MongoDB at {node_names(servers)} is a standalone server, but {NEEDS_A_SET}: "
        f"start it with --replSet rs0 and run rs.initiate() in mongosh, or {START_LOCAL}",
    )


def one_server(client: DriverClient) -> ClientError:
    """Say why a connection to a single server will not do."""
    servers = list(client.topology_description.server_descriptions().values())
    if any(server.server_type_name == "Standalone" for server in servers):
        return standalone([server.address for server in servers])
    return BadAddress(
        f"--mongo-uri is tied to one server by directConnection, but {NEEDS_A_SET}: "
        "remove directConnection; to read from one member, give --read-from HOST:PORT",
    )


def no_member(member: str, error: BaseException) -> ClientError:
    """Say that the member to read from does not answer."""
    return Unreachable(
        f"no MongoDB server answers at --read-from {member} ({reason(error)}): start it, or name another"
    )


def other_set(member: str, theirs: str | None, ours: str | None) -> ClientError:
    """Say that the member to read from is not one of the set that is written to."""
    return BadAddress(f"--read-from {member} belongs to {theirs or 'no replica set'}, not to {ours or 'this cluster'}")
