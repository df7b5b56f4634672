"""Speed and memory of `stalewatch check` on history files, with one and two jobs, beside porcupine's check alone."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.judge import operations, slowed
from benchmarks.measurement import Row, progress, row
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


def measure(rounds: int) -> Iterator[Row]:
    """Yield the speed beside porcupine's if Go is installed, then operations per second of CPU, and memory."""
    repeats = min(rounds, REPEATS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if shutil.which("go") is None:
            progress("check: Go is not installed, so there is no comparison with porcupine")
        else:
            yield from _ratios(folder, LENGTHS[-1], repeats)
        yield from _speeds(folder, repeats)


def peaks(name: str, lengths: Sequence[int]) -> Iterator[Row]:
    """Yield the peak memory of checks of long histories over that of short ones, with one and two jobs."""
    for pace, paced in (("1,000", slowed), ("12,000", iter)):
        found: dict[int, list[int]] = {1: [], 2: []}
        with tempfile.TemporaryDirectory() as folder:
            for length in lengths:
                path = _written(Path(folder) / f"{length}.jsonl.zst", paced(operations(length)))
                for jobs, megabytes in found.items():
                    progress(f"{name}: check of {length:,} operations, {pace} a second, jobs: {jobs}")
                    megabytes.append(_check(path, jobs).megabytes)
        for jobs, megabytes in found.items():
            ratio, words = megabytes[-1] / megabytes[0], " and ".join(f"{one} MB" for one in megabytes)
            what = f"check: peak memory of {lengths[-1]:,} operations / {lengths[0]:,}, {pace} a second, jobs: {jobs}"
            yield Row(name, what, ratio, "x", ratio, ratio, "<= 1.10", words)


def _speeds(folder: Path, repeats: int) -> Iterator[Row]:
    largest: dict[tuple[str, int], list[float]] = {}
    for length in LENGTHS:
        for ending in ("jsonl", "jsonl.zst"):
            path = _written(folder / f"{length}.{ending}", operations(length))
            for jobs in (1, 2):
                progress(f"check: {length:,} operations of a .{ending}, jobs: {jobs}")
                checks = [_check(path, jobs) for _ in range(repeats)]
                largest.setdefault((ending, jobs), []).append(max(one.megabytes for one in checks))
                speeds = [length / one.busiest_s for one in checks]
                what = f".{ending}, {length:,} operations, jobs: {jobs}"
                note = f"peak {max(one.megabytes for one in checks)} MB"
                yield row("check", what, speeds, "operations per CPU s of the busier job", note=note)
    for (ending, jobs), (first, *_, last) in largest.items():
        what = f"peak memory, .{ending}, jobs: {jobs}, {LENGTHS[-1]:,} operations / {LENGTHS[0]:,}"
        yield row("check", what, [last / first], "x")


def _ratios(folder: Path, length: int, repeats: int) -> Iterator[Row]:
    """Yield how much faster than porcupine's check, on a history that is linearizable: others may take it for ever."""
    path, exported = _written(folder / "linearizable.jsonl", operations(length, lagging=0)), folder / "exported.json"
    judge = folder / "porcupine"
    subprocess.run(["go", "build", "-o", judge, "."], cwd=PORCUPINE, check=True)  # noqa: S607
    command = ("history", "export", str(path), "--format", "json", "-o", str(exported))
    subprocess.run([sys.executable, "-m", "stalewatch", *command], check=True, stderr=subprocess.DEVNULL)
    for jobs in (1, 2):
        progress(f"check: beside porcupine, jobs: {jobs}")
        found = []
        for _ in range(repeats):
            done = subprocess.run([judge], input=f"{exported}\n", check=True, capture_output=True, text=True)
            theirs = json.loads(done.stdout)
            if theirs["illegal"] or theirs["timed_out"]:
                raise SystemExit("porcupine does not take the history for linearizable")
            found.append(theirs["cpu_s"] / _check(path, jobs).busiest_s)
        goal = ">= 1.0" if jobs == 2 else ""  # noqa: PLR2004 # the goal is for two
        what = f"speed / porcupine's check alone, {length:,} operations on 1,000 keys, jobs: {jobs}"
        yield row("check", what, found, "x", goal=goal, note=f"porcupine: {theirs['cpu_s']:.2f} CPU s")


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
