"""Errors of clients, and how a driver's exceptions become outcomes by a table.

A row is an exception class with the outcome for all of its instances, or a function of the instance where one class
covers several. Anything that no row names is ``unknown``: to call a write failed that was applied would turn its later
appearance into a phantom read, while to call it unknown costs only a check that is not made.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from stalewatch.history.operation import Outcome


class Failure(NamedTuple):
    """What an exception means for the operation that it ended, and a short name for it (few distinct ones)."""

    outcome: Outcome
    error: str


class ClientError(Exception):
    """A database that cannot be used; the message says which, why and what to do next."""


class Unreachable(ClientError):
    """No server answered, or it refused the credentials or the rights."""


class BadAddress(ClientError):
    """An address, or an option of the database, that makes no sense."""


Verdict = Outcome | Callable[[BaseException], Outcome]
ErrorTable = Mapping[type[BaseException], Verdict]


def classify(error: BaseException, table: ErrorTable) -> Failure:
    """Return what `error` means: the row of its class or of the nearest base that has one, else ``unknown``."""
    for kind in type(error).__mro__:
        verdict = table.get(kind)
        if verdict is not None:
            outcome = verdict(error) if callable(verdict) else verdict
            return Failure(outcome, kind.__name__)
    return Failure("unknown", type(error).__name__)
