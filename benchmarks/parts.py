"""What single parts add to an operation: metrics that are scraped, and the blocks of `Watch`."""

import gc
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client.openmetrics.exposition import generate_latest

from benchmarks.judge import operations
from benchmarks.measurement import Row, differences, progress, row
from stalewatch.checkers.judge import Judge
from stalewatch.engine.database_run import DatabaseRun
from stalewatch.history.clock import RealClock
from stalewatch.history.operation import Operation
from stalewatch.metrics.process import ProcessMetrics
from stalewatch.metrics.server import registry
from stalewatch.recording.recorder import Recorder
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.options import MemoryOptions
from stalewatch.watch.watch import Watch
from stalewatch.workloads.options import LoadOptions

RECORDED = 100_000
A_SECOND = 5_000
"""Operations between two scrapes."""

WATCHED = 20_000
KEYS = [f"k{number}" for number in range(1000)]

Store = dict[str, int]


def measure_metrics(rounds: int) -> Iterator[Row]:
    """Yield the extra CPU time per operation of a worker that is scraped every second, and how long a scrape blocks."""
    history = list(operations(RECORDED))
    without, scraped, blocks, samples = [], [], list[float](), 0
    for number in range(rounds):
        progress(f"metrics: round {number + 1} of {rounds}")
        without.append(_recorded(history, None, []))
        metrics = ProcessMetrics("20260101000000abcd", "memory", lambda: 20)
        scraped.append(_recorded(history, metrics, blocks))
        samples = sum(1 for line in generate_latest(registry(metrics.readings)).splitlines() if line[:1] != b"#")
    yield row("metrics", "CPU that they add to an operation", differences(scraped, without), "us")
    yield row("metrics", f"a scrape of {samples} samples", blocks, "ms")


def _recorded(history: list[Operation], metrics: ProcessMetrics | None, blocks: list[float]) -> float:
    """Return the CPU microseconds per operation to record a history; add how many ms each scrape took."""
    clock = RealClock()
    run = DatabaseRun(MemoryClient(MemoryOptions(), clock), Recorder(clock, Judge()), LoadOptions(), "r")
    served = None
    if metrics is not None:
        metrics.watch(run)
        served = registry(metrics.readings)
    gc.collect()
    begin = time.process_time()
    for number, operation in enumerate(history, start=1):
        run.recorder._hand_on(operation)  # noqa: SLF001 # what every end of an operation does
        if number % A_SECOND == 0:
            if served is not None:
                begun = time.thread_time()
                generate_latest(served)
                blocks.append((time.thread_time() - begun) * 1e3)
            run.drain()
    return (time.process_time() - begin) / len(history) * 1e6


def measure_watch(rounds: int) -> Iterator[Row]:
    """Yield what `with session.read` and `with session.write` add to an operation, judging included."""
    with tempfile.TemporaryDirectory() as folder:
        watches = {
            "overwriting keys": Watch(),
            "growing keys": Watch(growing=True),
            "overwriting keys and a history": Watch(Path(folder, "run.jsonl")),
        }
        for name, watch in watches.items():
            progress(f"watch: {name}")
            with watch:
                reads, writes = _added_us(watch, rounds)
            yield row("watch", f"CPU that a read adds, {name}", reads, "us")
            yield row("watch", f"CPU that a write adds, {name}", writes, "us")


def _added_us(watch: Watch, rounds: int) -> tuple[list[float], list[float]]:
    session, store = watch.session("s"), Store()

    def read(key: str) -> None:
        with session.read(key) as read:
            read.saw(store.get(key, 0))

    def write(key: str) -> None:
        with session.write(key) as write:
            store[key] = write.version

    reads, writes = [], []
    _cpu_us(write)
    for _ in range(rounds):
        reads.append(_cpu_us(read) - _cpu_us(lambda key: store.get(key, 0)))
        writes.append(_cpu_us(write) - _cpu_us(lambda key: Store().__setitem__(key, 0)))
    return reads, writes


def _cpu_us(task: Callable[[str], object]) -> float:
    before = time.process_time()
    for number in range(WATCHED):
        task(KEYS[number % len(KEYS)])
    return (time.process_time() - before) / WATCHED * 1e6
