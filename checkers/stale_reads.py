"""stale_reads: a read shows at least the newest acknowledged write of its key that ended before the read started.

This is the recency of a linearizable register (Herlihy and Wing 1990), counted read by read.
"""

from stalewatch.checkers.guarantee import FloorGuarantee, Register, SessionView
from stalewatch.checkers.verdict import Violation
from stalewatch.history.operation import Operation, Read


class StaleReads(FloorGuarantee):
    """Compares every ok read with the acknowledged writes of all sessions."""

    name = "stale_reads"

    def floor(self, read: Read, register: Register, view: SessionView, source: int) -> int:
        """Return the newest version acknowledged before the read started."""
        return register.acknowledged.floor(read.start, source)

    def violation(self, read: Read, version: int, register: Register, view: SessionView, source: int) -> Violation:
        """Return the first write that made the version old, the newest write before the read, and the read."""
        stairs = register.acknowledged
        floor, newest = stairs.floor(read.start, source), stairs.floor_operation(read.start, source)
        first = stairs.first_above(version, read.start, source)
        assert first is not None  # noqa: S101 # the floor is above the version
        assert newest is not None  # noqa: S101 # it set the floor
        proof: list[Operation] = [first.operation, read]
        if newest is not first.operation:
            proof.insert(1, newest)
        hidden = any(sibling >= floor for sibling in read.siblings or ())
        return Violation(
            self.name,
            tuple(proof),
            cause="conflict" if hidden else "lag",
            staleness_ns=read.start - first.end,
            staleness_exact=first.exact,
            versions_behind=floor - version,
        )
