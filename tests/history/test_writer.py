"""The history writer: complete files, compressed by suffix, and readable whatever interrupts the writer."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from stalewatch.history.compression import MissingCodec
from stalewatch.history.operation import Operation
from stalewatch.history.reader import History
from stalewatch.history.writer import BUFFER_OPERATIONS, HistoryWriter
from tests.checkers.histories import history_text, single_file_histories
from tests.checkers.oracle import File
from tests.history.lines import ENDINGS, a_header, a_write, operations_of

ROOT = Path(__file__).parents[2]
every_suffix = pytest.mark.parametrize("suffix", ENDINGS)


def written(path: Path, *operations: Operation) -> Path:
    with HistoryWriter(path, a_header()) as writer:
        for operation in operations:
            writer.add(operation)
    return path


def interrupted(path: Path, *operations: Operation) -> None:
    with HistoryWriter(path, a_header()) as writer:
        for operation in operations:
            writer.add(operation)
        raise ZeroDivisionError


def lines_in(path: Path) -> int:
    """Return how many operations a reader finds at this moment."""
    return len(operations_of(path))


@every_suffix
def test_a_written_history_is_read_back(suffix: str, tmp_path: Path) -> None:
    operations = [a_write(number) for number in range(3 * BUFFER_OPERATIONS + 7)]
    path = written(tmp_path / f"history{suffix}", *operations)
    history = History([path])
    assert history.complete
    assert history.headers == [a_header()]
    assert operations_of(path) == operations


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(files=single_file_histories())
def test_any_history_reads_the_same_with_every_suffix(files: list[File], tmp_path: Path) -> None:
    plain = tmp_path / "plain.jsonl"
    plain.write_text(history_text(File(files[0].operations)))
    for suffix in ENDINGS:
        path = written(tmp_path / f"history{suffix}", *files[0].operations)
        assert operations_of(path) == operations_of(plain)


@every_suffix
def test_the_close_line_holds_the_clock_error_of_the_whole_run(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"history{suffix}"
    for error in (5, None):
        HistoryWriter(path, a_header()).close(error)
        assert [source.clock_error_ns for source in History([path]).sources] == [error]


@every_suffix
def test_the_header_is_readable_at_once(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"history{suffix}"
    writer = HistoryWriter(path, a_header(worker=3))
    history = History([path])
    assert (history.headers[0].worker, history.complete) == (3, False)
    writer.abandon()


@every_suffix
def test_an_abandoned_file_holds_every_operation_but_is_incomplete(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"history{suffix}"
    operations = [a_write(number) for number in range(5)]
    with pytest.raises(ZeroDivisionError):
        interrupted(path, *operations)
    assert not History([path]).complete
    assert operations_of(path) == operations


@every_suffix
def test_the_buffer_is_flushed_when_it_holds_512_operations(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"history{suffix}"
    writer = HistoryWriter(path, a_header())
    for number in range(BUFFER_OPERATIONS + 1):
        write = a_write(number)
        write.start = write.end = 5
        writer.add(write)
    assert lines_in(path) == BUFFER_OPERATIONS
    writer.abandon()


@every_suffix
def test_the_buffer_is_flushed_when_it_is_older_than_a_second(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"history{suffix}"
    writer = HistoryWriter(path, a_header())
    found = []
    for number in range(0, 1200, 100):
        writer.add(a_write(1_000_000 + number))
        found.append(lines_in(path))
    assert found == [1] * 11 + [12]
    writer.abandon()


@every_suffix
def test_flushed_operations_are_readable_while_the_file_is_being_written(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"history{suffix}"
    writer = HistoryWriter(path, a_header())
    for number in range(4):
        writer.add(a_write(number))
        writer.flush()
        assert operations_of(path) == [a_write(each) for each in range(number + 1)]
    writer.close(0)
    assert History([path]).complete


def child(code: str, path: Path) -> subprocess.Popen[str]:
    """Start a program with these names defined and a writer on that path."""
    start = (
        "import resource\n"
        "from pathlib import Path\n"
        "from stalewatch.history.writer import HistoryWriter\n"
        "from tests.history.lines import a_header, a_write\n"
        f"path = Path({str(path)!r})\n"
        "writer = HistoryWriter(path, a_header())\n"
    )
    return subprocess.Popen([sys.executable, "-c", start + code], cwd=ROOT, stdout=subprocess.PIPE, text=True)


WRITE_FOR_EVER = """
number = 0
while True:
    writer.add(a_write(number))
    number += 1
    if number % 5000 == 0:
        print(number, flush=True)
"""


@every_suffix
def test_a_killed_process_leaves_complete_lines(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"history{suffix}"
    with child(WRITE_FOR_EVER, path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        reached = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    found = operations_of(path)
    assert len(found) >= reached - BUFFER_OPERATIONS
    assert found == [a_write(number) for number in range(len(found))]
    assert not History([path]).complete


RUN_OUT_OF_DISK = """
from itertools import count
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, most))
failures = 0
for number in range(20_000):
    try:
        writer.add(a_write(number))
    except OSError:
        failures += 1
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
writer.close(0)
print(failures)
"""


@every_suffix
def test_a_full_disk_is_reported_once_and_ends_the_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"history{suffix}"
    with child(RUN_OUT_OF_DISK, path) as process:
        output, _ = process.communicate()
    assert (process.returncode, output) == (0, "1\n")
    found = operations_of(path)
    assert found == [a_write(number) for number in range(len(found))]
    assert not History([path]).complete


def test_a_missing_zstandard_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingCodec, match="pip install zstandard"):
        HistoryWriter(tmp_path / "history.jsonl.zst", a_header())
    written(tmp_path / "history.jsonl.gz", a_write(0))


def test_a_missing_folder_is_an_error_at_once(tmp_path: Path) -> None:
    for suffix in ENDINGS:
        with pytest.raises(FileNotFoundError):
            HistoryWriter(tmp_path / "no" / f"history{suffix}", a_header())
