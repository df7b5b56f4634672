"""unique_ids: a counter never returns an id twice, nor one smaller than it returned before.

A follower that takes over without the last increments returns them again, as in DDIA's example of an outdated follower
that reused primary keys.
"""

from collections import OrderedDict

from stalewatch.checkers.guarantee import Guarantee, JudgeContext
from stalewatch.checkers.verdict import Violation
from stalewatch.history.operation import Draw
from stalewatch.history.rules import NEVER, VersionRanges


class _CounterState:
    __slots__ = ("recent", "stairs", "values")

    def __init__(self, context: JudgeContext) -> None:
        self.values = VersionRanges()
        self.stairs = context.staircase()
        self.recent: OrderedDict[int, Draw] = OrderedDict()


class UniqueIds(Guarantee):
    """Keeps the values drawn from each counter as ranges, and their running maximum over time."""

    name = "unique_ids"

    def __init__(self, context: JudgeContext) -> None:
        super().__init__(context)
        self._counters: dict[str, _CounterState] = {}

    def on_draw(self, draw: Draw, value: int, end: int, source: int) -> Violation | None:
        """Judge an ok draw; one that both repeats a value and goes back counts once."""
        counter = self._counters.get(draw.key)
        if counter is None:
            counter = self._counters[draw.key] = _CounterState(self.context)
        self.verdict.checked += 1
        violation = self._violation(counter, draw, value, source)
        counter.stairs.add(value, end, draw, source)
        self._remember(counter, draw, value, end)
        return violation

    def _violation(self, counter: _CounterState, draw: Draw, value: int, source: int) -> Violation | None:
        if not counter.values.add(value):
            twin = counter.recent.get(value)
            return self.verdict.add(Violation(self.name, (twin, draw) if twin else (draw,), cause="duplicate"))
        if value < counter.stairs.floor(draw.start, source, NEVER):
            earlier = counter.stairs.floor_operation(draw.start, source)
            return self.verdict.add(Violation(self.name, (earlier, draw) if earlier else (draw,), cause="smaller"))
        return None

    def _remember(self, counter: _CounterState, draw: Draw, value: int, end: int) -> None:
        """Keep the draw as a possible witness until the horizon has passed."""
        recent = counter.recent
        recent.setdefault(value, draw)
        oldest = next(iter(recent.values()))
        if oldest.end is not None and end - oldest.end > self.context.horizon_ns:
            recent.popitem(last=False)
