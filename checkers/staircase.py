"""Staircases: the newest version at any time, found by bisection."""

from bisect import bisect_left, bisect_right
from typing import NamedTuple

from stalewatch.history.operation import Draw, Read, Write
from stalewatch.history.reader import Source
from stalewatch.history.rules import NEVER

NumberedOperation = Write | Read | Draw
"""A completed operation with a number: the version written or shown, or the value drawn."""


class FirstAbove(NamedTuple):
    """The earliest known operation above a value; `exact` is False if an earlier one may have been dropped."""

    operation: NumberedOperation
    end: int
    exact: bool


class Staircase:
    """The running maximum of a key's numbers over the end times of the operations that carried them.

    Operations arrive in the order of their end, so both lists rise, and one bisection at a read's start gives its
    floor: the maximum of everything that ended strictly before. When a read that ended at E is judged, everything that
    ended before its start (at most E) has arrived, and nothing that arrives later can have ended before it. The order
    matters: if the write 2 [3,4] arrived after the read of 1 [5,9], because a thread was held up between taking its end
    time and reporting it, the read would pass as fresh.

    Steps that ended longer ago than the horizon are dropped, except the newest of them, which keeps its time. A read
    that started after that time still has its exact floor. One that started before it, and so took longer than the
    horizon, finds no floor and goes unchecked; it is never flagged falsely.
    """

    __slots__ = ("_dropped", "_ends", "_horizon_ns", "_limit", "_operations", "_top", "_top_end", "_values")

    SLACK = 64
    """Steps to collect before trying to drop some, so that dropping costs little on average."""

    def __init__(self, horizon_ns: int) -> None:
        self._horizon_ns = horizon_ns
        self._limit = self.SLACK
        self._dropped = False
        self._ends: list[int] = []
        self._values: list[int] = []
        self._operations: list[NumberedOperation] = []
        self._top = self._top_end = NEVER  # the last step, for speed: most reads start after it

    def add(self, value: int, end: int, operation: NumberedOperation, _source: int = 0) -> None:
        """Add a completed operation; it is a step only if its value is a new maximum."""
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

    def floor_operation(self, start: int, _source: int = 0) -> NumberedOperation | None:
        """Return the operation that set the floor at `start`."""
        index = bisect_left(self._ends, start)
        return self._operations[index - 1] if index else None

    def first_above(self, value: int, _start: int = 0, _source: int = 0) -> FirstAbove | None:
        """Return the earliest operation above `value`; it is a step, since it was a new maximum."""
        index = bisect_right(self._values, value)
        if index == len(self._values):
            return None
        return FirstAbove(self._operations[index], self._ends[index], exact=index > 0 or not self._dropped)


class SourceStaircases:
    """The staircases of one key, one per source, for judging several files together.

    Clocks differ between files, so "ended before" needs a margin: the sum of both files' clock errors.
    """

    __slots__ = ("_by_source", "_horizon_ns", "_sources")

    def __init__(self, horizon_ns: int, sources: tuple[Source, ...]) -> None:
        self._horizon_ns = horizon_ns
        self._sources = sources
        self._by_source: dict[int, Staircase] = {}

    def add(self, value: int, end: int, operation: NumberedOperation, source: int = 0) -> None:
        """Add a completed operation of that source."""
        stairs = self._by_source.get(source)
        if stairs is None:
            stairs = self._by_source[source] = Staircase(self._horizon_ns)
        stairs.add(value, end, operation)

    def floor(self, start: int, source: int = 0, default: int = 0) -> int:
        """Return the greatest value that certainly ended before `start` by the clock of `source`, else `default`."""
        return max(
            (stairs.floor(moment, default=default) for stairs, moment in self._ordered(start, source)), default=default
        )

    def floor_operation(self, start: int, source: int = 0) -> NumberedOperation | None:
        """Return the operation that set the floor at `start` by the clock of `source`."""
        found = [
            (stairs.floor(moment), operation)
            for stairs, moment in self._ordered(start, source)
            if (operation := stairs.floor_operation(moment)) is not None
        ]
        return max(found, key=lambda pair: pair[0])[1] if found else None

    def first_above(self, value: int, start: int = 0, source: int = 0) -> FirstAbove | None:
        """Return the earliest operation, by its file's clock, above `value` that certainly ended before `start`."""
        found = [(stairs.first_above(value), moment) for stairs, moment in self._ordered(start, source)]
        before = [first for first, moment in found if first is not None and first.end < moment]
        return min(before, key=lambda first: first.end, default=None)

    def _ordered(self, start: int, source: int) -> list[tuple[Staircase, int]]:
        """Return the staircases comparable with `start`, each with the time that stands for `start` on its clock."""
        reader = self._sources[source]
        margins = ((stairs, self._sources[other].margin(reader)) for other, stairs in self._by_source.items())
        return [(stairs, start - margin) for stairs, margin in margins if margin is not None]
