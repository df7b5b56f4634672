"""Parts of a history: by key, session, node and time."""

from collections.abc import Iterator
from dataclasses import dataclass

from stalewatch.history.operation import Fault, Final, Operation


@dataclass(frozen=True)
class Selection:
    """What to keep; None keeps all. Times are nanoseconds since the start of the history's first operation.

    Dropping operations can only hide violations, never make one, with one exception: the *last* final read of a key
    decides, so without it an earlier one would. Final reads are therefore kept with their keys whatever their time or
    node. Faults are kept: they are no evidence.
    """

    keys: frozenset[str] | None = None
    sessions: frozenset[str] | None = None
    nodes: frozenset[str] | None = None
    first_ns: int | None = None
    last_ns: int | None = None

    @property
    def keeps_whole_keys(self) -> bool:
        """Whether every key that is kept keeps all its operations, so that what is missing there was never written."""
        return (self.sessions, self.nodes, self.first_ns, self.last_ns) == (None, None, None, None)

    def of(self, operations: Iterator[Operation], start: int) -> Iterator[Operation]:
        """Yield the operations to keep; `start` is when the history's first operation started."""
        return (operation for operation in operations if self._keeps(operation, start))

    def _keeps(self, operation: Operation, start: int) -> bool:
        if isinstance(operation, Fault):
            return self._in_time(operation, start)
        if self.keys is not None and operation.key not in self.keys:
            return False
        if isinstance(operation, Final):
            return True
        if self.sessions is not None and operation.session not in self.sessions:
            return False
        return (self.nodes is None or operation.node in self.nodes) and self._in_time(operation, start)

    def _in_time(self, operation: Operation, start: int) -> bool:
        """Return whether an operation was under way at some time of the interval."""
        end = operation.end
        before = self.last_ns is None or operation.start - start <= self.last_ns
        return before and (self.first_ns is None or end is None or end - start >= self.first_ns)
