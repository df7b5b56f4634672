"""What a CouchDB server's answers and a broken connection mean: ``fail`` only where nothing was certainly applied.

Read in the API reference of CouchDB 3.5 and the source of geventhttpclient 2.6. For reads the two mean the same.
"""

import json

from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError, HTTPProtocolViolationError

from stalewatch.clients.errors import ErrorTable, Failure, classify
from stalewatch.history.operation import Outcome


class CouchError(Exception):
    """What ends an operation on a CouchDB server."""


class NotConnected(CouchError):
    """No connection could be made, so nothing was sent."""


class Refused(CouchError):
    """The server answered with a status that is no success."""

    def __init__(self, status: int, node: str, reason: str = "") -> None:
        super().__init__(f"{node} answered {status} {reason}".rstrip())
        self.status = status


class Unsettled(CouchError):
    """A document changed faster than it could be read or written."""


STATUSES: dict[int, Outcome] = {
    # The server looked at the request, refused it and wrote nothing.
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
    # One replica may have taken what a majority of them refused: it comes back later, as a conflict.
    409: "unknown",
    # The server, or a proxy before it, gave up on the way.
    408: "unknown",
    429: "unknown",
    500: "unknown",
    502: "unknown",
    503: "unknown",
    504: "unknown",
}
"""The statuses that were thought about; any other is ``unknown``."""


def _by_status(error: BaseException) -> Outcome:
    return STATUSES.get(error.status, "unknown") if isinstance(error, Refused) else "unknown"


ERRORS: ErrorTable = {
    NotConnected: "fail",
    Refused: _by_status,
    Unsettled: "unknown",
    CouchError: "unknown",
    # Sent, perhaps: the answer is what is missing, or cannot be understood.
    HTTPConnectionClosed: "unknown",
    HTTPProtocolViolationError: "unknown",
    HTTPParseError: "unknown",
    json.JSONDecodeError: "unknown",
    TimeoutError: "unknown",
    ConnectionError: "unknown",
    OSError: "unknown",
}


def explain(error: BaseException) -> Failure:
    """Return what `error` means, labelled by its class, or by the server's status as ``HTTP 503``."""
    failure = classify(error, ERRORS)
    return Failure(failure.outcome, f"HTTP {error.status}") if isinstance(error, Refused) else failure
