"""The judge, `stalewatch check` and a worker over ten million operations: cost and memory have to stay flat."""

from collections.abc import Iterator

from benchmarks import check, judge, scale
from benchmarks.measurement import Row

NAME = "ten-million"
HELP = "the judge, `stalewatch check` and a worker over ten million operations"
LENGTH = 10_000_000


def measure(rounds: int) -> Iterator[Row]:
    """Yield cost and memory over those of shorter histories."""
    yield from judge.costs(NAME, (10_000, LENGTH), min(rounds, 3))
    yield from scale.memory(NAME, LENGTH)
    yield from check.peaks(NAME, (1_000_000, LENGTH))
