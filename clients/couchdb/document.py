"""Documents at one leader: the winner that a read shows, the conflicting leaves beside it, and edits of the winner.

CouchDB keeps every leaf of a document's tree of revisions. A read shows one, the same at every leader that knows the
same leaves, and names the others in ``_conflicts``, in no particular order.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import quote

from stalewatch.clients.couchdb import lists as couchdb_lists
from stalewatch.clients.couchdb.errors import CouchError, Refused, Unsettled
from stalewatch.clients.couchdb.http import Connection, decoded, encoded
from stalewatch.clients.protocol import Answer, Body
from stalewatch.history.operation import replace

CREATED, ACCEPTED = 201, 202
OK, MISSING, CONFLICT = 200, 404, 409
ATTEMPTS = 20
"""How often an edit begins anew because somebody else's came first, and a read because a leaf is no more."""


class Held(NamedTuple):
    """What a leader holds of a key: the winner's revision and body, and the conflicting leaves by revision."""

    rev: str
    body: Body
    siblings: dict[str, Body]


class Documents:
    """One database at one leader, over one connection."""

    def __init__(self, connection: Connection, node: str, database: str) -> None:
        self.node = node
        self._connection = connection
        self._path = f"/{quote(database, safe='')}/"

    def winner(self, key: str, query: str = "") -> Body | None:
        """Return the winning leaf as the server shows it, ``_rev`` and all; None where there is no live one."""
        status, content = self._connection.ask("GET", f"{self._path}{quote(key, safe='')}{query}")
        if status == OK:
            body: Body = decoded(content)
            return body
        if status == MISSING and _absent(content):
            return None
        raise self._refused(status, content)

    def read(self, key: str) -> Held | None:
        """Return the winner and its siblings; None where there is no live leaf."""
        for _ in range(ATTEMPTS):
            body = self.winner(key, "?conflicts=true")
            if body is None:
                return None
            revs = body.get("_conflicts")
            siblings = self._leaves(key, revs) if revs else {}
            if len(siblings) == len(revs or ()):
                return Held(body["_rev"], stripped(body), siblings)
        raise Unsettled(f"{self.node}: the leaves of {key} change faster than they can be read")

    def edit(self, key: str, change: Callable[[Body], Body | None]) -> Answer:
        """Replace the winner by what `change` makes of it; None from it means that nothing is to be done.

        Raises `Unsettled` where what ends it says nothing of an earlier attempt, which a conflict had ended.
        """
        answer = self._attempt(key, change)
        for _ in range(ATTEMPTS):
            if answer is not None:
                return answer
            try:
                answer = self._attempt(key, change)
            except CouchError as error:
                raise Unsettled(f"{error}, after a conflict") from error
            if answer is not None and answer.outcome == "fail":
                return replace(answer, outcome="unknown")
        raise Unsettled(f"{self.node}: {key} changed {ATTEMPTS} times before it could be edited")

    def _attempt(self, key: str, change: Callable[[Body], Body | None]) -> Answer | None:
        """Read, change and put once; None where somebody else's edit came first."""
        present = self.winner(key)
        if present is None:
            return Answer("fail", node=self.node, error="missing")
        changed = change(stripped(present))
        if changed is None:
            return Answer(node=self.node, superseded=True)
        status = self.put(key, present["_rev"], changed)
        if status == ACCEPTED:  # without a quorum: the write may be gone when those that took it are
            return Answer("unknown", node=self.node, error="accepted")
        return Answer(node=self.node) if status == CREATED else None

    def put(self, key: str, rev: str, body: Body) -> int:
        """Put a body in the place of a leaf and return the status: created, accepted, or a conflict."""
        content = encoded({**body, "_rev": rev})
        status, told = self._connection.ask("PUT", f"{self._path}{quote(key, safe='')}", content)
        if status in {CREATED, ACCEPTED, CONFLICT}:
            return status
        raise self._refused(status, told)

    def create(self, key: str, body: Body) -> Answer:
        """Create a document that nobody else creates."""
        status, told = self._connection.ask("PUT", f"{self._path}{quote(key, safe='')}", encoded(body))
        if status == ACCEPTED:
            return Answer("unknown", node=self.node, error="accepted")
        if status == CREATED:
            return Answer(node=self.node)
        raise self._refused(status, told)

    def items(self, key: str) -> dict[str, object]:
        """Return the items of a list, each with its document's revision."""
        status, content = self._connection.ask("GET", f"{self._path}_all_docs{couchdb_lists.query(key)}")
        if status != OK:
            raise self._refused(status, content)
        return couchdb_lists.items(key, decoded(content)["rows"])

    def delete(self, key: str, rev: str) -> None:
        """End a leaf; one that is no leaf any more is left as it is."""
        status, told = self._connection.ask("DELETE", f"{self._path}{quote(key, safe='')}?rev={rev}")
        if status not in {OK, ACCEPTED, CONFLICT, MISSING}:
            raise self._refused(status, told)

    def changed(self, since: str, limit: int) -> tuple[list[tuple[str, int]], str]:
        """Return what changed after a sequence number: keys and how many leaves each has; and the number to go on from.

        Deleted leaves count too. Sequence numbers are the server's own words: text that is only given back.
        """
        query = f"?style=all_docs&since={quote(since, safe='')}&limit={limit}"
        status, content = self._connection.ask("GET", f"{self._path}_changes{query}")
        if status != OK:
            raise self._refused(status, content)
        feed = decoded(content)
        return [(row["id"], len(row["changes"])) for row in feed["results"]], str(feed["last_seq"])

    def close(self) -> None:
        """Drop the connection."""
        self._connection.close()

    def _leaves(self, key: str, revs: Sequence[str]) -> dict[str, Body]:
        """Return those of the leaves that still are there."""
        asked = quote(encoded(revs).decode(), safe="")
        status, content = self._connection.ask("GET", f"{self._path}{quote(key, safe='')}?open_revs={asked}")
        if status != OK:
            raise self._refused(status, content)
        return {row["ok"]["_rev"]: stripped(row["ok"]) for row in decoded(content) if "ok" in row}

    def _refused(self, status: int, content: bytes) -> Refused:
        return Refused(status, self.node, content[:200].decode(errors="replace").strip())


def stripped(body: Body) -> Body:
    """Return the body without what the server says about it."""
    return {name: value for name, value in body.items() if not name.startswith("_")}


def _absent(content: bytes) -> bool:
    """Tell a document that is missing or deleted from a database that is."""
    return decoded(content).get("reason") in {"missing", "deleted"}
