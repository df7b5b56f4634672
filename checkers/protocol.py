"""What a guarantee is to the judge: it sees operations in the order of their end and says which broke a promise."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from stalewatch.checkers.register import Register, View
from stalewatch.checkers.scene import Scene
from stalewatch.checkers.verdict import Verdict, Violation
from stalewatch.history.operation import Append, Draw, Final, Read, Write


class Guarantee:
    """A guarantee that promises nothing: it sees all and never complains. The others override what they care for.

    The judge hands over what an ok operation surely has (its version or value, its end) beside the operation, and the
    register of its key as it was before the operation; `source` is the index of the operation's file.
    """

    name: ClassVar[str]

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.verdict = Verdict(self.name)

    def on_read(self, read: Read, version: int, register: Register, source: int) -> Violation | None:
        """Judge an ok read."""

    def on_write(self, write: Write, version: int, register: Register, source: int) -> Sequence[Violation]:
        """Take a write of any outcome whose version is known; it may decide reads that waited for it."""
        return ()

    def on_acknowledged(self, write: Write, version: int, end: int, register: Register, source: int) -> None:
        """Take an ok write."""

    def on_append(self, append: Append, source: int) -> None:
        """Take an append of any outcome."""

    def on_draw(self, draw: Draw, value: int, end: int, source: int) -> Violation | None:
        """Judge an ok draw."""

    def on_final(self, final: Final, register: Register, source: int) -> Violation | None:
        """Take an ok final read."""

    def finish(self) -> Iterable[Violation]:
        """Decide what had to wait for the end; called once."""
        return ()


class FloorGuarantee(Guarantee):
    """A guarantee that is nothing but a floor: the version which a read must at least show."""

    def floor(self, read: Read, register: Register, view: View, source: int) -> int:
        """Return that version; 0 where the guarantee asks for nothing."""
        raise NotImplementedError

    def prove(self, read: Read, version: int, register: Register, view: View, source: int) -> Violation:
        """Return the violation of a read that showed a version below its floor, with the operations that prove it."""
        raise NotImplementedError
