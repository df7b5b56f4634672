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
    """Print the speed of checks over porcupine's, then operations per second of CPU, and memory, by kind of file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if shutil.which("go") is None:
            print("Go is not installed: no comparison with porcupine")
        else:
            rows = [(jobs, f"{ratio:.2f}", spread) for jobs, ratio, spread in _ratios(folder, LENGTHS[-1])]
            title = f"{LENGTHS[-1]:,} operations on 1,000 keys"
            print_table(title, ("check", "speed over porcupine's", "spread"), rows)
        _print_speed(folder)


def ratios() -> list[tuple[str, float, str]]:
    """Return for one and two jobs a name, the median speed of check over porcupine's, and the spread; needs Go."""
    with tempfile.TemporaryDirectory() as name:
        return _ratios(Path(name), LENGTHS[-1])


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


def _ratios(folder: Path, length: int) -> list[tuple[str, float, str]]:
    """Compare with porcupine on a history that is linearizable: it may take for ever for others."""
    path, exported = _written(folder / "linearizable.jsonl", operations(length, lagging=0)), folder / "exported.json"
    judge = folder / "porcupine"
    subprocess.run(["go", "build", "-o", judge, "."], cwd=PORCUPINE, check=True)  # noqa: S607
    command = ("history", "export", str(path), "--format", "json", "-o", str(exported))
    subprocess.run([sys.executable, "-m", "stalewatch", *command], check=True, stderr=subprocess.DEVNULL)
    measured: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(REPEATS):
        theirs = _porcupine_s(judge, exported)
        for jobs, speeds in measured.items():
            speeds.append(theirs / _check(path, jobs).busiest_s)
    return [
        (f"{jobs} jobs" if jobs > 1 else "1 job", statistics.median(speeds), f"{min(speeds):.2f} to {max(speeds):.2f}")
        for jobs, speeds in measured.items()
    ]


def _porcupine_s(judge: Path, exported: Path) -> float:
    """Return the CPU seconds of porcupine's check alone."""
    done = subprocess.run([judge], input=f"{exported}\n", check=True, capture_output=True, text=True)
    theirs = json.loads(done.stdout)
    if theirs["illegal"] or theirs["timed_out"]:
        raise SystemExit("porcupine does not take the history for linearizable")
    return float(theirs["cpu_s"])


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
