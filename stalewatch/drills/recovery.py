"""What a drill measured, from the attempt log: recovery times, lost writes, and the phases before, during and after.

The first success after a fault would be the wrong measure of recovery: a primary that was cut off acknowledges writes
for seconds more, and these may be lost later. So the longest gap between two successes counts, wherever it lies.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import pairwise
from typing import Any, NamedTuple

from stalewatch.checkers.verdict import Distribution
from stalewatch.history.operation import Fault, Outcome
from stalewatch.recording.attempts import NEVER, AttemptLog, Attempts, LostWrite

NS = 1_000_000_000
WINDOW_NS = 3 * NS
"""How long service must be good to count as recovered."""

GOOD_PERCENT = 99
"""The share of attempts that must be ok."""

KINDS = ("read", "write")


class Gap(NamedTuple):
    """The time between two consecutive successes."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Its length."""
        return self.end - self.start


@dataclass(frozen=True)
class Recovery:
    """How one kind of operation recovered, in seconds; None if it never did, or that is unknown."""

    rto_s: float | None
    sustained_rto_s: float | None
    sustained_known: bool
    """Whether None means that service was never good for long; the load may have ended too early to tell."""

    degraded_s: int
    gap: Gap | None
    meanwhile: dict[str, int]
    """Attempts that ended within the gap, by outcome."""


NO_FAULT = Recovery(None, None, sustained_known=False, degraded_s=0, gap=None, meanwhile={})
"""The recovery if nothing was broken."""


def recovery(attempts: Sequence[Attempts], fault_start: int, run_end: int) -> Recovery:
    """Return how operations recovered from a fault that started then, in a run that ended then."""
    ends = sorted(end for one in attempts for end in one.ends)
    ok = sorted(end for one in attempts if one.outcome == "ok" for end in one.ends)
    gap, failed = longest_gap(ends, ok, fault_start, run_end), _failed(attempts, fault_start, run_end)
    sustained = gap and (sustained_from(ends, ok, gap.end, run_end) if failed else gap.end)
    return Recovery(
        None if gap is None else gap.length / NS,
        None if gap is None or sustained is None else (sustained - gap.start) / NS,
        sustained is not None or (failed and (gap is None or gap.end + WINDOW_NS <= run_end)),
        degraded(attempts, fault_start, run_end),
        gap,
        {} if gap is None else outcomes(attempts, gap.start, gap.end),
    )


def _failed(attempts: Sequence[Attempts], fault_start: int, run_end: int) -> bool:
    """Return whether any attempt in that time ended other than ok, or never: else there is nothing to recover from."""
    return any(
        start <= run_end and end >= fault_start
        for one in attempts
        if one.outcome != "ok"
        for start, end in zip(one.starts, one.ends, strict=True)
    )


def longest_gap(ends: Sequence[int], ok: Sequence[int], fault_start: int, run_end: int) -> Gap | None:
    """Return the longest gap that overlaps the time from the fault on; None if a longer silence never ended.

    `ends` are the ends of all attempts, `ok` those of the successes, both sorted; `run_end` is when sessions were told
    to stop. The time after the last success counts as silence only if a later attempt failed: if all went well, the
    last read may end before the last write by more than the time between any two reads.
    """
    first = max(0, bisect_right(ok, fault_start) - 1)
    gaps = [Gap(*pair) for pair in pairwise(ok[first:])]
    longest = max(gaps, key=lambda gap: gap.length, default=None)
    silence = run_end - ok[-1] if ok and ends[-1] > ok[-1] else 0
    return None if longest is None or silence > longest.length else longest


def sustained_from(ends: Sequence[int], ok: Sequence[int], gap_end: int, run_end: int) -> int | None:
    """Return the start of the first good window that starts at or after the gap's end; None if there is none.

    `ends` are the ends of all attempts, `ok` those of the successes, both sorted. What a window holds changes only when
    an attempt leaves it, right after its end, or enters it, right after its end less the window. So only these starts
    need a look, in their order.
    """
    return next((start for start in _starts(ends, gap_end, run_end) if _is_good(ends, ok, start)), None)


def _starts(ends: Sequence[int], gap_end: int, run_end: int) -> Iterator[int]:
    known = ends[bisect_left(ends, gap_end) :]
    leaves = (end + 1 for end in known)
    enters = (end - WINDOW_NS + 1 for end in known)
    for start in merge([gap_end], leaves, enters):
        if start > run_end - WINDOW_NS:
            return
        if start >= gap_end:
            yield start


def _is_good(ends: Sequence[int], ok: Sequence[int], start: int) -> bool:
    attempts = _within(ends, start, start + WINDOW_NS)
    return attempts > 0 and _good(_within(ok, start, start + WINDOW_NS), attempts)


def _good(ok: int, attempts: int) -> bool:
    return 100 * ok >= GOOD_PERCENT * attempts  # in integers: no float is exactly 0.99


def _within(moments: Sequence[int], start: int, end: int) -> int:
    """Return how many moments lie in [start, end)."""
    return bisect_left(moments, end) - bisect_left(moments, start)


