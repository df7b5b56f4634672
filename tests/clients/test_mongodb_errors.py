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
        kind
        for name, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, BaseException) and not name.startswith("_")
    ]


EXCEPTIONS = {*public_exceptions(driver), *public_exceptions(bson_errors)}


@pytest.mark.parametrize("kind", sorted(EXCEPTIONS, key=str))  # in an order that all workers of pytest agree on
def test_every_public_exception_of_the_driver_has_a_row(kind: type[BaseException]) -> None:
    assert kind in ERRORS


def not_primary(code: int | None) -> driver.NotPrimaryError:
    return driver.NotPrimaryError("not primary", {"ok": 0} if code is None else {"ok": 0, "code": code})


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        # Rejected at the door, and thrown out in the middle.
        (not_primary(10107), Failure("fail", "NotPrimaryError:10107")),
        (not_primary(11602), Failure("unknown", "NotPrimaryError:11602")),
        (not_primary(None), Failure("unknown", "NotPrimaryError")),
        # The same code before the write was applied and after.
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
        # Whatever else ends an operation.
        (KeyboardInterrupt(), Failure("unknown", "KeyboardInterrupt")),
        (OverflowError(), Failure("unknown", "OverflowError")),
    ],
)
def test_an_error_is_a_failure_only_when_nothing_was_applied(error: BaseException, failure: Failure) -> None:
    assert explain(error) == failure


def test_no_code_that_comes_after_a_write_counts_as_failed() -> None:
    stopped_on_the_way = {50, 64, 91, 100, 189, 251, 262, 11600, 11601, 11602}
    assert {code for code, outcome in CODES.items() if outcome == "unknown"} == stopped_on_the_way


@pytest.mark.parametrize("error", [not_primary(10107), driver.WriteError("", 112), driver.WaitQueueTimeoutError("")])
def test_a_failed_attempt_says_nothing_of_those_that_the_driver_made_before(error: BaseException) -> None:
    assert explain(error).outcome == "fail"
    assert explain(error, retries=True).outcome == "unknown"


def test_no_server_means_no_earlier_attempt_either() -> None:
    assert explain(driver.ServerSelectionTimeoutError(""), retries=True).outcome == "fail"


def pool(port: int, **options: object) -> Pool:
    return Pool(("127.0.0.1", port), PoolOptions(max_pool_size=1, **options))


def checkout_error(pool: Pool) -> BaseException:
    with pytest.raises(driver.PyMongoError) as caught, pool.checkout():
        pass
    return caught.value


def test_a_connection_that_could_not_be_opened_carried_nothing() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert explain(checkout_error(pool(closed.getsockname()[1], pause_enabled=False))).outcome == "fail"


def test_a_server_that_never_finished_the_handshake_was_sent_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = checkout_error(pool(silent.getsockname()[1], pause_enabled=False, socket_timeout=0.1))
    assert explain(error) == Failure("fail", "NetworkTimeout")


def test_a_host_without_an_address_was_sent_nothing() -> None:
    nowhere = Pool(("nowhere.invalid", 1), PoolOptions(pause_enabled=False))
    assert explain(checkout_error(nowhere)) == Failure("fail", "AutoReconnect")


def test_a_pool_paused_for_a_dead_server_sends_nothing() -> None:
    assert explain(checkout_error(pool(1))) == Failure("fail", "AutoReconnect")
