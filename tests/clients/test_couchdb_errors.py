"""The outcomes of HTTP statuses and exceptions."""

import geventhttpclient.response as parser
import pytest

from stalewatch.clients.couchdb import errors as couchdb_errors
from stalewatch.clients.couchdb.errors import (
    ERRORS,
    STATUSES,
    CouchError,
    HTTPStatusError,
    MalformedAnswer,
    NotConnected,
    Unsettled,
    explain,
)
from stalewatch.clients.errors import Failure


def public_exceptions(module: object) -> set[type[BaseException]]:
    return {
        cls
        for name, cls in vars(module).items()
        if isinstance(cls, type) and issubclass(cls, BaseException) and not name.startswith("_")
    }


@pytest.mark.parametrize("cls", sorted(public_exceptions(parser) | public_exceptions(couchdb_errors), key=str))
def test_every_public_exception_has_a_row(cls: type[BaseException]) -> None:
    assert cls in ERRORS


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (NotConnected(""), Failure("fail", "NotConnected")),
        (HTTPStatusError(401, "h:1"), Failure("fail", "HTTP 401")),
        (HTTPStatusError(404, "h:1"), Failure("fail", "HTTP 404")),
        (HTTPStatusError(503, "h:1"), Failure("unknown", "HTTP 503")),
        (HTTPStatusError(418, "h:1"), Failure("unknown", "HTTP 418")),
        (Unsettled(""), Failure("unknown", "Unsettled")),
        (CouchError(""), Failure("unknown", "CouchError")),
        (parser.HTTPConnectionClosed(""), Failure("unknown", "HTTPConnectionClosed")),
        (ConnectionResetError(""), Failure("unknown", "ConnectionError")),
        (TimeoutError(""), Failure("unknown", "TimeoutError")),
        (MalformedAnswer(""), Failure("unknown", "MalformedAnswer")),
        (KeyError("_rev"), Failure("unknown", "MalformedAnswer")),
        (KeyboardInterrupt(), Failure("unknown", "KeyboardInterrupt")),
    ],
)
def test_an_operation_failed_only_if_nothing_was_applied(error: BaseException, failure: Failure) -> None:
    assert explain(error) == failure


def test_no_status_that_may_follow_a_write_counts_as_failed() -> None:
    assert {status for status, outcome in STATUSES.items() if outcome == "unknown"} == {
        *(408, 409, 429),
        *(500, 502, 503, 504),
    }
