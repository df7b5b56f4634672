"""lost_writes: an acknowledged write is there at the end.

For registers the count is a lower bound: a newer version that survived covers an older loss. For lists it is exact.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from stalewatch.checkers.items import ItemList
from stalewatch.checkers.protocol import Guarantee
from stalewatch.checkers.register import Acknowledged, Register
from stalewatch.checkers.scene import Scene
from stalewatch.checkers.verdict import Violation
from stalewatch.history.operation import Append, Final, Write


class _Loss(NamedTuple):
    """What a final read says of the writes of one source that ended before it: how many, and which it lacks."""

    final: Final
    checked: int
    lost: int
    known: list[Write]


class LostWrites(Guarantee):
    """Compares what was acknowledged with the last ok final read of each key."""

    name = "lost_writes"

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._losses: dict[str, list[_Loss]] = {}
        self._lists: dict[str, ItemList] = {}
        self.duplicate_items = 0
        self.phantom_items = 0

    def on_acknowledged(self, write: Write, version: int, end: int, register: Register, source: int) -> None:
        """Remember an acknowledged version."""
        kept = register.kept.get(source)
        if kept is None:
            kept = register.kept[source] = Acknowledged(self.scene.horizon_ns)
        kept.add(write, version, end)

    def on_append(self, append: Append, source: int) -> None:
        """Remember an item."""
        self._list(append.key).append(append, source)

    def on_final(self, final: Final, register: Register, source: int) -> None:
        """Compare with what was acknowledged so far; a later final read of the key starts over."""
        if final.items is not None:
            self._list(final.key).final(final, source)
        if final.version is not None:
            self._losses[final.key] = list(self._compare(final, final.version, register, source))

    def _compare(self, final: Final, version: int, register: Register, source: int) -> Iterator[_Loss]:
        held = max([version, *(final.siblings or ())])
        for wrote, kept in register.kept.items():
            margin = self.scene.margin(wrote, source)
            lacking = None if margin is None else kept.lacking(held, final.start - margin)
            if lacking is not None:
                yield _Loss(final, *lacking)

    def _list(self, key: str) -> ItemList:
        items = self._lists.get(key)
        if items is None:
            items = self._lists[key] = ItemList(self.scene)
        return items

    def finish(self) -> Iterable[Violation]:
        """Report what the last final reads lack."""
        for loss in (loss for losses in self._losses.values() for loss in losses):
            yield from self._report(loss)
        for items in self._lists.values():
            self.duplicate_items += items.duplicates()
            self.phantom_items += items.phantoms()
            for append, final, held in items.acknowledged():
                self.verdict.checked += 1
                if not held:
                    yield self.verdict.add(Violation(self.name, (append, final)))
        self._losses.clear()
        self._lists.clear()

    def _report(self, loss: _Loss) -> Iterator[Violation]:
        """Yield one violation a lost write; of those older than the horizon only the final read is left to show."""
        self.verdict.checked += loss.checked
        for write in loss.known:
            yield self.verdict.add(Violation(self.name, (write, loss.final)))
        for _ in range(loss.lost - len(loss.known)):
            yield self.verdict.add(Violation(self.name, (loss.final,)))
