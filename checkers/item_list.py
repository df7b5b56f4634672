"""The items of one list: what was appended, and what its last ok final read shows."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Literal, NamedTuple

from stalewatch.history.operation import Append, Final

Item = str | int


class AcknowledgedAppend(NamedTuple):
    """An acknowledged append with its source, and whether the final read shows its item."""

    append: Append
    source: int
    held: bool


class ShownItem(NamedTuple):
    """An item of the final read: what is wrong with it, and one of its appends, if any was recorded."""

    cause: Literal["duplicate", "phantom"] | None
    append: Append | None


class ItemList:
    """The appends of a list by item, and its last ok final read, each with its source."""

    __slots__ = ("_appends", "last")

    def __init__(self) -> None:
        self._appends: dict[Item, list[tuple[Append, int]]] = {}
        self.last: tuple[Final, int] | None = None

    def add(self, append: Append, source: int) -> None:
        """Add an append of any outcome."""
        if append.item is not None:
            self._appends.setdefault(append.item, []).append((append, source))

    def acknowledged(self) -> Iterator[AcknowledgedAppend]:
        """Yield the acknowledged appends that ended."""
        items = set(self._shown())
        for append, source in chain.from_iterable(self._appends.values()):
            if append.outcome == "ok" and append.end is not None:
                yield AcknowledgedAppend(append, source, append.item in items)

    def shown(self, *, complete: bool) -> Iterator[ShownItem]:
        """Yield each item of the final read once; unrecorded ones only if all appends are known."""
        for item, times in Counter(self._shown()).items():
            appends = [append for append, _ in self._appends.get(item, ())]
            append = appends[0] if appends else None
            if append is None and not complete:
                continue
            phantom = all(one.outcome == "fail" for one in appends)
            yield ShownItem("phantom" if phantom else "duplicate" if times > 1 else None, append)

    def duplicates(self) -> int:
        """Return how many items the final read shows more than once, phantoms among them."""
        return sum(times > 1 for times in Counter(self._shown()).values())

    def _shown(self) -> list[Item]:
        return (self.last[0].items if self.last else None) or []
