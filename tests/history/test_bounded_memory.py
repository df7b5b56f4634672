"""The memory for checking a file depends on its keys, sessions and version gaps, not on its length, and is bounded."""

import gzip
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from stalewatch.exit_codes import BAD_INPUT
from tests.history.lines import CLOSE, as_bytes, header, read

ROOT = Path(__file__).parents[2]

KEYS = 50
SESSIONS = 10
STEP_NS = 1_000
HORIZON_S = 0.01  # ten thousand steps
SHORT, LONG = 50_000, 300_000
MOST_GROWTH_BYTES = 16_000_000  # keeping every operation would take five times as much

MEASURE = """
import sys
from pathlib import Path
import psutil
from stalewatch.checkers.files import judge_files
judge = judge_files([Path(sys.argv[1])], jobs=1)  # with several, it depends on their turns
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


KEYS_AT_ONCE = 40_000
BYTES_PER_KEY = 2200  # a write and a read of each; it was 3600 when every staircase and every set had lists of its own


def test_a_key_needs_little_memory(tmp_path: Path) -> None:
    def lines() -> Iterator[bytes]:
        operation = '{"op":"%s","session":"s1","key":"run-w0-%d","version":1,"start":%d,"end":%d,"outcome":"ok"}\n'
        for number in range(KEYS_AT_ONCE):
            for turn, op in enumerate(("write", "read")):
                start = number * STEP_NS + turn * 10
                yield (operation % (op, number, start, start + 5)).encode()

    def memory_of(name: str, *content: bytes) -> int:
        path = tmp_path / name
        path.write_bytes(b"".join((as_bytes(header()), b"\n", *content)))
        output = subprocess.run([sys.executable, "-c", MEASURE, path], cwd=ROOT, check=True, capture_output=True)
        return int(output.stdout.split()[0])

    assert memory_of("keys.jsonl", *lines()) - memory_of("none.jsonl") < KEYS_AT_ONCE * BYTES_PER_KEY


# Hostile files, with little memory.

MEMORY_BYTES = 420_000_000
HEADER = as_bytes(header(closes=False)) + b"\n"
LINE = as_bytes(read(0, 1, 1, outcome="unknown")) + b"\n"


def zstandard_of(pieces: Iterator[bytes], path: Path) -> None:
    with zstandard.open(path, "wb") as file:
        for piece in (HEADER, *pieces):
            file.write(piece)


def zeros_in_zstandard(path: Path) -> None:
    zstandard_of((bytes(1 << 25) for _ in range(32)), path)


def valid_lines_in_zstandard(path: Path) -> None:
    zstandard_of((LINE * (1 << 18) for _ in range(8)), path)


def zeros_in_gzip(path: Path) -> None:
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(HEADER)
        for _ in range(8):
            file.write(bytes(1 << 25))


def a_large_window(path: Path) -> None:
    frame_header, raw_block = b"\x28\xb5\x2f\xfd\x00" + bytes([(30 - 10) << 3]), b"\x09\x00\x00A"
    path.write_bytes(frame_header + raw_block)


def a_long_line(path: Path) -> None:
    with path.open("wb") as file:
        file.write(HEADER + b'{"op":"final","key":"k","items":["')
        file.seek(1 << 30)  # a hole, which reads as zeros
        file.write(b'"]}\n')


def a_large_header(path: Path) -> None:
    path.write_bytes(HEADER.replace(b'"options":{}', b'"options":{"x":[' + b"[]," * (6 << 20) + b"[]]}"))


def many_keys(path: Path) -> None:
    line = '{"op":"write","session":"s%d","key":"%d","version":2,"start":%d,"end":%d,"outcome":"ok","node":"%01999d"}\n'
    with path.open("w") as file:
        file.write(HEADER.decode())
        file.writelines(line % (number, number, number, number, number) for number in range(130_000))


@pytest.mark.parametrize(
    ("name", "make", "refusal"),
    [
        ("h.jsonl.zst", zeros_in_zstandard, ":2: it expands to more than 1,000 times its size, which no history does"),
        ("h.jsonl.zst", valid_lines_in_zstandard, ": it expands to more than 1,000 times its size"),
        ("h.jsonl.gz", zeros_in_gzip, ":2: the line is longer than 64 MiB"),
        ("h.jsonl.zst", a_large_window, ": compressed data is corrupt: "),
        ("h.jsonl", a_long_line, ":2: the line is longer than 64 MiB"),
        ("h.jsonl", a_large_header, ": not enough memory to read it"),
        ("h.jsonl", many_keys, " operations; memory grows with the number of keys, and of sessions per key"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_file_that_needs_too_much_memory_is_refused_with_one_line(
    name: str, make: Callable[[Path], None], refusal: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    make(path)
    done = subprocess.run(
        [sys.executable, "-m", "stalewatch", "check", "--json", "--jobs", "1", path],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES)),
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (BAD_INPUT, "")
    assert refusal in done.stderr
    assert done.stderr.startswith(f"stalewatch check: {path}:")
    assert done.stderr.count("\n") == 1
