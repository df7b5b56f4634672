"""unique_ids: a counter gives no id twice, and none that is smaller than one it gave before.

A follower that takes over without the last increments gives them again: DDIA's example of an outdated follower that
reused primary keys.
"""

from collections import OrderedDict

from stalewatch.checkers.protocol import Guarantee
from stalewatch.checkers.scene import Scene
from stalewatch.checkers.verdict import Violation
from stalewatch.history.operation import Draw
from stalewatch.history.rules import NEVER, VersionRanges


class _Counter:
    __slots__ = ("recent", "stairs", "values")

    def __init__(self, scene: Scene) -> None:
        self.values = VersionRanges()
        self.stairs = scene.stairs()
        self.recent: OrderedDict[int, Draw] = OrderedDict()


class UniqueIds(Guarantee):
    """Remembers the values drawn of each counter as ranges, and their running maximum against time."""

    name = "unique_ids"

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._counters: dict[str, _Counter] = {}

    def on_draw(self, draw: Draw, value: int, end: int, source: int) -> Violation | None:
        """Judge an ok draw: flagged once, whether it repeats a value or goes back."""
        counter = self._counters.get(draw.key)
        if counter is None:
            counter = self._counters[draw.key] = _Counter(self.scene)
        self.verdict.checked += 1
        violation = self._violation(counter, draw, value, source)
        counter.stairs.add(value, end, draw, source)
        self._remember(counter, draw, value, end)
        return violation

    def _violation(self, counter: _Counter, draw: Draw, value: int, source: int) -> Violation | None:
        if not counter.values.add(value):
            twin = counter.recent.get(value)
            return self.verdict.add(Violation(self.name, (twin, draw) if twin else (draw,), cause="duplicate"))
        if value < counter.stairs.floor(draw.start, source, NEVER):
            earlier = counter.stairs.step(draw.start, source)
            return self.verdict.add(Violation(self.name, (earlier, draw) if earlier else (draw,), cause="smaller"))
        return None

    def _remember(self, counter: _Counter, draw: Draw, value: int, end: int) -> None:
        """Keep the draw as a possible witness for as long as the horizon says."""
        recent = counter.recent
        recent.setdefault(value, draw)
        oldest = next(iter(recent.values()))
        if oldest.end is not None and end - oldest.end > self.scene.horizon_ns:
            recent.popitem(last=False)