def degraded(attempts: Sequence[Attempts], fault_start: int, run_end: int) -> int:
    """Return how many of the seconds from the fault on were below 99 %.

    A second in which no attempt ended counts if one that failed was in flight: in an outage all of them may be waiting.
    """
    ended: Counter[int] = Counter()
    ok: Counter[int] = Counter()
    waited: set[int] = set()
    last = (run_end - fault_start) // NS
    for one in attempts:
        for start, end in zip(one.starts, one.ends, strict=True):
            second = (end - fault_start) // NS
            if one.outcome != "ok":
                waited.update(range(max(0, (start - fault_start) // NS), min(second, last + 1)))
            if 0 <= second <= last:
                ended[second] += 1
                ok[second] += one.outcome == "ok"
    bad = {second for second, count in ended.items() if not _good(ok[second], count)}
    return len(bad | (waited - ended.keys()))


def outcomes(attempts: Iterable[Attempts], start: int, end: int) -> dict[str, int]:
    """Return how many attempts ended between two moments, by outcome."""
    counts: dict[Outcome, int] = dict.fromkeys(("ok", "fail", "unknown"), 0)
    for one in attempts:
        counts[one.outcome] += sum(start < moment < end for moment in one.ends)
    return {str(outcome): count for outcome, count in counts.items()}


class LoadTimes(NamedTuple):
    """When operations began to count, and when the sessions were told to stop (ns)."""

    start: int
    end: int


class Phase(NamedTuple):
    """A part of the run: the operations that started at or after its start and before its end."""

    name: str
    start: int
    end: int


def figures(log: AttemptLog, faults: Sequence[Fault], load: LoadTimes, *, read_finally: bool) -> dict[str, Any]:
    """Return the figures of a drill as fields of its JSON result; the names of some are fixed by the file format.

    `read_finally` tells whether every written key was read at the end.
    """
    first = min((one.start for one in faults), default=None)
    return {
        "faults": [_fault(one, load) for one in faults],
        "recovery": {kind: _recovery(_of(log, kind), first, load) for kind in KINDS},
        "rpo": _rpo(log, read_finally=read_finally),
        "phases": {phase.name: _phase(log, phase) for phase in _phases(faults)} if faults else {},
    }


def _of(log: AttemptLog, kind: str) -> list[Attempts]:
    return [one for one in log.attempts.values() if one.kind == kind]


def _fault(fault: Fault, load: LoadTimes) -> dict[str, Any]:
    return {
        "fault": fault.fault,
        "node": fault.node,
        "start": fault.start,
        "end": fault.end,
        "start_s": (fault.start - load.start) / NS,
        "end_s": None if fault.end is None else (fault.end - load.start) / NS,
    }


def _recovery(attempts: Sequence[Attempts], fault_start: int | None, load: LoadTimes) -> dict[str, Any]:
    found = NO_FAULT if fault_start is None else recovery(attempts, fault_start, load.end)
    return {
        "rto_s": found.rto_s,
        "sustained_rto_s": found.sustained_rto_s,
        "sustained_known": found.sustained_known,
        "degraded_s": found.degraded_s,
        "attempts": sum(len(one.ends) for one in attempts),
        "gap": None if found.gap is None else list(found.gap),
        "meanwhile": found.meanwhile,
    }


def _rpo(log: AttemptLog, *, read_finally: bool) -> dict[str, Any]:
    """Return how many acknowledged writes were lost, which, and over how long a time.

    Superseded writes are counted apart: the register was already newer when they came, so they had no state to lose.
    """
    lost = [loss for loss in log.losses if not loss.superseded]
    ends = [loss.end for loss in lost if loss.end is not None]
    all_timed = len(ends) == len(lost)  # the times of losses older than the judge's horizon are unknown
    return {
        "lost_writes": len(lost) if read_finally or lost else None,
        "span_s": (max(ends) - min(ends)) / NS if ends and all_timed else None,
        "exact": read_finally and not log.registers,
        "superseded": len(log.losses) - len(lost),
        "lost_items": sum(loss.item for loss in lost) if read_finally else None,
        "appended": log.appended,
        "items": [_loss(loss) for loss in sorted(lost, key=lambda loss: loss.end or 0)],
    }


def _loss(loss: LostWrite) -> dict[str, Any]:
    return {"key": loss.key, "lost": loss.what, "start": loss.start, "end": loss.end}


def _phases(faults: Sequence[Fault]) -> Iterable[Phase]:
    begun = min(one.start for one in faults)
    healed = max(NEVER if one.end is None else one.end for one in faults)
    return Phase("before", 0, begun), Phase("during", begun, healed), Phase("after", healed, NEVER)


def _phase(log: AttemptLog, phase: Phase) -> dict[str, Any]:
    def within(moment: int) -> bool:
        return phase.start <= moment < phase.end

    return {
        "operations": {kind: _started(_of(log, kind), phase) for kind in KINDS},
        "latency_ms": {kind: _latency(_of(log, kind), phase) for kind in KINDS},
        "violations": {name: sum(map(within, starts)) for name, starts in log.violations.items()},
    }


def _started(attempts: Sequence[Attempts], phase: Phase) -> Mapping[str, int]:
    return outcomes([one._replace(ends=one.starts) for one in attempts], phase.start - 1, phase.end)


def _latency(attempts: Sequence[Attempts], phase: Phase) -> dict[str, float | None]:
    """Return the mean and percentiles of the ok operations' service times, in milliseconds."""
    times = Distribution()
    for one in attempts:
        if one.outcome == "ok":
            for start, end in zip(one.starts, one.ends, strict=True):
                if phase.start <= start < phase.end:
                    times.add(end - start)
    if not times.count:
        return dict.fromkeys(("avg", "p50", "p95"))
    p50, p95 = times.quantiles_ns(0.5, 0.95)
    return {"avg": times.mean_ns / 1e6, "p50": p50 / 1e6, "p95": p95 / 1e6}
