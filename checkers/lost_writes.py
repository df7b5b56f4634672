"""lost_writes: an acknowledged write is still there at the end.

For registers the count is a lower bound, since a surviving newer version covers an older loss. For lists it is exact.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from stalewatch.checkers.guarantee import AcknowledgedWrites, Guarantee, JudgeContext, Register
from stalewatch.checkers.verdict import Violation
from stalewatch.history.operation import Append, Final, Write

Item = str | int


class ItemList:
    """One list: its appends by item, and its last ok final read, each with its source."""

    __slots__ = ("_appends", "_context", "_last")

    def __init__(self, context: JudgeContext) -> None:
        self._context = context
        self._appends: dict[Item, list[tuple[Append, int]]] = {}
        self._last: tuple[Final, int] | None = None

    def append(self, append: Append, source: int) -> None:
        """Add an append of any outcome."""
        if append.item is not None:
            self._appends.setdefault(append.item, []).append((append, source))

    def final(self, final: Final, source: int) -> None:
        """Set the last ok final read."""
        self._last = final, source

    def acknowledged(self) -> Iterator[tuple[Append, Final, bool]]:
        """Yield the acknowledged appends that ended before the final read started, and whether it holds them."""
        if self._last is None:
            return
        final, source = self._last
        items = set(final.items or ())
        for append, append_source in chain.from_iterable(self._appends.values()):
            margin = self._context.margin(append_source, source)
            if append.outcome != "ok" or append.end is None or margin is None:
                continue
            if append.end < final.start - margin:
                yield append, final, append.item in items

    def duplicates(self) -> int:
        """Return how many items the final read shows more than once."""
        items = self._last[0].items if self._last else None
        return sum(times > 1 for times in Counter(items or ()).values())

    def phantoms(self) -> int:
        """Return how many items the final read shows that were never appended, or whose append failed."""
        if self._last is None:
            return 0
        final, _ = self._last
        complete = final.key not in self._context.incomplete_keys
        return sum(self._is_phantom(item, complete=complete) for item in set(final.items or ()))

    def _is_phantom(self, item: Item, *, complete: bool) -> bool:
        appends = self._appends.get(item)
        return complete if appends is None else all(append.outcome == "fail" for append, _ in appends)


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
