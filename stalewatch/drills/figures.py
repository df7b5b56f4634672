"""What a drill measured, as its JSON says it: recovery, what was lost, and what was seen before, during and after.

The field names that SEMANTICS gives a drill's result are fixed; the others stand beside them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from stalewatch.checkers.verdict import Distribution
from stalewatch.drills.recovery import NOTHING, NS, outcomes, recovery
from stalewatch.history.operation import Fault
from stalewatch.recording.attempts import NEVER, AttemptLog, Attempts, LostWrite

KINDS = ("read", "write")


class Load(NamedTuple):
    """When operations began to count, and when the sessions were told to end."""

    begun: int
    ended: int


class Phase(NamedTuple):
    """A part of the run, by when operations started: from its first moment until before its last."""

    name: str
    start: int
    end: int


def figures(log: AttemptLog, faults: Sequence[Fault], load: Load, *, read_finally: bool) -> dict[str, Any]:
    """Return what the log says of the faults; `read_finally` says that every written key was read in the end."""
    broken = min((one.start for one in faults), default=None)
    return {
        "faults": [_fault(one, load) for one in faults],
        "recovery": {kind: _recovery(log, kind, broken, load) for kind in KINDS},
        "rpo": _rpo(log, read_finally=read_finally),
        "phases": {phase.name: _phase(log, phase) for phase in _phases(faults)} if faults else {},
    }


def _of(log: AttemptLog, kind: str) -> list[Attempts]:
    return [one for one in log.attempts.values() if one.kind == kind]


def _fault(fault: Fault, load: Load) -> dict[str, Any]:
    return {
        "fault": fault.fault,
        "node": fault.node,
        "start": fault.start,
        "end": fault.end,
        "start_s": (fault.start - load.begun) / NS,
        "end_s": None if fault.end is None else (fault.end - load.begun) / NS,
    }


def _recovery(log: AttemptLog, kind: str, broken: int | None, load: Load) -> dict[str, Any]:
    attempts = _of(log, kind)
    found = NOTHING if broken is None else recovery(attempts, broken, load.ended)
    return {
        "rto_s": found.rto_s,
        "sustained_rto_s": found.sustained_rto_s,
        "degraded_s": found.degraded_s,
        "attempts": sum(len(one.ends) for one in attempts),
        "gap": None if found.gap is None else list(found.gap),
        "meanwhile": found.meanwhile,
    }


def _rpo(log: AttemptLog, *, read_finally: bool) -> dict[str, Any]:
    """Return how many acknowledged writes are gone, which, and from how long a time.

    A superseded write is told apart: the register was newer already when it came, so it had no state to lose.
    """
    lost = [loss for loss in log.losses if not loss.superseded]
    ends = [loss.end for loss in lost if loss.end is not None]
    placed = len(ends) == len(lost)  # of those older than the judge's horizon the times are forgotten
    return {
        "lost_writes": len(lost) if read_finally or lost else None,
        "span_s": (max(ends) - min(ends)) / NS if ends and placed else None,
        "exact": read_finally and not log.registers,
        "superseded": len(log.losses) - len(lost),
        "lost_items": sum(loss.item for loss in lost) if read_finally else None,
        "appended": log.appended,
        "items": [_item(loss) for loss in sorted(lost, key=lambda loss: loss.end or 0)],
    }


def _item(loss: LostWrite) -> dict[str, Any]:
    return {"key": loss.key, "lost": loss.what, "start": loss.start, "end": loss.end}


def _phases(faults: Sequence[Fault]) -> Iterable[Phase]:
    broken = min(one.start for one in faults)
    healed = max(NEVER if one.end is None else one.end for one in faults)
    return Phase("before", 0, broken), Phase("during", broken, healed), Phase("after", healed, NEVER)


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
    """Return average and percentiles of the ok operations' service times, in milliseconds."""
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
