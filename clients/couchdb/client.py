"""CouchDB: registers and counters as documents of a database on two leaders that replicate to each other.

A write reads the winning leaf at its leader and puts the new version in its place, so versions rise along every branch
of a document, and a version below the one that stands is not written. Two leaders that do so at the same time leave two
leaves, which every read then shows. So do two draws from a counter, and both get the same id. How lists are kept stands
in `stalewatch.clients.couchdb.lists`, what an answer or an exception means in `stalewatch.clients.couchdb.errors`.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import TypeVar

from stalewatch.clients.couchdb import lists as couchdb_lists
from stalewatch.clients.couchdb.administration import Administration
from stalewatch.clients.couchdb.document import Documents, Held
from stalewatch.clients.couchdb.errors import explain
from stalewatch.clients.couchdb.http import Connection
from stalewatch.clients.couchdb.options import CouchClientOptions
from stalewatch.clients.couchdb.resolver import LeaderResolver
from stalewatch.clients.couchdb.routing import Routing
from stalewatch.clients.couchdb.setup import READY_S, set_up
from stalewatch.clients.errors import ClientError, Failure
from stalewatch.clients.protocol import Answer, Body, Levels, Value
from stalewatch.history.clock import Clock
from stalewatch.history.operation import Depends, replace

BATCH_KEYS = 1000
BATCH_CHARACTERS = 1_000_000
"""How much a batch of the preload or of the cleaning up may hold."""

_POLL_S = 0.05

T = TypeVar("T")


class CouchClient:
    """One process's access to the registers in one database; it connects in `prepare`."""

    database = "couch"

    def __init__(self, options: CouchClientOptions, clock: Clock) -> None:
        self.clock = clock
        self._options = options
        self._leaders = dict(zip(("--couch-a", "--couch-b"), options.leaders, strict=True))
        self._administrations: list[Administration] = []
        self._versions: dict[str, str] = {}
        self._idle: list[tuple[Documents, ...]] = []
        self._opened: list[Documents] = []

    def prepare(self) -> None:
        """Find or make the database and its replication, and prove both; raise a `ClientError`."""
        if self._administrations:
            return
        options = self._options
        options.check()
        self._administrations = [Administration(flag, one, options.timeout_s) for flag, one in self._leaders.items()]
        try:
            self._versions = set_up(options, self._administrations)
        except BaseException:
            self.close()
            raise

    def preload(self, keys: Sequence[str], payload: str) -> None:
        """Create every key at version 0, and wait until both leaders have it.

        Raises `ClientError` where that fails, such as for a key that exists, and takes back what it had created.
        """
        self._create(keys, _stored(Value(0, "", payload=payload)), BATCH_CHARACTERS // (len(payload) + 1))

    def create_lists(self, keys: Sequence[str]) -> None:
        """Create empty lists, as `preload` does keys: each is headed by a document, so that no other run takes it."""
        self._create(keys, {"list": True})

    def create_counters(self, keys: Sequence[str]) -> None:
        """Create counters at 0, as `preload` does keys."""
        self._create(keys, {"n": 0})

    def _create(self, keys: Sequence[str], body: Body, at_a_time: int = BATCH_KEYS) -> None:
        first = self._administrations[0]
        created: list[str] = []
        try:
            for batch in _batches(keys, at_a_time):
                existing = first.create(self._options.db, [{"_id": key, **body} for key in batch])
                created += [key for key in batch if key not in existing]
                if existing:
                    raise ClientError(
                        f"key {existing[0]!r} exists already in {self._options.db}: another run's leftovers; "
                        "delete them, or use another --db"
                    )
            self._await_everywhere(keys)
        except ClientError:
            self.remove(created)
            raise

    def _await_everywhere(self, keys: Sequence[str]) -> None:
        deadline = time.monotonic() + READY_S
        for leader in self._administrations:
            for batch in _batches(keys, BATCH_KEYS):
                while len(leader.live(self._options.db, batch)) < len(batch):
                    if time.monotonic() > deadline:
                        raise ClientError(
                            f"replication did not bring the run's keys to {leader.leader.node} within {READY_S:.0f} s"
                        )
                    time.sleep(_POLL_S)

    def session(self, name: str) -> "CouchSession":
        """Open a session with connections of its own."""
        options = self._options
        routing = Routing(options.write_to, options.read_from, Random(f"{options.seed}/route/{name}"))
        return CouchSession(self._documents(), routing)

    def final(self, key: str) -> Answer:
        """Return all that the leaders hold of a key, once they hold the same; raise what the connection raises."""
        leaves = self.leaves(key)
        if leaves is None:
            return Answer("unknown", error="leaders differ")
        winner, *siblings = (_version(leaf) for leaf in leaves or [{}])
        return Answer(version=winner, siblings=siblings)

    def final_items(self, key: str) -> Answer:
        """Return the items of a list, once the leaders hold the same; raise what the connection raises."""
        a, b = self._of_both(lambda documents: documents.items(key))
        return Answer(items=list(a)) if a == b else Answer("unknown", error="leaders differ")

    def _of_both(self, ask: Callable[[Documents], T]) -> list[T]:
        # Each thread takes connections that nobody else uses, and puts them back.
        both = self._idle.pop() if self._idle else self._documents()
        answers = [ask(documents) for documents in both]
        self._idle.append(both)
        return answers

    def leaves(self, key: str) -> Sequence[Body] | None:
        """Return all that the leaders hold of a key, the winner first; None while they do not agree."""
        a, b = self._of_both(lambda documents: documents.read(key))
        if not _agree(a, b):
            return None
        return [] if a is None else [a.body, *a.siblings.values()]

    def resolvers(self) -> Sequence[LeaderResolver]:
        """Open a resolver a leader, each for what happens from now on."""
        return [LeaderResolver(documents) for documents in self._documents()]

    def explain(self, error: BaseException) -> Failure:
        """Say what an exception means for the operation that it ended."""
        return explain(error)

    def settings(self) -> dict[str, object]:
        """Return who is written to and read from, without any credentials, for reports."""
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
        """Return which leaders take writes, and which answer reads."""
        return Levels(f"to {self._options.write_to}", f"from {self._options.read_from}")

    def remove(self, keys: Sequence[str]) -> None:
        """Delete these keys at both leaders; raise `ClientError` where that fails.

        Both are looked at again until neither shows a leaf: one may still have been on its way to the other.
        """
        deadline = time.monotonic() + READY_S
        for batch in _batches(keys, BATCH_KEYS):
            while self._delete(batch):
                if time.monotonic() > deadline:
                    raise ClientError(f"keys come back at {self._options.db} while they are deleted: who writes them?")
                time.sleep(_POLL_S)

    remove_counters = remove

    def remove_lists(self, keys: Sequence[str]) -> None:
        """Delete these lists at both leaders; raise `ClientError` where that fails."""
        for key in keys:
            found = [leader.items(self._options.db, key) for leader in self._administrations]
            self.remove(sorted({item for items in found for item in items}))
        self.remove(keys)

    def _delete(self, keys: Sequence[str]) -> bool:
        """Delete what is there; return whether there was anything."""
        found = False
        for leader in self._administrations:
            leaves = leader.live(self._options.db, keys)
            if leaves:
                leader.delete(self._options.db, leaves)
                found = True
        return found

    def close(self) -> None:
        """Drop the connections."""
        for documents in self._opened:
            documents.close()
        self._opened.clear()
        for administration in self._administrations:
            administration.close()
        self._idle.clear()
        self._administrations = []

    def _documents(self) -> tuple[Documents, ...]:
        options = self._options
        both = tuple(
            Documents(Connection(leader, options.timeout_s), leader.node, options.db)
            for leader in self._leaders.values()
        )
        self._opened += both
        return both


class CouchSession:
    """One simulated user, with a connection to each leader."""

    def __init__(self, leaders: Sequence[Documents], routing: Routing) -> None:
        self._leaders = leaders
        self._routing = routing

    def read(self, key: str) -> Answer:
        """Read a register and its siblings; no document shows as version 0."""
        documents = self._leaders[self._routing.to_read(key)]
        held = documents.read(key)
        if held is None:
            return Answer(version=0, node=documents.node, siblings=[])
        depends = held.body.get("depends")
        return Answer(
            version=_version(held.body),
            node=documents.node,
            siblings=[_version(sibling) for sibling in held.siblings.values()],
            depends=None if depends is None else Depends(**depends),
        )

    def write(self, key: str, value: Value) -> Answer:
        """Raise a register to the value's version; one whose document is gone is not brought back."""
        stored = _stored(value)
        return self.edit(key, lambda present: None if _version(present) >= value.version else stored)

    def append(self, key: str, item: str) -> Answer:
        """Append an item to a list."""
        return self._leaders[self._routing.to_write(key)].create(couchdb_lists.item_id(key, item), {})

    def draw(self, key: str) -> Answer:
        """Draw the next id of a counter as its leader shows it; one whose document is gone is not begun anew."""
        drawn = 0

        def change(present: Body) -> Body:
            nonlocal drawn
            drawn = int(present["n"]) + 1
            # Every edit another one: equal ones on equal parents would be taken for the same.
            return {"n": drawn, "edit": secrets.token_hex(8)}

        answer = self.edit(key, change)
        return replace(answer, version=drawn) if answer.outcome == "ok" else answer

    def edit(self, key: str, change: Callable[[Body], Body | None]) -> Answer:
        """Replace a document at the leader that takes writes of it."""
        return self._leaders[self._routing.to_write(key)].edit(key, change)


def _agree(a: Held | None, b: Held | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.rev == b.rev and a.siblings.keys() == b.siblings.keys()


def _version(body: Body) -> int:
    return int(body.get("v", 0))


def _stored(value: Value) -> Body:
    """Return the value as it is stored. Writer and version make every body another one.

    CouchDB takes equal bodies on equal parents for the same edit, which would hide a conflict.
    """
    stored: Body = {"v": value.version, "author": value.author}
    if value.depends is not None:
        depends = value.depends
        stored["depends"] = {"key": depends.key, "version": depends.version, "cause": depends.cause}
    if value.payload:
        stored["p"] = value.payload
    return stored


def _batches(keys: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    step = min(BATCH_KEYS, max(1, size))
    return (keys[start : start + step] for start in range(0, len(keys), step))
