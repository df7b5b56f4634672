"""CouchDB's error table: the outcome of an operation by status or exception, ``fail`` only if nothing was applied.

Derived from the API reference of CouchDB 3.5 and the source of geventhttpclient 2.6. For reads both outcomes mean the
same.
"""

from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError, HTTPProtocolViolationError

from stalewatch.clients.errors import ErrorTable, Failure, classify
from stalewatch.history.operation import Outcome


class CouchError(Exception):
    """An error that ends an operation on a CouchDB server."""


class NotConnected(CouchError):
    """No connection could be made, so nothing was sent."""


class MalformedAnswer(CouchError):
    """The server answered with something else than HTTP, or than the JSON that CouchDB answers with."""


class AnswerTooLarge(CouchError):
    """The server sent more than any answer needs."""


class HTTPStatusError(CouchError):
    """The server answered with a status other than success."""

    def __init__(self, status: int, node: str, reason: str = "") -> None:
        super().__init__(f"{node} answered {status} {reason}".rstrip())
        self.status = status


class Unsettled(CouchError):
    """A document changed faster than it could be read or written."""


STATUSES: dict[int, Outcome] = {
    # The server rejected the request and wrote nothing.
    400: "fail",
    401: "fail",
    403: "fail",
    404: "fail",
    405: "fail",
    406: "fail",
    412: "fail",
    413: "fail",
    414: "fail",
    415: "fail",
    # One replica may have accepted what a majority rejected: it reappears later, as a conflict.
    409: "unknown",
    # The server, or a proxy in front of it, gave up halfway.
    408: "unknown",
    429: "unknown",
    500: "unknown",
    502: "unknown",
    503: "unknown",
    504: "unknown",
}
"""Outcomes by HTTP status; any other status is ``unknown``."""

PERMANENT = frozenset({"HTTP 401", "HTTP 403"})
"""Labels of errors that no waiting ends. A database that is missing may be created again, as after a wiped disk."""


WRONG_SHAPE = (LookupError, TypeError, AttributeError, ValueError)
"""What Python raises if JSON lacks a field, or has a value of another type."""


def _by_status(error: BaseException) -> Outcome:
    return STATUSES.get(error.status, "unknown") if isinstance(error, HTTPStatusError) else "unknown"


ERRORS: ErrorTable = {
    NotConnected: "fail",
    HTTPStatusError: _by_status,
    Unsettled: "unknown",
    CouchError: "unknown",
    MalformedAnswer: "unknown",
    AnswerTooLarge: "unknown",
    # Possibly sent: the answer is missing or malformed.
    HTTPConnectionClosed: "unknown",
    HTTPProtocolViolationError: "unknown",
    HTTPParseError: "unknown",
    TimeoutError: "unknown",
    ConnectionError: "unknown",
    OSError: "unknown",
}


def explain(error: BaseException) -> Failure:
    """Return the outcome, labelled by the error's class, or by the server's status as ``HTTP 503``."""
    if isinstance(error, WRONG_SHAPE):
        return Failure("unknown", MalformedAnswer.__name__)
    failure = classify(error, ERRORS)
    return Failure(failure.outcome, f"HTTP {error.status}") if isinstance(error, HTTPStatusError) else failure
