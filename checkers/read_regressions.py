"""read_regressions: once a read has shown a version, no later read of any session shows an older one.

It makes no difference whether the version was acknowledged. Together with `stale_reads` and `phantom_reads` this makes
a register linearizable; docs/consistency.md has the proof.
"""

from stalewatch.checkers.guarantee import FloorGuarantee, Register, SessionView
from stalewatch.checkers.verdict import Violation
from stalewatch.history.operation import Read


class ReadRegressions(FloorGuarantee):
    """Compares every ok read with the ok reads of all sessions that ended before it started."""

    name = "read_regressions"

    def floor(self, read: Read, register: Register, view: SessionView, source: int) -> int:
        """Return the newest version shown to any session before the read started."""
        return register.shown.floor(read.start, source)

    def violation(self, read: Read, version: int, register: Register, view: SessionView, source: int) -> Violation:
        """Return the earlier read and the one that showed something older."""
        earlier = register.shown.floor_operation(read.start, source)
        assert earlier is not None  # noqa: S101 # it set the floor
        behind = register.shown.floor(read.start, source) - version
        return Violation(self.name, (earlier, read), versions_behind=behind)
