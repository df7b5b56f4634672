"""MongoDB: registers, counters and lists as documents of a collection.

The key is the ``_id``; the value is one embedded document ``d``, with its version ``v`` first. A key ``DOCUMENT#NAME``
stands for the embedded document ``NAME`` in a document of several registers. A write is a ``$max`` on ``d``: MongoDB
compares documents field by field, so a write with a version below the stored one changes nothing, however late it
arrives. A draw is an ``$inc`` that returns the new number.

A list is one document per item, and one that heads it. An array in one document would be rewritten by every ``$push``,
serialize all sessions and end at 16 MB. The ``_id`` is the list's name and the item, so an item can exist only once,
and the items of a list are adjacent in the index that every collection has.
"""

from collections.abc import Sequence

import pymongo
from pymongo import ReturnDocument
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from stalewatch.clients.errors import ClientError, Failure
from stalewatch.clients.mongodb.address import Document, node_name
from stalewatch.clients.mongodb.connection import MongoConnection, connect
from stalewatch.clients.mongodb.diagnosis import explained
from stalewatch.clients.mongodb.errors import PERMANENT, explain
from stalewatch.clients.mongodb.options import MongoOptions
from stalewatch.clients.mongodb.reading import MongoReads, read_document, reads
from stalewatch.clients.preload import batches, key_exists, removed_on_failure
from stalewatch.clients.protocol import DOCUMENT_SEPARATOR, Answer, Levels, Value
from stalewatch.history.clock import Clock
from stalewatch.history.operation import Depends, Outcome

BATCH_S = 30.0
"""The longest time that one batch of creations or deletions may take."""

LIST_HEAD: Document = {"final_reads": 0}
"""The content of the document that heads a list."""

ITEMS_PER_ANSWER = 10_000
"""Items fetched at a time, so that each answer arrives in time however long the list is."""

_DUPLICATE_KEY = 11000


class MongoDatabaseClient:
    """One process's access to one collection of a replica set; it connects in `prepare`."""

    database = "mongo"
    permanent_errors = PERMANENT

    def __init__(self, options: MongoOptions, clock: Clock) -> None:
        self.clock = clock
        self._options = options
        self._opened: MongoConnection | None = None
        self._retries = bool(options.retries)

    def prepare(self) -> None:
        """Connect, and check that documents can be written and read; raise `BadAddress` or `Unreachable`."""
        if self._opened is None:
            self._opened = connect(self._options)
            self._retries = self._opened.retries  # the URI may turn them on too

    def preload(self, keys: Sequence[str], payload: str) -> None:
        """Create every key at version 0, journaled by a majority.

        Raises `ClientError` on failure, such as for a key that exists, and removes the keys that it created.
        """
        self._create(keys, {"d": _stored(Value(0, "", payload=payload))}, payload)

    def create_documents(self, documents: Sequence[str], registers: Sequence[str], payload: str) -> None:
        """Create documents of several registers, as `preload` creates keys."""
        self._create(documents, {name: _stored(Value(0, "", payload=payload)) for name in registers}, payload)

    def create_lists(self, keys: Sequence[str]) -> None:
        """Create empty lists, as `preload` creates keys."""
        self._create(keys, LIST_HEAD)

    def create_counters(self, keys: Sequence[str]) -> None:
        """Create counters at 0, as `preload` creates keys."""
        self._create(keys, {"n": 0})

    def session(self, name: str) -> "MongoSession":
        """Open a session; all sessions share the driver's pool."""
        connection = self._connection
        return MongoSession(connection, reads(connection, self._options, self.clock.now))

    def final(self, key: str) -> Answer:
        """Read the key with a linearizable read from the primary; raise what the driver raises."""
        connection = self._connection
        documents = connection.writes.with_options(
            read_concern=ReadConcern("linearizable"),
            read_preference=ReadPreference.PRIMARY,
        )
        return read_document(documents, key, connection.patience_ms)

    def final_items(self, key: str) -> Answer:
        """Return the items of a list, from the primary; raise what the driver raises.

        Right after writes that one member acknowledged, a majority read alone would return the list as it was before
        them. So it is preceded by a majority write to the list's head: once a majority has that write, it has
        everything that the primary applied before, and the causal session makes the read wait for it. The head is
        created if it is missing: an update that matches nothing proves nothing.
        """
        connection = self._connection
        lists = connection.writes.with_options(
            write_concern=WriteConcern("majority", wtimeout=connection.patience_ms),
            read_concern=ReadConcern("majority"),
            read_preference=ReadPreference.PRIMARY,
        )
        with connection.client.start_session(causal_consistency=True) as session:
            lists.update_one({"_id": key}, {"$inc": {"final_reads": 1}}, upsert=True, session=session)
            cursor = lists.find(_items_of(key), {"_id": 1}, session=session, batch_size=ITEMS_PER_ANSWER)
            items: list[str | int] = [document["_id"][len(key) + 1 :] for document in cursor]
        address = cursor.address
        return Answer(node=None if address is None else node_name(address), items=items)

    def explain(self, error: BaseException) -> Failure:
        """Return the outcome of an operation that ended in an exception."""
        return explain(error, retries=self._retries)

    def remove(self, keys: Sequence[str]) -> None:
        """Delete these keys; raise `ClientError` on failure."""
        for batch in batches(keys):
            self._delete({"_id": {"$in": list(batch)}})

    remove_counters = remove

    def remove_documents(self, documents: Sequence[str], registers: Sequence[str]) -> None:
        """Delete these documents; raise `ClientError` on failure."""
        del registers
        self.remove(documents)

    def remove_lists(self, keys: Sequence[str]) -> None:
        """Delete these lists; raise `ClientError` on failure."""
        for key in keys:
            self._delete(_items_of(key))
        self.remove(keys)

    def settings(self) -> dict[str, object]:
        """Return the levels and the driver's settings in force, without credentials, for reports."""
        return self._connection.settings()

    def levels(self) -> Levels:
        """Return the write concern, and the read preference with the read concern if there is one."""
        return self._connection.levels()

    def close(self) -> None:
        """Close the connections."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @property
    def _connection(self) -> MongoConnection:
        if self._opened is None:
            raise RuntimeError("MongoDatabaseClient: call prepare() first")
        return self._opened

    def _create(self, keys: Sequence[str], body: Document, payload: str = "") -> None:
        connection = self._connection
        documents = connection.writes.with_options(write_concern=WriteConcern("majority", j=True))
        with removed_on_failure(self.remove) as created:
            for batch in batches(keys, payload):
                with explained(connection.address, self._options), pymongo.timeout(BATCH_S):
                    _insert(documents, batch, body, created)

    def _delete(self, query: Document) -> None:
        connection = self._connection
        with explained(connection.address, self._options), pymongo.timeout(BATCH_S):
            connection.writes.delete_many(query)


class MongoSession:
    """One simulated user; all sessions of a process share the driver's connections."""

    def __init__(self, connection: MongoConnection, reads: MongoReads) -> None:
        self._reads = reads
        self._causal, self.times = reads.causal, reads.times
        self._writes = connection.writes
        self._update = connection.writes.update_one
        self._primary = connection.primary
        # If the driver retries, an attempt before the one that found no document may have found one.
        self._missing: Outcome = "unknown" if connection.retries else "fail"

    def read(self, key: str) -> Answer:
        """Read a register as the read options say; a missing document counts as version 0."""
        return self._reads.read(key)

    def write(self, key: str, value: Value) -> Answer:
        """Raise a register to the value's version; never re-create a deleted document."""
        answer = None
        try:
            answer = self._raise(key, value)
        finally:
            self._reads.wrote(key, value.version, answer)
        return answer

    def _raise(self, key: str, value: Value) -> Answer:
        before = self._primary.now()
        document, _, field = key.partition(DOCUMENT_SEPARATOR)
        raised = {"$max": {field or "d": _stored(value)}}
        result = self._update({"_id": document}, raised, session=self._causal)
        node = self._primary.since(before)
        if result.matched_count == 0:
            return Answer(self._missing, node=node, error="missing")
        return Answer(version=value.version, node=node, superseded=result.modified_count == 0)

    def append(self, key: str, item: str) -> Answer:
        """Append an item to a list."""
        before = self._primary.now()
        self._writes.insert_one({"_id": f"{key}{_SEPARATOR}{item}"}, session=self._causal)
        return Answer(node=self._primary.since(before))

    def draw(self, key: str) -> Answer:
        """Draw the next id of a counter; never re-create a deleted one."""
        before = self._primary.now()
        counter = self._writes.find_one_and_update(
            {"_id": key}, {"$inc": {"n": 1}}, return_document=ReturnDocument.AFTER, session=self._causal
        )
        node = self._primary.since(before)
        if counter is None:
            return Answer(self._missing, node=node, error="missing")
        return Answer(version=counter["n"], node=node)


