"""Speed and memory of `stalewatch check` on history files, with one and two jobs, beside porcupine's check alone."""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from benchmarks.judge import operations
from benchmarks.tables import print_table
from stalewatch.history.operation import FORMAT, FORMAT_VERSION, Header, Operation
from stalewatch.history.writer import HistoryWriter

LENGTHS = (250_000, 1_000_000)
REPEATS = 3
PORCUPINE = Path(__file__).parents[1] / "tests" / "porcupine"

MEASURE = """
import json, resource, sys
from pathlib import Path
from stalewatch.checkers.files import judge_files
judge_files([Path(sys.argv[1])], jobs=int(sys.argv[2]))
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps([[one.ru_utime + one.ru_stime for one in used], [one.ru_maxrss for one in used]]))
"""


class Check(NamedTuple):
    """What a check used: the CPU seconds of its busier process, those of all, and the peak memory of the larger one."""

    busiest_s: float
    all_s: float
    megabytes: int


def main() -> None:
    """Print operations per second of CPU, and memory, for plain and compressed files, then the ratio to porcupine."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _print_speed(folder)
        if shutil.which("go") is None:
            print("Go is not installed: no comparison with porcupine")
        else:
            _print_ratio(folder, LENGTHS[-1])


def _print_speed(folder: Path) -> None:
    rows = []
    for length in LENGTHS:
        for ending in ("jsonl", "jsonl.zst"):
            path = _written(folder / f"{length}.{ending}", operations(length))
            for jobs in (1, 2):
                checks = [_check(path, jobs) for _ in range(REPEATS)]
                best = min(checks)
                speed = f"{length / best.busiest_s:,.0f}"
                rows.append((f".{ending}", f"{length:,}", str(jobs), speed, f"{best.all_s:.2f}", str(best.megabytes)))
    columns = ("file", "operations", "jobs", "operations per CPU second of the busier job", "CPU s of all", "peak MB")
    print_table("stalewatch check", columns, rows)


def _print_ratio(folder: Path, length: int) -> None:
    """Print how much faster than porcupine's check, on a history that is linearizable: others may take it for ever."""
    path, exported = _written(folder / "linearizable.jsonl", operations(length, lagging=0)), folder / "exported.json"
    judge = folder / "porcupine"
    subprocess.run(["go", "build", "-o", judge, "."], cwd=PORCUPINE, check=True)  # noqa: S607
    command = ("history", "export", str(path), "--format", "json", "-o", str(exported))
    subprocess.run([sys.executable, "-m", "stalewatch", *command], check=True, stderr=subprocess.DEVNULL)
    rows = []
    for jobs in (1, 2):
        ratios = []
        for _ in range(REPEATS):
            done = subprocess.run([judge], input=f"{exported}\n", check=True, capture_output=True, text=True)
            theirs = json.loads(done.stdout)
            if theirs["illegal"] or theirs["timed_out"]:
                raise SystemExit("porcupine does not take the history for linearizable")
            ratios.append(theirs["cpu_s"] / _check(path, jobs).busiest_s)
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        rows.append((str(jobs), f"{statistics.median(ratios):.2f}", spread, f"{theirs['cpu_s']:.2f}"))
    columns = ("jobs", "speed of check over porcupine's", "spread", "CPU s of porcupine")
    print_table(f"{length:,} operations on 1,000 keys", columns, rows)


def _written(path: Path, history: Iterable[Operation]) -> Path:
    header = Header(format=FORMAT, version=FORMAT_VERSION, run="r", database="memory", clock_error_ns=0, closes=True)
    with HistoryWriter(path, header) as writer:
        for operation in history:
            writer.add(operation)
    return path


def _check(path: Path, jobs: int) -> Check:
    done = subprocess.run([sys.executable, "-c", MEASURE, path, str(jobs)], check=True, capture_output=True, text=True)
    seconds, kilobytes = json.loads(done.stdout)
    return Check(max(seconds), sum(seconds), max(kilobytes) // 1024)


if __name__ == "__main__":
    main()
