"""Many requests at a time, for creating and deleting keys; what a busy ring has no time for is tried again."""

from collections.abc import Sequence

from cassandra import OperationTimedOut, Timeout
from cassandra.cluster import ResultSet, Session
from cassandra.concurrent import ExecutionResult, execute_concurrent_with_args
from cassandra.query import PreparedStatement

from stalewatch.clients.cassandra.writes import Values

AT_A_TIME = 32
TRIES = 4

_LATE = (Timeout, OperationTimedOut)


def for_each(session: Session, statement: PreparedStatement, values: Sequence[Values]) -> list[ResultSet]:
    """Execute a statement that may be repeated without harm with each of the values; raise what the driver does."""
    results = [ExecutionResult(success=False, result_or_exc=None)] * len(values)
    for _ in range(TRIES):
        left = [number for number, one in enumerate(results) if not one.success]
        again = execute_concurrent_with_args(
            session, statement, [values[number] for number in left], concurrency=AT_A_TIME, raise_on_first_error=False
        )
        for number, one in zip(left, again, strict=True):
            if not one.success and not isinstance(one.result_or_exc, _LATE):
                raise one.result_or_exc
            results[number] = one
    for one in results:
        if not one.success:
            raise one.result_or_exc
    return [one.result_or_exc for one in results]
