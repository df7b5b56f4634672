"""What is known of keys while the load runs: how fresh reads are by the age of the newest write, and open conflicts.

This is the only thing that metrics cost an operation, about a microsecond.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Protocol

from stalewatch.history.operation import Operation, Read, Write
from stalewatch.metrics import families
from stalewatch.metrics.meter import NS, STALE_READS, Meter, Reading

STEPS = 64
"""How many of a key's newest acknowledged writes are kept, twice that at the most. A read that overlaps with more has
no age, and is not counted."""

_BOUNDS_NS = [round(bound * NS) for bound in families.AGE_BOUNDS_S]
_AGES = (*(str(bound) for bound in families.AGE_BOUNDS_S), "+Inf")
_FRESH = {False: "false", True: "true"}


class Broken(Protocol):
    """A violation."""

    @property
    def guarantee(self) -> str:
        """Of which guarantee."""
        ...


class Steps:
    """A key's acknowledged writes that raised its version: when each ended."""

    __slots__ = ("ends", "version")

    def __init__(self) -> None:
        self.version = 0
        self.ends: list[int] = []

    def add(self, version: int, end: int) -> None:
        """Take an acknowledged write, in the order of their ends."""
        if version > self.version:
            self.version = version
            self.ends.append(end)
            if len(self.ends) > 2 * STEPS:
                del self.ends[:-STEPS]


class ByKey:
    """Listens to the operations of one process, in the order of their end."""

    def __init__(self) -> None:
        self._steps: dict[str, Steps] = {}
        self._reads = {fresh: [0] * len(_AGES) for fresh in _FRESH}
        self._open: set[str] = set()

    def __call__(self, operation: Operation, violations: Sequence[Broken]) -> None:
        """Take an operation and what it broke."""
        if operation.__class__ is Read:
            if operation.outcome == "ok":
                self._read(operation, violations)
        elif operation.__class__ is Write and operation.outcome == "ok":
            self._write(operation)

    def _write(self, write: Write) -> None:
        steps = self._steps.get(write.key)
        if steps is None:
            steps = self._steps[write.key] = Steps()
        if write.version is not None and write.end is not None:
            steps.add(write.version, write.end)

    def _read(self, read: Read, violations: Sequence[Broken]) -> None:
        if read.siblings:
            self._open.add(read.key)
        elif read.key in self._open:
            self._open.discard(read.key)
        steps = self._steps.get(read.key)
        if steps is None:
            return
        ends, start = steps.ends, read.start
        newest = ends[-1]
        if newest >= start:  # as the guarantee has it: a write that ended strictly before the read
            before = bisect_left(ends, start)
            if not before:
                return
            newest = ends[before - 1]
        fresh = not violations or all(one.guarantee != STALE_READS for one in violations)
        self._reads[fresh][bisect_left(_BOUNDS_NS, start - newest)] += 1

    def readings(self, meter: Meter) -> Iterator[Reading]:
        """Yield every series, with the labels of the meter's run."""
        for fresh, counts in self._reads.items():
            for age, count in zip(_AGES, counts, strict=True):
                yield meter.reading(families.READS_AFTER_WRITE, count, age, _FRESH[fresh])
        yield meter.reading(families.OPEN_CONFLICTS, len(self._open))
