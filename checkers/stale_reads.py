"""stale_reads: a read shows at least the newest acknowledged write of its key that ended before it started.

The recency that a linearizable register gives (Herlihy and Wing 1990), counted read by read.
"""

from stalewatch.checkers.protocol import FloorGuarantee
from stalewatch.checkers.register import Register, View
from stalewatch.checkers.verdict import Violation
from stalewatch.history.operation import Operation, Read


class StaleReads(FloorGuarantee):
    """Compares every ok read with the acknowledged writes of all sessions."""

    name = "stale_reads"

    def floor(self, read: Read, register: Register, view: View, source: int) -> int:
        """Return the newest version acknowledged before the read started."""
        return register.acknowledged.floor(read.start, source)

    def prove(self, read: Read, version: int, register: Register, view: View, source: int) -> Violation:
        """Show the write that first made the read's version old, the newest one before the read, and the read."""
        stairs = register.acknowledged
        floor, newest = stairs.floor(read.start, source), stairs.step(read.start, source)
        since = stairs.since(version, read.start, source)
        assert since is not None  # noqa: S101 # the floor is above the version
        assert newest is not None  # noqa: S101 # it set the floor
        proof: list[Operation] = [since.operation, read]
        if newest is not since.operation:
            proof.insert(1, newest)
        hidden = any(sibling >= floor for sibling in read.siblings or ())
        return Violation(
            self.name,
            tuple(proof),
            cause="conflict" if hidden else "lag",
            staleness_ns=read.start - since.end,
            staleness_exact=since.exact,
            versions_behind=floor - version,
        )
