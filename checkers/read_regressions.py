"""read_regressions: what one session was shown, no later read of any session takes back, acknowledged or not.

Together with `stale_reads` and `phantom_reads` this makes a register linearizable (docs/consistency.md has the proof).
"""

from stalewatch.checkers.protocol import FloorGuarantee
from stalewatch.checkers.register import Register, View
from stalewatch.checkers.verdict import Violation
from stalewatch.history.operation import Read


class ReadRegressions(FloorGuarantee):
    """Compares every ok read with the ok reads of all sessions that ended before it started."""

    name = "read_regressions"

    def floor(self, read: Read, register: Register, view: View, source: int) -> int:
        """Return the newest version shown to anybody before the read started."""
        return register.shown.floor(read.start, source)

    def prove(self, read: Read, version: int, register: Register, view: View, source: int) -> Violation:
        """Show the earlier read and the one that took it back."""
        earlier = register.shown.step(read.start, source)
        assert earlier is not None  # noqa: S101 # it set the floor
        behind = register.shown.floor(read.start, source) - version
        return Violation(self.name, (earlier, read), versions_behind=behind)
