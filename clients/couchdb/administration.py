"""Administration of a leader with `requests`: set-up, cleanup, and its state for metrics, many documents at a time.

Every error is a `ClientError` with the option that names the server, what the server said, and what to do next.
"""

import ssl
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import requests

from stalewatch.clients.couchdb.documents import item_id, items_in, items_query
from stalewatch.clients.couchdb.options import PASSWORD, USERNAME, CouchOptions, Leader
from stalewatch.clients.couchdb.tls import TlsAdapter, context_for
from stalewatch.clients.errors import ClientError, Unreachable
from stalewatch.clients.protocol import NodeState

TIMEOUT_S = 30.0
"""A thousand documents are written in a second or two; a server under load may take longer."""

LOOK_S = 2.0
"""The longest wait for a connection when a leader's state is polled."""

START_LOCAL = "start local leaders with `stalewatch cluster up couch`"

UNAUTHORIZED, FORBIDDEN, MISSING, CONFLICT, EXISTS = 401, 403, 404, 409, 412
DENIED = frozenset({UNAUTHORIZED, FORBIDDEN})
"""CouchDB answers with either of them, to a wrong password as well as for lack of rights; only its words differ."""

WRONG_LOGIN, LOCKED = "password is incorrect", "temporarily locked"
"""Parts of what CouchDB says about credentials that are wrong, and about too many attempts with wrong ones."""

ADMIN_NEEDED = (
    "name an administrator in {flag}, or let one create the database, allow this user to write to it, and set up its "
    "replication"
)
CLIENT_CERT = "if the server requires a client certificate, name it in --tls-cert (under Locust: --client-cert)"
TLS_ADVICE: Mapping[str, str] = {
    "CERTIFICATE_VERIFY_FAILED": "name the authority that signed its certificate in --tls-ca, and the host as there",
    "WRONG_VERSION_NUMBER": "this port does not speak TLS: write http://, or give the port for https://",
}
"""What to do by OpenSSL's reason."""

ERRORS = range(400, 600)

_POLL_S = 0.02


class Leaf(NamedTuple):
    """A live leaf of a document."""

    key: str
    rev: str


