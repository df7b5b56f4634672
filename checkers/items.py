"""Lists of unique items: which acknowledged ones a final read misses, which stand twice or should not stand at all."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from stalewatch.checkers.scene import Scene
from stalewatch.history.operation import Append, Final

Item = str | int


class _Appended(NamedTuple):
    append: Append
    source: int


class _FinalRead(NamedTuple):
    final: Final
    source: int


class ItemList:
    """One list: every append by its item, and the last ok final read."""

    __slots__ = ("_appended", "_last", "_scene")

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._appended: dict[Item, list[_Appended]] = {}
        self._last: _FinalRead | None = None

    def append(self, append: Append, source: int) -> None:
        """Take an append of any outcome."""
        if append.item is not None:
            self._appended.setdefault(append.item, []).append(_Appended(append, source))

    def final(self, final: Final, source: int) -> None:
        """Take an ok final read; the last one counts."""
        self._last = _FinalRead(final, source)

    def acknowledged(self) -> Iterator[tuple[Append, Final, bool]]:
        """Yield the acknowledged appends that ended before the final read started, and whether it holds them."""
        if self._last is None:
            return
        final, source = self._last
        items = set(final.items or ())
        for append, appended_by in chain.from_iterable(self._appended.values()):
            margin = self._scene.margin(appended_by, source)
            if append.outcome != "ok" or append.end is None or margin is None:
                continue
            if append.end < final.start - margin:
                yield append, final, append.item in items

    def duplicates(self) -> int:
        """Return how many items stand more than once."""
        items = self._last.final.items if self._last else None
        return sum(times > 1 for times in Counter(items or ()).values())

    def phantoms(self) -> int:
        """Return how many items stand there that nobody appended, or whose append failed."""
        if self._last is None:
            return 0
        whole = self._last.final.key not in self._scene.cut_keys
        return sum(self._is_phantom(item, whole=whole) for item in set(self._last.final.items or ()))

    def _is_phantom(self, item: Item, *, whole: bool) -> bool:
        appended = self._appended.get(item)
        return whole if appended is None else all(one.append.outcome == "fail" for one in appended)
