"""A search for a linearization of a register that only grows: a write at or below its version changes nothing.

An exhaustive search after Wing and Gong ("Testing and verifying concurrent objects", 1993), with Lowe's memoization of
the configurations tried. It can handle about ten operations per key.

Real time is strict here: one operation precedes another when it ended before the other started (``end < start``).
Operations that touch (``end == start``) are concurrent and may take effect in either order.
"""

from collections.abc import Iterable
from functools import cache
from math import inf

from stalewatch.history.operation import Operation, Read, Write

Step = Write | Read


def linearizable(operations: Iterable[Operation], *, overwriting: bool = False) -> bool:
    """Return whether the reads and writes of every key are linearizable; linearizability is local to a key.

    Ok writes take effect between their start and their end, unknown ones any time after their start or never, failed
    ones never. Ok reads return the version current at some point between their start and their end. Other reads, and
    writes without a version, are ignored. An overwriting register holds what was written last, even if it is older;
    its writes wait for each other, so an ok one precedes those of higher versions even if they touch.
    """
    steps = [step for step in operations if isinstance(step, Write | Read) and _can_matter(step)]
    keys = {step.key for step in steps}
    return all(_one_key([step for step in steps if step.key == key], overwriting=overwriting) for key in keys)


def _can_matter(step: Step) -> bool:
    if isinstance(step, Write):
        return step.outcome != "fail" and step.version is not None
    return step.outcome == "ok"


def _must_happen(step: Step) -> bool:
    return step.outcome == "ok"


def _latest(step: Step) -> float:
    """Return the last time at which the step can take effect; the recorded end of an unknown write is no bound."""
    return step.end if step.outcome == "ok" and step.end is not None else inf


def _one_key(steps: list[Step], *, overwriting: bool) -> bool:
    def after(step: Step, version: int) -> int:
        written = step.version or 0
        return version if isinstance(step, Read) else written if overwriting else max(version, written)

    def precedes(one: Step, other: Step) -> bool:
        if overwriting and isinstance(one, Write) and isinstance(other, Write) and one.outcome == "ok":
            return (one.version or 0) < (other.version or 0)
        return _latest(one) < other.start

    @cache
    def rest_is_linearizable(left: frozenset[int], version: int) -> bool:
        if not any(_must_happen(steps[i]) for i in left):
            return True
        return any(
            rest_is_linearizable(left - {i}, after(steps[i], version))
            for i in left
            if not any(precedes(steps[other], steps[i]) for other in left - {i})
            and (isinstance(steps[i], Write) or steps[i].version == version)
        )

    return rest_is_linearizable(frozenset(range(len(steps))), 0)
