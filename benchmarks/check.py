"""Speed and memory of `stalewatch check` on history files."""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.judge import operations
from benchmarks.tables import print_table
from stalewatch.history.operation import FORMAT, FORMAT_VERSION, Header
from stalewatch.history.writer import HistoryWriter

LENGTHS = (250_000, 1_000_000)


def main() -> None:
    """Print operations per CPU second, and memory, for plain and compressed files."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for length in LENGTHS:
            history = list(operations(length))
            for ending in ("jsonl", "jsonl.zst"):
                path = Path(folder) / f"{length}.{ending}"
                _write(path, history)
                seconds, megabytes = _check(path)
                rows.append((f".{ending}", f"{length:,}", f"{length / seconds:,.0f}", str(megabytes)))
    print_table("stalewatch check", ("file", "operations", "operations per CPU second", "peak MB so far"), rows)


def _write(path: Path, history: list[object]) -> None:
    header = Header(format=FORMAT, version=FORMAT_VERSION, run="r", database="memory", clock_error_ns=0, closes=True)
    with HistoryWriter(path, header) as writer:
        for operation in history:
            writer.add(operation)  # type: ignore[arg-type] # a list of operations


def _check(path: Path) -> tuple[float, int]:
    """Return the shortest CPU time of three runs in seconds, and the peak memory of all children so far in MB."""
    best = float("inf")
    for _ in range(3):
        before = _children_s()
        subprocess.run(
            [sys.executable, "-m", "stalewatch", "check", "--json", path], stdout=subprocess.DEVNULL, check=False
        )
        best = min(best, _children_s() - before)
    return best, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024


def _children_s() -> float:
    times = resource.getrusage(resource.RUSAGE_CHILDREN)
    return times.ru_utime + times.ru_stime


if __name__ == "__main__":
    main()
