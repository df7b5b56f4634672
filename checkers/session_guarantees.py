"""read_your_writes, monotonic_reads and consistent_prefix: what a session may expect from its own past.

The session guarantees of Terry et al. 1994. They follow the session's own order and need no clock.
"""

from stalewatch.checkers.guarantee import FloorGuarantee, Register, SessionView
from stalewatch.checkers.verdict import Violation
from stalewatch.history.operation import Read


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