class LeaderAdmin:
    """An administrator's access to one leader; `flag` is the option that names the leader."""

    def __init__(self, flag: str, leader: Leader, connect_s: float, tls: ssl.SSLContext | None = None) -> None:
        self.flag = flag
        self.leader = leader
        self._timeout = (connect_s, TIMEOUT_S)
        self._session = requests.Session()
        self._session.trust_env = False  # the load does not go through a proxy either
        if tls is not None:
            self._session.mount("https://", TlsAdapter(tls))
        if leader.user is not None:
            self._session.auth = (leader.user, leader.password or "")

    def ask(self, method: str, path: str, body: object = None, allowed: Collection[int] = ()) -> Any:  # noqa: ANN401 # JSON
        """Return the JSON of an answer; raise `ClientError` if there is none, or for an error that is not `allowed`."""
        try:
            answer = self._session.request(method, f"{self.leader.url}/{path}", json=body, timeout=self._timeout)
        except requests.RequestException as error:
            raise self._no_answer(_root(error)) from error
        if answer.status_code in ERRORS and answer.status_code not in allowed:
            raise self._refusal(answer, f"{method} /{path.partition('?')[0]}")
        try:
            return answer.json()
        except ValueError:
            raise self.not_couchdb(answer.text) from None

    def _no_answer(self, cause: BaseException) -> ClientError:
        where = f"{self.flag} {self.leader.node}"
        if isinstance(cause, ssl.SSLError):
            reason = getattr(cause, "reason", None) or ""  # absent if not OpenSSL but Python or gevent raised it
            said = getattr(cause, "verify_message", "") or reason or cause
            return Unreachable(f"TLS with {where} failed ({said}): {TLS_ADVICE.get(reason, CLIENT_CERT)}")
        said = (getattr(cause, "strerror", None) or type(cause).__name__).lower()
        return Unreachable(f"no CouchDB answers at {where} ({said}): start it, or {START_LOCAL}")

    def not_couchdb(self, said: object) -> ClientError:
        """Return the error for a server of another kind."""
        return Unreachable(
            f"the server at {self.flag} {self.leader.node} is not CouchDB (it said {said!r:.60}): give the URL of a "
            f"CouchDB, or {START_LOCAL}"
        )

    def _refusal(self, answer: requests.Response, request: str) -> ClientError:
        where, said = f"CouchDB at {self.flag} {self.leader.node}", _said(answer)
        if answer.status_code not in DENIED:
            return ClientError(f"{where} answered {request} with {answer.status_code}: {said}")
        if self.leader.user is None:
            what, advice = "a request without a user", self._login()
        elif WRONG_LOGIN in said.lower():
            what, advice = "the user or the password", self._login()
        elif LOCKED in said.lower():
            what = request
            advice = "wait a few minutes, and look in _replicator for replications with an old password"
        else:
            what, advice = request, ADMIN_NEEDED.format(flag=self.flag)
        return Unreachable(f"{where} refused {what} ({said}): {advice}")

    def _login(self) -> str:
        return f"give {self.leader.scheme}://USER:PASSWORD@{self.leader.node}, or set {USERNAME} and {PASSWORD}"

    def create(self, database: str, documents: Sequence[Mapping[str, object]]) -> dict[str, str]:
        """Create documents, and return the errors of those that could not be created, by key."""
        rows = self.ask("POST", f"{quote(database, safe='')}/_bulk_docs", {"docs": list(documents)})
        return {row["id"]: row["error"] for row in rows if "error" in row}

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
        """Return the names of the documents of a list's items."""
        rows = self.ask("GET", f"{quote(database, safe='')}/_all_docs{items_query(key)}")["rows"]
        return [item_id(key, item) for item in items_in(key, rows)]

    def delete(self, database: str, leaves: Sequence[Leaf]) -> None:
        """Delete leaves; ignore revisions that are no longer leaves."""
        documents = [{"_id": leaf.key, "_rev": leaf.rev, "_deleted": True} for leaf in leaves]
        self.ask("POST", f"{quote(database, safe='')}/_bulk_docs", {"docs": documents})

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


def leader_admins(options: CouchOptions, connect_s: float) -> list[LeaderAdmin]:
    """Return access to both leaders; raise `BadAddress` if one is missing."""
    return [
        LeaderAdmin(flag, leader, connect_s, context_for(leader, options.tls))
        for flag, leader in zip(("--couch-a", "--couch-b"), options.leaders, strict=True)
    ]


def becomes_true(deadline: float, condition: Callable[..., bool], *arguments: object) -> bool:
    """Wait until a condition holds; return False if it does not by the deadline, a time of `time.monotonic`."""
    while not condition(*arguments):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _said(answer: requests.Response) -> str:
    """Return the reason that the server gave, in one line."""
    try:
        body = answer.json()
        text = str(body.get("reason") or body.get("error") or body)
    except (ValueError, AttributeError):
        text = answer.text or answer.reason
    return " ".join(text.split())[:200]


def _root(error: BaseException) -> BaseException:
    """Return the root of an error, whose text lacks the URL that requests puts into it."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__  # type: ignore[assignment] # one of them is an exception
    return error


class CouchServers:
    """The states of both leaders: each takes writes if it answers.

    Their lag is unknown to both: update sequences of different leaders cannot be compared.
    """

    def __init__(self, options: CouchOptions) -> None:
        """Set up the connections; raise `BadAddress` if a leader's address is missing."""
        self._database = options.db
        self._admins = leader_admins(options, LOOK_S)

    def look(self) -> Sequence[NodeState]:
        """Return the state of both leaders."""
        return [self._state(admin) for admin in self._admins]

    def _state(self, admin: LeaderAdmin) -> NodeState:
        try:
            admin.ask("GET", quote(self._database, safe=""), allowed={MISSING})  # a leader without the database is up
        except ClientError:
            return NodeState(admin.leader.node, primary=False, healthy=False, lag_s=None)
        return NodeState(admin.leader.node, primary=True, healthy=True, lag_s=None)

    def close(self) -> None:
        """Close the connections."""
        for admin in self._admins:
            admin.close()
