"""CouchDB: registers, counters and lists as documents of a database on two leaders that replicate to each other.

A write reads the winning leaf at its leader and replaces it by the new version, so versions rise along every branch of
a document, and a version below the stored one is not written. Two leaders that do so at the same time leave two leaves,
which every later read returns. Likewise two draws from a counter, and both get the same id.
"""

import secrets
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from random import Random
from typing import TypeVar

from stalewatch.clients.couchdb import replication
from stalewatch.clients.couchdb.administration import LeaderAdmin, becomes_true, leader_admins, understood
from stalewatch.clients.couchdb.documents import Documents, LeaderResolver, Leaves, item_id
from stalewatch.clients.couchdb.errors import PERMANENT, explain
from stalewatch.clients.couchdb.http import Connection
from stalewatch.clients.couchdb.options import CouchOptions
from stalewatch.clients.couchdb.reading import reads, register_of
from stalewatch.clients.couchdb.setup import READY_S, set_up
from stalewatch.clients.couchdb.tls import context_for
from stalewatch.clients.errors import ClientError, Failure
from stalewatch.clients.preload import batches, key_exists, removed_on_failure
from stalewatch.clients.protocol import DOCUMENT_SEPARATOR, Answer, Body, Levels, PausedReplication, Value
from stalewatch.clients.read_strategies import Reads
from stalewatch.history.clock import Clock
from stalewatch.history.operation import replace

LEADERS_DIFFER = "leaders differ"

T = TypeVar("T")


