"""Lists of unique items: which acknowledged items a final read misses, repeats, or should not contain."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain

from stalewatch.checkers.guarantee import JudgeContext
from stalewatch.history.operation import Append, Final

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
