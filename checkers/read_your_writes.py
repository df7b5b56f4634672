"""read_your_writes: a session's read shows at least what the session itself wrote (Terry et al. 1994)."""

from stalewatch.checkers.protocol import FloorGuarantee
from stalewatch.checkers.register import Register, View
from stalewatch.checkers.verdict import Violation
from stalewatch.history.operation import Read


class ReadYourWrites(FloorGuarantee):
    """Compares every ok read with the acknowledged writes of its own session."""

    name = "read_your_writes"

    def floor(self, read: Read, register: Register, view: View, source: int) -> int:
        """Return the newest version that the session wrote."""
        return view.written

    def prove(self, read: Read, version: int, register: Register, view: View, source: int) -> Violation:
        """Show the session's write and its read."""
        assert view.written_by is not None  # noqa: S101 # it set the floor
        return Violation(self.name, (view.written_by, read), versions_behind=view.written - version)
