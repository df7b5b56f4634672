"""The guarantees of reads beside `stale_reads`: each is a class with its definition.

read_your_writes, monotonic_reads and consistent_prefix are the session guarantees of Terry et al. 1994: what a session
may expect from its own past. They follow the session's own order and need no clock. read_regressions, phantom_reads and
conflicts compare the reads of all sessions.
"""

from collections.abc import Iterable

from stalewatch.checkers.guarantee import FloorGuarantee, Guarantee, JudgeContext, Register, SessionView
from stalewatch.checkers.verdict import Violation
from stalewatch.history.operation import Final, Read, Write


class ReadYourWrites(FloorGuarantee):
    """read_your_writes: a read shows at least the newest version that its session wrote."""

    name = "read_your_writes"

    def floor(self, read: Read, register: Register, view: SessionView, source: int) -> int:
        """Return the newest version that the session wrote."""
        return view.written

    def violation(self, read: Read, version: int, register: Register, view: SessionView, source: int) -> Violation:
        """Return the session's write and its read."""
        assert view.written_by is not None  # noqa: S101 # it set the floor
        return Violation(self.name, (view.written_by, read), versions_behind=view.written - version)


class MonotonicReads(FloorGuarantee):
    """monotonic_reads: a read shows at least the newest version that its session read before."""

    name = "monotonic_reads"

    def floor(self, read: Read, register: Register, view: SessionView, source: int) -> int:
        """Return the newest version that the session read before."""
        return view.read

    def violation(self, read: Read, version: int, register: Register, view: SessionView, source: int) -> Violation:
        """Return the session's earlier read and the one that went back."""
        assert view.read_by is not None  # noqa: S101 # it set the floor
        return Violation(self.name, (view.read_by, read), versions_behind=view.read - version)


class ConsistentPrefix(FloorGuarantee):
    """consistent_prefix: a session that sees an effect sees its cause.

    A value may record that its author had seen a version of another key before writing it. A session that read such a
    value must then find at least that version: monotonic writes if the author wrote both, writes follow reads if the
    author had read the other one. Only direct dependencies are followed, so the count is a lower bound.
    """

    name = "consistent_prefix"

    def floor(self, read: Read, register: Register, view: SessionView, source: int) -> int:
        """Return the newest version that a value read earlier by the session depends on."""
        return view.required

    def violation(self, read: Read, version: int, register: Register, view: SessionView, source: int) -> Violation:
        """Return the read of the effect and the read that missed its cause."""
        effect = view.required_by
        assert effect is not None  # noqa: S101 # it set the floor
        assert effect.depends is not None  # noqa: S101 # it set the floor
        behind = view.required - version
        return Violation(self.name, (effect, read), cause=effect.depends.cause, versions_behind=behind)


class ReadRegressions(FloorGuarantee):
    """Once a read has shown a version, no later read of any session shows an older one, acknowledged or not.

    Together with stale_reads and phantom_reads this makes a register linearizable; docs/consistency.md has the proof.
    """

    name = "read_regressions"

    def floor(self, read: Read, register: Register, view: SessionView, source: int) -> int:
        """Return the newest version shown to any session before the read started."""
        start, stairs = read.start, register.shown
        if stairs.top_end < start:  # most reads start after the last step: without a call, for speed
            return stairs.top
        return stairs.floor(start, source)

    def violation(self, read: Read, version: int, register: Register, view: SessionView, source: int) -> Violation:
        """Return the earlier read and the one that showed something older."""
        earlier = register.shown.floor_operation(read.start, source)
        assert earlier is not None  # noqa: S101 # it set the floor
        behind = register.shown.floor(read.start, source) - version
        return Violation(self.name, (earlier, read), versions_behind=behind)

    def on_final(self, final: Final, register: Register, source: int) -> Violation | None:
        """Judge a final read: what was shown before it must still be there, if only as a sibling.

        It raises no floor itself: nobody was shown what it found.
        """
        floor = register.shown.floor(final.start, source)
        if final.version is None or floor <= 0:
            return None
        self.verdict.checked += 1
        held = max(final.version, *(final.siblings or ()), 0)
        if held >= floor:
            return None
        earlier = register.shown.floor_operation(final.start, source)
        assert earlier is not None  # noqa: S101 # it set the floor
        return self.verdict.add(Violation(self.name, (earlier, final), cause="vanished", versions_behind=floor - held))


