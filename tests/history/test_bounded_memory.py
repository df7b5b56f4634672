"""The memory for checking a file depends on its keys, sessions and version gaps, not on its length."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.history.lines import CLOSE, as_bytes, header

ROOT = Path(__file__).parents[2]

KEYS = 50
SESSIONS = 10
STEP_NS = 1_000
HORIZON_S = 0.01  # ten thousand steps
SHORT, LONG = 50_000, 300_000
MOST_GROWTH_BYTES = 8_000_000  # keeping every operation would take ten times as much

MEASURE = """
import sys
from pathlib import Path
import psutil
from stalewatch.checkers.files import judge_files
judge = judge_files([Path(sys.argv[1])])
print(psutil.Process().memory_info().rss, sum(verdict.checked for verdict in judge.verdicts().values()))
"""


def operations(count: int) -> Iterator[bytes]:
    """Yield lines of writes and reads of each key in turn; every third read is one version behind."""
    operation = (
        '{"op":"%s","session":"s%d","key":"k%d","version":%d,"start":%d,"end":%d,"outcome":"ok","node":"a:27017"}\n'
    )
    for number in range(count):
        key, turn, start = number % KEYS, number // KEYS, number * STEP_NS
        written = turn // 3 + 1
        op, version = ("read", written - (turn % 9 == 1)) if turn % 3 else ("write", written)
        yield (operation % (op, number % SESSIONS, key, version, start, start + STEP_NS // 2)).encode()


def memory_and_checked(path: Path, count: int) -> tuple[int, int]:
    with path.open("wb") as file:
        file.write(as_bytes(header(horizon_s=HORIZON_S)) + b"\n")
        file.writelines(operations(count))
        file.write(as_bytes(CLOSE) + b"\n")
    output = subprocess.run(
        [sys.executable, "-c", MEASURE, path], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    memory, checked = map(int, output.split())
    return memory, checked


def test_six_times_as_many_operations_need_hardly_more_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    short, few = memory_and_checked(path, SHORT)
    long, many = memory_and_checked(path, LONG)
    assert many > LONG > few > SHORT
    assert long - short < MOST_GROWTH_BYTES
