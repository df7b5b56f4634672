"""The interface of a guarantee, and the state that all guarantees of a judge share: registers and their staircases.

docs/adding-a-guarantee.md walks through writing one.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from stalewatch.checkers.compiled import mypyc_attr
from stalewatch.checkers.item_list import ItemList
from stalewatch.checkers.verdict import Verdict, Violation
from stalewatch.history.operation import DEFAULT_HORIZON_S, Append, Draw, Fault, Final, Operation, Read, Write
from stalewatch.history.reader import Source
from stalewatch.history.rules import FOREVER, NEVER, VersionRanges

if TYPE_CHECKING:
    from stalewatch.checkers.lost_writes import AcknowledgedWrites


NumberedOperation = Write | Read | Draw
"""A completed operation with a number: the version written or shown, or the value drawn."""


class FirstAbove(NamedTuple):
    """The earliest known operation above a value; `exact` is False if an earlier one may have been dropped."""

    operation: NumberedOperation
    end: int
    exact: bool


class _Steps:
    """The steps of a staircase below its last one, as lists that rise together."""

    __slots__ = ("dropped", "ends", "limit", "operations", "values")

    SLACK = 64
    """Steps to collect before trying to drop some, so that dropping costs little on average."""

    def __init__(self) -> None:
        self.ends: list[int] = []
        self.values: list[int] = []
        self.operations: list[NumberedOperation] = []
        self.limit = self.SLACK
        self.dropped = False

    def drop(self, before: int) -> None:
        """Drop the steps that ended before that time, except the newest of them."""
        keep = max(0, bisect_left(self.ends, before) - 1)
        if keep:
            self.dropped = True
            del self.ends[:keep], self.values[:keep], self.operations[:keep]
        self.limit = len(self.ends) * 5 // 4 + self.SLACK


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

    __slots__ = ("_horizon_ns", "_lower", "_top_by", "top", "top_end")

    def __init__(self, horizon_ns: int) -> None:
        self._horizon_ns = horizon_ns
        # The last step, on its own: most reads start after it, and most keys of a run with millions have no other.
        # So whoever needs speed looks at the two before they call: what starts after `top_end` has the floor `top`,
        # and what is not above `top` need not be added.
        self.top = self.top_end = NEVER
        self._top_by: NumberedOperation | None = None
        self._lower: _Steps | None = None

    def add(self, value: int, end: int, operation: NumberedOperation, _source: int = 0) -> None:
        """Add a completed operation; it is a step only if its value is a new maximum."""
        if value <= self.top:
            return
        before = self._top_by
        if before is not None:
            lower = self._lower
            if lower is None:
                lower = self._lower = _Steps()
            lower.ends.append(self.top_end)
            lower.values.append(self.top)
            lower.operations.append(before)
            if len(lower.ends) > lower.limit:
                lower.drop(end - self._horizon_ns)
        self.top, self.top_end, self._top_by = value, end, operation

    def floor(self, start: int, _source: int = 0, default: int = 0) -> int:
        """Return the greatest value that ended strictly before `start`, else `default`."""
        if start > self.top_end > NEVER:
            return self.top
        lower = self._lower
        if lower is None:
            return default
        index = bisect_left(lower.ends, start)
        return lower.values[index - 1] if index else default

    def floor_and_end(self, start: int, _source: int = 0) -> tuple[int, int]:
        """Return the floor at `start`, 0 if there is none, and the end of the operation that set it."""
        if start > self.top_end > NEVER:
            return self.top, self.top_end
        lower = self._lower
        if lower is None:
            return 0, 0
        index = bisect_left(lower.ends, start)
        return (lower.values[index - 1], lower.ends[index - 1]) if index else (0, 0)

    def floor_source(self, _start: int, source: int = 0) -> int:
        """Return the source of the operation that set the floor; there is only one."""
        return source

    def floor_operation(self, start: int, _source: int = 0) -> NumberedOperation | None:
        """Return the operation that set the floor at `start`."""
        if start > self.top_end:
            return self._top_by
        index = bisect_left(self._lower.ends, start) if self._lower else 0
        return self._lower.operations[index - 1] if self._lower and index else None

    def first_above(self, value: int, _start: int = 0, _source: int = 0) -> FirstAbove | None:
        """Return the earliest operation above `value`; it is a step, since it was a new maximum."""
        lower = self._lower
        index = bisect_right(lower.values, value) if lower else 0
        exact = index > 0 or lower is None or not lower.dropped
        if lower and index < len(lower.values):
            return FirstAbove(lower.operations[index], lower.ends[index], exact)
        return FirstAbove(self._top_by, self.top_end, exact) if self._top_by is not None and value < self.top else None


class SourceStaircases(Staircase):
    """The staircases of one key, one per source, for judging several files together.

    Clocks differ between files, so "ended before" needs a margin: the sum of both files' clock errors. Therefore it has
    no last step that is before whatever starts after its end, and everything has to be added.
    """

    __slots__ = ("_by_source", "_sources")

    def __init__(self, horizon_ns: int, sources: tuple[Source, ...]) -> None:
        super().__init__(horizon_ns)
        self.top_end = FOREVER
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
            (stairs.floor(moment, default=default) for _, stairs, moment in self._ordered(start, source)),
            default=default,
        )

    def floor_and_end(self, start: int, source: int = 0) -> tuple[int, int]:
        """Return the floor at `start` by the clock of `source`, and the recorded end of the operation that set it."""
        floors = (stairs.floor_and_end(moment) for _, stairs, moment in self._ordered(start, source))
        return max(floors, default=(0, 0))

    def floor_source(self, start: int, source: int = 0) -> int:
        """Return the source of the operation that set the floor at `start` by the clock of `source`."""
        floors = ((stairs.floor(moment), other) for other, stairs, moment in self._ordered(start, source))
        return max(floors)[1]

    def floor_operation(self, start: int, source: int = 0) -> NumberedOperation | None:
        """Return the operation that set the floor at `start` by the clock of `source`."""
        found = [
            (stairs.floor(moment), operation)
            for _, stairs, moment in self._ordered(start, source)
            if (operation := stairs.floor_operation(moment)) is not None
        ]
        return max(found, key=lambda pair: pair[0])[1] if found else None

    def first_above(self, value: int, start: int = 0, source: int = 0) -> FirstAbove | None:
        """Return the earliest operation, by its file's clock, above `value` that certainly ended before `start`."""
        found = [(stairs.first_above(value), moment) for _, stairs, moment in self._ordered(start, source)]
        before = [first for first, moment in found if first is not None and first.end < moment]
        return min(before, key=lambda first: first.end, default=None)

    def _ordered(self, start: int, source: int) -> list[tuple[int, Staircase, int]]:
        """Return the sources comparable with `start`: each with its staircase, and `start` by its clock."""
        reader = self._sources[source]
        margins = ((other, stairs, self._sources[other].margin(reader)) for other, stairs in self._by_source.items())
        return [(other, stairs, start - margin) for other, stairs, margin in margins if margin is not None]


