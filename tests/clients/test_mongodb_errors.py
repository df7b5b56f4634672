"""The outcomes of pymongo's exceptions."""

import inspect
import socket
from types import ModuleType

import pytest
from bson import errors as bson_errors
from pymongo import errors as driver
from pymongo.pool_options import PoolOptions
from pymongo.synchronous.pool import Pool

from stalewatch.clients.errors import Failure
from stalewatch.clients.mongodb.errors import CODES, ERRORS, explain


def public_exceptions(module: ModuleType) -> list[type[BaseException]]:
    return [
        cls
        for name, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, BaseException) and not name.startswith("_")
    ]


EXCEPTIONS = {*public_exceptions(driver), *public_exceptions(bson_errors)}


@pytest.mark.parametrize("cls", sorted(EXCEPTIONS, key=str))  # the same order in all workers of pytest
def test_every_public_exception_of_the_driver_has_a_row(cls: type[BaseException]) -> None:
    assert cls in ERRORS


def not_primary(code: int | None) -> driver.NotPrimaryError:
    return driver.NotPrimaryError("not primary", {"ok": 0} if code is None else {"ok": 0, "code": code})


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        # Rejected before the operation, and interrupted during it.
        (not_primary(10107), Failure("fail", "NotPrimaryError:10107")),
        (not_primary(11602), Failure("unknown", "NotPrimaryError:11602")),
        (not_primary(None), Failure("unknown", "NotPrimaryError")),
        # The same code before and after the write was applied.
        (driver.WriteError("", 10107), Failure("fail", "WriteError:10107")),
        (driver.WriteConcernError("", 10107), Failure("unknown", "WriteConcernError:10107")),
        (driver.OperationFailure("", 13), Failure("fail", "OperationFailure:13")),
        (driver.OperationFailure("", 987654), Failure("unknown", "OperationFailure:987654")),
        (driver.OperationFailure(""), Failure("unknown", "OperationFailure")),
        (driver.DuplicateKeyError("", 11000), Failure("fail", "DuplicateKeyError:11000")),
        (driver.WTimeoutError("", 64), Failure("unknown", "WTimeoutError:64")),
        (driver.ServerSelectionTimeoutError(""), Failure("fail", "ServerSelectionTimeoutError")),
        (driver.AutoReconnect(""), Failure("unknown", "AutoReconnect")),
        (driver.NetworkTimeout(""), Failure("unknown", "NetworkTimeout")),
        (driver._OperationCancelled(""), Failure("unknown", "AutoReconnect")),
        # Anything else that ends an operation.
        (KeyboardInterrupt(), Failure("unknown", "KeyboardInterrupt")),
        (OverflowError(), Failure("unknown", "OverflowError")),
    ],
)
def test_an_operation_failed_only_if_nothing_was_applied(error: BaseException, failure: Failure) -> None:
    assert explain(error) == failure


def test_no_code_that_may_follow_a_write_counts_as_failed() -> None:
    interrupted_or_unacknowledged = {50, 64, 91, 100, 189, 251, 262, 11600, 11601, 11602}
    assert {code for code, outcome in CODES.items() if outcome == "unknown"} == interrupted_or_unacknowledged


@pytest.mark.parametrize("error", [not_primary(10107), driver.WriteError("", 112), driver.WaitQueueTimeoutError("")])
def test_with_retries_a_failed_attempt_says_nothing_about_earlier_ones(error: BaseException) -> None:
    assert explain(error).outcome == "fail"
    assert explain(error, retries=True).outcome == "unknown"


def test_with_retries_a_failed_server_selection_means_no_earlier_attempt() -> None:
    assert explain(driver.ServerSelectionTimeoutError(""), retries=True).outcome == "fail"


def pool(port: int, **options: object) -> Pool:
    return Pool(("127.0.0.1", port), PoolOptions(max_pool_size=1, **options))


def checkout_error(pool: Pool) -> BaseException:
    with pytest.raises(driver.PyMongoError) as caught, pool.checkout():
        pass
    return caught.value


def test_a_refused_connection_means_nothing_was_sent() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert explain(checkout_error(pool(closed.getsockname()[1], pause_enabled=False))).outcome == "fail"


def test_an_unfinished_handshake_means_nothing_was_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = checkout_error(pool(silent.getsockname()[1], pause_enabled=False, socket_timeout=0.1))
    assert explain(error) == Failure("fail", "NetworkTimeout")


def test_an_unresolvable_host_means_nothing_was_sent() -> None:
    unresolvable = Pool(("nowhere.invalid", 1), PoolOptions(pause_enabled=False))
    assert explain(checkout_error(unresolvable)) == Failure("fail", "AutoReconnect")


def test_a_paused_pool_means_nothing_was_sent() -> None:
    assert explain(checkout_error(pool(1))) == Failure("fail", "AutoReconnect")
