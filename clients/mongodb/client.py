"""MongoDB: registers and counters as documents of a replica set, lists as many of them.

The key is the ``_id``; the value stands in one embedded document ``d``, its version ``v`` first. A write is a ``$max``
on ``d``: MongoDB compares documents field by field, so a write with a version below the one that stands changes
nothing, however late it arrives. A draw is an ``$inc`` that returns what it made. How lists are kept stands in
`stalewatch.clients.mongodb.lists`, what an exception means in `stalewatch.clients.mongodb.errors`.
"""

from collections.abc import Iterator, Sequence

import pymongo
from pymongo import ReturnDocument
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from stalewatch.clients.errors import ClientError, Failure
from stalewatch.clients.mongodb import lists as mongodb_lists
from stalewatch.clients.mongodb.address import Document, node_name
from stalewatch.clients.mongodb.connection import Access, connect
from stalewatch.clients.mongodb.diagnosis import explained
from stalewatch.clients.mongodb.errors import explain
from stalewatch.clients.mongodb.options import MongoClientOptions
from stalewatch.clients.protocol import Answer, Levels, Value
from stalewatch.history.clock import Clock
from stalewatch.history.operation import Depends, Outcome

BATCH_KEYS = 1000
BATCH_CHARACTERS = 1_000_000
BATCH_S = 30.0
"""How much a batch of the preload or of the cleaning up may hold, and how many seconds it may take."""

_DUPLICATE_KEY = 11000


