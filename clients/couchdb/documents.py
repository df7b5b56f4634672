"""Documents at one leader: reads with conflicting leaves, edits of the winner, lists, and the resolution of conflicts.

CouchDB keeps every leaf of a document's revision tree. A read returns the winner, which is the same at every leader
that knows the same leaves, and names the others in ``_conflicts``, in no particular order.

A list is one document per item. If its items were in one document, two leaders that append at the same time would leave
two leaves, as the conflict workload's baskets do. Separate documents never conflict, so an item that is missing once
the leaders agree is lost.
"""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import quote

from stalewatch.clients.couchdb.errors import CouchError, HTTPStatusError, MalformedAnswer, Unsettled
from stalewatch.clients.couchdb.http import Connection, decoded, encoded
from stalewatch.clients.protocol import Answer, Body, Resolved
from stalewatch.history.operation import replace

CREATED, ACCEPTED = 201, 202
OK, MISSING, CONFLICT = 200, 404, 409
ATTEMPTS = 20
"""How often a read starts over because a leaf has disappeared."""

EDIT_ATTEMPTS = 40
"""How often an edit starts over because another one came first."""

EDIT_S = 20.0
"""How long an edit may go on starting over: with seconds a request, attempts add up to minutes."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.004, 0.2
"""The longest pause after the first conflict, and after any: it doubles with each, so that every edit gets its turn.

Without pauses, of 20 sessions that edit one document, those that lost once start over just when all the others do.
"""

CHANGES = 500
"""Changes requested at a time."""

ITEMS_PER_ANSWER = 10_000
"""Items of a list requested at a time."""

MOST_PAGES = 1000
"""The most pages of a list; one that is longer counts as endless."""

BEGINNING = "0"
"""The sequence number before all changes."""


class Leaves(NamedTuple):
    """The leaves of a document at one leader: the winner's revision and body, and the siblings by revision."""

    rev: str
    body: Body
    siblings: dict[str, Body]

    def bodies(self) -> list[Body]:
        """Return all bodies, the winner's first."""
        return [self.body, *self.siblings.values()]


class Documents:
    """One database at one leader, over one connection."""

    def __init__(self, connection: Connection, node: str, database: str) -> None:
        self.node = node
        self._connection = connection
        self._path = f"/{quote(database, safe='')}/"

    def winner(self, key: str, query: str = "") -> Body | None:
        """Return the winning leaf, including ``_rev`` and the like; None if there is no live one."""
        status, content = self._connection.ask("GET", f"{self._path}{quote(key, safe='')}{query}")
        if status == OK:
            body: Body = decoded(content)
            return body
        if status == MISSING and _document_is_missing(content):
            return None
        raise self._error(status, content)

    def read(self, key: str) -> Leaves | None:
        """Return the winner and its siblings; None if there is no live leaf."""
        for _ in range(ATTEMPTS):
            body = self.winner(key, "?conflicts=true")
            if body is None:
                return None
            revs = body.get("_conflicts")
            siblings = self._siblings(key, revs) if revs else {}
            if len(siblings) == len(revs or ()):
                return Leaves(body["_rev"], stripped(body), siblings)
        raise Unsettled(f"{self.node}: the leaves of {key} change faster than they can be read")

    def edit(self, key: str, change: Callable[[Body], Body | None]) -> Answer:
        """Replace the winner by the result of `change`; do nothing if that is None.

        Starts over after a conflict, up to `EDIT_ATTEMPTS` times and for `EDIT_S` seconds, and then raises `Unsettled`;
        also if an attempt after a conflict fails: its error says nothing about the earlier attempt.
        """
        deadline = time.monotonic() + EDIT_S
        answer, conflicts = self._attempt(key, change), 0
        while answer is None and conflicts < EDIT_ATTEMPTS and time.monotonic() < deadline:
            time.sleep(pause_s(conflicts))
            conflicts += 1
            try:
                answer = self._attempt(key, change)
            except CouchError as error:
                raise Unsettled(f"{error}, after a conflict") from error
            if answer is not None and answer.outcome == "fail":
                return replace(answer, outcome="unknown")
        if answer is None:
            raise Unsettled(f"{self.node}: other edits of {key} came first {conflicts + 1} times")
        return answer

    def _attempt(self, key: str, change: Callable[[Body], Body | None]) -> Answer | None:
        """Read, change and put once; return None if another edit came first."""
        present = self.winner(key)
        if present is None:
            return Answer("fail", node=self.node, error="missing")
        changed = change(stripped(present))
        if changed is None:
            return Answer(node=self.node, superseded=True)
        status = self.put(key, present["_rev"], changed)
        return None if status == CONFLICT else self._written(status)

    def put(self, key: str, rev: str, body: Body) -> int:
        """Replace a leaf by a body and return the status: created, accepted, or a conflict."""
        content = encoded({**body, "_rev": rev})
        status, answer = self._connection.ask("PUT", f"{self._path}{quote(key, safe='')}", content)
        if status in {CREATED, ACCEPTED, CONFLICT}:
            return status
        raise self._error(status, answer)

    def create(self, key: str, body: Body) -> Answer:
        """Create a document that nobody else creates."""
        status, answer = self._connection.ask("PUT", f"{self._path}{quote(key, safe='')}", encoded(body))
        if status in {CREATED, ACCEPTED}:
            return self._written(status)
        raise self._error(status, answer)

    def _written(self, status: int) -> Answer:
        """Return the answer to a write; one accepted without a quorum is lost if the nodes that have it are."""
        return Answer(node=self.node) if status == CREATED else Answer("unknown", node=self.node, error="accepted")

    def items(self, key: str) -> dict[str, object]:
        """Return the items of a list, each with its document's revision."""
        return items_in(key, lambda query: self._get(f"_all_docs{query}"))

    def delete(self, key: str, rev: str) -> None:
        """Delete a leaf; do nothing if the revision is no longer a leaf."""
        status, answer = self._connection.ask("DELETE", f"{self._path}{quote(key, safe='')}?rev={rev}")
        if status not in {OK, ACCEPTED, CONFLICT, MISSING}:
            raise self._error(status, answer)

    def changed(self, since: str, limit: int) -> tuple[list[tuple[str, int]], str]:
        """Return the changes after a sequence number: keys and their numbers of leaves; and the next sequence number.

        Deleted leaves count too. Sequence numbers are opaque text, which is only passed back.
        """
        feed = self._get(f"_changes?style=all_docs&since={quote(since, safe='')}&limit={limit}")
        return [(row["id"], len(row["changes"])) for row in feed["results"]], str(feed["last_seq"])

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _siblings(self, key: str, revs: Sequence[str]) -> dict[str, Body]:
        """Return those of the leaves that still exist."""
        rows = self._get(f"{quote(key, safe='')}?open_revs={quote(encoded(revs).decode(), safe='')}")
        return {row["ok"]["_rev"]: stripped(row["ok"]) for row in rows if "ok" in row}

    def _get(self, path: str) -> Any:  # noqa: ANN401 # JSON
        status, content = self._connection.ask("GET", self._path + path)
        if status != OK:
            raise self._error(status, content)
        return decoded(content)

    def _error(self, status: int, content: bytes) -> HTTPStatusError:
        return HTTPStatusError(status, self.node, content[:200].decode(errors="replace").strip())


