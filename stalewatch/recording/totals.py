"""All findings and counts, in a form that adds up over periods, workloads and workers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from stalewatch.checkers.judge import GUARANTEES, Judge
from stalewatch.checkers.verdict import Findings, Verdict
from stalewatch.history.operation import Fault
from stalewatch.recording.attempts import AttemptLog
from stalewatch.recording.recorder import Recorder
from stalewatch.recording.statistics import KINDS, Statistics


class Figures(NamedTuple):
    """What a live view shows of a run so far."""

    now_ns: int
    """The time of the run's clock."""
    outcomes: Mapping[str, tuple[int, int]]
    """By kind: how many operations were ok, and how many were not."""
    violated: Mapping[str, tuple[int, int]]
    """By guarantee: how often it was violated, and how often it was checked."""
    last_ok: Mapping[str, int]
    """By kind: when the newest ok operation ended."""
    faults: Sequence[Fault] = ()
    """The faults that are active."""


def figures_of(
    now_ns: int, parts: Sequence[tuple[Mapping[str, Verdict], Statistics]], faults: Sequence[Fault] = ()
) -> Figures:
    """Return the sum of some parts of a run without a lock, while other threads may count.

    So it iterates over nothing that they change. A count may miss operations that are judged at this moment.
    """
    statistics = [one for _, one in parts]
    outcomes = [one.outcomes for one in statistics]
    return Figures(
        now_ns,
        {
            kind: (
                sum(one[kind]["ok"] for one in outcomes),
                sum(one[kind]["fail"] + one[kind]["unknown"] for one in outcomes),
            )
            for kind in KINDS
        },
        {
            name: (
                sum(verdicts[name].violated for verdicts, _ in parts if name in verdicts),
                sum(verdicts[name].checked for verdicts, _ in parts if name in verdicts),
            )
            for name in GUARANTEES
        },
        {kind: last for kind in KINDS if (last := max(one.last_ok.get(kind, 0) for one in statistics))},
        faults,
    )


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

    def figures(self) -> Figures:
        """Return what was counted so far, cheaply and without a lock."""
        recorder, totals = self._recorder, self._totals
        parts = [
            (recorder.judge.verdicts(), recorder.statistics),
            (totals.findings.verdicts, totals.statistics),
        ]
        figures = figures_of(recorder.clock.now(), parts, recorder.active_faults())
        return figures._replace(last_ok={**figures.last_ok, **recorder.unjudged_ok()})

    def drain(self) -> Totals:
        """Return the totals since the last call."""
        self.collect()
        drained, self._totals = self._totals, Totals()
        return drained
