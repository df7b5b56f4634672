"""CPU time of the judge per operation, which should not grow with the length of the history."""

import gc
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from heapq import heapify, heapreplace
from itertools import islice
from random import Random

from benchmarks.tables import print_table
from stalewatch.checkers.judge import Judge
from stalewatch.history.operation import Operation, Read, Write

SESSIONS, KEYS = 20, 1000
WRITES, LAGGING = 0.3, 0.1
LATENCY_NS = 3_000_000
LENGTHS = (10_000, 100_000, 1_000_000)
BLOCK = 100_000


def operations(count: int, seed: int = 1, lagging: float = LAGGING) -> Iterator[Operation]:
    """Yield operations of sessions in a closed loop, ordered by end; some of the reads are one version behind."""
    random = Random(seed)
    versions: dict[str, int] = {}
    running = [(10**18 + random.randrange(LATENCY_NS), f"s{number}", 10**18) for number in range(SESSIONS)]
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


ROUNDS = 5


def main() -> None:
    """Print what an operation costs in histories of several lengths, or of those given, over that in the shortest."""
    lengths = [int(argument) for argument in sys.argv[1:]] or list(LENGTHS)
    costs = _costs(lengths)
    rows = [
        (name, f"{ratio:.2f}", spread, f"{statistics.median(costs[length]):.2f}")
        for length, (name, ratio, spread) in zip(lengths, _ratios(costs), strict=True)
    ]
    columns = ("operations", f"cost over that of {min(lengths):,}", "spread", "us CPU per operation")
    print_table(f"judge ({kind()})", columns, rows)


def ratios() -> list[tuple[str, float, str]]:
    """Return for each length its name, the cost of an operation over that in the shortest history, and the spread."""
    return _ratios(_costs(LENGTHS))


def _costs(lengths: Sequence[int]) -> dict[int, list[float]]:
    """Return the microseconds of an operation in every round, by length; the lengths take turns."""
    costs: dict[int, list[float]] = {length: [] for length in lengths}
    for _ in range(ROUNDS):
        for length in lengths:
            costs[length].append(_judge(length) / length * 1e6)
    return costs


def _ratios(costs: Mapping[int, Sequence[float]]) -> list[tuple[str, float, str]]:
    """Return the rows of measured costs; those of one round were measured one after the other."""
    shortest = costs[min(costs)]
    rows = []
    for length, measured in costs.items():
        each = [cost / base for cost, base in zip(measured, shortest, strict=True)]
        rows.append((f"{length:,}", statistics.median(each), f"{min(each):.2f} to {max(each):.2f}"))
    return rows


def kind() -> str:
    """Return whether the judge is compiled."""
    return "pure" if (sys.modules[Judge.__module__].__file__ or "").endswith(".py") else "compiled"


def _judge(length: int) -> float:
    """Return the CPU time of the judge alone; the operations are made block by block, so their number may be large."""
    judge, taken, made = Judge(), 0.0, operations(length)
    gc.collect()
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
