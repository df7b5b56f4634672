"""Cost of metrics: extra CPU time per operation, measured in pairs, and how long a scrape blocks a busy worker.

The worker performs 5,000 operations per second, and is scraped every second.
"""

import gc
import statistics
import time
from collections.abc import Callable

from prometheus_client.openmetrics.exposition import generate_latest

from benchmarks.judge import operations
from benchmarks.tables import print_table
from stalewatch.checkers.judge import Judge
from stalewatch.engine.database_run import DatabaseRun
from stalewatch.history.clock import RealClock
from stalewatch.history.operation import Operation
from stalewatch.metrics.process import ProcessMetrics
from stalewatch.metrics.server import registry
from stalewatch.recording.recorder import Recorder
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.options import MemoryOptions
from stalewatch.workloads.options import LoadOptions

COUNT = 200_000
A_SECOND = 5_000
PAIRS = 7


def main() -> None:
    """Print the extra CPU time per operation, and the duration of a scrape."""
    history = list(operations(COUNT))
    costs, blocks, sizes = [], [], []
    for _ in range(PAIRS):
        without = _run(history, lambda _run: None)[0]
        cost, blocked, size = _run(history, _measured)
        costs.append((cost - without) / COUNT * 1e6)
        blocks += blocked
        sizes.append(size)
    rows = [
        ("extra CPU per operation, us", f"{statistics.median(costs):+.2f}", f"{max(costs):+.2f}"),
        (f"scrape of {sizes[0]} samples, ms", f"{statistics.median(blocks):.1f}", f"{max(blocks):.1f}"),
    ]
    print_table("metrics, scraped every second", ("cost", "median", "maximum"), rows)


def _measured(run: DatabaseRun) -> ProcessMetrics:
    metrics = ProcessMetrics("20260101000000abcd", "memory", lambda: 20)
    metrics.watch(run)
    return metrics


def _run(
    history: list[Operation], measured: Callable[[DatabaseRun], ProcessMetrics | None]
) -> tuple[float, list[float], int]:
    """Return the CPU time, how long each scrape took in ms, and how many samples it had."""
    clock = RealClock()
    run = DatabaseRun(MemoryClient(MemoryOptions(), clock), Recorder(clock, Judge()), LoadOptions(), "r")
    metrics, recorder = measured(run), run.recorder
    served = registry(metrics.readings) if metrics is not None else None
    blocked, text = [], b""
    gc.collect()
    gc.freeze()
    begin = time.process_time()
    for number, operation in enumerate(history, start=1):
        recorder._hand_on(operation)  # noqa: SLF001 # what every end of an operation does
        if number % A_SECOND == 0:
            if served is not None:
                begun = time.thread_time()
                text = generate_latest(served)
                blocked.append((time.thread_time() - begun) * 1e3)
            run.drain()
    return time.process_time() - begin, blocked, text.count(b"\n") - text.count(b"#")


if __name__ == "__main__":
    main()
