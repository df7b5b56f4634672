"""Administration of a leader: set-up, cleanup, and its state for metrics, many documents at a time.

Every error is a `ClientError` with the option that names the server, what the server said, and what to do next.
"""

import ssl
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import quote

from geventhttpclient.response import HTTPParseError

from stalewatch.clients.couchdb.documents import item_id, items_in
from stalewatch.clients.couchdb.errors import WRONG_SHAPE, AnswerTooLarge, CouchError, MalformedAnswer, NotConnected
from stalewatch.clients.couchdb.http import Connection, decoded, encoded
from stalewatch.clients.couchdb.options import PASSWORD, USERNAME, CouchOptions, Leader
from stalewatch.clients.couchdb.tls import context_for
from stalewatch.clients.errors import ClientError, Unreachable
from stalewatch.clients.protocol import NodeState

BATCH_TIMEOUTS = 6
"""How many times `--timeout` the answer to a batch of documents may take: a server writes a thousand in a second or
two, or longer under load."""

LARGEST_ANSWER = 64 << 20
"""Bytes of the largest answer."""

LOOK_S = 2.0
"""The longest wait, to connect and for an answer, when a leader's state is polled."""

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
_SHOWN_CHARACTERS = 80


class Leaf(NamedTuple):
    """A live leaf of a document."""

    key: str
    rev: str


class LeaderAdmin:
    """An administrator's access to one leader; `flag` is the option that names the leader."""

    def __init__(self, flag: str, leader: Leader, timeout_s: float, tls: ssl.SSLContext | None = None) -> None:
        """Set up a connection; `timeout_s` limits connecting and each whole answer."""
        self.flag = flag
        self.leader = leader
        self.asked_s = 0.0
        """When the last request was sent."""
        self._request, self._said = "", b""
        self._timeout_s = timeout_s
        self._connection = Connection(leader, timeout_s, tls, LARGEST_ANSWER)

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        allowed: Collection[int] = (),
        *,
        kind: type | tuple[type, ...] = dict,
    ) -> Any:  # noqa: ANN401 # JSON
        """Return the JSON of an answer, a value of `kind`; raise `ClientError` for an error that is not `allowed`."""
        status, content = self._exchange(method, path, b"" if body is None else encoded(body), self._timeout_s)
        return self._value(status, content, allowed, kind)

    def ask_batch(self, path: str, body: object, kind: type | tuple[type, ...] = dict) -> Any:  # noqa: ANN401 # JSON
        """Return the JSON of the answer to a POST about many documents, as `ask` does; it may take longer."""
        status, content = self._exchange("POST", path, encoded(body), BATCH_TIMEOUTS * self._timeout_s)
        return self._value(status, content, (), kind)

    def _exchange(self, method: str, path: str, body: bytes, timeout_s: float) -> tuple[int, bytes]:
        self._request, self._said = f"{method} /{path.partition('?')[0]}", b""
        self.asked_s = time.monotonic()
        try:
            status, self._said = self._connection.ask(method, f"/{path}", body, timeout_s)
        except (CouchError, HTTPParseError, OSError) as error:
            raise self._no_answer(error) from error
        return status, self._said

    def _value(self, status: int, content: bytes, allowed: Collection[int], kind: type | tuple[type, ...]) -> Any:  # noqa: ANN401 # JSON
        if status in ERRORS and status not in allowed:
            raise self._refusal(status, content)
        if status // 100 == HTTPStatus.MULTIPLE_CHOICES // 100:
            raise self.not_couchdb(f"{status}, a redirection,")
        try:
            value = decoded(content)
        except MalformedAnswer:
            raise self.not_couchdb() from None
        if not isinstance(value, kind):
            raise self.not_couchdb()
        return value

    def _no_answer(self, error: Exception) -> ClientError:
        where, cause = f"{self.flag} {self.leader.node}", error.__cause__ or error
        if isinstance(error, MalformedAnswer | AnswerTooLarge):
            return self.not_couchdb(str(error))
        if isinstance(error, NotConnected) and isinstance(cause, ssl.SSLError):
            reason = getattr(cause, "reason", None) or ""  # absent if not OpenSSL but Python or gevent raised it
            said = getattr(cause, "verify_message", "") or reason or cause
            return Unreachable(f"TLS with {where} failed ({said}): {TLS_ADVICE.get(reason, CLIENT_CERT)}")
        said = (getattr(cause, "strerror", None) or str(cause) or type(cause).__name__).lower().rstrip(".")
        if isinstance(cause, TimeoutError):
            return Unreachable(
                f"CouchDB at {where} did not answer {self._request or 'in time'} ({said}): check the server, or give a "
                "longer --timeout"
            )
        return Unreachable(f"no CouchDB answers at {where} ({said}): start it, or {START_LOCAL}")

    def not_couchdb(self, said: str = "") -> ClientError:
        """Return the error for a server whose last answer is not one of CouchDB's."""
        said = said or repr(_line(self._said))[:_SHOWN_CHARACTERS]
        return Unreachable(
            f"the server at {self.flag} {self.leader.node} is not CouchDB (it said {said} to {self._request}): give "
            f"the URL of a CouchDB, with https:// if it uses TLS, or {START_LOCAL}"
        )

    def _refusal(self, status: int, content: bytes) -> ClientError:
        where, request, said = f"CouchDB at {self.flag} {self.leader.node}", self._request, _reason(status, content)
        if status not in DENIED:
            return ClientError(f"{where} answered {request} with {status}: {said}")
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
        rows = self.ask_batch(f"{quote(database, safe='')}/_bulk_docs", {"docs": list(documents)}, list)
        return {row["id"]: row["error"] for row in rows if "error" in row}

    def live(self, database: str, keys: Sequence[str]) -> list[Leaf]:
        """Return all live leaves of the keys: the winner's first, then its siblings'."""
        path = f"{quote(database, safe='')}/_all_docs?include_docs=true&conflicts=true"
        documents = (row.get("doc") for row in self.ask_batch(path, {"keys": list(keys)})["rows"])
        return [
            Leaf(document["_id"], rev)
            for document in documents
            if document and not document.get("_deleted")
            for rev in (document["_rev"], *document.get("_conflicts", ()))
        ]

    def items(self, database: str, key: str) -> list[str]:
        """Return the names of the documents of a list's items."""
        path = f"{quote(database, safe='')}/_all_docs"
        return [item_id(key, item) for item in items_in(key, lambda query: self.ask("GET", f"{path}{query}"))]

    def delete(self, database: str, leaves: Sequence[Leaf]) -> None:
        """Delete leaves; ignore revisions that are no longer leaves."""
        documents = [{"_id": leaf.key, "_rev": leaf.rev, "_deleted": True} for leaf in leaves]
        self.ask_batch(f"{quote(database, safe='')}/_bulk_docs", {"docs": documents}, list)

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()


