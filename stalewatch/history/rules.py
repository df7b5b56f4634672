"""The rules that every history file obeys. A file that breaks one is rejected: counts over it would mean nothing."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from stalewatch.history.operation import Append, Draw, Fault, Final, Operation, Read, Record, Write

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

    def add_next(self, version: int) -> bool:
        """Add the version if it is the one after the highest member; return whether it is."""
        if version != self._last + 1:
            return False
        self._last = version
        return True

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


class _KeyWrites:
    """The writes so far of one overwriting register from one file."""

    __slots__ = ("end", "gaps", "instant", "instants", "open", "top")

    def __init__(self) -> None:
        self.top, self.end = 0, NEVER
        """The greatest version whose write ended, and when the last one did, not counting `instants`."""
        self.instant = NEVER
        self.instants: list[int] = []
        """Versions written in no time at the nanosecond `instant`, since which no later end was seen."""
        self.open: list[tuple[int, int]] = []
        """Version and start of the writes above `top` that never ended."""
        self.gaps: list[tuple[int, int, int]] = []
        """Versions between which others are missing, and the end of the lower one's write."""

    def opens(self, version: int, start: int) -> bool:
        """Add a write that never ended; return whether those of lower versions had ended when it started."""
        if version <= self.top:
            return not any(low < version < high and start < end for low, high, end in self.gaps)
        self.open.append((version, start))
        return start >= self.end and (start >= self.instant or all(version < other for other in self.instants))

    def ends(self, version: int, start: int, end: int) -> bool:
        """Add a write that ended; return whether it waited for those of lower versions, and higher ones for it."""
        if end > self.instant:
            for other in sorted(self.instants):
                self._settle(other, self.instant)
            self.instants.clear()
        in_turn = version > self.top and start >= self.end
        in_turn = in_turn and not any(version < other and begun < end for other, begun in self.open)
        if start == end:
            self.instant = end
            self.instants.append(version)
            return in_turn
        in_turn = in_turn and all(version < other for other in self.instants)
        self._settle(version, end)
        return in_turn

    def _settle(self, version: int, end: int) -> None:
        if version > self.top + 1 and self.end > NEVER:
            self.gaps.append((self.top, version, self.end))
        self.top, self.end = max(self.top, version), end
        if self.open:
            self.open = [one for one in self.open if one[0] > version]


class WriteTurns:
    """A check that the writes of an overwriting register wait for each other, in the order of their versions.

    Every write starts no earlier than all writes of lower versions have ended, except those that never ended: nobody
    knows when their writers gave them up. Lines come in the order of ends, so versions must rise as well. There is one
    exception: a write of no duration, [E, E], may be on a line before that of a lower version which ends at E.
    """

    def __init__(self) -> None:
        self._turns: dict[str, _KeyWrites] = {}

    def check(self, write: Write, version: int) -> None:
        """Reject a write that did not wait for its turn."""
        turn = self._turns.get(write.key)
        if turn is None:
            turn = self._turns[write.key] = _KeyWrites()
        start, end = write.start, write.end
        if not (turn.opens(version, start) if end is None else turn.ends(version, start, end)):
            raise _out_of_turn(write)


def _out_of_turn(write: Write) -> InvalidRecord:
    return InvalidRecord(
        f"the write of version {write.version} of key {write.key!r} overlaps another or is out of order; "
        "those of an overwriting register wait for each other, in the order of their versions"
    )


Turns = dict[int, Write]
"""For one key: the last write of each source that ended."""


class TurnsBetweenFiles:
    """The same check between the files of a run, in their merged order, as far as their clocks prove anything.

    It compares a write with the last one of each other file only: that of a lower version has certainly not ended when
    this one starts, or that of a higher version has certainly started before this one ends.
    """

    def __init__(self, turns: dict[str, Turns], source: int, margins: Sequence[int | None]) -> None:
        self._turns = turns
        self._source = source
        self._margins = margins

    def check(self, operation: Operation) -> None:
        """Reject a write that did not wait for one in another file."""
        if not isinstance(operation, Write) or operation.version is None or operation.end is None:
            return
        last = self._turns.setdefault(operation.key, {})
        for source, other in last.items():
            margin = self._margins[source]
            if source == self._source or margin is None or other.end is None or other.version is None:
                continue
            lower, higher = sorted((operation, other), key=lambda write: write.version or 0)
            if lower.end is not None and higher.start + margin < lower.end:
                raise _out_of_turn(operation)
        last[self._source] = operation


class FileRules:
    """A check of one file's operations, in the order of its lines; `written` is shared by all files of the run."""

    def __init__(self, written: dict[str, VersionRanges], *, overwriting: bool = False) -> None:
        self._written = written
        self._turns = WriteTurns() if overwriting else None
        self._last_end = NEVER
        self._sessions = SessionTimes()
        self._session_end = self._sessions.last_end

    def pass_usual(self, records: Sequence[Record], index: int) -> int:
        """Return the index of the first record from that one on that has to be looked at more closely.

        Those before it are ok reads and ok writes of some duration that break no rule, and are checked by this.
        """
        written, session_end, last = self._written, self._session_end, self._last_end
        for index in range(index, len(records)):  # noqa: B020, PLR1704 # where it goes on
            record = records[index]
            if type(record) is not Read and type(record) is not Write:
                break
            start, end, version, session = record.start, record.end, record.version, record.session
            if end is None or version is None or record.outcome != "ok":
                break
            if not (start < end and last <= end < FOREVER and session_end.get(session, NEVER) <= start):
                break
            if type(record) is Read:
                if version < 0:
                    break
            else:
                ranges = written.get(record.key)
                if ranges is None or self._turns is not None or not ranges.add_next(version):
                    break
            session_end[session] = last = end
        else:
            index = len(records)
        self._last_end = last
        return index

    def check(self, operation: Operation) -> None:
        """Raise `InvalidRecord` if the operation breaks a rule."""
        start, end = operation.start, operation.end
        if end is None:
            self._check_unended(operation)
        elif start <= end and self._last_end <= end < FOREVER:
            self._last_end = end
        else:
            raise self._misplaced(start, end)
        kind = type(operation)
        if kind is Read or kind is Write:
            self._check_register(operation, start, end)  # type: ignore[arg-type] # a read or a write
        elif kind is Append or kind is Draw:
            self._check_item_or_draw(operation, start, end)  # type: ignore[arg-type] # an append or a draw
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
            if self._turns is not None:
                self._turns.check(operation, version)
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
        try:
            self._sessions.check(operation.session, operation.start, operation.end)
        except InvalidRecord as error:
            raise InvalidRecord(f"{error} in another file of its worker") from None
        self._sessions.last_end[operation.session] = operation.end
