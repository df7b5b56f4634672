"""Sessions of a worker that wrote several files: what a session did in one file counts in the others.

Within a file the session's own order needs no clock. Between files there is only time: an operation comes before
another if it ended before by more than both files' clock errors, as everywhere else. A worker that writes one file, as
most do, costs nothing here.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from stalewatch.checkers.guarantee import JudgeContext, NumberedOperation, SessionView, Staircase
from stalewatch.history.operation import Depends, Read, Write
from stalewatch.history.reader import Source


class _Past:
    """What a session did to one key in one file: its newest versions over time."""

    __slots__ = ("read", "required", "written")

    def __init__(self, horizon_ns: int) -> None:
        self.written, self.read, self.required = (Staircase(horizon_ns) for _ in range(3))


class _Known(NamedTuple):
    """A version that a session wrote, read or must find, and the operation that showed it; the file breaks ties."""

    version: int
    operation: NumberedOperation
    source: int

    def precedes(self, other: "_Known | None") -> bool:
        """Return whether this is the newer version, or the same one and known earlier in the session."""
        if other is None or self.version != other.version:
            return other is None or self.version > other.version
        mine, theirs = self.operation, other.operation
        return (mine.start, mine.end or 0, self.source) < (theirs.start, theirs.end or 0, other.source)


class SessionFiles:
    """The past of every session, key and file, of workers with several files."""

    def __init__(self, context: JudgeContext) -> None:
        self._context = context
        self._past: dict[tuple[int, str, str], _Past] = {}
        workers = [source.worker for source in context.sources]
        self._others = [
            [other for other, name in enumerate(workers) if name == worker and other != index]
            for index, worker in enumerate(workers)
        ]

    @staticmethod
    def are_needed(sources: Sequence[Source]) -> bool:
        """Return whether any worker has several files."""
        return any(times > 1 for times in Counter(source.worker for source in sources).values())

    def add_write(self, write: Write, version: int, end: int, source: int) -> None:
        """Add an ok write."""
        self._of(source, write.session, write.key).written.add(version, end, write)

    def add_read(self, read: Read, version: int, source: int) -> None:
        """Add an ok read."""
        self._of(source, read.session, read.key).read.add(version, read.end, read)

    def add_dependency(self, read: Read, depends: Depends, source: int) -> None:
        """Add what the value of an ok read depends on."""
        self._of(source, read.session, depends.key).required.add(depends.version, read.end, read)

    def _of(self, source: int, session: str, key: str) -> _Past:
        past = self._past.get((source, session, key))
        if past is None:
            past = self._past[source, session, key] = _Past(self._context.horizon_ns)
        return past

    def view(self, own: SessionView, read: Read, source: int) -> SessionView:
        """Return what the session of the read knows of its key: its own view in this file, and its past in others."""
        known = SessionView()
        for name in ("written", "read", "required"):
            found = self._newest(name, own, read, source)
            if found is not None:
                setattr(known, name, found.version)
                setattr(known, f"{name}_by", found.operation)
        return known

    def _newest(self, name: str, own: SessionView, read: Read, source: int) -> _Known | None:
        operation = getattr(own, f"{name}_by")
        newest = None if operation is None else _Known(getattr(own, name), operation, source)
        for other in self._in_other_files(name, read, source):
            if other.precedes(newest):
                newest = other
        return newest

    def _in_other_files(self, name: str, read: Read, source: int) -> Iterator[_Known]:
        for other in self._others[source]:
            past = self._past.get((other, read.session, read.key))
            margin = self._context.margin(other, source)
            if past is not None and margin is not None:
                stairs: Staircase = getattr(past, name)
                operation = stairs.floor_operation(read.start - margin)
                if operation is not None:
                    yield _Known(stairs.floor(read.start - margin), operation, other)