class CouchClient:
    """One process's access to one database on both leaders; it connects in `prepare`."""

    database = "couch"
    permanent_errors = PERMANENT

    def __init__(self, options: CouchOptions, clock: Clock) -> None:
        self.clock = clock
        self._options = options
        self._admins: list[LeaderAdmin] = []
        self._versions: dict[str, str] = {}
        self._idle: list[tuple[Documents, ...]] = []
        self._opened: list[Documents] = []
        self._payload = ""

    def prepare(self) -> None:
        """Find or create the database and its replication, and check both; raise a `ClientError`."""
        if self._admins:
            return
        self._options.check()
        with ExitStack() as undo:
            undo.callback(self.close)
            self._admins = leader_admins(self._options, self._options.timeout_s)
            with understood(self._admins):
                self._versions = set_up(self._options, self._admins)
            undo.pop_all()

    def preload(self, keys: Sequence[str], payload: str) -> None:
        """Create every key at version 0, and wait until both leaders have it.

        Raises `ClientError` on failure, such as for a key that exists, and removes the keys that it created.
        """
        self._create(keys, _stored(Value(0, "", payload=payload)), payload)

    def create_documents(self, documents: Sequence[str], registers: Sequence[str], payload: str) -> None:
        """Create documents of several registers, as `preload` creates keys."""
        self._create(documents, {name: _stored(Value(0, "", payload=payload)) for name in registers}, payload)

    def create_lists(self, keys: Sequence[str]) -> None:
        """Create empty lists, as `preload` creates keys: a document heads each, so that no other run uses it."""
        self._create(keys, {"list": True})

    def create_counters(self, keys: Sequence[str]) -> None:
        """Create counters at 0, as `preload` creates keys."""
        self._create(keys, {"n": 0})

    def _create(self, keys: Sequence[str], body: Body, payload: str = "") -> None:
        admin, database = self._admins[0], self._options.db
        self._payload = payload
        with removed_on_failure(self.remove) as created, understood(self._admins):
            for batch in batches(keys, payload):
                errors = admin.create(database, [{"_id": key, **body} for key in batch])
                created += [key for key in batch if key not in errors]
                for key, error in errors.items():
                    if error == "conflict":
                        raise key_exists(key, database, "--db")
                    raise ClientError(f"CouchDB at {admin.flag} {admin.leader.node} did not create {key!r}: {error}")
            self._await_everywhere(keys)

    def _await_everywhere(self, keys: Sequence[str]) -> None:
        deadline = time.monotonic() + READY_S
        for admin in self._admins:
            for batch in batches(keys, self._payload):
                if not becomes_true(deadline, self._has_all, admin, batch):
                    raise ClientError(
                        f"replication did not bring the run's keys to {admin.leader.node} within {READY_S:.0f} s: see "
                        "the log of that server"
                    )

    def _has_all(self, admin: LeaderAdmin, keys: Sequence[str]) -> bool:
        return len(admin.live(self._options.db, keys)) >= len(keys)

    def session(self, name: str) -> "CouchSession":
        """Open a session with connections of its own."""
        options = self._options
        routing = Routing(options.write_to, options.read_from, Random(f"{options.seed}/route/{name}"))
        random = Random(f"{options.seed}/reads/{name}")
        leaders = self._documents()
        return CouchSession(leaders, routing, reads(leaders, routing, options, self.clock, random))

    def final(self, key: str) -> Answer:
        """Return all that the leaders hold of a key, once they agree; raise what the connection raises."""
        document, _, name = key.partition(DOCUMENT_SEPARATOR)
        leaves = self.leaves(document)
        if leaves is None:
            return Answer("unknown", error=LEADERS_DIFFER)
        winner, *siblings = (_version(register_of(leaf, name)) for leaf in leaves or [{}])
        return Answer(version=winner, siblings=siblings)

    def final_items(self, key: str) -> Answer:
        """Return the items of a list, once the leaders agree; raise what the connection raises."""
        a, b = self._from_both(lambda documents: documents.items(key))
        return Answer(items=list(a)) if a == b else Answer("unknown", error=LEADERS_DIFFER)

    def leaves(self, key: str) -> Sequence[Body] | None:
        """Return all leaves of a key, the winner first; None while the leaders differ."""
        a, b = self._from_both(lambda documents: documents.read(key))
        if not _agree(a, b):
            return None
        return [] if a is None else a.bodies()

    def _from_both(self, ask: Callable[[Documents], T]) -> list[T]:
        # Each thread takes connections that no other thread uses, and puts them back.
        both = self._idle.pop() if self._idle else self._documents()
        answers = [ask(documents) for documents in both]
        self._idle.append(both)
        return answers

    def resolvers(self) -> Sequence[LeaderResolver]:
        """Open one resolver per leader, each for changes from now on."""
        return [LeaderResolver(documents) for documents in self._documents()]

    def explain(self, error: BaseException) -> Failure:
        """Return the outcome of an operation that ended in an exception."""
        return explain(error)

    def settings(self) -> dict[str, object]:
        """Return the leaders that take writes and answer reads, without credentials, for reports."""
        options, (a, b) = self._options, self._options.leaders
        return {
            "couch_a": a.node,
            "couch_b": b.node,
            "servers": list(self._versions.values()),
            "db": options.db,
            "write_to": options.write_to,
            "read_from": options.read_from,
            "timeout_s": options.timeout_s,
        }

    def levels(self) -> Levels:
        """Return the leaders that take writes, and those that answer reads."""
        return Levels(f"to {self._options.write_to}", f"from {self._options.read_from}")

    def remove(self, keys: Sequence[str]) -> None:
        """Delete these keys at both leaders; raise `ClientError` on failure.

        Repeat until neither shows a leaf: one may still have been on its way to the other.
        """
        deadline = time.monotonic() + READY_S
        with understood(self._admins):
            for batch in batches(keys, self._payload):
                if not becomes_true(deadline, self._all_deleted, batch):
                    raise ClientError(
                        f"keys reappear in {self._options.db} while they are deleted: stop whatever else writes them"
                    )

    remove_counters = remove

    def remove_documents(self, documents: Sequence[str], registers: Sequence[str]) -> None:
        """Delete these documents at both leaders; raise `ClientError` on failure."""
        del registers
        self.remove(documents)

    def remove_lists(self, keys: Sequence[str]) -> None:
        """Delete these lists at both leaders; raise `ClientError` on failure."""
        for key in keys:
            with understood(self._admins):
                found = [admin.items(self._options.db, key) for admin in self._admins]
            self.remove(sorted({item for items in found for item in items}))
        self.remove(keys)

    def paused_replication(self) -> PausedReplication | None:
        """Return what a scheduler says about replication that does not run now; None if all runs, or nothing is known.

        Raises `ClientError`. PouchDB has no scheduler, and tries all the time.
        """
        return replication.paused(replication.directions(self._options, self._admins), self._options.db)

    def leave(self) -> Sequence[str]:
        """Delete our replication documents if so chosen, else return a line about them (raises `ClientError`)."""
        with understood(self._admins):
            return self._leave()

    def _leave(self) -> Sequence[str]:
        options = self._options
        self._admins = self._admins or leader_admins(options, options.timeout_s)
        if not replication.may_configure(self._admins):
            return []
        ours = replication.own_jobs(replication.directions(options, self._admins), options.db)
        if options.remove_replication:
            replication.remove(ours)
        if not ours or options.remove_replication:
            return []
        listed = ", ".join(f"{job.document['_id']} at {job.holder.leader.node}" for job in ours)
        return [
            f"database {options.db} and its replication stay (_replicator: {listed}); --remove-replication deletes it"
        ]

    def _all_deleted(self, keys: Sequence[str]) -> bool:
        """Delete the leaves that either leader shows; return whether there were none."""
        found = {admin: admin.live(self._options.db, keys) for admin in self._admins}
        for admin, leaves in found.items():
            if leaves:
                admin.delete(self._options.db, leaves)
        return not any(found.values())

    def close(self) -> None:
        """Close the connections."""
        for documents in self._opened:
            documents.close()
        for admin in self._admins:
            admin.close()
        self._opened, self._admins, self._idle = [], [], []

    def _documents(self) -> tuple[Documents, ...]:
        options = self._options
        both = tuple(
            Documents(Connection(leader, options.timeout_s, context_for(leader, options.tls)), leader.node, options.db)
            for leader in self._options.leaders
        )
        self._opened += both
        return both


