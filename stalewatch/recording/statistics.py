"""How often and how long: what is counted of operations beside what the judge finds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from stalewatch.checkers.distribution import Distribution
from stalewatch.checkers.verdict import Violation
from stalewatch.history.operation import Append, Draw, Read, Write

KINDS = ("read", "write")

Counted = Read | Write | Append | Draw


class Statistics:
    """Outcomes, errors and latencies by kind: ``read``, or ``write``, also appends and draws; times are of ok ones.

    Statistics of several workers, or of several stretches of time, add up.
    """

    def __init__(self) -> None:
        self.outcomes: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
        self.errors: Counter[tuple[str, str, str]] = Counter()
        """By kind, outcome and error."""
        self.service = {kind: Distribution() for kind in KINDS}
        """From request to answer."""
        self.response = {kind: Distribution() for kind in KINDS}
        """From when the operation was due to the answer; empty in a closed loop."""
        self.stalled = 0
        """Ok operations whose times are left out: this process stood still while they were under way."""
        self.last_ok: dict[str, int] = {}
        """When the newest ok operation of each kind ended."""
        self.seconds: dict[int, Counter[str]] = {}
        """By second of the epoch: outcomes by kind, and violations by guarantee."""

    def count(self, kind: str, operation: Counted, violations: Sequence[Violation], *, stalled: bool) -> None:
        """Count an operation and what it showed."""
        outcome, end = operation.outcome, operation.end
        self.outcomes[kind][outcome] += 1
        second = self.second((end or operation.start) // 1_000_000_000)
        second[f"{kind}_{outcome}"] += 1
        for violation in violations:
            second[violation.guarantee] += 1
        if outcome != "ok":
            self.errors[kind, outcome, operation.error or ""] += 1
        elif end is not None:
            self.last_ok[kind] = end  # operations come in the order of their end
            if stalled:
                self.stalled += 1
                return
            self.service[kind].add(end - operation.start)
            if operation.due is not None:
                self.response[kind].add(end - operation.due)

    def second(self, number: int) -> Counter[str]:
        """Return the counts of that second of the epoch."""
        second = self.seconds.get(number)
        if second is None:
            second = self.seconds[number] = Counter()
        return second

    def merge(self, other: "Statistics") -> None:
        """Add what was counted elsewhere, or later."""
        for kind in KINDS:
            self.outcomes[kind] += other.outcomes[kind]
            self.service[kind].merge(other.service[kind])
            self.response[kind].merge(other.response[kind])
        self.errors += other.errors
        self.stalled += other.stalled
        for kind, end in other.last_ok.items():
            self.last_ok[kind] = max(end, self.last_ok.get(kind, 0))
        for number, counts in other.seconds.items():
            self.second(number).update(counts)

    def figures(self) -> dict[str, Any]:
        """Return what a run's JSON result says of operations, errors and time."""
        return {
            "operations": {
                kind: {one: counts[one] for one in ("ok", "fail", "unknown")} for kind, counts in self.outcomes.items()
            },
            "errors": self.error_rows(),
            "stalled_operations": self.stalled,
            "timeline": self.timeline(),
        }

    def latencies(self) -> Mapping[str, tuple[Distribution, Distribution]]:
        """Return both latencies of each kind of operation: service and response times."""
        return {kind: (self.service[kind], self.response[kind]) for kind in KINDS}

    def error_rows(self) -> list[dict[str, object]]:
        """Return every kind of error with its count, the most frequent first."""
        return [
            {"operation": kind, "outcome": outcome, "error": error, "count": count}
            for (kind, outcome, error), count in self.errors.most_common()
        ]

    def timeline(self) -> list[dict[str, int]]:
        """Return a row a second, from the first operation on: outcomes by kind, and violations by guarantee."""
        if not self.seconds:
            return []
        first, last = min(self.seconds), max(self.seconds)
        return [{"second": number - first, **self.seconds.get(number, {})} for number in range(first, last + 1)]
