"""What a fault is to whoever puts it on, and the fault that does nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

Value = float | bool | str
"""A parameter of a fault, as JSON knows it too."""


class Fault(Protocol):
    """Something that is done to nodes and undone.

    It keeps nothing between the two that an object made alike in another process would not know: whoever put it on may
    be killed meanwhile, and another one undoes it.
    """

    @property
    def name(self) -> str:
        """The word for it in histories and metrics: its row in `kinds.FAULTS`."""
        ...

    @property
    def nodes(self) -> Sequence[str]:
        """Whom it is done to, each HOST:PORT."""
        ...

    @property
    def parameters(self) -> Mapping[str, Value]:
        """What else it was made with."""
        ...

    def begin(self) -> None:
        """Do it. Raises a `ClusterError` where it fails, at some of the nodes perhaps only; `end` undoes that too."""
        ...

    def end(self) -> None:
        """Undo it, and return when the nodes serve again where that is for them to decide; nothing where all is well.

        Raises a `ClusterError` where it fails, after it was tried at every node.
        """
        ...


@dataclass(frozen=True)
class NoFault:
    """Nothing is done to anybody: what a drill without its fault looks like."""

    nodes: Sequence[str] = ()
    parameters: Mapping[str, Value] = field(default_factory=dict)
    name: ClassVar[str] = "none"

    def begin(self) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Undo nothing."""
