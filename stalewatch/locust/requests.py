"""Operations as Locust's requests, and violations as rows of their own in Locust's statistics."""

from collections.abc import Callable, Sequence

from locust.env import Environment
from locust.stats import StatsError

from stalewatch.checkers.verdict import Violation
from stalewatch.clients.protocol import Levels
from stalewatch.history.operation import Append, Draw, Fault, Operation, Read, Write
from stalewatch.recording.statistics import StallDetector

VIOLATION = "violation"
"""The type under which Locust shows broken guarantees."""


class Requests:
    """Tells Locust of every operation, once it is judged.

    An operation that was under way while this process stood still has no response time: it would be ours.
    """

    def __init__(self, environment: Environment, database: str, levels: Levels, stalls: StallDetector) -> None:
        self._environment = environment
        self._fire: Callable[..., None] = environment.events.request.fire
        self._database = database
        self._names: dict[type[Operation], str] = {
            Read: f"read {levels.read}",
            Write: f"write {levels.write}",
            Append: f"append {levels.write}",
            Draw: f"draw {levels.write}",
        }
        self._stalls = stalls

    def on_operation(self, operation: Operation, violations: Sequence[Violation]) -> None:
        """Tell of an operation and of what it broke."""
        name = self._names.get(type(operation))
        if name is not None and not isinstance(operation, Fault):
            end = operation.end
            timed = end is not None and not self._stalls.overlaps(operation.start, end)
            self._fire(
                request_type=self._database,
                name=name,
                response_time=(end - operation.start) / 1e6 if timed and end is not None else None,
                response_length=0,
                exception=None if operation.outcome == "ok" else f"{operation.outcome}: {operation.error}",
                context={},
            )
        if violations:
            self.on_end(violations)

    def on_end(self, violations: Sequence[Violation]) -> None:
        """Count violations, each guarantee in a row of its own that adds nothing to Locust's totals."""
        stats = self._environment.stats
        for violation in violations:
            name, cause = violation.guarantee, violation.cause or "violated"
            entry = stats.get(name, VIOLATION)
            staleness_ns = violation.staleness_ns
            entry.log(None if staleness_ns is None else staleness_ns / 1e6, 0)  # type: ignore[arg-type] # as requests without a time are logged
            entry.log_error(None)
            key = StatsError.create_key(VIOLATION, name, cause)
            error = stats.errors.get(key)
            if error is None:
                error = stats.errors[key] = StatsError(VIOLATION, name, cause)
            error.occurred()
