"""lost_writes: an acknowledged write is still there at the end.

For registers the count is a lower bound, since a surviving newer version covers an older loss. For lists it is exact.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from stalewatch.checkers.guarantee import Guarantee, JudgeContext, Register
from stalewatch.checkers.item_list import ItemList
from stalewatch.checkers.verdict import Violation
from stalewatch.history.operation import Append, Final, Write
from stalewatch.history.rules import NEVER, VersionRanges


class AcknowledgedWrites:
    """A register's acknowledged writes from one source: every version as ranges, and the recent operations by end.

    A final read must not count the writes that ended after it started. Those are among the recent ones unless the read
    took longer than the horizon; then nothing can be concluded.
    """

    __slots__ = ("_dropped_until", "_horizon_ns", "_limit", "_recent", "_versions", "source")

    SLACK = 64

    def __init__(self, horizon_ns: int, source: int) -> None:
        self.source = source
        self._horizon_ns = horizon_ns
        self._limit = self.SLACK
        self._dropped_until = NEVER
        self._versions = VersionRanges()
        self._recent: list[Write] = []

    def add(self, write: Write, version: int, end: int) -> None:
        """Add an ok write; writes come in the order of their end."""
        self._versions.add(version)
        self._recent.append(write)
        if len(self._recent) > self._limit:
            self._drop(end - self._horizon_ns)

    def __contains__(self, version: int) -> bool:
        """Return whether a write of that version was added."""
        return version in self._versions

    def _drop(self, before: int) -> None:
        dropped = bisect_left(self._recent, before, key=_end)
        if dropped:
            self._dropped_until = _end(self._recent[dropped - 1])
            del self._recent[:dropped]
        self._limit = len(self._recent) * 5 // 4 + self.SLACK

    def missing(self, held: int, before: int) -> tuple[int, int, list[Write]] | None:
        """Return of the writes that ended before that time: how many, how many above `held`, and those still known.

        Return None if it is unknown which ended before.
        """
        if before <= self._dropped_until:
            return None
        count = bisect_left(self._recent, before, key=_end)
        after = self._recent[count:]
        lost = self._versions.above(held) - sum(_version(write) > held for write in after)
        known = [write for write in self._recent[:count] if _version(write) > held] if lost else []
        return len(self._versions) - len(after), lost, known


def _end(write: Write) -> int:
    assert write.end is not None  # noqa: S101 # it was acknowledged
    return write.end


def _version(write: Write) -> int:
    assert write.version is not None  # noqa: S101 # it was acknowledged
    return write.version


class _Comparison(NamedTuple):
    """A final read compared with the writes of one source that ended before it: how many, and which it misses."""

    final: Final
    checked: int
    lost: int
    known: list[Write]


LISTS_BEGIN = 1 << 62
"""Added to the places of lists, which come after all registers."""


class LostWrites(Guarantee):
    """Compares the acknowledged writes with the last ok final read of each key."""

    name = "lost_writes"

    def __init__(self, context: JudgeContext) -> None:
        super().__init__(context)
        self._comparisons: dict[str, tuple[int, list[_Comparison]]] = {}
        """With the place of the first of the final reads that replaced each other."""
        self._lists: dict[ItemList, int] = {}
        """Since which place."""

    def on_acknowledged(self, write: Write, version: int, end: int, register: Register, source: int) -> None:
        """Remember an acknowledged version."""
        for writes in register.acknowledged_writes:
            if writes.source == source:
                break
        else:
            writes = AcknowledgedWrites(self.context.horizon_ns, source)
            register.acknowledged_writes = (*register.acknowledged_writes, writes)
        writes.add(write, version, end)

    def on_append(self, append: Append, register: Register, source: int) -> None:
        """Remember an item."""
        if register.items is None:
            register.items = ItemList()
        register.items.add(append, source)

    def on_final(self, final: Final, register: Register, source: int) -> None:
        """Compare with the acknowledged writes so far; a later final read of the key replaces the comparison."""
        if final.items is not None:
            items = register.items = register.items or ItemList()
            items.last = final, source
            self._lists.setdefault(items, self.context.place.number)
        elif register.items is not None:  # the last one counts, even if it shows no list
            register.items.last = None
        if final.version is not None:
            place = self._comparisons.get(final.key, (self.context.place.number,))[0]
            self._comparisons[final.key] = place, list(self._compare(final, final.version, register, source))
        else:
            self._comparisons.pop(final.key, None)

    def _compare(self, final: Final, version: int, register: Register, source: int) -> Iterator[_Comparison]:
        held = max(version, *(final.siblings or ()), 0)
        for writes in register.acknowledged_writes:
            margin = self.context.margin(writes.source, source)
            missing = None if margin is None else writes.missing(held, final.start - margin)
            if missing is not None:
                yield _Comparison(final, *missing)

    def finish(self) -> Iterable[Violation]:
        """Return the writes and items that the last final reads miss."""
        for place, comparisons in self._comparisons.values():
            self.context.place.number = place
            for comparison in comparisons:
                yield from self._lost(comparison)
        for items, place in self._lists.items():
            self.context.place.number = LISTS_BEGIN + place
            yield from self._lost_items(items)
        self._comparisons.clear()
        self._lists.clear()

    def _lost_items(self, items: ItemList) -> Iterator[Violation]:
        """Yield the acknowledged appends that ended before the final read started, and whose items it does not show."""
        if items.last is None:
            return
        final, source = items.last
        for append, append_source, held in items.acknowledged():
            margin = self.context.margin(append_source, source)
            if append.end is None or margin is None or append.end >= final.start - margin:
                continue
            self.verdict.checked += 1
            if not held:
                yield self.verdict.add(Violation(self.name, (append, final)))

    def _lost(self, comparison: _Comparison) -> Iterator[Violation]:
        """Yield a violation per lost write; for those older than the horizon the final read is the only witness."""
        self.verdict.checked += comparison.checked
        for write in comparison.known:
            yield self.verdict.add(Violation(self.name, (write, comparison.final)))
        for _ in range(comparison.lost - len(comparison.known)):
            yield self.verdict.add(Violation(self.name, (comparison.final,)))
