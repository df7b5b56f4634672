"""monotonic_reads: a session's reads of a key never go back in time (Terry et al. 1994)."""

from stalewatch.checkers.protocol import FloorGuarantee
from stalewatch.checkers.register import Register, View
from stalewatch.checkers.verdict import Violation
from stalewatch.history.operation import Read


class MonotonicReads(FloorGuarantee):
    """Compares every ok read with the earlier ones of its own session."""

    name = "monotonic_reads"

    def floor(self, read: Read, register: Register, view: View, source: int) -> int:
        """Return the newest version that the session read before."""
        return view.read

    def prove(self, read: Read, version: int, register: Register, view: View, source: int) -> Violation:
        """Show the session's earlier read and the one that went back."""
        assert view.read_by is not None  # noqa: S101 # it set the floor
        return Violation(self.name, (view.read_by, read), versions_behind=view.read - version)
