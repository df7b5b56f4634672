"""Connections to a replica set, checked to be usable before the first operation."""

import logging
import socket
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import NamedTuple

import pymongo
from pymongo import errors as driver
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from stalewatch.clients.errors import BadAddress
from stalewatch.clients.mongodb.address import (
    Document,
    DriverClient,
    MongoAddress,
    PrimaryNode,
    Server,
    node_name,
    node_names,
)
from stalewatch.clients.mongodb.diagnosis import (
    arbiter,
    explained,
    ignored_settings,
    no_member,
    no_primary,
    not_a_member,
    one_server,
    other_set,
    small_pool,
    unchecked,
)
from stalewatch.clients.mongodb.options import MongoOptions, member_address
from stalewatch.clients.mongodb.preconditions import check_collection, check_seeds
from stalewatch.clients.protocol import Levels

WTIMEOUT_FRACTION = 0.9
"""The fraction of the client's time-out after which a server stops waiting for followers, so that its answer still
arrives in time."""

_CHOOSING = ("maxStalenessSeconds", "readPreferenceTags")
"""Settings of a URI that choose among the members that a read preference allows."""

_UNAUTHORIZED = 13

log = logging.getLogger("stalewatch")


class MongoConnection(NamedTuple):
    """Open connections to a collection, at the levels that the options and the URI ask for."""

    address: MongoAddress
    client: DriverClient
    primary: PrimaryNode
    direct: DriverClient | None
    """The connection to one member, if all reads go to it."""
    writes: Collection[Document]
    reads: Collection[Document]
    read_from: str
    patience_ms: int
    """The longest time that a server waits for other members; a little less than the client waits for its answer."""
    servers: tuple[str, ...] = ()
    """The primary's version."""

    @property
    def retries(self) -> bool:
        """Whether the driver may silently repeat an operation."""
        return bool(self.client.options.retry_writes)

    def settings(self) -> dict[str, object]:
        """Return the levels and the driver's settings in force, without credentials."""
        driven = self.client.options
        pool = driven.pool_options
        return {
            "hosts": node_names(self.address.hosts),
            "db": self.writes.database.name,
            "coll": self.writes.name,
            "write_concern": self.writes.write_concern.document,
            "read_concern": self.reads.read_concern.level,
            "read_from": self.read_from,
            **self._chosen_members(),
            "retry_writes": driven.retry_writes,
            "retry_reads": driven.retry_reads,
            "socket_timeout_s": pool.socket_timeout,
            "connect_timeout_s": pool.connect_timeout,
            "wait_queue_timeout_s": pool.wait_queue_timeout,
            "server_selection_timeout_s": driven.server_selection_timeout,
            "max_pool_size": pool.max_pool_size,
            "servers": list(self.servers),
            "driver": f"pymongo {pymongo.version}",
        }

    def _chosen_members(self) -> dict[str, object]:
        """Return the tags and the greatest staleness by which the driver chooses members to read from, if any."""
        preference = self.reads.read_preference.document
        shown = {"read_tags": preference.get("tags"), "max_staleness_s": preference.get("maxStalenessSeconds")}
        return {name: value for name, value in shown.items() if value is not None}

    def levels(self) -> Levels:
        """Return the write concern, and the read preference with the read concern if there is one."""
        concern = self.reads.read_concern.level
        read = self.read_from if concern is None else f"{self.read_from}, {concern}"
        return Levels(f"w={self.writes.write_concern.document.get('w', 1)}", read)

    def close(self) -> None:
        """Close the connections."""
        if self.direct is not None:
            self.direct.close()
        self.client.close()


def connect(options: MongoOptions) -> MongoConnection:
    """Connect, and check that documents can be written and read; raise `BadAddress` or `Unreachable`."""
    options.check()
    address = MongoAddress(options)
    _check_settings(options, address)
    with ExitStack() as undo:
        client = undo.enter_context(address.open())
        later = {"connect": False}  # not before it is known to be a member
        direct = undo.enter_context(address.open_member(*options.member, later)) if options.member else None
        connection = _connection(options, address, client, direct)
        with explained(address, options):
            _check_primary(client, address)
            check_seeds(client, address)
            if options.member:
                _check_member(client, address, options.member)
            _check_use(connection)
            version = str(client.server_info()["version"])
        undo.pop_all()
    return connection._replace(servers=(f"MongoDB {version}",))


def _connection(
    options: MongoOptions, address: MongoAddress, client: DriverClient, direct: DriverClient | None
) -> MongoConnection:
    timeout_s = client.options.pool_options.socket_timeout or options.timeout_s
    patience_ms = max(1, int(timeout_s * WTIMEOUT_FRACTION * 1000))
    writes = _collection(options, client).with_options(write_concern=_write_concern(options, client, patience_ms))
    reads = _reads(options, direct or client)
    read_from = options.read_from or reads.read_preference.name.lower()
    return MongoConnection(address, client, PrimaryNode(client), direct, writes, reads, read_from, patience_ms)