class CouchSession:
    """One simulated user, with a connection to each leader."""

    def __init__(self, leaders: Sequence[Documents], routing: "Routing", reads: Reads) -> None:
        self._leaders = leaders
        self._routing = routing
        self._reads = reads

    def read(self, key: str) -> Answer:
        """Read a register and its siblings as the read options say; a missing document counts as version 0."""
        return self._reads.read(key)

    def write(self, key: str, value: Value) -> Answer:
        """Raise a register to the value's version; never re-create a deleted document."""
        stored, answer = _stored(value), None
        document, _, name = key.partition(DOCUMENT_SEPARATOR)

        def change(present: Body) -> Body | None:
            if register_of(present, name)["v"] >= value.version:
                return None
            return {**present, name: stored} if name else stored

        try:
            answer = self.edit(document, change)
        finally:
            self._reads.wrote(key, value.version, answer)
        return answer

    def append(self, key: str, item: str) -> Answer:
        """Append an item to a list."""
        return self._leaders[self._routing.to_write(key)].create(item_id(key, item), {})

    def draw(self, key: str) -> Answer:
        """Draw the next id of a counter as its leader shows it; never re-create a deleted one."""
        drawn = 0

        def change(present: Body) -> Body:
            nonlocal drawn
            drawn = int(present["n"]) + 1
            # Every edit is unique: equal bodies on equal parents would be taken for the same edit.
            return {"n": drawn, "edit": secrets.token_hex(8)}

        answer = self.edit(key, change)
        return replace(answer, version=drawn) if answer.outcome == "ok" else answer

    def edit(self, key: str, change: Callable[[Body], Body | None]) -> Answer:
        """Replace a document at the leader that takes its writes."""
        return self._leaders[self._routing.to_write(key)].edit(key, change)


def _agree(a: Leaves | None, b: Leaves | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.rev == b.rev and a.siblings.keys() == b.siblings.keys()


def _version(body: Body) -> int:
    return int(body.get("v", 0))


def _stored(value: Value) -> Body:
    """Return the value as it is stored. Author and version make every body unique.

    CouchDB treats equal bodies on equal parents as the same edit, which would hide a conflict.
    """
    stored: Body = {"v": value.version, "author": value.author}
    if value.depends is not None:
        depends = value.depends
        stored["depends"] = {"key": depends.key, "version": depends.version, "cause": depends.cause}
    if value.payload:
        stored["p"] = value.payload
    return stored


A, B = 0, 1
NAMED: Mapping[str, int] = {"a": A, "b": B}


def home(key: str) -> int:
    """Return the leader that a key belongs to: each has half of the keys, the same for every session."""
    return zlib.crc32(key.encode()) & 1


class Routing:
    """One session's choice of the leader for each operation."""

    def __init__(self, write_to: str, read_from: str, random: Random) -> None:
        self._random = random.random
        self._last = A
        self._write_to, self._read_from = write_to, read_from

    def to_write(self, key: str) -> int:
        """Return the leader that takes a write of the key."""
        self._last = self._writer(key)
        return self._last

    def to_read(self, key: str) -> int:
        """Return the leader that answers a read of the key."""
        named = NAMED.get(self._read_from)
        if named is not None:
            return named
        if self._read_from == "both":
            return A if self._random() < 0.5 else B  # noqa: PLR2004 # as for writes
        # With random leaders a key has none of its own; the closest is the one that took the session's last write.
        same = self._last if self._write_to == "both" else self._writer(key)
        return same if self._read_from == "same" else 1 - same

    def _writer(self, key: str) -> int:
        if self._write_to == "both":
            return A if self._random() < 0.5 else B  # noqa: PLR2004 # half and half
        return home(key) if self._write_to == "home" else NAMED[self._write_to]