def _stored(value: Value) -> Document:
    """Return the value as it is stored: the version comes first, since ``$max`` compares fields in order."""
    stored: Document = {"v": value.version, "author": value.author}
    if value.depends is not None:
        stored["depends"] = _stored_depends(value.depends)
    if value.payload:
        stored["p"] = value.payload
    return stored


def _stored_depends(depends: Depends) -> Document:
    stored: Document = {"key": depends.key, "version": depends.version}
    return stored if depends.cause is None else {**stored, "cause": depends.cause}


_SEPARATOR, _AFTER_SEPARATOR = "/", "0"
"""The character between a list's name and an item in an ``_id``, and the next character."""


def _items_of(key: str) -> Document:
    """Return a query for the items of a list."""
    return {"_id": {"$gt": f"{key}{_SEPARATOR}", "$lt": f"{key}{_AFTER_SEPARATOR}"}}


def _duplicate(refused: Document, documents: Collection[Document]) -> ClientError:
    """Return the error for a key that exists, or for an index of somebody else's that allows no second document."""
    if dict(refused.get("keyPattern", {"_id": 1})) == {"_id": 1}:
        return key_exists(refused["op"]["_id"], documents.full_name, "--coll")
    return ClientError(
        f"a unique index of the collection {documents.full_name} refuses the documents of a run; choose another "
        f"--coll; MongoDB said: {refused['errmsg']}"
    )


def _insert(documents: Collection[Document], keys: Sequence[str], body: Document, created: list[str]) -> None:
    """Insert one document per key, and add those that were inserted to `created`, even if not all were."""
    try:
        documents.insert_many([{"_id": key, **body} for key in keys])
    except BulkWriteError as error:
        created += keys[: error.details["nInserted"]]  # in order, up to the first that failed
        for refused in error.details.get("writeErrors", []):
            if refused["code"] == _DUPLICATE_KEY:
                raise _duplicate(refused, documents) from None
        raise
    created += keys
