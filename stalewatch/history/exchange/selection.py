"""Parts of a history: by key, session, node and time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from stalewatch.history.operation import Fault, Final, Operation

EXAMPLES = 5
LONGEST_NAME = 60


class NothingSelected(Exception):
    """No operation matches; the message says what does not, and what there is instead."""


@dataclass
class _Names:
    """The values that a field of the operations should have, and some that it has."""

    name: str
    wanted: frozenset[str]
    found: dict[str, None] = field(default_factory=dict)

    def note(self, operation: Operation) -> None:
        value = None if isinstance(operation, Fault) else getattr(operation, self.name, None)
        if value is not None and (value in self.wanted or len(self.found) <= EXAMPLES):
            self.found[value] = None

    def require(self) -> None:
        """Raise `NothingSelected` if no operation has one of the values."""
        if self.wanted and not self.wanted & self.found.keys():
            more = " and others" if len(self.found) > EXAMPLES else ""
            there = f"there are {_shown(self.found)}{more}" if self.found else "none has any"
            raise NothingSelected(f"no operation has the {self.name} {_shown(sorted(self.wanted))}: {there}")


def _shown(names: Iterable[str]) -> str:
    return ", ".join(
        one if one.isprintable() and len(one) <= LONGEST_NAME else repr(one[:LONGEST_NAME])
        for one in islice(names, EXAMPLES)
    )


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
        """Yield the operations to keep; `start` is when the history's first operation started.

        In the end raise `NothingSelected` if these were only what is kept whatever its time, session or node.
        """
        kept = False
        fields = (("key", self.keys), ("session", self.sessions), ("node", self.nodes))
        names = [_Names(name, wanted) for name, wanted in fields if wanted is not None]
        for operation in operations:
            for one in names:
                one.note(operation)
            if self._keeps(operation, start):
                kept = kept or not isinstance(operation, Fault if self.keeps_whole_keys else Fault | Final)
                yield operation
        for one in names:
            one.require()
        if not kept:
            raise NothingSelected("no operation matches; nothing was written")

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
