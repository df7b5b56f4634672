"""Edits and reads of a document, given a script of the server's answers."""

import itertools
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from stalewatch.clients.couchdb.documents import ATTEMPTS, EDIT_ATTEMPTS, Documents
from stalewatch.clients.couchdb.errors import CouchError, HTTPStatusError, Unsettled, explain
from stalewatch.clients.couchdb.http import Connection
from stalewatch.clients.protocol import Body
from tests.clients.scripted_server import ScriptedServer


def answer_of(status: int, body: object) -> bytes:
    content = json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(content), content)


DOCUMENT = answer_of(200, {"_id": "k", "_rev": "1-a", "v": 1})
CREATED, ACCEPTED = answer_of(201, {"ok": True}), answer_of(202, {"ok": True})
CONFLICT = answer_of(409, {"error": "conflict"})
DELETED = answer_of(404, {"error": "not_found", "reason": "deleted"})
NO_DATABASE = answer_of(404, {"error": "not_found", "reason": "Database does not exist."})


@contextmanager
def answering(*answers: bytes | None) -> Iterator[tuple[ScriptedServer, Documents]]:
    server = ScriptedServer(*answers)
    documents = Documents(Connection(server.leader, timeout_s=0.5), "h:1", "db/x")
    try:
        yield server, documents
    finally:
        documents.close()
        server.close()


def with_version_2(body: Body) -> Body | None:
    return {**body, "v": 2}


@pytest.mark.parametrize(
    ("answers", "outcome", "error"),
    [
        ((DOCUMENT, CREATED), "ok", None),
        ((DOCUMENT, ACCEPTED), "unknown", "accepted"),
        ((DELETED,), "fail", "missing"),
        ((DOCUMENT, CONFLICT, DOCUMENT, CREATED), "ok", None),
        # A replica may have kept what the others rejected: only an edit without a conflict has certainly failed.
        ((DOCUMENT, CONFLICT, DELETED), "unknown", "missing"),
    ],
)
def test_the_outcome_of_an_edit_covers_all_its_attempts(
    answers: tuple[bytes, ...], outcome: str, error: str | None
) -> None:
    with answering(*answers) as (_, documents):
        answer = documents.edit("k", with_version_2)
    assert (answer.outcome, answer.error) == (outcome, error)


def test_an_edit_rejected_at_once_failed_and_one_rejected_after_a_conflict_is_unknown() -> None:
    for answers, cls, outcome in (
        ((NO_DATABASE,), HTTPStatusError, "fail"),
        ((DOCUMENT, CONFLICT, NO_DATABASE), Unsettled, "unknown"),
    ):
        with answering(*answers) as (_, documents), pytest.raises(CouchError) as ended:
            documents.edit("k", with_version_2)
        assert type(ended.value) is cls
        assert explain(ended.value).outcome == outcome


def test_an_edit_gives_up_after_too_many_conflicts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stalewatch.clients.couchdb.documents.FIRST_PAUSE_S", 0.0)
    with answering(*[DOCUMENT, CONFLICT] * (EDIT_ATTEMPTS + 1)) as (server, documents), pytest.raises(Unsettled):
        documents.edit("k", with_version_2)
    assert len(server.requests) == 2 * (EDIT_ATTEMPTS + 1)


def test_an_edit_on_a_slow_server_starts_over_for_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    hours = itertools.count(step=3600)
    monkeypatch.setattr(time, "monotonic", lambda: next(hours))
    with (
        answering(*[DOCUMENT, CONFLICT] * 3) as (server, documents),
        pytest.raises(Unsettled, match="came first 1 times"),
    ):
        documents.edit("k", with_version_2)
    assert len(server.requests) == 2


def test_the_last_try_of_an_edit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stalewatch.clients.couchdb.documents.FIRST_PAUSE_S", 0.0)
    with answering(*[DOCUMENT, CONFLICT] * EDIT_ATTEMPTS, DOCUMENT, CREATED) as (_, documents):
        assert documents.edit("k", with_version_2).outcome == "ok"


def test_an_edit_names_the_revision_it_read_and_stores_no_other_server_field() -> None:
    conflicting = answer_of(200, {"_id": "k", "_rev": "1-a", "_conflicts": ["1-b"], "v": 1})
    with answering(conflicting, CREATED) as (server, documents):
        documents.edit("a key/1", with_version_2)
    assert server.requests[1].startswith(b"PUT /db%2Fx/a%20key%2F1 HTTP/1.1\r\n")
    assert json.loads(server.requests[1].partition(b"\r\n\r\n")[2]) == {"_rev": "1-a", "v": 2}


def test_a_read_starts_over_if_a_leaf_disappears_before_it_is_fetched() -> None:
    both = answer_of(200, {"_id": "k", "_rev": "2-a", "_conflicts": ["2-b"], "v": 2})
    missing = answer_of(200, [{"missing": "2-b"}])
    one = answer_of(200, {"_id": "k", "_rev": "3-c", "v": 3})
    with answering(both, missing, one) as (_, documents):
        held = documents.read("k")
    assert held is not None
    assert (held.rev, held.body, held.siblings) == ("3-c", {"v": 3}, {})
    with answering(*[both, missing] * ATTEMPTS) as (_, documents), pytest.raises(Unsettled):
        documents.read("k")