def leader_admins(options: CouchOptions, timeout_s: float) -> list[LeaderAdmin]:
    """Return access to both leaders; raise `BadAddress` if one is missing."""
    return [
        LeaderAdmin(flag, leader, timeout_s, context_for(leader, options.tls))
        for flag, leader in zip(("--couch-a", "--couch-b"), options.leaders, strict=True)
    ]


def becomes_true(deadline: float, condition: Callable[..., bool], *arguments: object) -> bool:
    """Wait until a condition holds; return False if it does not by the deadline, a time of `time.monotonic`."""
    while not condition(*arguments):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


@contextmanager
def understood(admins: Sequence[LeaderAdmin]) -> Iterator[None]:
    """Turn what Python raises for JSON of an unexpected shape into a `ClientError` that quotes the last answer."""
    try:
        yield
    except WRONG_SHAPE as error:
        raise max(admins, key=lambda admin: admin.asked_s).not_couchdb() from error


def _reason(status: int, content: bytes) -> str:
    """Return the reason that the server gave, in one line."""
    try:
        body = decoded(content)
        text = str(body.get("reason") or body.get("error") or body)
    except (MalformedAnswer, AttributeError):
        text = _line(content) or str(status)
    return " ".join(text.split())[:200]


def _line(content: bytes) -> str:
    """Return the beginning of an answer in one line."""
    return " ".join(content[:200].decode(errors="replace").split())


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
