"""What every history file obeys; a line that does not is refused, for a count over it would mean nothing."""

from stalewatch.history.operation import Append, Draw, Fault, Final, Operation, Read, Write
from stalewatch.history.versions import VersionRanges

NEVER = -(2**127)  # before every time that a file can hold
FOREVER = 2**127


class Broken(ValueError):
    """An operation that contradicts the ones before it; the message says how."""


class Rules:
    """Checks the operations of one file in the order of its lines; `written` is shared by all files of the run."""

    def __init__(self, written: dict[str, VersionRanges]) -> None:
        self._written = written
        self._last_end = NEVER
        self._session_end: dict[str, int] = {}
        self._before_instant: dict[str, tuple[int, int]] = {}

    def check(self, operation: Operation) -> None:
        """Raise `Broken` where the operation breaks a rule."""
        start, end = operation.start, operation.end
        if end is None:
            self._never_ended(operation)
        elif start <= end and self._last_end <= end < FOREVER:
            self._last_end = end
        else:
            raise self._misplaced(start, end)
        if isinstance(operation, (Read, Write)):
            self._register(operation, start, end)
        elif isinstance(operation, (Append, Draw)):
            self._item_or_draw(operation, start, end)
        elif isinstance(operation, Final):
            self._final(operation)

    def _misplaced(self, start: int, end: int) -> Broken:
        if end < start:
            return Broken(f"`end` {end} is before `start` {start}")
        if not NEVER < end < FOREVER:
            return Broken("`end` is no time")
        return Broken(f"`end` {end} is before the end {self._last_end} of an earlier line")

    def _never_ended(self, operation: Operation) -> None:
        if not isinstance(operation, Fault) and operation.outcome != "unknown":
            raise Broken(f"an operation that never ended cannot be {operation.outcome!r}")

    def _register(self, operation: Read | Write, start: int, end: int | None) -> None:
        version, session = operation.version, operation.session
        if operation.outcome != "unknown" and end is not None:
            if start == end or start < self._session_end.get(session, NEVER):
                self._sequential(session, start, end)
            self._session_end[session] = end
            if version is None and operation.outcome == "ok":
                raise Broken("an ok operation has a `version`")
        if version is None:
            return
        if type(operation) is Write:
            self._new_version(operation.key, version)
        elif version < 0:
            raise Broken(f"version {version} is negative")

    def _new_version(self, key: str, version: int) -> None:
        if version < 1:
            raise Broken(f"a write's version is positive, not {version}")
        ranges = self._written.get(key)
        if ranges is None:
            ranges = self._written[key] = VersionRanges()
        if not ranges.add(version):
            raise Broken(f"version {version} of key {key!r} is written twice")

    def _item_or_draw(self, operation: Append | Draw, start: int, end: int | None) -> None:
        if operation.outcome != "unknown" and end is not None:
            self._sequential(operation.session, start, end)
            self._session_end[operation.session] = end
        if operation.outcome != "ok":
            return
        if isinstance(operation, Append) and operation.item is None:
            raise Broken("an ok append has an `item`")
        if isinstance(operation, Draw) and operation.value is None:
            raise Broken("an ok draw has a `value`")

    def _final(self, operation: Final) -> None:
        if operation.version is not None and operation.version < 0:
            raise Broken(f"version {operation.version} is negative")
        if operation.outcome == "ok" and operation.version is None and operation.items is None:
            raise Broken("an ok final has a `version` or `items`")

    def _sequential(self, session: str, start: int, end: int) -> None:
        """Refuse an operation that overlaps an earlier one of its session (unknown ones are not asked).

        Operations may touch. So an instant at E, [E, E], may stand in the file before [s, E], which comes before it in
        the session's own order: that is the one case in which a start before an earlier end is no overlap.
        """
        last = self._session_end.get(session, NEVER)
        if start < last:
            instant, before = self._before_instant.pop(session, (NEVER, NEVER))
            if end != last or instant != last or start < before:
                raise Broken(f"session {session!r} overlaps itself: start {start} is before its earlier end {last}")
        elif start == end and last < end:
            self._before_instant[session] = (end, last)