class MongoDatabaseClient:
    """One process's access to the registers in one collection of a replica set; it connects in `prepare`."""

    database = "mongo"

    def __init__(self, options: MongoClientOptions, clock: Clock) -> None:
        self.clock = clock
        self._options = options
        self._opened: Access | None = None
        self._retries = bool(options.retries)

    def prepare(self) -> None:
        """Connect, and prove that registers can be written and read; raise `BadAddress` or `Unreachable`."""
        if self._opened is None:
            self._opened = connect(self._options)
            self._retries = self._opened.retries  # the URI may ask for them too

    def preload(self, keys: Sequence[str], payload: str) -> None:
        """Create every key at version 0, journalled by a majority.

        Raises `ClientError` where that fails, such as for a key that exists, and takes back what it had created.
        """
        self._create_all(keys, {"d": _stored(Value(0, "", payload=payload))}, BATCH_CHARACTERS // (len(payload) + 1))

    def create_lists(self, keys: Sequence[str]) -> None:
        """Create empty lists, as `preload` does keys."""
        self._create_all(keys, mongodb_lists.HEAD)

    def create_counters(self, keys: Sequence[str]) -> None:
        """Create counters at 0, as `preload` does keys."""
        self._create_all(keys, {"n": 0})

    def session(self, name: str) -> "MongoSession":
        """Open a session; the driver's pool is shared by all."""
        return MongoSession(name, self._access)

    def final(self, key: str) -> Answer:
        """Read what the key holds, linearizably, from the primary; raise what the driver raises."""
        access = self._access
        registers = access.writes.with_options(
            read_concern=ReadConcern("linearizable"),
            read_preference=ReadPreference.PRIMARY,
        )
        return _read(registers, key, access.patience_ms)

    def final_items(self, key: str) -> Answer:
        """Read all that a list holds, once a majority has it; raise what the driver raises."""
        return mongodb_lists.final(self._access, key)

    def explain(self, error: BaseException) -> Failure:
        """Say what an exception means for the operation that it ended."""
        return explain(error, retries=self._retries)

    def remove(self, keys: Sequence[str]) -> None:
        """Delete these keys; raise `ClientError` where that fails."""
        access = self._access
        for batch in _batches(keys, BATCH_KEYS):
            with explained(access.address, self._options), pymongo.timeout(BATCH_S):
                access.writes.delete_many({"_id": {"$in": list(batch)}})

    remove_counters = remove

    def remove_lists(self, keys: Sequence[str]) -> None:
        """Delete these lists; raise `ClientError` where that fails."""
        access = self._access
        for key in keys:
            with explained(access.address, self._options), pymongo.timeout(BATCH_S):
                access.writes.delete_many(mongodb_lists.items_of(key))
        self.remove(keys)

    def settings(self) -> dict[str, object]:
        """Return the levels and the driver's settings in force, without any credentials, for reports."""
        return self._access.settings()

    def levels(self) -> Levels:
        """Return the write concern and whom reads ask, with the read concern where one is set."""
        return self._access.levels()

    def close(self) -> None:
        """Drop the connections."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @property
    def _access(self) -> Access:
        if self._opened is None:
            raise RuntimeError("MongoDatabaseClient: call prepare() first")
        return self._opened

    def _create_all(self, keys: Sequence[str], body: Document, at_a_time: int = BATCH_KEYS) -> None:
        created: list[str] = []
        try:
            for batch in _batches(keys, at_a_time):
                self._create(batch, body, created)
        except ClientError as failure:
            self._take_back(created, failure)
            raise

    def _create(self, keys: Sequence[str], body: Document, created: list[str]) -> None:
        access = self._access
        registers = access.writes.with_options(write_concern=WriteConcern("majority", j=True))
        documents = [{"_id": key, **body} for key in keys]
        with explained(access.address, self._options), pymongo.timeout(BATCH_S):
            try:
                registers.insert_many(documents)
            except BulkWriteError as error:
                created += keys[: error.details["nInserted"]]  # in order, up to the first that failed
                _refuse_existing(error, registers)
                raise
        created += keys

    def _take_back(self, keys: Sequence[str], failure: ClientError) -> None:
        try:
            self.remove(keys)
        except ClientError as error:
            failure.add_note(f"{len(keys)} keys that were created just before are left behind: {error}")


class MongoSession:
    """One simulated user; sessions of a process share the driver's connections."""

    def __init__(self, name: str, access: Access) -> None:
        self.name = name
        self._reads = access.reads
        self._writes = access.writes
        self._update = access.writes.update_one
        self._primary = access.primary
        # Such a read waits for a majority, and must not wait beyond its time.
        self._patience_ms = access.patience_ms if access.reads.read_concern.level == "linearizable" else None
        # An attempt that the driver made before the one that found no document may have found one.
        self._missing: Outcome = "unknown" if access.retries else "fail"

    def read(self, key: str) -> Answer:
        """Read a register as the read options say; no document shows as version 0."""
        return _read(self._reads, key, self._patience_ms)

    def write(self, key: str, value: Value) -> Answer:
        """Raise a register to the value's version; one whose document is gone is not brought back."""
        before = self._primary.now()
        result = self._update({"_id": key}, {"$max": {"d": _stored(value)}})
        node = self._primary.since(before)
        if result.matched_count == 0:
            return Answer(self._missing, node=node, error="missing")
        return Answer(version=value.version, node=node, superseded=result.modified_count == 0)

    def append(self, key: str, item: str) -> Answer:
        """Append an item to a list."""
        before = self._primary.now()
        self._writes.insert_one(mongodb_lists.item_of(key, item))
        return Answer(node=self._primary.since(before))

    def draw(self, key: str) -> Answer:
        """Draw the next id of a counter; one whose document is gone is not begun anew."""
        before = self._primary.now()
        counter = self._writes.find_one_and_update(
            {"_id": key}, {"$inc": {"n": 1}}, return_document=ReturnDocument.AFTER
        )
        node = self._primary.since(before)
        if counter is None:
            return Answer(self._missing, node=node, error="missing")
        return Answer(version=counter["n"], node=node)


def _read(registers: Collection[Document], key: str, patience_ms: int | None) -> Answer:
    cursor = registers.find({"_id": key}, limit=-1, max_time_ms=patience_ms)
    document = next(cursor, None)
    address = cursor.address
    node = None if address is None else node_name(address)
    if document is None:
        return Answer(version=0, node=node)
    value = document["d"]
    depends = value.get("depends")
    return Answer(version=value["v"], node=node, depends=None if depends is None else Depends(**depends))


def _stored(value: Value) -> Document:
    """Return the value as it is stored: the version comes first, since ``$max`` compares in the order of fields."""
    stored: Document = {"v": value.version, "author": value.author}
    if value.depends is not None:
        stored["depends"] = _depends(value.depends)
    if value.payload:
        stored["p"] = value.payload
    return stored


def _depends(depends: Depends) -> Document:
    stored: Document = {"key": depends.key, "version": depends.version}
    return stored if depends.cause is None else {**stored, "cause": depends.cause}


def _batches(keys: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    step = min(BATCH_KEYS, max(1, size))
    return (keys[start : start + step] for start in range(0, len(keys), step))


def _refuse_existing(error: BulkWriteError, registers: Collection[Document]) -> None:
    for refused in error.details.get("writeErrors", []):
        if refused["code"] == _DUPLICATE_KEY:
            raise ClientError(
                f"key {refused['op']['_id']!r} exists already in {registers.full_name}: another run's leftovers; "
                "delete them, or use another --coll",
            ) from None
