"""What all guarantees of a judge share: where operations come from, and how long steps are remembered."""

from dataclasses import dataclass, field

from stalewatch.checkers.staircase import Staircase, Staircases
from stalewatch.history.operation import DEFAULT_HORIZON_S, Fault, Operation
from stalewatch.history.reader import Source


@dataclass(frozen=True)
class Scene:
    """The sources of the operations, and the horizon in nanoseconds.

    `cut_keys` are the keys that an incomplete file names as its worker's own: a write or an append of theirs may be
    among the lines that were lost.
    """

    sources: tuple[Source, ...] = (Source(),)
    horizon_ns: int = DEFAULT_HORIZON_S * 1_000_000_000
    cut_keys: set[str] = field(default_factory=set)

    def stairs(self) -> Staircase | Staircases:
        """Return a staircase for a key; several files need one each, with margins between their clocks."""
        if len(self.sources) == 1:
            return Staircase(self.horizon_ns)
        return Staircases(self.horizon_ns, self.sources)

    def margin(self, earlier: int, later: int) -> int | None:
        """Return by how many ns an end in one file must come before a start in the other to prove their order."""
        return self.sources[earlier].margin(self.sources[later])

    def note(self, operation: Operation, source: int) -> None:
        """Remember the key of an operation in an incomplete file."""
        if not isinstance(operation, Fault) and getattr(operation, "owner", None) in {
            None,
            self.sources[source].worker,
        }:
            self.cut_keys.add(operation.key)

    def complete(self, worker: int) -> bool:
        """Tell whether all of a worker's operations are here: its files are given, and whole."""
        files = [source.complete for source in self.sources if source.worker == worker]
        return bool(files) and all(files)
