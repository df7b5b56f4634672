"""CPU time that blocks add to an operation: a task with `with read` or `with write`, minus the same task without it.

Both run alternately in one process, so that noise of the machine affects both; the figure is the median over the pairs.
Judging is included, and so is writing the history in the last row.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.tables import median_difference, print_table
from stalewatch.watch.watch import Watch

PAIRS = 15
OPERATIONS = 20_000
KEYS = [f"k{number}" for number in range(1000)]

Store = dict[str, int]


def bare_read(store: Store) -> None:
    """Read as the task does without a watch."""
    for number in range(OPERATIONS):
        store.get(KEYS[number % 1000], 0)


def bare_write(store: Store) -> None:
    """Write as the task does without a watch."""
    for number in range(OPERATIONS):
        store[KEYS[number % 1000]] = number


def watched(watch: Watch) -> tuple[Callable[[Store], None], Callable[[Store], None]]:
    """Return the same two tasks, watched."""
    session = watch.session("s")

    def read(store: Store) -> None:
        for number in range(OPERATIONS):
            with session.read(KEYS[number % 1000]) as read:
                read.saw(store.get(read.key, 0))

    def write(store: Store) -> None:
        for number in range(OPERATIONS):
            with session.write(KEYS[number % 1000]) as write:
                store[write.key] = write.version

    return read, write


def cpu_us(task: Callable[[Store], None], store: Store) -> float:
    """Return the CPU time of an operation of the task."""
    before = time.process_time()
    task(store)
    return (time.process_time() - before) / OPERATIONS * 1e6


def added_us(watch: Watch) -> tuple[float, float]:
    """Return what the blocks add to a read and to a write."""
    store: Store = {}
    read, write = watched(watch)
    write(store)
    read(store)
    pairs = [
        (cpu_us(read, store), cpu_us(bare_read, {}), cpu_us(write, store), cpu_us(bare_write, {})) for _ in range(PAIRS)
    ]
    reads, bare_reads, writes, bare_writes = map(list, zip(*pairs, strict=True))
    return median_difference(reads, bare_reads), median_difference(writes, bare_writes)


def main() -> None:
    """Print the CPU microseconds that a block adds, per operation."""
    with tempfile.TemporaryDirectory() as folder:
        watches = {
            "overwriting": Watch(),
            "growing": Watch(growing=True),
            "overwriting, with a history": Watch(Path(folder, "run.jsonl")),
        }
        rows = []
        for name, watch in watches.items():
            with watch:
                read, write = added_us(watch)
            rows.append((name, f"{read:.1f}", f"{write:.1f}", f"{(read + write) / 2:.1f}"))
    print_table("watch: CPU us that a block adds", ("keys", "read", "write", "mean"), rows)


if __name__ == "__main__":
    main()
