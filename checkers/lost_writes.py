"""lost_writes: an acknowledged write is still there at the end.

For registers the count is a lower bound, since a surviving newer version covers an older loss. For lists it is exact.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from stalewatch.checkers.guarantee import AcknowledgedWrites, Guarantee, JudgeContext, Register
from stalewatch.checkers.items import ItemList
from stalewatch.checkers.verdict import Violation
from stalewatch.history.operation import Append, Final, Write


class _Comparison(NamedTuple):
    """A final read compared with the writes of one source that ended before it: how many, and which it misses."""

    final: Final
    checked: int
    lost: int
    known: list[Write]


class LostWrites(Guarantee):
    """Compares the acknowledged writes with the last ok final read of each key."""

    name = "lost_writes"

    def __init__(self, context: JudgeContext) -> None:
        super().__init__(context)
        self._comparisons: dict[str, list[_Comparison]] = {}
        self._lists: dict[str, ItemList] = {}
        self.duplicate_items = 0
        self.phantom_items = 0

    def on_acknowledged(self, write: Write, version: int, end: int, register: Register, source: int) -> None:
        """Remember an acknowledged version."""
        writes = register.acknowledged_writes.get(source)
        if writes is None:
            writes = register.acknowledged_writes[source] = AcknowledgedWrites(self.context.horizon_ns)
        writes.add(write, version, end)

    def on_append(self, append: Append, source: int) -> None:
        """Remember an item."""
        self._list(append.key).append(append, source)

    def on_final(self, final: Final, register: Register, source: int) -> None:
        """Compare with the acknowledged writes so far; a later final read of the key replaces the comparison."""
        if final.items is not None:
            self._list(final.key).final(final, source)
        if final.version is not None:
            self._comparisons[final.key] = list(self._compare(final, final.version, register, source))

    def _compare(self, final: Final, version: int, register: Register, source: int) -> Iterator[_Comparison]:
        held = max([version, *(final.siblings or ())])
        for write_source, writes in register.acknowledged_writes.items():
            margin = self.context.margin(write_source, source)
            missing = None if margin is None else writes.missing(held, final.start - margin)
            if missing is not None:
                yield _Comparison(final, *missing)

    def _list(self, key: str) -> ItemList:
        items = self._lists.get(key)
        if items is None:
            items = self._lists[key] = ItemList(self.context)
        return items

    def finish(self) -> Iterable[Violation]:
        """Return the writes and items that the last final reads miss."""
        for comparisons in self._comparisons.values():
            for comparison in comparisons:
                yield from self._lost(comparison)
        for items in self._lists.values():
            self.duplicate_items += items.duplicates()
            self.phantom_items += items.phantoms()
            for append, final, held in items.acknowledged():
                self.verdict.checked += 1
                if not held:
                    yield self.verdict.add(Violation(self.name, (append, final)))
        self._comparisons.clear()
        self._lists.clear()

    def _lost(self, comparison: _Comparison) -> Iterator[Violation]:
        """Yield a violation per lost write; for those older than the horizon the final read is the only witness."""
        self.verdict.checked += comparison.checked
        for write in comparison.known:
            yield self.verdict.add(Violation(self.name, (write, comparison.final)))
        for _ in range(comparison.lost - len(comparison.known)):
            yield self.verdict.add(Violation(self.name, (comparison.final,)))
