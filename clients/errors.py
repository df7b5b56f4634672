"""Client errors, and the classification of a driver's exceptions by a table.

A row maps an exception class to the outcome of all its instances, or to a function of the instance if one class covers
several outcomes. An exception without a row is ``unknown``: calling a write failed that was applied would turn its
later appearance into a phantom read, while calling it unknown costs only a check that is not made.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from stalewatch.credentials import without_credentials
from stalewatch.history.operation import Outcome

__all__ = ["BadAddress", "ClientError", "ErrorTable", "Failure", "Unreachable", "classify", "without_credentials"]


class Failure(NamedTuple):
    """The outcome of an operation that ended in an exception, and a short label for the error (few distinct ones)."""

    outcome: Outcome
    error: str


class ClientError(Exception):
    """A database that cannot be used; the message says which one, why, and what to do next, without credentials."""

    def __init__(self, message: str) -> None:
        super().__init__(without_credentials(message))


class Unreachable(ClientError):
    """No server answered, or it refused the credentials or a request for lack of rights."""


class BadAddress(ClientError):
    """An address or another option of the database that is invalid."""


Verdict = Outcome | Callable[[BaseException], Outcome]
ErrorTable = Mapping[type[BaseException], Verdict]


def classify(error: BaseException, table: ErrorTable) -> Failure:
    """Return the outcome by the row of the error's class, or of its nearest base that has one, else ``unknown``."""
    for cls in type(error).__mro__:
        verdict = table.get(cls)
        if verdict is not None:
            outcome = verdict(error) if callable(verdict) else verdict
            return Failure(outcome, cls.__name__)
    return Failure("unknown", type(error).__name__)
