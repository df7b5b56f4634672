"""CPU time of the judge per operation, which should not grow with the length of the history."""

import gc
import time
from heapq import heapify, heapreplace
from random import Random

from benchmarks.tables import print_table
from stalewatch.checkers.judge import Judge
from stalewatch.history.operation import Operation, Read, Write

SESSIONS, KEYS = 20, 1000
WRITES, LAGGING = 0.3, 0.1
LATENCY_NS = 3_000_000
LENGTHS = (10_000, 100_000, 1_000_000)


def operations(count: int, seed: int = 1, lagging: float = LAGGING) -> list[Operation]:
    """Return operations of sessions in a closed loop, ordered by end; some of the reads are one version behind."""
    random = Random(seed)
    made: list[Operation] = []
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
            made.append(Write(**what, start=start, end=end, outcome="ok", node="127.0.0.1:27017"))
        else:
            what = {"session": session, "key": key, "version": max(0, known - (random.random() < lagging))}
            made.append(Read(**what, start=start, end=end, outcome="ok", node="127.0.0.1:27018"))
    return made


def main() -> None:
    """Print CPU microseconds per operation for histories of several lengths."""
    rows = []
    for length in LENGTHS:
        history = operations(length)
        best = min(_judge(history) for _ in range(3))
        rows.append((f"{length:,}", f"{best / length * 1e6:.2f}"))
    print_table("judge", ("operations", "us CPU per operation"), rows)


def _judge(history: list[Operation]) -> float:
    judge = Judge()
    gc.collect()
    gc.freeze()  # the history belongs to the benchmark, not to the judge
    begin = time.process_time()
    for operation in history:
        judge.observe(operation)
    judge.finish()
    return time.process_time() - begin


if __name__ == "__main__":
    main()