class Place:
    """The position in the history of the operation being judged, as a rising number; always 0 if nobody sets it.

    What has to wait for the end of the history is decided in the order in which it began to wait. Before the `finish`
    of a guarantee yields, it sets the position back to where the waiting began, which is how the findings of several
    shards are put into one order (see `shards`).
    """

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0


@dataclass(frozen=True)
class JudgeContext:
    """The sources of a judge's operations, and the horizon: for how many nanoseconds it remembers superseded versions.

    `incomplete_keys` are the keys that an incomplete file names as its worker's own: a write or an append of theirs may
    be among the missing lines.
    """

    sources: tuple[Source, ...] = (Source(),)
    horizon_ns: int = DEFAULT_HORIZON_S * 1_000_000_000
    incomplete_keys: set[str] = field(default_factory=set)
    place: Place = field(default_factory=Place)

    def staircase(self) -> Staircase:
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


_NOTHING: dict[int, Any] = {}
"""Stands for each of a register's dictionaries until something is added; it stays empty itself."""


class Register:
    """The state of one key: staircases of the versions acknowledged and shown, and the versions written as ranges."""

    __slots__ = (
        "acknowledged",
        "acknowledged_writes",
        "applied",
        "failed",
        "failures",
        "items",
        "never_ended",
        "shown",
        "views",
        "waiting",
    )

    def __init__(self, context: JudgeContext) -> None:
        self.acknowledged = context.staircase()
        self.shown = context.staircase()
        self.views: dict[object, SessionView] = {}
        self.items: ItemList | None = None
        """What was appended, if the key is a list."""
        self.acknowledged_writes: tuple[AcknowledgedWrites, ...] = ()
        """One for each source that has any."""
        self.applied = VersionRanges()
        """Versions whose write did not fail: acknowledged or unknown."""
        self.failed: VersionRanges | None = None
        self.failures: dict[int, tuple[Write, int]] = _NOTHING
        """The latest failed writes with their source, by version; they serve as witnesses."""
        self.never_ended: dict[int, tuple[Write, int]] = _NOTHING
        self.waiting: dict[int, list[tuple[Read | Final, int]]] = _NOTHING
        """Reads and final reads with their source, by version, of versions whose write is not recorded yet."""

    def is_acknowledged(self, version: int) -> bool:
        """Return whether a write of that version was acknowledged so far."""
        return any(version in writes for writes in self.acknowledged_writes)

    def add_failure(self, write: Write, version: int, source: int) -> None:
        """Remember a failed write."""
        self.failed = self.failed or VersionRanges()
        self.failed.add(version)
        self.failures = self.failures or {}
        self.failures[version] = (write, source)

    def add_never_ended(self, write: Write, version: int, source: int) -> None:
        """Remember a write that never ended."""
        self.never_ended = self.never_ended or {}
        self.never_ended[version] = (write, source)

    def add_waiting(self, read: Read | Final, version: int, source: int) -> None:
        """Remember a read of a version whose write is not recorded yet."""
        self.waiting = self.waiting or {}
        self.waiting.setdefault(version, []).append((read, source))

    def view(self, session: object) -> SessionView:
        """Return what that session knows about the key."""
        view = self.views.get(session)
        if view is None:
            view = self.views[session] = SessionView()
        return view


@mypyc_attr(allow_interpreted_subclasses=True)
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

    def on_append(self, append: Append, register: Register, source: int) -> None:
        """Process an append of any outcome."""

    def on_draw(self, draw: Draw, value: int, end: int, source: int) -> Violation | None:
        """Judge an ok draw."""

    def on_final(self, final: Final, register: Register, source: int) -> Violation | None:
        """Judge an ok final read."""

    def finish(self) -> Iterable[Violation]:
        """Return the violations that can only be decided at the end; called once."""
        return ()


@mypyc_attr(allow_interpreted_subclasses=True)
class FloorGuarantee(Guarantee):
    """A guarantee that is defined by a floor: the version that a read must at least show."""

    def floor(self, read: Read, register: Register, view: SessionView, source: int) -> int:
        """Return that version; 0 or less if the guarantee demands nothing of the read."""
        raise NotImplementedError

    def violation(self, read: Read, version: int, register: Register, view: SessionView, source: int) -> Violation:
        """Return the violation by a read that showed a version below its floor, with the operations that prove it."""
        raise NotImplementedError
