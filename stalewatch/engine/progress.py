"""How far a run is."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a phase is: what it does, and how much of it in operations, keys or seconds."""

    phase: str
    done: float
    total: float
    unit: str


Report = Callable[[Progress], None]