def pause_s(conflicts: int) -> float:
    """Return a random pause after so many earlier conflicts, so that competitors do not meet again."""
    return random.uniform(0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**conflicts))


def stripped(body: Body) -> Body:
    """Return the body without the server's own fields."""
    return {name: value for name, value in body.items() if not name.startswith("_")}


def _document_is_missing(content: bytes) -> bool:
    """Return whether a 404 means that the document is missing or deleted, rather than the database."""
    return decoded(content).get("reason") in {"missing", "deleted"}


_SEPARATOR, _LAST = "/", "\ufff0"
"""The character between a list's name and an item in a document's name, and one after all characters of items."""


def item_id(key: str, item: str) -> str:
    """Return the name of an item's document."""
    return f"{key}{_SEPARATOR}{item}"


def items_in(key: str, ask: Callable[[str], Any]) -> dict[str, object]:
    """Return the items of a list, each with its revision; `ask` returns the answer of ``_all_docs`` to a query.

    They come in pages, so that each answer arrives in time however long the list is.
    """
    start, last = item_id(key, ""), quote(encoded(item_id(key, _LAST)).decode(), safe="")
    found: dict[str, object] = {}
    after = start
    for _ in range(MOST_PAGES):
        first = quote(encoded(after).decode(), safe="")
        rows = ask(f"?startkey={first}&endkey={last}&limit={ITEMS_PER_ANSWER}")["rows"]
        found |= {str(row["id"])[len(start) :]: row["value"] for row in rows if str(row["id"]).startswith(start)}
        if len(rows) < ITEMS_PER_ANSWER:
            return found
        after = str(rows[-1]["id"])  # which the next page repeats
    raise MalformedAnswer(f"the list {key} does not end after {MOST_PAGES * ITEMS_PER_ANSWER:,} items")


class LeaderResolver:
    """Resolves the conflicts that one leader knows of.

    The merge replaces the winner, whose revision it names: if a writer has replaced the winner meanwhile, the server
    refuses the merge, and nothing is lost. Only then are the losers deleted, each by its revision: a writer that has
    replaced a loser meanwhile, here or at another leader, leaves a live leaf beside the deleted one, which is merged in
    the next round. A resolver that dies between the two steps leaves losers, which are merged again. Two resolvers at
    two leaders that see the same leaves write the same body on the same parent, which CouchDB treats as the same edit;
    if they see different leaves, their merges conflict, and are merged in turn.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._since = BEGINNING  # if the leader cannot tell the current sequence number, all changes are examined
        with suppress(Exception):
            self._since = documents.changed("now", 1)[1]

    def suspects(self) -> Iterable[str]:
        """Return the keys changed since the last call that have several leaves, including deleted ones."""
        found: dict[str, None] = {}
        while True:
            changes, self._since = self._documents.changed(self._since, CHANGES)
            found |= {key: None for key, leaves in changes if leaves > 1}
            if len(changes) < CHANGES:
                return found

    def resolve(self, key: str, merge: Callable[[Sequence[Body]], Body]) -> Resolved:
        """Replace all leaves of a key by one that holds the result of `merge`."""
        held = self._documents.read(key)
        if held is None or not held.siblings:
            return "single"
        if self._documents.put(key, held.rev, merge(held.bodies())) != CREATED:
            return "disturbed"  # also if it was accepted without a quorum: the losers stay until the merge is safe
        for rev in held.siblings:
            self._documents.delete(key, rev)
        return "merged"

    def close(self) -> None:
        """Close the connection."""
        self._documents.close()
