"""Diagnoses of a MongoDB that cannot be used, in one line each: what happened, where, and what to do next."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from stalewatch.clients.mongodb.preconditions import answering

START_LOCAL = "start a local one with `stalewatch cluster up mongo`"
NAME_A_USER = "name a user: mongodb://USER:PASSWORD@HOST:PORT,..."
NEEDS_A_SET = "reads from followers, majority writes and the final linearizable reads need a replica set"

_NO_MATCH = "No replica set members match selector"
"""How pymongo begins if members answer, but none has the state or the tags that reads ask for."""

_UNRESOLVED = re.compile(r"\[Errno -\d+\]|nodename nor servname|getaddrinfo failed")
"""How socket.gaierror reads on Linux, macOS and Windows; pymongo keeps its text alone."""

_APPENDED = re.compile(r"(, full error| \(configured timeouts|, Timeout: ).*")
_REFUSED_COMMAND = re.compile(r"execute command \{ (\w+):.*")


class _Diagnosis(NamedTuple):
    """An error class, and the text of its message."""

    error: type[ClientError]
    text: str


_WRONG_USER = _Diagnosis(
    Unreachable,
    "MongoDB at {hosts} refused the user or the password in --mongo-uri; check both, and authSource, the database that "
    "stores the user; it said: {reason}",
)
_UNSATISFIABLE = _Diagnosis(
    BadAddress, "write concern {write_concern} can never be met by {hosts}; ask for fewer members; it said: {reason}"
)
_TOO_LARGE = _Diagnosis(
    ClientError, "MongoDB cannot store a value of this size; choose a smaller --value-size: {reason}"
)
_BAD_NAME = _Diagnosis(BadAddress, "MongoDB at {hosts} refused the names --db {db} --coll {coll}; it said: {reason}")
_READ_ONLY = _Diagnosis(
    BadAddress, "{db}.{coll} cannot hold the documents of a run; choose another --coll; MongoDB said: {reason}"
)
_UNREACHABLE = _Diagnosis(
    Unreachable,
    f"MongoDB at {{hosts}} did not answer; check the servers, or {START_LOCAL}; the driver said: {{reason}}",
)
_NO_MEMBER = _Diagnosis(
    Unreachable,
    "no member of the set at {hosts} may answer these reads; start one, or ask for others by --read-from and "
    "--mongo-uri; the driver said: {reason}",
)
_REJECTED = _Diagnosis(ClientError, "the driver refused a request to MongoDB at {hosts}; it said: {reason}")
_MALFORMED = _Diagnosis(
    Unreachable, "{hosts} did not answer as MongoDB does; check the address; the driver failed with {reason}"
)
_OTHER = _Diagnosis(ClientError, "MongoDB at {hosts} answered with an error, see also its log; it said: {reason}")

_BY_CODE: Mapping[int, _Diagnosis] = {
    11: _WRONG_USER,
    13: _Diagnosis(Unreachable, "MongoDB at {hosts} denied access to {db}.{coll}; {grant}; it said: {reason}"),
    18: _WRONG_USER,
    73: _BAD_NAME,
    79: _UNSATISFIABLE,
    100: _UNSATISFIABLE,
    121: _READ_ONLY,
    166: _READ_ONLY,
    8000: _WRONG_USER,
    10334: _TOO_LARGE,
    13297: _BAD_NAME,
}
"""Diagnoses by the server's error code."""


@contextmanager
def explained(address: MongoAddress, options: MongoOptions) -> Iterator[None]:
    """Turn an exception of the driver into a `ClientError` that says what to do."""
    try:
        yield
    except driver.PyMongoError as error:
        code = _code(error)
        silent = _UNREACHABLE if isinstance(error, driver.ConnectionFailure) else _REJECTED
        if str(error).startswith(_NO_MATCH):
            silent = _NO_MEMBER
        diagnosis = silent if code is None else _BY_CODE.get(code, _OTHER)
        raise _client_error(diagnosis, error, address, options) from error
    except InvalidDocument as error:
        raise _client_error(_TOO_LARGE, error, address, options) from error
    except (AttributeError, KeyError, TypeError) as error:  # the driver trusts the shape of answers
        raise _client_error(_MALFORMED, error, address, options) from error


