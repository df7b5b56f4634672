"""The rules that every history file obeys. A file that breaks one is rejected: counts over it would mean nothing."""

from bisect import bisect_right
from collections.abc import Iterator

from stalewatch.history.operation import Append, Draw, Fault, Final, Operation, Read, Write

NEVER = -(2**127)  # before every time that a file may hold
FOREVER = 2**127


class InvalidRecord(ValueError):
    """A record that contradicts an earlier one or itself; the message says how."""


class VersionRanges:
    """A set of integers kept as ascending disjoint ranges: its size is the number of gaps, not of members.

    Adding the next higher number costs no search. The highest range is kept in two fields: millions of keys may have a
    set each, and most sets are one range. An empty set is the range from 1 to 0, so that 1 is the next higher number.
    """

    __slots__ = ("_first", "_last", "_lower")

    def __init__(self) -> None:
        self._first, self._last = 1, 0
        self._lower: tuple[list[int], list[int]] | None = None
        """The first and the last numbers of the ranges below."""

    def __contains__(self, version: int) -> bool:
        """Return whether the version was added."""
        if version >= self._first or self._lower is None:
            return self._first <= version <= self._last
        firsts, lasts = self._lower
        index = bisect_right(firsts, version) - 1
        return index >= 0 and version <= lasts[index]

    def __len__(self) -> int:
        """Return the number of members."""
        return sum(last - first + 1 for first, last in self.ranges())

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Yield the first and the last number of each range; an empty set may yield an empty range."""
        if self._lower is not None:
            yield from zip(*self._lower, strict=True)
        yield self._first, self._last

    def add(self, version: int) -> bool:
        """Add the version; return False if it was a member already."""
        if version == self._last + 1:
            self._last = version
            return True
        if self._first > self._last:
            self._first = self._last = version
        elif version > self._last:
            self._lower = self._lower or ([], [])
            self._lower[0].append(self._first)
            self._lower[1].append(self._last)
            self._first = self._last = version
        elif version < self._first:
            return self._add_below(version)
        else:
            return False
        return True

    def _add_below(self, version: int) -> bool:
        firsts, lasts = self._lower = self._lower or ([], [])
        index = bisect_right(firsts, version)
        if index and version <= lasts[index - 1]:
            return False
        firsts.insert(index, version)
        lasts.insert(index, version)
        if index and lasts[index - 1] == version - 1:
            lasts[index - 1] = lasts.pop(index)
            del firsts[index]
            index -= 1
        if index + 1 < len(firsts) and firsts[index + 1] == version + 1:
            lasts[index] = lasts.pop(index + 1)
            del firsts[index + 1]
        if lasts[-1] == self._first - 1:
            self._first = firsts.pop()
            del lasts[-1]
        return True

    def above(self, version: int) -> int:
        """Return how many members are greater than `version`."""
        return sum(last - max(first - 1, version) for first, last in self.ranges() if last > version)


class SessionTimes:
    """A check that sessions do not overlap themselves, in the order of the ends of their operations."""

    def __init__(self) -> None:
        self.last_end: dict[str, int] = {}
        """By session; set by whoever calls `check`."""
        self._before_instant: dict[str, tuple[int, int]] = {}

    def check(self, session: str, start: int, end: int) -> None:
        """Reject an operation that overlaps an earlier one of its session; unknown ones are exempt.

        Operations may touch. So an instant at E, [E, E], may be on a line before [s, E], although it comes after it in
        the session's own order. That is the one case in which a start before an earlier end is no overlap.
        """
        last = self.last_end.get(session, NEVER)
        if start < last:
            instant, before = self._before_instant.pop(session, (NEVER, NEVER))
            if end != last or instant != last or start < before:
                raise InvalidRecord(
                    f"session {session!r} overlaps itself: `start` {start} is before its earlier end {last}"
                )
        elif start == end and last < end:
            self._before_instant[session] = (end, last)


class FileRules:
    """A check of one file's operations, in the order of its lines; `written` is shared by all files of the run."""

    def __init__(self, written: dict[str, VersionRanges]) -> None:
        self._written = written
        self._last_end = NEVER
        self._sessions = SessionTimes()
        self._session_end = self._sessions.last_end

    def check(self, operation: Operation) -> None:
        """Raise `InvalidRecord` if the operation breaks a rule."""
        start, end = operation.start, operation.end
        if end is None:
            self._check_unended(operation)
        elif start <= end and self._last_end <= end < FOREVER:
            self._last_end = end
        else:
            raise self._misplaced(start, end)
        if isinstance(operation, (Read, Write)):
            self._check_register(operation, start, end)
        elif isinstance(operation, (Append, Draw)):
            self._check_item_or_draw(operation, start, end)
        elif isinstance(operation, Final):
            self._check_final(operation)

    def _misplaced(self, start: int, end: int) -> InvalidRecord:
        if end < start:
            return InvalidRecord(f"`end` {end} is before `start` {start}")
        if not NEVER < end < FOREVER:
            return InvalidRecord("`end` is out of range")
        return InvalidRecord(f"`end` {end} is before {self._last_end} on an earlier line; lines are ordered by `end`")

    def _check_unended(self, operation: Operation) -> None:
        if not isinstance(operation, Fault) and operation.outcome != "unknown":
            raise InvalidRecord(f"an operation without an `end` must be 'unknown', not {operation.outcome!r}")

    def _check_register(self, operation: Read | Write, start: int, end: int | None) -> None:
        version, session = operation.version, operation.session
        if operation.outcome != "unknown" and end is not None:
            if start == end or start < self._session_end.get(session, NEVER):
                self._sessions.check(session, start, end)
            self._session_end[session] = end
            if version is None and operation.outcome == "ok":
                raise InvalidRecord("an ok operation needs a `version`")
        if version is None:
            return
        if type(operation) is Write:
            self._add_version(operation.key, version)
        elif version < 0:
            raise InvalidRecord(f"`version` must not be negative, but is {version}")

    def _add_version(self, key: str, version: int) -> None:
        if version < 1:
            raise InvalidRecord(f"the `version` of a write must be positive, but is {version}")
        ranges = self._written.get(key)
        if ranges is None:
            ranges = self._written[key] = VersionRanges()
        if not ranges.add(version):
            raise InvalidRecord(f"version {version} of key {key!r} is written twice")

    def _check_item_or_draw(self, operation: Append | Draw, start: int, end: int | None) -> None:
        if operation.outcome != "unknown" and end is not None:
            self._sessions.check(operation.session, start, end)
            self._session_end[operation.session] = end
        if operation.outcome != "ok":
            return
        if isinstance(operation, Append) and operation.item is None:
            raise InvalidRecord("an ok append needs an `item`")
        if isinstance(operation, Draw) and operation.value is None:
            raise InvalidRecord("an ok draw needs a `value`")

    def _check_final(self, operation: Final) -> None:
        if operation.version is not None and operation.version < 0:
            raise InvalidRecord(f"`version` must not be negative, but is {operation.version}")
        if operation.outcome == "ok" and operation.version is None and operation.items is None:
            raise InvalidRecord("an ok final read needs a `version` or `items`")


class WorkerRules:
    """A check of all files of one worker together, in the order of `end`: no session overlaps itself in two of them."""

    def __init__(self) -> None:
        self._sessions = SessionTimes()

    def check(self, operation: Operation) -> None:
        """Raise `InvalidRecord` if the operation overlaps one of the same session."""
        if isinstance(operation, Fault | Final) or operation.outcome == "unknown" or operation.end is None:
            return
        self._sessions.check(operation.session, operation.start, operation.end)
        self._sessions.last_end[operation.session] = operation.end
