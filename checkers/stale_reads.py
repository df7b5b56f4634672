"""stale_reads: a read shows at least the newest acknowledged write of its key that ended before the read started.

This is the recency of a linearizable register (Herlihy and Wing 1990), counted read by read.
"""

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from stalewatch.checkers.guarantee import FloorGuarantee, JudgeContext, Register, SessionView
from stalewatch.checkers.verdict import AGE_EDGES_NS, WITNESSES, Violation
from stalewatch.history.operation import Final, Read

REMEMBERED = 50
"""How many of the newest witnesses that were drained can be corrected in the end."""

_Floor = tuple[str, int, int, int]
"""The write that set the floor of a stale read: its key, version, end and source."""


class _FinalState(NamedTuple):
    """What a key's last ok final read holds, and when it started."""

    held: int
    start: int
    source: int


class _OldFloors(NamedTuple):
    """Floors of one key and source that are older than the horizon: version, end, and number of reads of each."""

    versions: "array[int]"
    ends: "array[int]"
    reads: "array[int]"


def _fits(floor: _Floor) -> bool:
    """Return whether its version and end fit 64 bits, as all but forged ones do."""
    _, version, end, _ = floor
    return version < 1 << 63 and -(1 << 63) <= end < 1 << 63


class _LaggingReads:
    """Counts the reads whose cause is ``lag``, for each write that set a floor.

    Whether such a write was lost is known only after the final reads, so every count is kept. Writes older than the
    horizon rarely get more reads; they are packed into 24 bytes each.
    """

    __slots__ = ("_horizon_ns", "_limit", "_old", "_recent")

    SLACK = 1024

    def __init__(self, horizon_ns: int) -> None:
        self._horizon_ns = horizon_ns
        self._limit = self.SLACK
        self._recent: dict[_Floor, int] = {}
        self._old: dict[tuple[str, int], _OldFloors] = {}
        """By key and source."""

    def add(self, floor: _Floor, start: int) -> None:
        """Count a read that started then."""
        recent = self._recent
        recent[floor] = recent.get(floor, 0) + 1
        if len(recent) > self._limit:
            self._pack(start - self._horizon_ns)

    def _pack(self, before: int) -> None:
        for floor in [floor for floor in self._recent if floor[2] < before and _fits(floor)]:
            key, version, end, source = floor
            old = self._old.get((key, source))
            if old is None:
                old = self._old[key, source] = _OldFloors(array("q"), array("q"), array("q"))
            old.versions.append(version)
            old.ends.append(end)
            old.reads.append(self._recent.pop(floor))
        self._limit = 2 * len(self._recent) + self.SLACK

    def floors(self) -> Iterable[tuple[_Floor, int]]:
        """Yield floors and their numbers of reads."""
        yield from self._recent.items()
        for (key, source), old in self._old.items():
            for version, end, reads in zip(*old, strict=True):
                yield (key, version, end, source), reads


class StaleReads(FloorGuarantee):
    """Compares every ok read with the acknowledged writes of all sessions.

    The cause ``lost`` is exact for the same reason as lost_writes: the floor's version is above everything that the
    key's last ok final read holds, and its write had certainly ended before that final read started, so the write is
    lost, and no replica was merely behind. A final read without that proof says nothing. Example: w(1) ok, w(2) ok, a
    read of 1, a final read of 1: the primary that had taken 2 was rolled back, and waiting would not have helped; with
    a final read of 2, it was lag. If the final read started before w(2) ended, it proves nothing, and it remains lag.

    Since it is known at the end only, the reads count as ``lag`` until then, and `finish` moves them. What was drained
    in between is corrected by the last verdict: its causes are {lag: -n, lost: n}, which adds up to the right numbers
    in whatever order verdicts are merged.
    """

    name = "stale_reads"

    def __init__(self, context: JudgeContext) -> None:
        super().__init__(context)
        self._lagging = _LaggingReads(context.horizon_ns)
        self._finals: dict[str, _FinalState] = {}
        self._first: list[tuple[Violation, _Floor]] = []
        """The first violations, drained or not: no sum of verdicts shows others of this judge as witnesses."""
        self._newest: deque[tuple[Violation, _Floor]] = deque(maxlen=REMEMBERED)
        """The newest ones of the later violations that are witnesses of a drained verdict."""

    def floor(self, read: Read, register: Register, view: SessionView, source: int) -> int:
        """Return the newest version acknowledged before the read started, and count the read by its age."""
        start, stairs = read.start, register.acknowledged
        end = stairs.top_end
        if end < start:  # most reads start after the last step: without a call, for speed
            floor = stairs.top
        else:
            floor, end = stairs.floor_and_end(start, source)
        if floor > 0:
            self.verdict.freshness.checked[bisect_right(AGE_EDGES_NS, start - end)] += 1
        return floor

    def violation(self, read: Read, version: int, register: Register, view: SessionView, source: int) -> Violation:
        """Return the first write that made the version old, the newest write before the read, and the read."""
        stairs = register.acknowledged
        start, siblings = read.start, read.siblings
        (floor, end), newest = stairs.floor_and_end(start, source), stairs.floor_operation(start, source)
        first = stairs.first_above(version, start, source)
        assert first is not None  # noqa: S101 # the floor is above the version
        assert newest is not None  # noqa: S101 # it set the floor
        older = first.operation
        proof = (older, read) if newest is older else (older, newest, read)
        cause = "conflict" if siblings and max(siblings) >= floor else "lag"
        stale_ns, behind = start - first.end, floor - version
        violation = Violation(self.name, proof, cause, stale_ns, first.exact, behind, start - end)
        floor_write = (read.key, floor, end, stairs.floor_source(start, source))
        if cause == "lag":
            self._lagging.add(floor_write, start)
        if len(self._first) < WITNESSES:
            self._first.append((violation, floor_write))
        elif len(self.verdict.witnesses) < WITNESSES:
            self._newest.append((violation, floor_write))
        return violation

    def on_final(self, final: Final, register: Register, source: int) -> None:
        """Remember what the key holds in the end."""
        if final.version is not None:
            self._finals[final.key] = _FinalState(max(final.version, *(final.siblings or ()), 0), final.start, source)
        else:
            self._finals.pop(final.key, None)

    def finish(self) -> Iterable[Violation]:
        """Move the reads whose floor is lost from the cause ``lag`` to ``lost``; they are no new violations."""
        lost = sum(reads for floor, reads in self._lagging.floors() if self._is_lost(floor))
        if lost:
            witnesses = [
                violation._replace(cause="lost")
                for violation, floor in (*self._first, *self._newest)
                if violation.cause == "lag" and self._is_lost(floor)
            ]
            self.verdict.correct_cause("lag", "lost", lost, witnesses)
        self._lagging = _LaggingReads(self.context.horizon_ns)
        return ()

    def _is_lost(self, floor: _Floor) -> bool:
        key, version, end, source = floor
        final = self._finals.get(key)
        if final is None:
            return False
        margin = self.context.margin(source, final.source)
        return version > final.held and margin is not None and end < final.start - margin