FAILURES = 256
"""How many failed writes of a key are kept as witnesses; the fact that a version failed is never forgotten."""


class PhantomReads(Guarantee):
    """A read shows only versions that were written, by a write that had started and did not fail.

    Matches every version shown with its write.

    A write that ended is recorded before any read that ended later, so its start precedes that read's end and need not
    be kept. A read that ended first waits for its write, which is often still in flight while its value is visible.
    A write that never ended may be on any line of the file, even before a read that ended before the write started.
    """

    name = "phantom_reads"

    def __init__(self, context: JudgeContext) -> None:
        super().__init__(context)
        self._waited: dict[Register, int] = {}
        """Since which place."""

    def on_write(self, write: Write, version: int, register: Register, source: int) -> tuple[Violation, ...]:
        """Record the version, and judge the reads that waited for it."""
        if write.outcome == "fail":
            register.add_failure(write, version, source)
            if len(register.failures) > FAILURES:
                del register.failures[next(iter(register.failures))]
        else:
            register.applied.add(version)
            if write.end is None:
                register.add_never_ended(write, version, source)
        if not register.waiting:
            return ()
        found = [self._judge(read, at, write, source) for read, at in register.waiting.pop(version, ())]
        return tuple(violation for violation in found if violation is not None)

    def on_final(self, final: Final, register: Register, source: int) -> Violation | None:
        """Judge a final read like any other."""
        return None if final.version is None else self.on_read(final, final.version, register, source)

    def on_read(self, read: Read | Final, version: int, register: Register, source: int) -> Violation | None:
        """Judge the read if its write is recorded, else let it wait."""
        if version <= 0:
            return None
        if version in register.applied:
            if register.never_ended and version in register.never_ended:
                return self._judge(read, source, *register.never_ended[version])
            self.verdict.checked += 1
            return None
        if register.failed is not None and version in register.failed:
            return self._failed(read, register.failures.get(version))
        register.add_waiting(read, version, source)
        self._waited.setdefault(register, self.context.place.number)
        return None

    def _failed(self, read: Read | Final, failure: tuple[Write, int] | None) -> Violation:
        self.verdict.checked += 1
        return self.verdict.add(Violation(self.name, (read, failure[0]) if failure else (read,), cause="failed"))

    def _judge(self, read: Read | Final, source: int, write: Write, write_source: int) -> Violation | None:
        """Judge a read whose write is recorded, possibly after the read."""
        if write.outcome == "fail":
            return self._failed(read, (write, write_source))
        self.verdict.checked += 1
        margin = self.context.margin(source, write_source)
        if margin is not None and write.start > read.end + margin:
            return self.verdict.add(Violation(self.name, (read, write), cause="not_started"))
        return None

    def finish(self) -> Iterable[Violation]:
        """Judge the reads whose write never came; in an incomplete file its line may be missing."""
        for register, place in self._waited.items():
            self.context.place.number = place
            for reads in register.waiting.values():
                yield from filter(None, (self._never_written(read) for read, _ in reads))
            register.waiting.clear()

    def _never_written(self, read: Read | Final) -> Violation | None:
        if read.key in self.context.incomplete_keys:
            return None
        self.verdict.checked += 1
        return self.verdict.add(Violation(self.name, (read,), cause="never_written"))


class Conflicts(Guarantee):
    """Reads that show concurrent versions next to each other: a fact about several leaders, not a broken promise.

    Counts the ok reads and final reads whose siblings are not empty.
    """

    name = "conflicts"

    def on_read(self, read: Read, version: int, register: Register, source: int) -> Violation | None:
        """Judge an ok read."""
        return None if read.siblings is None and not self.verdict.applicable else self._judge(read)

    def on_final(self, final: Final, register: Register, source: int) -> Violation | None:
        """Judge an ok final read."""
        return self._judge(final)

    def _judge(self, read: Read | Final) -> Violation | None:
        if read.siblings is None:
            self.verdict.applicable = False  # a database that exposes no siblings cannot show conflicts
            return None
        self.verdict.checked += 1
        return self.verdict.add(Violation(self.name, (read,))) if read.siblings else None
