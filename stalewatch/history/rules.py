"""The rules that every history file obeys. A file that breaks one is rejected: counts over it would mean nothing."""

from bisect import bisect_right

from stalewatch.history.operation import Append, Draw, Fault, Final, Operation, Read, Write

NEVER = -(2**127)  # before every time that a file may hold
FOREVER = 2**127


class InvalidRecord(ValueError):
    """A record that contradicts an earlier one or itself; the message says how."""


class VersionRanges:
    """A set of integers kept as ascending disjoint ranges: its size is the number of gaps, not of members.

    Adding the next higher number costs no search.
    """

    __slots__ = ("_firsts", "_lasts")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def __contains__(self, version: int) -> bool:
        """Return whether the version was added."""
        index = bisect_right(self._firsts, version) - 1
        return index >= 0 and version <= self._lasts[index]

    def __len__(self) -> int:
        """Return the number of members."""
        return sum(self._lasts) - sum(self._firsts) + len(self._firsts)

    def add(self, version: int) -> bool:
        """Add the version; return False if it was a member already."""
        firsts, lasts = self._firsts, self._lasts
        if lasts and version == lasts[-1] + 1:
            lasts[-1] = version
            return True
        index = bisect_right(firsts, version)
        if index and version <= lasts[index - 1]:
            return False
        joins_left = index > 0 and lasts[index - 1] == version - 1
        joins_right = index < len(firsts) and firsts[index] == version + 1
        if joins_left and joins_right:
            lasts[index - 1] = lasts.pop(index)
            del firsts[index]
        elif joins_left:
            lasts[index - 1] = version
        elif joins_right:
            firsts[index] = version
        else:
            firsts.insert(index, version)
            lasts.insert(index, version)
        return True

    def above(self, version: int) -> "VersionRanges":
        """Return the members greater than `version`."""
        rest = VersionRanges()
        for first, last in zip(self._firsts, self._lasts, strict=True):
            if last > version:
                rest._firsts.append(max(first, version + 1))
                rest._lasts.append(last)
        return rest


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
