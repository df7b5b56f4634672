"""What a worker tells the master: what it found and counted since the last time, and how it is."""

from typing import Any

import msgspec

from stalewatch.checkers.verdict import Distribution, Findings, Freshness, Verdict, Violation
from stalewatch.recording.attempts import AttemptLog
from stalewatch.recording.statistics import KINDS, Stall, Statistics
from stalewatch.recording.totals import Totals

DurationsState = tuple[dict[int, int], bool, int, int]


class VerdictRow(msgspec.Struct, array_like=True):
    """What was found of one guarantee since the last report."""

    name: str
    checked: int
    violated: int
    causes: dict[str, int]
    staleness: DurationsState
    at_least: int
    witnesses: list[Violation]
    applicable: bool
    behind: dict[int, int] = {}
    freshness: dict[int, tuple[int, int]] = {}


class Counts(msgspec.Struct, array_like=True):
    """What was counted since the last report."""

    outcomes: dict[str, dict[str, int]]
    errors: list[tuple[str, str, str, int]]
    service: dict[str, DurationsState]
    response: dict[str, DurationsState]
    stalled: int
    seconds: dict[int, dict[str, int]]
    last_ok: dict[str, int] = {}


class HistoryFile(msgspec.Struct, array_like=True):
    """A file that a worker writes, on its own machine."""

    path: str
    counting_from_ns: int
    """When operations begin to count, after the warm-up."""
    reported: int
    """How many of its operations, from the first on, have been reported with this report or before."""
    finished: bool
    """Whether what is decided at the end only, such as lost writes, has been reported too."""


class Report(msgspec.Struct, array_like=True):
    """One message; `number` rises by one from 0, so that a lost one is noticed."""

    run: str
    worker: int
    number: int
    host: str
    phase: str
    done: float
    total: float
    unit: str
    verdicts: list[VerdictRow]
    counts: Counts
    duplicate_items: int
    phantom_items: int
    stalls: list[Stall]
    settings: dict[str, dict[str, Any]]
    """Driver settings in force, by database."""
    histories: list[HistoryFile]
    clock_error_ns: int | None
    trouble: str | None
    """Why the worker cannot go on, or what of the run went wrong there."""
    exit_code: int
    """What the trouble makes of the exit code."""
    last: bool
    """Nothing comes after this: the worker's share of the run is done."""
    whole: bool
    """Nothing went wrong that would leave a part of the share out."""
    beyond: dict[str, Any]
    """What workloads know beyond the guarantees; with the last report only."""
    counting_from_ns: int | None
    """When the first of its operations began to count, by the master's clock."""
    metrics: str | None = None
    """Where the worker serves its metrics, as HOST:PORT."""
    evidence: dict[str, Any] | None = None
    """What a drill's figures are made of, packed, where there is one."""

    @property
    def operations(self) -> int:
        """How many operations were counted since the last report."""
        return sum(sum(outcomes.values()) for outcomes in self.counts.outcomes.values())

    def totals(self) -> Totals:
        """Return what was found and counted, to be added up."""
        attempts = None if self.evidence is None else AttemptLog.unpacked(self.evidence)
        return Totals(self._findings(), self._statistics(), attempts)

    def _findings(self) -> Findings:
        return Findings(
            {row.name: _verdict(row) for row in self.verdicts},
            duplicate_items=self.duplicate_items,
            phantom_items=self.phantom_items,
        )

    def _statistics(self) -> Statistics:
        statistics, counts = Statistics(), self.counts
        for kind in KINDS:
            statistics.outcomes[kind].update(counts.outcomes[kind])
            statistics.service[kind] = Distribution.restored(*counts.service[kind])
            statistics.response[kind] = Distribution.restored(*counts.response[kind])
        statistics.errors.update({(kind, outcome, error): times for kind, outcome, error, times in counts.errors})
        statistics.stalled = counts.stalled
        statistics.last_ok.update(counts.last_ok)
        for second, numbers in counts.seconds.items():
            statistics.second(second).update(numbers)
        return statistics


def verdict_rows(findings: Findings) -> list[VerdictRow]:
    """Return the rows of the guarantees of which something was found."""
    return [
        VerdictRow(
            verdict.name,
            verdict.checked,
            verdict.violated,
            verdict.causes,
            verdict.staleness.state(),
            verdict.at_least,
            verdict.witnesses,
            verdict.applicable,
            verdict.behind,
            verdict.freshness.state(),
        )
        for verdict in findings.verdicts.values()
        if verdict.checked or verdict.causes or not verdict.applicable  # causes alone are a correction
    ]


def counts_of(statistics: Statistics) -> Counts:
    """Return the statistics as they travel."""
    return Counts(
        {kind: dict(counts) for kind, counts in statistics.outcomes.items()},
        [(*name, times) for name, times in statistics.errors.items()],
        {kind: times.state() for kind, times in statistics.service.items()},
        {kind: times.state() for kind, times in statistics.response.items()},
        statistics.stalled,
        {second: dict(numbers) for second, numbers in statistics.seconds.items()},
        statistics.last_ok,
    )


def _verdict(row: VerdictRow) -> Verdict:
    verdict = Verdict(row.name, row.checked, row.violated, at_least=row.at_least, applicable=row.applicable)
    verdict.causes.update(row.causes)
    verdict.behind.update(row.behind)
    verdict.staleness = Distribution.restored(*row.staleness)
    verdict.freshness = Freshness.restored(row.freshness)
    verdict.witnesses = row.witnesses
    return verdict


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Report).decode
