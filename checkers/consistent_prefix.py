"""consistent_prefix: whoever sees an effect sees its cause.

A value may say that its author had seen a version of another key before writing it. A session that read such a value
must then find at least that version: monotonic writes where its author wrote both, writes follow reads where the author
had read the other (Terry et al. 1994). Only direct dependencies are followed, so the count is a lower bound.
"""

from stalewatch.checkers.protocol import FloorGuarantee
from stalewatch.checkers.register import Register, View
from stalewatch.checkers.verdict import Violation
from stalewatch.history.operation import Read


class ConsistentPrefix(FloorGuarantee):
    """Compares every ok read with what the values depend on that its session read earlier."""

    name = "consistent_prefix"

    def floor(self, read: Read, register: Register, view: View, source: int) -> int:
        """Return the newest version that a value read earlier by the session depends on."""
        return view.needs

    def prove(self, read: Read, version: int, register: Register, view: View, source: int) -> Violation:
        """Show the read of the effect and the read that missed its cause."""
        effect = view.effect
        assert effect is not None  # noqa: S101 # it set the floor
        assert effect.depends is not None  # noqa: S101 # it set the floor
        return Violation(self.name, (effect, read), cause=effect.depends.cause, versions_behind=view.needs - version)
