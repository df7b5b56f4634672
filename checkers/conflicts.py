"""conflicts: reads that show concurrent versions next to each other.

They are a fact about a store with several leaders, not a broken promise.
"""

from stalewatch.checkers.guarantee import Guarantee, Register
from stalewatch.checkers.verdict import Violation
from stalewatch.history.operation import Final, Read


class Conflicts(Guarantee):
    """Counts the ok reads and final reads whose siblings are not empty."""

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
