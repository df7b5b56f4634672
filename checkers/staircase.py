"""The newest version by time: what stood at a moment, and since when something newer did."""

from bisect import bisect_left, bisect_right
from typing import NamedTuple

from stalewatch.history.operation import Draw, Read, Write
from stalewatch.history.reader import Source
from stalewatch.history.rules import NEVER

Numbered = Write | Read | Draw
"""A completed operation that carries a number: the version written or shown, or the value drawn."""


class Since(NamedTuple):
    """The earliest known operation above a value; `exact` is False where an earlier one may have been dropped."""

    operation: Numbered
    end: int
    exact: bool


class Staircase:
    """The running maximum of a key's numbers against the end times of the operations that carried them.

    Operations arrive in the order of their end, so both lists rise, and one bisection at a read's start gives its
    floor: the maximum over everything that ended strictly before. When a read that ended at E is judged, every one
    that ended before its start (at most E) has arrived, and nothing that arrives later can have ended before. The order
    matters: were the write 2 [3,4] handed over after the read of 1 [5,9], as by a thread held up between taking its end
    time and reporting, the read would pass as fresh.

    Steps that ended more than the horizon ago are dropped, except the newest of them, which keeps its time. A read that
    started after that time still has its exact floor. One that started before (it took longer than the horizon) finds
    no floor and goes unchecked; it is never flagged falsely.
    """

    __slots__ = ("_dropped", "_ends", "_horizon_ns", "_limit", "_operations", "_top", "_top_end", "_values")

    SLACK = 64
    """Steps that may stand before dropping is tried, so that dropping costs little on average."""

    def __init__(self, horizon_ns: int) -> None:
        self._horizon_ns = horizon_ns
        self._limit = self.SLACK
        self._dropped = False
        self._ends: list[int] = []
        self._values: list[int] = []
        self._operations: list[Numbered] = []
        self._top = self._top_end = NEVER  # the last step, at hand: most reads start after it

    def add(self, value: int, end: int, operation: Numbered, _source: int = 0) -> None:
        """Take a completed operation; it is a step only where its value is a new maximum."""
        if value <= self._top:
            return
        self._top = value
        self._top_end = end
        self._values.append(value)
        self._ends.append(end)
        self._operations.append(operation)
        if len(self._ends) > self._limit:
            self._drop(end - self._horizon_ns)

    def _drop(self, before: int) -> None:
        keep = max(0, bisect_left(self._ends, before) - 1)
        if keep:
            self._dropped = True
            del self._ends[:keep], self._values[:keep], self._operations[:keep]
        self._limit = 2 * len(self._ends) + self.SLACK

    def floor(self, start: int, _source: int = 0, default: int = 0) -> int:
        """Return the greatest value that ended strictly before `start`, else `default`."""
        if start > self._top_end > NEVER:
            return self._top
        index = bisect_left(self._ends, start)
        return self._values[index - 1] if index else default

    def step(self, start: int, _source: int = 0) -> Numbered | None:
        """Return the operation that set the floor at `start`."""
        index = bisect_left(self._ends, start)
        return self._operations[index - 1] if index else None

    def since(self, value: int, _start: int = 0, _source: int = 0) -> Since | None:
        """Return the earliest operation with a value greater than `value`: it is a step, for it was a maximum."""
        index = bisect_right(self._values, value)
        if index == len(self._values):
            return None
        return Since(self._operations[index], self._ends[index], exact=index > 0 or not self._dropped)


class Staircases:
    """One key's staircases, one a source, where several files are judged together.

    Clocks differ between files, so "ended before" needs a margin: the sum of both files' clock errors.
    """

    __slots__ = ("_by_source", "_horizon_ns", "_sources")

    def __init__(self, horizon_ns: int, sources: tuple[Source, ...]) -> None:
        self._horizon_ns = horizon_ns
        self._sources = sources
        self._by_source: dict[int, Staircase] = {}

    def add(self, value: int, end: int, operation: Numbered, source: int = 0) -> None:
        """Take a completed operation of that source."""
        stairs = self._by_source.get(source)
        if stairs is None:
            stairs = self._by_source[source] = Staircase(self._horizon_ns)
        stairs.add(value, end, operation)

    def floor(self, start: int, source: int = 0, default: int = 0) -> int:
        """Return the greatest value that surely ended before `start` by the clock of `source`, else `default`."""
        return max(
            (stairs.floor(moment, default=default) for stairs, moment in self._ordered(start, source)), default=default
        )

    def step(self, start: int, source: int = 0) -> Numbered | None:
        """Return the operation that set the floor at `start` by the clock of `source`."""
        found = [
            (stairs.floor(moment), operation)
            for stairs, moment in self._ordered(start, source)
            if (operation := stairs.step(moment)) is not None
        ]
        return max(found, key=lambda pair: pair[0])[1] if found else None

    def since(self, value: int, start: int = 0, source: int = 0) -> Since | None:
        """Return the earliest operation, by its file's clock, above `value` that surely ended before `start`."""
        found = [(stairs.since(value), moment) for stairs, moment in self._ordered(start, source)]
        before = [since for since, moment in found if since is not None and since.end < moment]
        return min(before, key=lambda since: since.end, default=None)

    def _ordered(self, start: int, source: int) -> list[tuple[Staircase, int]]:
        """Return the staircases that `start` can be compared with, each with the moment that counts as `start`."""
        reader = self._sources[source]
        margins = ((stairs, self._sources[other].margin(reader)) for other, stairs in self._by_source.items())
        return [(stairs, start - margin) for stairs, margin in margins if margin is not None]
