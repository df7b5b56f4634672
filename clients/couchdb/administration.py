"""Set-up and cleaning up at one leader, many documents at a time, with `requests`.

Whatever goes wrong is a `ClientError` with the option that names the server, what it said, and what to do next.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import requests

from stalewatch.clients.couchdb import lists as couchdb_lists
from stalewatch.clients.couchdb.options import PASSWORD, USERNAME, Leader
from stalewatch.clients.errors import ClientError, Unreachable

TIMEOUT_S = 30.0
"""A thousand documents are written in a second or two; a server under load may take longer."""

START_LOCAL = "start local ones with `stalewatch cluster up couch`"

UNAUTHORIZED, FORBIDDEN, MISSING, CONFLICT, EXISTS = 401, 403, 404, 409, 412
_REFUSED = 400


class Leaf(NamedTuple):
    """A live leaf of a document."""

    key: str
    rev: str


class Administration:
    """One leader, asked as its administrator; `flag` is the option that names it."""

    def __init__(self, flag: str, leader: Leader, connect_s: float) -> None:
        self.flag = flag
        self.leader = leader
        self._timeout = (connect_s, TIMEOUT_S)
        self._session = requests.Session()
        self._session.trust_env = False  # the load goes through no proxy either
        if leader.user is not None:
            self._session.auth = (leader.user, leader.password or "")

    def ask(self, method: str, path: str, body: object = None, allowed: Collection[int] = ()) -> Any:  # noqa: ANN401 # JSON
        """Return the JSON of an answer; raise `ClientError` where there is none, or no success and not `allowed`."""
        try:
            answer = self._session.request(method, f"{self.leader.url}/{path}", json=body, timeout=self._timeout)
        except requests.RequestException as error:
            raise self.lost(error) from error
        if answer.status_code >= _REFUSED and answer.status_code not in allowed:
            raise self._refusal(answer, f"{method} /{path.partition('?')[0]}")
        try:
            return answer.json()
        except ValueError:
            raise self.stranger() from None

    def lost(self, error: Exception) -> ClientError:
        """Say that the server does not answer."""
        return Unreachable(
            f"no CouchDB answers at {self.flag} {self.leader.node} ({_reason(error)}): start it, or {START_LOCAL}"
        )

    def stranger(self) -> ClientError:
        """Say that the server is none of CouchDB's kind."""
        return Unreachable(
            f"what answers at {self.flag} {self.leader.node} is not CouchDB: give the URL of one, or {START_LOCAL}"
        )

    def _refusal(self, answer: requests.Response, request: str) -> ClientError:
        where = f"CouchDB at {self.flag} {self.leader.node}"
        if answer.status_code == UNAUTHORIZED:
            who = "the user or the password" if self.leader.user is not None else "a request without a user"
            return Unreachable(
                f"{where} refused {who}: give http://USER:PASSWORD@{self.leader.node}, or set {USERNAME} and {PASSWORD}"
            )
        told = answer.text[:200].strip()
        if answer.status_code == FORBIDDEN:
            return Unreachable(f"{where} gives no right to {request} ({told}): name an administrator in {self.flag}")
        return ClientError(f"{where} answered {request} with {answer.status_code} {told}")

    def create(self, database: str, documents: Sequence[Mapping[str, object]]) -> list[str]:
        """Create documents, and return the keys of those that exist already."""
        rows = self.ask("POST", f"{quote(database, safe='')}/_bulk_docs", {"docs": list(documents)})
        refused = {row["id"]: row["error"] for row in rows if "error" in row}
        trouble = next(((key, error) for key, error in refused.items() if error != "conflict"), None)
        if trouble:
            raise ClientError(f"CouchDB at {self.flag} {self.leader.node} did not create {trouble[0]}: {trouble[1]}")
        return list(refused)

    def live(self, database: str, keys: Sequence[str]) -> list[Leaf]:
        """Return all live leaves of the keys: the winner's first, then its siblings'."""
        path = f"{quote(database, safe='')}/_all_docs?include_docs=true&conflicts=true"
        documents = (row.get("doc") for row in self.ask("POST", path, {"keys": list(keys)})["rows"])
        return [
            Leaf(document["_id"], rev)
            for document in documents
            if document and not document.get("_deleted")
            for rev in (document["_rev"], *document.get("_conflicts", ()))
        ]

    def items(self, database: str, key: str) -> list[str]:
        """Return the documents of a list's items."""
        rows = self.ask("GET", f"{quote(database, safe='')}/_all_docs{couchdb_lists.query(key)}")["rows"]
        return [couchdb_lists.item_id(key, item) for item in couchdb_lists.items(key, rows)]

    def delete(self, database: str, leaves: Sequence[Leaf]) -> None:
        """End leaves; those that are none any more are left as they are."""
        documents = [{"_id": leaf.key, "_rev": leaf.rev, "_deleted": True} for leaf in leaves]
        self.ask("POST", f"{quote(database, safe='')}/_bulk_docs", {"docs": documents})

    def close(self) -> None:
        """Drop the connections."""
        self._session.close()


def _reason(error: Exception) -> str:
    """Return the root of an error in a few words, without the URL that requests puts into it."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__  # type: ignore[assignment] # both are exceptions
    return (getattr(error, "strerror", None) or type(error).__name__).lower()
