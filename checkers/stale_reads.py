"""stale_reads: a read shows at least the newest acknowledged write of its key that ended before the read started.

This is the recency of a linearizable register (Herlihy and Wing 1990), counted read by read.
"""

from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from stalewatch.checkers.guarantee import FloorGuarantee, JudgeContext, Register, SessionView
from stalewatch.checkers.verdict import AGE_EDGES_NS, WITNESSES, Violation
from stalewatch.history.operation import Final, Operation, Read


class _Floor(NamedTuple):
    """The write that set the floor of stale reads."""

    version: int
    end: int
    source: int


class _FinalState(NamedTuple):
    """What a key's last ok final read holds, and when it started."""

    held: int
    start: int
    source: int


class _LaggingReads:
    """How many reads of a key had the cause ``lag``, by the write that set their floor.

    Which of those writes are lost is known at the end only, and depends on what the final read holds: any of them may
    be. So all are kept, except that writes older than the horizon are put together as one range of versions a source.
    If such a range is lost as a whole, as after a wipe, it still counts; if what the final read holds falls into it,
    its reads remain ``lag``. So beyond the horizon ``lost`` is a lower bound.
    """

    __slots__ = ("_horizon_ns", "_limit", "_old", "_recent")

    SLACK = 64

    def __init__(self, horizon_ns: int) -> None:
        self._horizon_ns = horizon_ns
        self._limit = self.SLACK
        self._recent: dict[_Floor, int] = {}
        self._old: dict[int, tuple[int, int, int]] = {}
        """By source: the least version, the newest end, and the number of reads."""

    def add(self, floor: _Floor, start: int) -> None:
        """Count a read that started then."""
        self._recent[floor] = self._recent.get(floor, 0) + 1
        if len(self._recent) > self._limit:
            self._put_together(start - self._horizon_ns)

    def _put_together(self, before: int) -> None:
        for floor in [floor for floor in self._recent if floor.end < before]:
            least, end, reads = self._old.get(floor.source, (floor.version, floor.end, 0))
            reads += self._recent.pop(floor)
            self._old[floor.source] = min(least, floor.version), max(end, floor.end), reads
        self._limit = 2 * len(self._recent) + self.SLACK

    def floors(self) -> Iterable[tuple[_Floor, int]]:
        """Yield floors and their numbers of reads; an old range stands for all of its writes if its ends are lost."""
        yield from self._recent.items()
        for source, (least, end, reads) in self._old.items():
            yield _Floor(least, end, source), reads


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
        self._lagging: dict[str, _LaggingReads] = {}
        self._finals: dict[str, _FinalState] = {}
        self._first: list[tuple[Violation, _Floor]] = []
        """The first violations, drained or not: no sum of verdicts shows others of this judge as witnesses."""

    def floor(self, read: Read, register: Register, view: SessionView, source: int) -> int:
        """Return the newest version acknowledged before the read started, and count the read by its age."""
        start = read.start
        floor, end = register.acknowledged.floor_and_end(start, source)
        if floor > 0:
            self.verdict.freshness.checked[bisect_right(AGE_EDGES_NS, start - end)] += 1
        return floor

    def violation(self, read: Read, version: int, register: Register, view: SessionView, source: int) -> Violation:
        """Return the first write that made the version old, the newest write before the read, and the read."""
        stairs = register.acknowledged
        (floor, end), newest = stairs.floor_and_end(read.start, source), stairs.floor_operation(read.start, source)
        first = stairs.first_above(version, read.start, source)
        assert first is not None  # noqa: S101 # the floor is above the version
        assert newest is not None  # noqa: S101 # it set the floor
        proof: list[Operation] = [first.operation, read]
        if newest is not first.operation:
            proof.insert(1, newest)
        hidden = any(sibling >= floor for sibling in read.siblings or ())
        violation = Violation(
            self.name,
            tuple(proof),
            cause="conflict" if hidden else "lag",
            staleness_ns=read.start - first.end,
            staleness_exact=first.exact,
            versions_behind=floor - version,
            age_ns=read.start - end,
        )
        self._remember(violation, read, _Floor(floor, end, stairs.floor_source(read.start, source)))
        return violation

    def _remember(self, violation: Violation, read: Read, floor: _Floor) -> None:
        if len(self._first) < WITNESSES:
            self._first.append((violation, floor))
        if violation.cause == "lag":
            lagging = self._lagging.get(read.key)
            if lagging is None:
                lagging = self._lagging[read.key] = _LaggingReads(self.context.horizon_ns)
            lagging.add(floor, read.start)

    def on_final(self, final: Final, register: Register, source: int) -> None:
        """Remember what the key holds in the end."""
        if final.version is not None:
            self._finals[final.key] = _FinalState(max(final.version, *(final.siblings or ()), 0), final.start, source)

    def finish(self) -> Iterable[Violation]:
        """Move the reads whose floor is lost from the cause ``lag`` to ``lost``; they are no new violations."""
        lost = sum(
            reads
            for key, lagging in self._lagging.items()
            for floor, reads in lagging.floors()
            if self._is_lost(key, floor)
        )
        if lost:
            witnesses = [
                violation._replace(cause="lost")
                for violation, floor in self._first
                if violation.cause == "lag" and self._is_lost(_key(violation), floor)
            ]
            self.verdict.correct_cause("lag", "lost", lost, witnesses)
        self._lagging.clear()
        return ()

    def _is_lost(self, key: str, floor: _Floor) -> bool:
        final = self._finals.get(key)
        if final is None:
            return False
        margin = self.context.margin(floor.source, final.source)
        return floor.version > final.held and margin is not None and floor.end < final.start - margin


def _key(violation: Violation) -> str:
    read = violation.operations[-1]
    assert isinstance(read, Read)  # noqa: S101 # as `violation` made it
    return read.key
