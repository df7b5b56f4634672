"""The interface of a guarantee, and the state that all guarantees of a judge share.

docs/adding-a-guarantee.md walks through writing one.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from stalewatch.checkers.staircase import SourceStaircases, Staircase
from stalewatch.checkers.verdict import Verdict, Violation
from stalewatch.history.operation import DEFAULT_HORIZON_S, Append, Draw, Fault, Final, Operation, Read, Write
from stalewatch.history.reader import Source
from stalewatch.history.rules import NEVER, VersionRanges


@dataclass(frozen=True)
class JudgeContext:
    """The sources of a judge's operations, and the horizon: for how many nanoseconds it remembers superseded versions.

    `incomplete_keys` are the keys that an incomplete file names as its worker's own: a write or an append of theirs may
    be among the missing lines.
    """

    sources: tuple[Source, ...] = (Source(),)
    horizon_ns: int = DEFAULT_HORIZON_S * 1_000_000_000
    incomplete_keys: set[str] = field(default_factory=set)

    def staircase(self) -> Staircase | SourceStaircases:
        """Return a new staircase for one key; several sources need one each, with margins between their clocks."""
        if len(self.sources) == 1:
            return Staircase(self.horizon_ns)
        return SourceStaircases(self.horizon_ns, self.sources)

    def margin(self, earlier: int, later: int) -> int | None:
        """Return by how many ns an end in one source must precede a start in the other to prove their order."""
        return self.sources[earlier].margin(self.sources[later])

    def add_incomplete_key(self, operation: Operation, source: int) -> None:
        """Remember the key of an operation from an incomplete source, unless another worker owns it."""
        owners = {None, self.sources[source].worker}
        if not isinstance(operation, Fault) and getattr(operation, "owner", None) in owners:
            self.incomplete_keys.add(operation.key)

    def has_complete_files(self, worker: int) -> bool:
        """Return whether all operations of a worker are known: its files are given and complete."""
        complete = [source.complete for source in self.sources if source.worker == worker]
        return bool(complete) and all(complete)


class SessionView:
    """What one session knows about one key: the newest version that it wrote, read, or must find."""

    __slots__ = ("read", "read_by", "required", "required_by", "written", "written_by")

    def __init__(self) -> None:
        self.written = 0
        self.written_by: Write | None = None
        self.read = 0
        self.read_by: Read | None = None
        self.required = 0
        """The newest version that a value read by the session depends on."""
        self.required_by: Read | None = None


class Register:
    """The state of one key: staircases of the versions acknowledged and shown, and the versions written as ranges."""

    __slots__ = (
        "acknowledged",
        "acknowledged_writes",
        "applied",
        "failed",
        "failures",
        "never_ended",
        "shown",
        "views",
        "waiting",
    )

    def __init__(self, context: JudgeContext) -> None:
        self.acknowledged = context.staircase()
        self.shown = context.staircase()
        self.views: dict[object, SessionView] = {}
        self.acknowledged_writes: dict[int, AcknowledgedWrites] = {}
        """By source."""
        self.applied = VersionRanges()
        """Versions whose write did not fail: acknowledged or unknown."""
        self.failed = VersionRanges()
        self.failures: dict[int, tuple[Write, int]] = {}
        """The latest failed writes with their source, by version; they serve as witnesses."""
        self.never_ended: dict[int, tuple[Write, int]] = {}
        self.waiting: dict[int, list[tuple[Read, int]]] = {}
        """Reads with their source, by version, of versions whose write is not recorded yet."""

    def view(self, session: object) -> SessionView:
        """Return what that session knows about the key."""
        view = self.views.get(session)
        if view is None:
            view = self.views[session] = SessionView()
        return view


class AcknowledgedWrites:
    """A register's acknowledged writes from one source: every version as ranges, and the recent operations.

    A final read must not count the writes that ended after it started. Those are among the recent ones unless the read
    took longer than the horizon; then nothing can be concluded.
    """

    __slots__ = ("_dropped_until", "_ends", "_horizon_ns", "_limit", "_recent", "_versions")

    SLACK = 64

    def __init__(self, horizon_ns: int) -> None:
        self._horizon_ns = horizon_ns
        self._limit = self.SLACK
        self._dropped_until = NEVER
        self._versions = VersionRanges()
        self._ends: list[int] = []
        self._recent: list[tuple[int, Write]] = []

    def add(self, write: Write, version: int, end: int) -> None:
        """Add an ok write; writes come in the order of their end."""
        self._versions.add(version)
        self._ends.append(end)
        self._recent.append((version, write))
        if len(self._ends) > self._limit:
            self._drop(end - self._horizon_ns)

    def _drop(self, before: int) -> None:
        dropped = bisect_left(self._ends, before)
        if dropped:
            self._dropped_until = self._ends[dropped - 1]
            del self._ends[:dropped], self._recent[:dropped]
        self._limit = 2 * len(self._ends) + self.SLACK

    def missing(self, held: int, before: int) -> tuple[int, int, list[Write]] | None:
        """Return of the writes that ended before that time: how many, how many above `held`, and those still known.

        Return None if it is unknown which ended before.
        """
        if before <= self._dropped_until:
            return None
        count = bisect_left(self._ends, before)
        after = self._recent[count:]
        lost = len(self._versions.above(held)) - sum(version > held for version, _ in after)
        known = [write for version, write in self._recent[:count] if version > held] if lost else []
        return len(self._versions) - len(after), lost, known


class Guarantee:
    """A guarantee that is never violated: it sees every operation and ignores it. Subclasses override what they need.

    The judge passes the fields that an ok operation is sure to have (its version or value, its end) next to the
    operation, and the register of its key as it was before the operation; `source` is the index of the operation's
    source.
    """

    name: ClassVar[str]

    def __init__(self, context: JudgeContext) -> None:
        self.context = context
        self.verdict = Verdict(self.name)

    def on_read(self, read: Read, version: int, register: Register, source: int) -> Violation | None:
        """Judge an ok read."""

    def on_write(self, write: Write, version: int, register: Register, source: int) -> Sequence[Violation]:
        """Process a write of any outcome whose version is known; return violations of reads that waited for it."""
        return ()

    def on_acknowledged(self, write: Write, version: int, end: int, register: Register, source: int) -> None:
        """Process an ok write."""

    def on_append(self, append: Append, source: int) -> None:
        """Process an append of any outcome."""

    def on_draw(self, draw: Draw, value: int, end: int, source: int) -> Violation | None:
        """Judge an ok draw."""

    def on_final(self, final: Final, register: Register, source: int) -> Violation | None:
        """Judge an ok final read."""

    def finish(self) -> Iterable[Violation]:
        """Return the violations that can only be decided at the end; called once."""
        return ()


class FloorGuarantee(Guarantee):
    """A guarantee that is defined by a floor: the version that a read must at least show."""

    def floor(self, read: Read, register: Register, view: SessionView, source: int) -> int:
        """Return that version; 0 if the guarantee demands nothing of the read."""
        raise NotImplementedError

    def violation(self, read: Read, version: int, register: Register, view: SessionView, source: int) -> Violation:
        """Return the violation by a read that showed a version below its floor, with the operations that prove it."""
        raise NotImplementedError
