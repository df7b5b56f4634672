"""Connections to a replica set, proven usable before the first operation."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

import pymongo
from pymongo import errors as driver
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from stalewatch.clients.errors import BadAddress
from stalewatch.clients.mongodb.address import Address, Document, DriverClient, node_names
from stalewatch.clients.mongodb.diagnosis import explained, no_member, no_primary, one_server, other_set
from stalewatch.clients.mongodb.options import MongoClientOptions
from stalewatch.clients.mongodb.primary import PrimaryNode
from stalewatch.clients.protocol import Levels

WTIMEOUT_SHARE = 0.9
"""The part of the time-out after which a server gives up on followers, so that its word still arrives in time."""

_PREFERENCES = {
    "primary": ReadPreference.PRIMARY,
    "secondary": ReadPreference.SECONDARY,
    "nearest": ReadPreference.NEAREST,
}


class Access(NamedTuple):
    """An open way to the registers, at the levels that the options and the URI ask for."""

    address: Address
    client: DriverClient
    primary: PrimaryNode
    direct: DriverClient | None
    """The connection to one member, where all reads go to it."""
    writes: Collection[Document]
    reads: Collection[Document]
    read_from: str
    patience_ms: int
    """How long a server may wait for other members; a little less than its client waits for the answer."""

    @property
    def retries(self) -> bool:
        """Whether the driver may repeat an operation unseen."""
        return bool(self.client.options.retry_writes)

    def settings(self) -> dict[str, object]:
        """Return the levels and the driver's settings in force, without any credentials."""
        driven = self.client.options
        pool = driven.pool_options
        return {
            "hosts": node_names(self.address.hosts),
            "db": self.writes.database.name,
            "coll": self.writes.name,
            "write_concern": self.writes.write_concern.document,
            "read_concern": self.reads.read_concern.level,
            "read_from": self.read_from,
            "retry_writes": driven.retry_writes,
            "retry_reads": driven.retry_reads,
            "socket_timeout_s": pool.socket_timeout,
            "connect_timeout_s": pool.connect_timeout,
            "wait_queue_timeout_s": pool.wait_queue_timeout,
            "server_selection_timeout_s": driven.server_selection_timeout,
            "max_pool_size": pool.max_pool_size,
            "driver": f"pymongo {pymongo.version}",
        }

    def levels(self) -> Levels:
        """Return the write concern and whom reads ask, with the read concern where one is set."""
        concern = self.reads.read_concern.level
        read = self.read_from if concern is None else f"{self.read_from}, {concern}"
        return Levels(f"w={self.writes.write_concern.document.get('w', 1)}", read)

    def close(self) -> None:
        """Drop the connections."""
        if self.direct is not None:
            self.direct.close()
        self.client.close()


def connect(options: MongoClientOptions) -> Access:
    """Connect, and prove that the registers can be written and read; raise `BadAddress` or `Unreachable`."""
    options.check()
    address = Address(options)
    with ExitStack() as undo:
        client = undo.enter_context(address.open())
        direct = undo.enter_context(address.open_member(*options.member)) if options.member else None
        access = _access(options, address, client, direct)
        with explained(address, options):
            _reach(client, address)
            if direct is not None:
                _reach_member(client, direct, access.read_from)
            _try_rights(access)
        undo.pop_all()
    return access


def _access(options: MongoClientOptions, address: Address, client: DriverClient, direct: DriverClient | None) -> Access:
    timeout_s = client.options.pool_options.socket_timeout or options.timeout_s
    patience_ms = max(1, int(timeout_s * WTIMEOUT_SHARE * 1000))
    writes = _registers(options, client).with_options(write_concern=_write_concern(options, client, patience_ms))
    reads = _reads(options, direct or client)
    read_from = options.read_from or reads.read_preference.name.lower()
    return Access(address, client, PrimaryNode(client), direct, writes, reads, read_from, patience_ms)


def _registers(options: MongoClientOptions, client: DriverClient) -> Collection[Document]:
    try:
        return client[options.db][options.coll]
    except driver.InvalidName as error:
        raise BadAddress(f"--db {options.db!r} --coll {options.coll!r}: {error}") from None


def _reads(options: MongoClientOptions, client: DriverClient) -> Collection[Document]:
    preference = _PREFERENCES.get(options.read_from or "", client.read_preference)
    return _registers(options, client).with_options(
        read_concern=ReadConcern(options.read_concern) if options.read_concern else client.read_concern,
        # One member answers whatever it is just then.
        read_preference=ReadPreference.SECONDARY_PREFERRED if options.member else preference,
    )


def _write_concern(options: MongoClientOptions, client: DriverClient, patience_ms: int) -> WriteConcern:
    """Return what must confirm a write: w is always said, since a server's own default is majority from 5.0 on."""
    settings = {"w": 1, "wtimeout": patience_ms, **client.write_concern.document}
    if options.write_concern is not None:
        settings["w"] = int(options.write_concern) if options.write_concern.isdecimal() else options.write_concern
    if options.journal is not None:
        settings["j"] = options.journal
    if not settings["w"]:
        raise BadAddress("w=0 in --mongo-uri: such writes are never confirmed, so nothing could be measured; use w=1")
    return WriteConcern(**settings)


def _reach(client: DriverClient, address: Address) -> None:
    try:
        client.admin.command("ping")
    except driver.ServerSelectionTimeoutError:
        raise no_primary(client.topology_description, address) from None
    if client.topology_description.topology_type_name == "Single":
        raise one_server(client)


def _reach_member(client: DriverClient, direct: DriverClient, member: str) -> None:
    try:
        theirs = direct.admin.command("hello").get("setName")
    except driver.ServerSelectionTimeoutError as error:
        raise no_member(member, error) from None
    ours = client.topology_description.replica_set_name
    if theirs != ours:
        raise other_set(member, theirs, ours)


def _try_rights(access: Access) -> None:
    """Do everything that a run does in a way that changes nothing, so that a missing right shows before it starts."""
    for trial in _TRIALS:
        try:
            trial(access)
        except (driver.WTimeoutError, driver.ExecutionTimeout):
            continue  # the right is there; followers are not, which a run may be about
        except driver.WriteError:
            continue  # so is it where a server lets the user in and then refuses the document


_ABSENT = {"_id": "stalewatch-no-such-key"}

_TRIALS: tuple[Callable[[Access], object], ...] = (
    lambda access: access.reads.find_one(_ABSENT, max_time_ms=access.patience_ms),
    lambda access: access.writes.update_one(_ABSENT, {"$max": {"d": {"v": 0}}}),
    lambda access: access.writes.delete_one(_ABSENT),
    # Refused after the rights were looked at, since no _id can be a list.
    lambda access: access.writes.insert_one({"_id": []}),
)
