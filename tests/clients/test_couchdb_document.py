"""What an edit makes of a server's answers, one after the other."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from stalewatch.clients.couchdb.documents import ATTEMPTS, Documents
from stalewatch.clients.couchdb.errors import CouchError, HTTPStatusError, Unsettled, explain
from stalewatch.clients.couchdb.http import Connection
from stalewatch.clients.protocol import Body
from tests.clients.scripted_server import Scripted


def said(status: int, body: object) -> bytes:
    content = json.dumps(body).encode()
    return b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\n\r\n%s" % (status, len(content), content)


DOCUMENT = said(200, {"_id": "k", "_rev": "1-a", "v": 1})
CREATED, ACCEPTED = said(201, {"ok": True}), said(202, {"ok": True})
CONFLICT = said(409, {"error": "conflict"})
DELETED = said(404, {"error": "not_found", "reason": "deleted"})
NO_DATABASE = said(404, {"error": "not_found", "reason": "Database does not exist."})


@contextmanager
def answering(*answers: bytes | None) -> Iterator[tuple[Scripted, Documents]]:
    server = Scripted(*answers)
    documents = Documents(Connection(server.leader, timeout_s=0.5), "h:1", "db/x")
    try:
        yield server, documents
    finally:
        documents.close()
        server.close()


def raised(body: Body) -> Body | None:
    return {**body, "v": 2}


@pytest.mark.parametrize(
    ("answers", "outcome", "error"),
    [
        ((DOCUMENT, CREATED), "ok", None),
        ((DOCUMENT, ACCEPTED), "unknown", "accepted"),
        ((DELETED,), "fail", "missing"),
        ((DOCUMENT, CONFLICT, DOCUMENT, CREATED), "ok", None),
        # A replica may have kept what the others refused: only what never met a conflict has surely failed.
        ((DOCUMENT, CONFLICT, DELETED), "unknown", "missing"),
    ],
)
def test_an_edit_is_what_its_attempts_were_together(
    answers: tuple[bytes, ...], outcome: str, error: str | None
) -> None:
    with answering(*answers) as (_, documents):
        answer = documents.edit("k", raised)
    assert (answer.outcome, answer.error) == (outcome, error)


def test_an_edit_that_is_refused_at_once_has_failed_and_one_after_a_conflict_may_not_have() -> None:
    for answers, kind, outcome in (
        ((NO_DATABASE,), HTTPStatusError, "fail"),
        ((DOCUMENT, CONFLICT, NO_DATABASE), Unsettled, "unknown"),
    ):
        with answering(*answers) as (_, documents), pytest.raises(CouchError) as ended:
            documents.edit("k", raised)
        assert type(ended.value) is kind
        assert explain(ended.value).outcome == outcome


def test_an_edit_that_always_comes_too_late_gives_up() -> None:
    with answering(*[DOCUMENT, CONFLICT] * (ATTEMPTS + 1)) as (server, documents), pytest.raises(Unsettled):
        documents.edit("k", raised)
    assert len(server.requests) == 2 * (ATTEMPTS + 1)


def test_an_edit_names_the_revision_that_it_read_and_stores_nothing_else_of_the_servers() -> None:
    conflicting = said(200, {"_id": "k", "_rev": "1-a", "_conflicts": ["1-b"], "v": 1})
    with answering(conflicting, CREATED) as (server, documents):
        documents.edit("a key/1", raised)
    assert server.requests[1].startswith(b"PUT /db%2Fx/a%20key%2F1 HTTP/1.1\r\n")
    assert json.loads(server.requests[1].partition(b"\r\n\r\n")[2]) == {"_rev": "1-a", "v": 2}


def test_a_read_begins_anew_when_a_leaf_is_gone_before_it_is_fetched() -> None:
    both = said(200, {"_id": "k", "_rev": "2-a", "_conflicts": ["2-b"], "v": 2})
    gone = said(200, [{"missing": "2-b"}])
    one = said(200, {"_id": "k", "_rev": "3-c", "v": 3})
    with answering(both, gone, one) as (_, documents):
        held = documents.read("k")
    assert held is not None
    assert (held.rev, held.body, held.siblings) == ("3-c", {"v": 3}, {})
    with answering(*[both, gone] * ATTEMPTS) as (_, documents), pytest.raises(Unsettled):
        documents.read("k")
