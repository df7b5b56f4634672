import importlib
import inspect
import pkgutil

import cassandra
import pytest
from cassandra import (
    AuthenticationFailed,
    OperationTimedOut,
    ReadFailure,
    ReadTimeout,
    Unavailable,
    WriteFailure,
    WriteTimeout,
)
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionBusy, ConnectionException, ConnectionShutdown
from cassandra.policies import WriteType
from cassandra.pool import NoConnectionsAvailable
from cassandra.protocol import ErrorMessage, OverloadedErrorMessage, ServerError, SyntaxException

from stalewatch.clients.cassandra.diagnosis import explained
from stalewatch.clients.cassandra.errors import ERRORS, explain
from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clients.errors import ClientError, Failure, Unreachable

NOT_IMPORTABLE = {"metrics", "numpy_parser"}
"""Modules that need packages this project does not use: scales and numpy."""


def public_exceptions() -> set[type[BaseException]]:
    names = {found.name for found in pkgutil.iter_modules(cassandra.__path__) if not found.ispkg} - NOT_IMPORTABLE
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


def test_the_search_finds_the_exceptions_of_the_driver() -> None:
    assert len(public_exceptions()) > 40


MARKED_DOWN = ConnectionException("Host has been marked down or removed")


def no_host(*errors: BaseException | str) -> NoHostAvailable:
    return NoHostAvailable("Unable to complete the operation against any hosts", dict(enumerate(errors)))


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (Unavailable("", 4, 2, 1), Failure("fail", "Unavailable")),
        (ReadTimeout("", consistency=4), Failure("unknown", "ReadTimeout")),
        (WriteFailure("", write_type=WriteType.SIMPLE), Failure("unknown", "WriteFailure:SIMPLE")),
        (OperationTimedOut(), Failure("unknown", "OperationTimedOut")),
        # No node was sent the request, or one was, or that is not known.
        (
            no_host(MARKED_DOWN, NoConnectionsAvailable()),
            Failure("fail", "NoHostAvailable:ConnectionException,NoConnectionsAvailable"),
        ),
        (no_host(ConnectionBusy()), Failure("fail", "NoHostAvailable:ConnectionBusy")),
        (no_host(), Failure("fail", "NoHostAvailable")),
        (
            no_host(MARKED_DOWN, ConnectionShutdown("lost")),
            Failure("unknown", "NoHostAvailable:ConnectionException,ConnectionShutdown"),
        ),
        (
            no_host(MARKED_DOWN, OverloadedErrorMessage(0x1001, "", None)),
            Failure("unknown", "NoHostAvailable:ConnectionException,OverloadedErrorMessage"),
        ),
        (no_host(ConnectionException("something else")), Failure("unknown", "NoHostAvailable:ConnectionException")),
        (no_host("only text"), Failure("unknown", "NoHostAvailable:str")),
        # Server errors that the driver raises as they are.
        (ErrorMessage(0x1700, "CAS", None), Failure("unknown", "ErrorMessage:1700")),
        (OverloadedErrorMessage(0x1001, "", None), Failure("unknown", "OverloadedErrorMessage")),
        # Anything else that ends an operation.
        (KeyboardInterrupt(), Failure("unknown", "KeyboardInterrupt")),
        (OverflowError(), Failure("unknown", "OverflowError")),
    ],
)
def test_an_error_means_fail_only_if_nothing_was_applied(error: BaseException, failure: Failure) -> None:
    assert explain(error) == failure


@pytest.mark.parametrize("kind", sorted(WriteType.name_to_value))
def test_a_write_that_timed_out_is_unknown_whatever_its_type(kind: str) -> None:
    error = WriteTimeout("", write_type=WriteType.name_to_value[kind])
    assert explain(error) == Failure("unknown", f"WriteTimeout:{kind}")


@pytest.mark.parametrize("error", [Unavailable("", 4, 2, 1), cassandra.InvalidRequest(), no_host(MARKED_DOWN)])
def test_with_driver_retries_no_error_means_fail(error: BaseException) -> None:
    assert explain(error).outcome == "fail"
    assert explain(error, retries=True).outcome == "unknown"


def test_too_few_replicas_are_unknown_for_a_conditional_write() -> None:
    assert explain(Unavailable("", 4, 2, 1), lwt=True).outcome == "unknown"
    assert explain(no_host(MARKED_DOWN), lwt=True).outcome == "fail"


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            no_host(ConnectionShutdown("lost")),
            Unreachable,
            r"no Cassandra node answers at db1; .* the driver said: lost",
        ),
        (no_host(MARKED_DOWN, AuthenticationFailed("bad")), Unreachable, "db1 refuses connections without a user name"),
        (SyntaxException(0x2000, "line 1:7 no viable alternative", {}), ClientError, r"refused a request; .*line 1:7"),
        (Unavailable("", 4, 2, 1), Unreachable, r"too few replicas of bench\.kv are up"),
        (OperationTimedOut(), Unreachable, "db1 did not answer in time"),
        (cassandra.InvalidRequest("no such\ncolumn"), ClientError, "db1 refused a request; it said: .*no such column"),
        (ReadFailure("disk"), ClientError, "db1 answered with an error, .* it said: .*disk"),
        (no_host(ServerError(0, "boom", None)), ClientError, "db1 answered with an error, .* it said: .*boom"),
    ],
)
def test_the_diagnosis_quotes_what_happened(error: Exception, kind: type[ClientError], words: str) -> None:
    with pytest.raises(ClientError, match=words) as caught, explained(CassandraClientOptions(hosts="db1")):
        raise error
    assert type(caught.value) is kind
