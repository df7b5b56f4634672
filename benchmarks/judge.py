"""CPU time of the judge per operation, which should not grow with the length of the history."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from heapq import heapify, heapreplace
from itertools import islice
from random import Random

from benchmarks.measurement import Row, print_table, progress, ratios, row
from stalewatch.checkers.judge import Judge
from stalewatch.engine.database_run import collect_garbage_rarely
from stalewatch.history.operation import Operation, Read, Write

SESSIONS, KEYS = 20, 1000
WRITES, LAGGING = 0.3, 0.1
LATENCY_NS = 3_000_000
FIRST_NS, STRETCH = 10**18, 12
LENGTHS = (10_000, 100_000, 1_000_000)
BLOCK = 100_000


def operations(count: int, seed: int = 1, lagging: float = LAGGING) -> Iterator[Operation]:
    """Yield operations of sessions in a closed loop, ordered by end; some of the reads are one version behind."""
    random = Random(seed)
    versions: dict[str, int] = {}
    running = [(FIRST_NS + random.randrange(LATENCY_NS), f"s{number}", FIRST_NS) for number in range(SESSIONS)]
    heapify(running)
    for _ in range(count):
        end, session, start = running[0]
        heapreplace(running, (end + 100_000 + random.randrange(LATENCY_NS), session, end + 1000))
        key = f"run-w0-{random.randrange(KEYS)}"
        known = versions.get(key, 0)
        if random.random() < WRITES:
            versions[key] = known + 1
            what = {"session": session, "key": key, "version": known + 1}
            yield Write(**what, start=start, end=end, outcome="ok", node="127.0.0.1:27017")
        else:
            what = {"session": session, "key": key, "version": max(0, known - (random.random() < lagging))}
            yield Read(**what, start=start, end=end, outcome="ok", node="127.0.0.1:27018")


def slowed(made: Iterable[Operation]) -> Iterator[Operation]:
    """Yield operations with other times: about 1,000 a second instead of 12,000.

    The judge remembers old versions for a time (the horizon), which many operations a second fill more.
    """
    for operation in made:
        operation.start += (STRETCH - 1) * (operation.start - FIRST_NS)
        if operation.end is not None:
            operation.end += (STRETCH - 1) * (operation.end - FIRST_NS)
        yield operation


def main() -> None:
    """Print CPU microseconds per operation for histories of several lengths, or of those given."""
    rows = []
    for length in [int(argument) for argument in sys.argv[1:]] or LENGTHS:
        best = min(_judge(length) for _ in range(3))
        rows.append((f"{length:,}", f"{best / length * 1e6:.2f}"))
    print_table(f"judge ({kind()})", ("operations", "us CPU per operation"), rows)


def measure(rounds: int) -> Iterator[Row]:
    """Yield how the cost of an operation depends on the length of the history, and the costs."""
    yield from costs("judge", LENGTHS, min(rounds, 5))


def costs(name: str, lengths: Sequence[int], rounds: int) -> Iterator[Row]:
    """Yield the cost of an operation in the longest history over that in the shortest, and those of all lengths."""
    found: dict[int, list[float]] = {length: [] for length in lengths}
    for number in range(rounds):
        progress(f"{name}: the judge, round {number + 1} of {rounds}")
        for length in lengths:
            found[length].append(_judge(length) / length * 1e6)
    goal = "<= 3.50" if kind() == "pure" else "<= 2.00"
    first, *_, last = lengths
    flat = ratios(found[last], found[first])
    yield row(name, f"the judge: CPU per operation of {last:,} / of {first:,}", flat, "x", goal="<= 1.10")
    for length, values in found.items():
        yield row(name, f"the judge: CPU per operation of {length:,}", values, "us", goal=goal, note=kind())


def kind() -> str:
    """Return whether the judge is compiled."""
    return "pure" if (sys.modules[Judge.__module__].__file__ or "").endswith(".py") else "compiled"


def _judge(length: int) -> float:
    """Return the CPU time of the judge alone; the operations are made block by block, so their number may be large."""
    judge, taken, made = Judge(), 0.0, operations(length)
    collect_garbage_rarely()  # as every load does
    while block := list(islice(made, BLOCK)):
        begin = time.process_time()
        for operation in block:
            judge.observe(operation)
        taken += time.process_time() - begin
    begin = time.process_time()
    judge.finish()
    return taken + time.process_time() - begin


if __name__ == "__main__":
    main()
