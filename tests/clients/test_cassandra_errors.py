import importlib
import inspect
import pkgutil

import cassandra
import pytest
from cassandra import OperationTimedOut, ReadTimeout, Unavailable, WriteFailure, WriteTimeout
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionBusy, ConnectionException, ConnectionShutdown
from cassandra.policies import WriteType
from cassandra.pool import NoConnectionsAvailable
from cassandra.protocol import ErrorMessage, OverloadedErrorMessage

from stalewatch.clients.cassandra.errors import ERRORS, explain
from stalewatch.clients.errors import Failure

NEEDS_MORE = {"metrics", "numpy_parser"}
"""Modules for packages that nothing here uses: scales and numpy."""


def public_exceptions() -> set[type[BaseException]]:
    names = {found.name for found in pkgutil.iter_modules(cassandra.__path__) if not found.ispkg} - NEEDS_MORE
    modules = [cassandra, *(importlib.import_module(f"cassandra.{name}") for name in names)]
    return {
        kind
        for module in modules
        for name, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, BaseException) and kind.__module__.startswith("cassandra") and not name.startswith("_")
    }


@pytest.mark.parametrize("kind", sorted(public_exceptions(), key=str))
def test_every_public_exception_of_the_driver_has_a_row(kind: type[BaseException]) -> None:
    assert kind in ERRORS


def test_there_are_some() -> None:
    assert len(public_exceptions()) > 40


MARKED_DOWN = ConnectionException("Host has been marked down or removed")


def nowhere(*errors: BaseException | str) -> NoHostAvailable:
    return NoHostAvailable("Unable to complete the operation against any hosts", dict(enumerate(errors)))


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (Unavailable("", 4, 2, 1), Failure("fail", "Unavailable")),
        (ReadTimeout("", consistency=4), Failure("unknown", "ReadTimeout")),
        (WriteFailure("", write_type=WriteType.SIMPLE), Failure("unknown", "WriteFailure:SIMPLE")),
        (OperationTimedOut(), Failure("unknown", "OperationTimedOut")),
        # No node was sent anything, or one was, or nobody knows.
        (
            nowhere(MARKED_DOWN, NoConnectionsAvailable()),
            Failure("fail", "NoHostAvailable:ConnectionException,NoConnectionsAvailable"),
        ),
        (nowhere(ConnectionBusy()), Failure("fail", "NoHostAvailable:ConnectionBusy")),
        (nowhere(), Failure("fail", "NoHostAvailable")),
        (
            nowhere(MARKED_DOWN, ConnectionShutdown("lost")),
            Failure("unknown", "NoHostAvailable:ConnectionException,ConnectionShutdown"),
        ),
        (
            nowhere(MARKED_DOWN, OverloadedErrorMessage(0x1001, "", None)),
            Failure("unknown", "NoHostAvailable:ConnectionException,OverloadedErrorMessage"),
        ),
        (nowhere(ConnectionException("something else")), Failure("unknown", "NoHostAvailable:ConnectionException")),
        (nowhere("words alone"), Failure("unknown", "NoHostAvailable:str")),
        # Raised as they came from the server.
        (ErrorMessage(0x1700, "CAS", None), Failure("unknown", "ErrorMessage:1700")),
        (OverloadedErrorMessage(0x1001, "", None), Failure("unknown", "OverloadedErrorMessage")),
        # Whatever else ends an operation.
        (KeyboardInterrupt(), Failure("unknown", "KeyboardInterrupt")),
        (OverflowError(), Failure("unknown", "OverflowError")),
    ],
)
def test_an_error_is_a_failure_only_when_nothing_was_applied(error: BaseException, failure: Failure) -> None:
    assert explain(error) == failure


@pytest.mark.parametrize("kind", sorted(WriteType.name_to_value))
def test_no_write_that_timed_out_counts_as_failed_whatever_its_type(kind: str) -> None:
    error = WriteTimeout("", write_type=WriteType.name_to_value[kind])
    assert explain(error) == Failure("unknown", f"WriteTimeout:{kind}")


@pytest.mark.parametrize("error", [Unavailable("", 4, 2, 1), cassandra.InvalidRequest(), nowhere(MARKED_DOWN)])
def test_a_failed_attempt_says_nothing_of_those_that_the_driver_made_before(error: BaseException) -> None:
    assert explain(error).outcome == "fail"
    assert explain(error, retries=True).outcome == "unknown"


def test_too_few_replicas_may_be_left_for_the_commit_of_what_was_agreed() -> None:
    assert explain(Unavailable("", 4, 2, 1), lwt=True).outcome == "unknown"
    assert explain(nowhere(MARKED_DOWN), lwt=True).outcome == "fail"
