"""Diagnoses of a MongoDB that cannot be used, in one line each: what happened, where, and what to do next."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from bson.errors import InvalidDocument
from pymongo import errors as driver
from pymongo.server_description import ServerDescription
from pymongo.topology_description import TopologyDescription

from stalewatch.clients.errors import BadAddress, ClientError, Unreachable
from stalewatch.clients.mongodb.address import DriverClient, MongoAddress, Server, node_name, node_names
from stalewatch.clients.mongodb.errors import server_code
from stalewatch.clients.mongodb.options import MongoOptions

START_LOCAL = "start a local one with `stalewatch cluster up mongo`"
NAME_A_USER = "name a user: mongodb://USER:PASSWORD@HOST:PORT,..."
NEEDS_A_SET = "reads from followers, majority writes and the final linearizable reads need a replica set"

_APPENDED = re.compile(r"(, full error| \(configured timeouts|, Timeout: ).*")
_REFUSED_COMMAND = re.compile(r"execute command \{ (\w+):.*")


class _Diagnosis(NamedTuple):
    """An error class, and the text of its message."""

    error: type[ClientError]
    text: str


_WRONG_USER = _Diagnosis(
    Unreachable,
    "MongoDB at {hosts} refused the user or the password in --mongo-uri ({reason}); check both, and authSource, the "
    "database that stores the user",
)
_UNSATISFIABLE = _Diagnosis(
    BadAddress, "write concern {write_concern} can never be met by {hosts} ({reason}); ask for fewer members"
)
_TOO_LARGE = _Diagnosis(
    ClientError, "MongoDB cannot store a value of this size ({reason}): choose a smaller --value-size"
)
_UNREACHABLE = _Diagnosis(Unreachable, f"MongoDB at {{hosts}}: {{reason}}; check the servers, or {START_LOCAL}")
_OTHER = _Diagnosis(ClientError, "MongoDB at {hosts} answered with an error: {reason}; see its log")

_BY_CODE: Mapping[int, _Diagnosis] = {
    11: _WRONG_USER,
    13: _Diagnosis(Unreachable, "MongoDB at {hosts} denied access to {db}.{coll} ({reason}); {grant}"),
    18: _WRONG_USER,
    79: _UNSATISFIABLE,
    100: _UNSATISFIABLE,
    10334: _TOO_LARGE,
    8000: _WRONG_USER,
}
"""Diagnoses by the server's error code."""


@contextmanager
def explained(address: MongoAddress, options: MongoOptions) -> Iterator[None]:
    """Turn an exception of the driver into a `ClientError` that says what to do."""
    try:
        yield
    except driver.PyMongoError as error:
        code = server_code(error)
        diagnosis = _UNREACHABLE if code is None else _BY_CODE.get(code, _OTHER)
        raise _client_error(diagnosis, error, address, options) from error
    except InvalidDocument as error:
        raise _client_error(_TOO_LARGE, error, address, options) from error


def _client_error(diagnosis: _Diagnosis, error: Exception, address: MongoAddress, options: MongoOptions) -> ClientError:
    text = diagnosis.text.format(
        hosts=node_names(address.hosts),
        reason=reason(error),
        db=options.db,
        coll=options.coll,
        grant=f"grant the user readWrite on {options.db}" if address.has_user else NAME_A_USER,
        write_concern=options.write_concern or "of --mongo-uri",
    )
    return diagnosis.error(text)


def reason(error: BaseException) -> str:
    """Return the server's or the driver's own words, without the documents and time-outs that pymongo appends."""
    details = getattr(error, "details", None)
    words = _server_message(details) if isinstance(details, Mapping) else None
    line = " ".join(str(words or error).split())
    return _APPENDED.sub("", _REFUSED_COMMAND.sub(r"\1", line)) or type(error).__name__


def _server_message(details: Mapping[str, Any]) -> str | None:
    documents = [details, *details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]
    return next((str(document["errmsg"]) for document in documents if "errmsg" in document), None)


def no_primary(topology: TopologyDescription, address: MongoAddress) -> ClientError:
    """Return why no primary was found in time."""
    servers = topology.server_descriptions().values()
    if not servers:
        return _not_of_the_set(address)
    types = {server.server_type_name for server in servers}
    if types == {"Unknown"}:
        silent = ", ".join(f"{node_name(server.address)} ({_last_error(server)})" for server in servers)
        return Unreachable(f"no MongoDB server answers at {silent}; check --mongo-uri, or {START_LOCAL}")
    if "RSGhost" in types:
        return Unreachable(
            f"MongoDB at {node_names(address.hosts)} runs with --replSet, but the set was never initiated: "
            f"run rs.initiate() in mongosh, or {START_LOCAL}"
        )
    return Unreachable(
        f"replica set {topology.replica_set_name} has no primary ({', '.join(map(_state, servers))}): start the "
        "missing members, since only a majority can elect one"
    )


def _state(server: ServerDescription) -> str:
    state = server.server_type_name if server.error is None else _last_error(server)
    return f"{node_name(server.address)} {state}"


def _last_error(server: ServerDescription) -> str:
    if server.error is None:
        return "no answer in time"
    return reason(server.error).removeprefix(f"{node_name(server.address)}: ")


def _not_of_the_set(address: MongoAddress) -> ClientError:
    """Return why no server is left: pymongo drops servers that are not of the set that the URI names."""
    wanted = address.settings.get("replicaset")
    for host, port in address.hosts:
        with address.open_member(host, port) as member:
            actual = member.admin.command("hello").get("setName")
        if actual is None:
            return standalone([(host, port)])
        if actual != wanted:
            return BadAddress(
                f"{node_name((host, port))} belongs to replica set {actual}, not {wanted}: correct replicaSet in "
                "--mongo-uri"
            )
    return Unreachable(f"no server at {node_names(address.hosts)} is a member of the set that --mongo-uri names")


def standalone(servers: Sequence[Server]) -> ClientError:
    """Return the error for servers that are not members of a replica set."""
    return BadAddress(
        f"MongoDB at {node_names(servers)} is a standalone server, but {NEEDS_A_SET}: "
        f"start it with --replSet rs0 and run rs.initiate() in mongosh, or {START_LOCAL}"
    )


def one_server(client: DriverClient) -> ClientError:
    """Return why a connection to a single server is not enough."""
    servers = list(client.topology_description.server_descriptions().values())
    if any(server.server_type_name == "Standalone" for server in servers):
        return standalone([server.address for server in servers])
    return BadAddress(
        f"--mongo-uri connects to a single server by directConnection, but {NEEDS_A_SET}: "
        "remove directConnection; to read from one member, give --read-from HOST:PORT"
    )


def no_member(member: str, error: BaseException) -> ClientError:
    """Return the error for a member to read from that does not answer."""
    return Unreachable(
        f"no MongoDB server answers at --read-from {member} ({reason(error)}): start it, or choose another"
    )


def other_set(member: str, actual: str | None, wanted: str | None) -> ClientError:
    """Return the error for a member to read from that is not of the set that is written to."""
    return BadAddress(
        f"--read-from {member} belongs to {actual or 'no replica set'}, not to {wanted or 'this cluster'}: choose one "
        "of its members"
    )
