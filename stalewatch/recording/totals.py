"""All findings and counts, in a form that adds up over periods, workloads and workers."""

from collections.abc import Callable
from dataclasses import dataclass, field

from stalewatch.checkers.judge import Judge
from stalewatch.checkers.verdict import Findings
from stalewatch.recording.attempts import AttemptLog
from stalewatch.recording.recorder import Recorder
from stalewatch.recording.statistics import Statistics


@dataclass
class Totals:
    """Findings, statistics and, during a drill, attempts. Workers share no key, so their totals add up."""

    findings: Findings = field(default_factory=Findings)
    statistics: Statistics = field(default_factory=Statistics)
    attempts: AttemptLog | None = None

    def merge(self, other: "Totals") -> None:
        """Add the totals of another worker, or later ones of the same worker."""
        self.findings.merge(other.findings)
        self.statistics.merge(other.statistics)
        if other.attempts is not None:
            self.attempts = self.attempts or AttemptLog()
            self.attempts.merge(other.attempts)

    @property
    def operations(self) -> int:
        """How many operations were counted."""
        return sum(outcomes.total() for outcomes in self.statistics.outcomes.values())


def no_totals() -> Totals:
    """Return the totals of a run that has not started: one row for each guarantee, without evidence."""
    return Totals(Judge().findings())


class Collector:
    """Drains a recorder in increments, passes each to the watchers, and keeps their sum until `drain`."""

    def __init__(self, recorder: Recorder, attempts: AttemptLog | None = None) -> None:
        self.watchers: list[Callable[[Totals], None]] = []
        self._recorder = recorder
        self._attempts = attempts
        self._totals = Totals()

    def collect(self) -> None:
        """Judge what was recorded since the last call, and pass the new totals to the watchers."""
        new = Totals(*self._recorder.drain(), None if self._attempts is None else self._attempts.drain())
        for watch in self.watchers:
            watch(new)
        self._totals.merge(new)

    def drain(self) -> Totals:
        """Return the totals since the last call."""
        self.collect()
        drained, self._totals = self._totals, Totals()
        return drained