def _code(error: driver.PyMongoError) -> int | None:
    """Return the server's error code; of several writes, that of the first that was refused."""
    refused = error.details.get("writeErrors") if isinstance(error, driver.BulkWriteError) else None
    code: int | None = refused[0]["code"] if refused else server_code(error)
    return code


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
    if any(map(_is_unresolved, servers)):
        return _unresolved(servers, address)
    types = {server.server_type_name for server in servers}
    if types == {"Unknown"}:
        silent = ", ".join(f"{node_name(server.address)} ({_last_error(server)})" for server in servers)
        return Unreachable(
            f"no MongoDB server answers; check --mongo-uri, and --tls-ca if the servers use TLS, or {START_LOCAL}; the "
            f"driver said: {silent}"
        )
    if "RSGhost" in types:
        return Unreachable(
            f"MongoDB at {node_names(address.hosts)} runs with --replSet, but the set was never initiated: "
            f"run rs.initiate() in mongosh, or {START_LOCAL}"
        )
    return Unreachable(
        f"replica set {topology.replica_set_name} has no primary; start the missing members, since only a majority can "
        f"elect one: {', '.join(map(_state, servers))}"
    )


def _is_unresolved(server: ServerDescription) -> bool:
    return server.error is not None and _UNRESOLVED.search(str(server.error)) is not None


def _unresolved(servers: Iterable[ServerDescription], address: MongoAddress) -> ClientError:
    """Return the error for members whose names do not resolve here, such as those of containers."""
    lacking = [server for server in servers if _is_unresolved(server)]
    answered = answering(address)
    names = ", ".join(sorted({server.address[0] for server in lacking}))
    seeds = (
        f"MongoDB at {node_names(answered)} answered, but its set has members" if answered else "MongoDB has addresses"
    )
    said = ", ".join(map(_state, lacking))
    return Unreachable(
        f"{seeds} whose names do not resolve here: {names}; for each put a line into /etc/hosts, with an address that "
        f"reaches it from here and the name, or run the load where they resolve; the driver said: {said}"
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
        with address.open_stranger(host, port) as member:
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
        f"no MongoDB server answers at --read-from {member}; start it, or choose another; the driver said: "
        f"{reason(error)}"
    )


def unchecked(collection: str, error: BaseException) -> str:
    """Return the warning about a collection that this user may use, but not look at."""
    return (
        f"the verdict counts only if {collection} keeps what a run writes, which could not be checked (TTL indexes, "
        f"validators, capped, ...): grant the user listCollections and listIndexes; MongoDB said: {reason(error)}"
    )


def not_a_member(member: str, known: Iterable[Server]) -> ClientError:
    """Return the error for a server to read from that the set does not name."""
    return BadAddress(
        f"--read-from {member} is not a member of the set, which has {node_names(sorted(known))}: choose one of these; "
        "no user or password was sent to it"
    )


def arbiter(member: str) -> ClientError:
    """Return the error for a member to read from that holds no data."""
    return BadAddress(f"--read-from {member} is an arbiter, which holds no data: choose another member")


def ignored_settings(names: str) -> ClientError:
    """Return the error for settings of the URI that choose among members, if all reads go to one."""
    return BadAddress(
        f"{names} in --mongo-uri cannot be combined with --read-from HOST:PORT, which names the member: remove one of "
        "the two"
    )


def small_pool(size: int, sessions: int) -> ClientError:
    """Return the error for a pool in which sessions would wait for each other."""
    return BadAddress(
        f"maxPoolSize={size} in --mongo-uri is too small for {sessions} users in one process: they would wait for our "
        "own connections, and the waits would count as the database's; remove it, or give fewer --users"
    )


def other_set(member: str, actual: str | None, wanted: str | None) -> ClientError:
    """Return the error for a member to read from that is not of the set that is written to."""
    return BadAddress(
        f"--read-from {member} belongs to {actual or 'no replica set'}, not to {wanted or 'this cluster'}: choose one "
        "of its members"
    )