def _collection(options: MongoOptions, client: DriverClient) -> Collection[Document]:
    try:
        return client[options.db][options.coll]
    except driver.InvalidName as error:
        raise BadAddress(f"--db {options.db!r} --coll {options.coll!r}: {error}") from None


def _reads(options: MongoOptions, client: DriverClient) -> Collection[Document]:
    return _collection(options, client).with_options(
        read_concern=ReadConcern(options.read_concern) if options.read_concern else client.read_concern,
        # A single member has to answer whatever its state is.
        read_preference=ReadPreference.SECONDARY_PREFERRED if options.member else client.read_preference,
    )


def _write_concern(options: MongoOptions, client: DriverClient, patience_ms: int) -> WriteConcern:
    """Return the write concern; w is always explicit, since the server's own default is majority from 5.0 on."""
    settings = {"w": 1, "wtimeout": patience_ms, **client.write_concern.document}
    if options.write_concern is not None:
        settings["w"] = int(options.write_concern) if options.write_concern.isdecimal() else options.write_concern
    if options.journal is not None:
        settings["j"] = options.journal
    if not settings["w"]:
        raise BadAddress("w=0 in --mongo-uri: such writes are never acknowledged, so nothing can be measured; use w=1")
    return WriteConcern(**settings)


def _check_settings(options: MongoOptions, address: MongoAddress) -> None:
    """Raise `BadAddress` for settings of the URI that contradict the options."""
    given = [name for name in _CHOOSING if name.lower() in address.settings]
    if given and options.member:
        raise ignored_settings(", ".join(given))
    size = address.settings.get("maxpoolsize")
    if isinstance(size, int) and 0 < size < options.sessions:  # 0 is no limit
        raise small_pool(size, options.sessions)


def _check_primary(client: DriverClient, address: MongoAddress) -> None:
    try:
        client.admin.command("ping")
    except driver.ServerSelectionTimeoutError:
        raise no_primary(client.topology_description, address) from None
    if client.topology_description.topology_type_name == "Single":
        raise one_server(client)


def _check_member(client: DriverClient, address: MongoAddress, server: tuple[str, int]) -> None:
    """Check a server to read from before it gets the user and the password; raise a `ClientError`."""
    member = node_name(server)
    try:
        with address.open_stranger(*server) as stranger:
            hello = stranger.admin.command("hello")
    except driver.ServerSelectionTimeoutError as error:
        raise no_member(member, error) from None
    wanted = client.topology_description.replica_set_name
    if hello.get("setName") != wanted:
        raise other_set(member, hello.get("setName"), wanted)
    if hello.get("arbiterOnly"):
        raise arbiter(member)
    known = set(client.topology_description.server_descriptions())
    if not (_names(known, server) or _names(_configured(client), server)):
        raise not_a_member(member, known)


def _names(known: Iterable[Server], server: tuple[str, int]) -> bool:
    """Return whether a server is one of those known, by its name or by an address to which both names resolve."""
    host, port = server
    same_port = {name.lower() for name, of in known if of == port}
    return host.lower() in same_port or any(_addresses(name, port) & _addresses(host, port) for name in same_port)


def _addresses(host: str, port: int) -> set[str]:
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return set()


def _configured(client: DriverClient) -> list[Server]:
    """Return the members in the set's configuration, hidden ones too; nothing if the user may not see it."""
    try:
        config = client.admin.command("replSetGetConfig")["config"]
    except driver.OperationFailure:
        return []
    return [member_address(member["host"]) for member in config["members"]]


def _check_use(connection: MongoConnection) -> None:
    """Check that a run may use the collection; a right that only this check needs may be missing."""
    refusal: driver.OperationFailure | None = None
    try:
        check_collection(connection.writes)
    except driver.OperationFailure as error:
        if error.code != _UNAUTHORIZED:
            raise
        refusal = error
    _check_rights(connection)
    if refusal is not None:
        log.warning("%s", unchecked(connection.writes.full_name, refusal))


def _check_rights(connection: MongoConnection) -> None:
    """Try every operation of a run in a form that changes nothing, so that a missing right shows before the run."""
    for attempt in _HARMLESS:
        try:
            attempt(connection)
        except (driver.WTimeoutError, driver.ExecutionTimeout):
            continue  # the user has the right; followers are missing, which may be the point of the run
        except driver.WriteError:
            continue  # the user has the right, and the server then refused the document


_ABSENT = {"_id": "stalewatch-no-such-key"}

_HARMLESS: tuple[Callable[[MongoConnection], object], ...] = (
    lambda connection: connection.reads.find_one(_ABSENT, max_time_ms=connection.patience_ms),
    lambda connection: connection.writes.update_one(_ABSENT, {"$max": {"d": {"v": 0}}}),
    lambda connection: connection.writes.delete_one(_ABSENT),
    # Refused after the rights were checked, since an _id cannot be an array.
    lambda connection: connection.writes.insert_one({"_id": []}),
)
