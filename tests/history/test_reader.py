"""Files as they are found: truncated anywhere, corrupt, empty, missing, or not regular files."""

import gzip
import os
import sys
from pathlib import Path
from random import Random

import pytest
import zstandard

from stalewatch.history.compression import CHUNK_BYTES
from stalewatch.history.operation import Operation, Write
from stalewatch.history.reader import TAIL_BYTES, BadHistory, History
from stalewatch.history.writer import HistoryWriter
from tests.history.lines import (
    CLOSE,
    ENDINGS,
    a_header,
    a_write,
    as_bytes,
    as_operations,
    compressed,
    file_of,
    final,
    header,
    operations_of,
    read,
    text,
    write,
)

every_suffix = pytest.mark.parametrize("suffix", ENDINGS)
compressed_only = pytest.mark.parametrize("suffix", ENDINGS[1:])

LINES = [write(1, 1, 2), read(1, 3, 4), write(2, 5, None, outcome="unknown"), write(3, 6, 7), final(3, 8, 9)]


def small_file(folder: Path, suffix: str) -> Path:
    """Return a complete file that was flushed after every operation, as in a slow run."""
    path = folder / f"complete{suffix}"
    with HistoryWriter(path, a_header()) as writer:
        for operation in as_operations(LINES):
            writer.add(operation)
            writer.flush()
    return path


def bad(*paths: Path) -> str:
    """Return the message that rejects the files."""
    with pytest.raises(BadHistory) as caught:
        operations_of(*paths)
    return str(caught.value)


# Truncated.


@every_suffix
def test_a_file_truncated_at_any_byte_yields_its_complete_lines_and_is_incomplete(suffix: str, tmp_path: Path) -> None:
    data = small_file(tmp_path, suffix).read_bytes()
    path = tmp_path / f"cut{suffix}"
    expected, before = as_operations(LINES), -1
    for size in range(len(data)):
        path.write_bytes(data[:size])
        found = operations_or_none(path)
        if found is None:
            assert before == -1, "a longer file has a header as well"
            continue
        assert found == expected[: len(found)]
        assert len(found) >= before
        assert not History([path]).complete
        before = len(found)
    assert before == len(expected)
    path.write_bytes(data)
    assert operations_of(path) == expected
    assert History([path]).complete


def operations_or_none(path: Path) -> list[Operation] | None:
    """Return the operations, or None if even the header is missing."""
    try:
        return operations_of(path)
    except BadHistory as error:
        assert f"{path}:1: no history header: the file is empty, or its first line is cut off" == str(error)  # noqa: PT017 # no error is fine as well
        return None


def test_a_plain_file_yields_every_line_that_has_its_newline(tmp_path: Path) -> None:
    data = text(header(), *LINES, CLOSE)
    path = tmp_path / "cut.jsonl"
    for size in range(len(as_bytes(header())) + 1, len(data)):
        path.write_bytes(data[:size])
        lines = data[:size].count(b"\n") - 1
        assert len(operations_of(path)) == min(lines, len(LINES))


def test_a_last_line_without_its_newline_is_ignored_even_if_it_is_complete(tmp_path: Path) -> None:
    path = file_of(tmp_path, header(clock_error_ns=7), write(1, 1, 2))
    path.write_bytes(path.read_bytes() + as_bytes({**CLOSE, "clock_error_ns": 0}))
    (source,) = History([path]).sources
    assert (source.complete, source.clock_error_ns) == (False, 7)
    assert len(operations_of(path)) == 1


def test_a_truncated_line_is_not_parsed(tmp_path: Path) -> None:
    for rest in (b"{", b"\xff\x00", as_bytes(write(1, 9, 3)), as_bytes(header())):
        path = file_of(tmp_path, header(), *LINES)
        path.write_bytes(path.read_bytes() + rest)
        assert operations_of(path) == as_operations(LINES)
        assert not History([path]).complete


def test_a_truncated_line_after_the_close_line_makes_the_file_incomplete(tmp_path: Path) -> None:
    path = file_of(tmp_path, header(), *LINES, CLOSE)
    path.write_bytes(path.read_bytes() + b'{"op":"wri')
    assert operations_of(path) == as_operations(LINES)
    assert not History([path]).complete


@pytest.mark.parametrize(
    ("lines", "complete"),
    [
        ([header()], False),
        ([header(), *LINES], False),
        ([header(), CLOSE], True),
        ([header(closes=False)], True),
        ([header(closes=False), *LINES], True),
        ([header(closes=False), *LINES, CLOSE], True),
    ],
)
@every_suffix
def test_only_a_file_that_promises_a_close_line_needs_one(
    lines: list[dict[str, object]],
    complete: bool,  # noqa: FBT001 # a column of the table
    suffix: str,
    tmp_path: Path,
) -> None:
    assert History([file_of(tmp_path, *lines, name=f"history{suffix}")]).complete is complete


@compressed_only
def test_compressed_data_without_its_checksum_is_incomplete(suffix: str, tmp_path: Path) -> None:
    data = small_file(tmp_path, suffix).read_bytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[:-1])
    assert operations_of(path) == as_operations(LINES)
    assert not History([path]).complete


# Long files.


@every_suffix
def test_lines_and_files_longer_than_a_chunk_are_read_completely(suffix: str, tmp_path: Path) -> None:
    items = [f"item-{number}" for number in range(CHUNK_BYTES // 5)]
    long = {**final(None, 1, 2, items=items), "key": "list"}
    short = [write(number, 2 * number, 2 * number + 1) for number in range(1, 3000)]
    path = file_of(tmp_path, header(), long, *short, CLOSE, name=f"history{suffix}")
    assert path.stat().st_size > TAIL_BYTES or suffix != ".jsonl"
    assert len(operations_of(path)) == 1 + len(short)
    assert operations_of(path)[0].items == items  # type: ignore[union-attr] # a final read
    assert History([path]).complete


# Compressed by other programs, and corrupt.


def test_files_compressed_by_other_programs_are_read(tmp_path: Path) -> None:
    head, tail = text(header(), *LINES[:2]), text(*LINES[2:], CLOSE)
    several = {
        "joined.jsonl.gz": gzip.compress(head) + gzip.compress(tail),
        "joined.jsonl.zst": zstandard.compress(head) + zstandard.compress(tail),
        "slowly.jsonl.zst": zstandard.ZstdCompressor(level=19, write_checksum=True).compress(head + tail),
        "sizeless.jsonl.zst": zstandard.ZstdCompressor(write_content_size=False).compress(head + tail),
    }
    for name, data in several.items():
        path = tmp_path / name
        path.write_bytes(data)
        assert operations_of(path) == as_operations(LINES), name
        assert History([path]).complete, name


@compressed_only
@pytest.mark.parametrize("flip", [0xFF, 0x01, 0x80])
def test_no_corrupt_byte_yields_wrong_operations(suffix: str, flip: int, tmp_path: Path) -> None:
    data = small_file(tmp_path, suffix).read_bytes()
    path, expected, rejected = tmp_path / f"corrupt{suffix}", as_operations(LINES), 0
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :])
        try:
            complete, found = History([path]).complete, operations_of(path)
        except BadHistory as error:
            assert str(error).startswith(f"{path}:")  # noqa: PT017 # not every flip is detected
            rejected += 1
        else:
            assert found == (expected if complete else expected[: len(found)])
    assert rejected > len(data) // 2


@compressed_only
def test_corruption_is_reported_with_its_file(suffix: str, tmp_path: Path) -> None:
    data = bytearray(small_file(tmp_path, suffix).read_bytes())
    data[len(data) // 2] ^= 0xFF
    path = tmp_path / f"corrupt{suffix}"
    path.write_bytes(data)
    assert bad(path).startswith(f"{path}:")
    path.write_bytes(small_file(tmp_path, suffix).read_bytes() + b"garbage after the end")
    assert "compressed data is corrupt" in bad(path)


@compressed_only
def test_corruption_far_into_the_file_is_reported_with_its_line(suffix: str, tmp_path: Path) -> None:
    path, writes = tmp_path / f"corrupt{suffix}", 5000
    with HistoryWriter(path, a_header()) as writer:
        for number in range(writes):
            writer.add(hard_to_compress(number))
    data = bytearray(path.read_bytes())
    assert len(data) > 2 * CHUNK_BYTES
    data[-CHUNK_BYTES // 2] ^= 0xFF
    path.write_bytes(data)
    name, line, _ = bad(path).split(":", 2)
    assert name == str(path)
    assert 2 < int(line) <= writes + 3  # after the last line if only the checksum reveals it


def hard_to_compress(number: int) -> Write:
    write = a_write(number)
    write.error = Random(number).randbytes(150).hex()
    return write


def test_a_suffix_that_does_not_match_the_content_is_rejected(tmp_path: Path) -> None:
    data = text(header(), *LINES, CLOSE)
    for suffix in ENDINGS[1:]:
        path = tmp_path / f"plain{suffix}"
        path.write_bytes(data)
        assert bad(path).startswith(f"{path}: compressed data is corrupt")
        path = tmp_path / f"{suffix[-2:]}.jsonl"
        path.write_bytes(compressed(data, suffix))
        assert bad(path).startswith(f"{path}:1: no history header")


def test_a_missing_zstandard_is_named_and_gzip_still_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zst, gz = (file_of(tmp_path, header(), *LINES, CLOSE, name=f"history{suffix}") for suffix in (".zst", ".gz"))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert bad(zst) == f"{zst}: .zst histories need the package zstandard: pip install zstandard"
    assert len(operations_of(gz)) == len(LINES)


# Not a file.


def test_an_empty_file_has_no_header(tmp_path: Path) -> None:
    for suffix in ENDINGS:
        path = tmp_path / f"empty{suffix}"
        path.write_bytes(b"")
        assert bad(path) == f"{path}:1: no history header: the file is empty, or its first line is cut off"
        path.write_bytes(compressed(b"", suffix))
        assert bad(path) == f"{path}:1: no history header: the file is empty, or its first line is cut off"


def test_a_path_that_is_not_a_file_is_rejected_with_the_reason(tmp_path: Path) -> None:
    assert bad(tmp_path / "none.jsonl") == f"{tmp_path}/none.jsonl: no such file or directory"
    assert bad(tmp_path) == f"{tmp_path}: is a directory"
    below = file_of(tmp_path, header()) / "below.jsonl"
    assert bad(below) == f"{below}: not a directory"
    loop = tmp_path / "loop.jsonl"
    loop.symlink_to(loop)
    assert bad(loop) == f"{loop}: too many levels of symbolic links"


def test_an_unreadable_file_is_rejected_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, really_open = file_of(tmp_path, header(), CLOSE), Path.open

    def deny(self: Path, *arguments: object, **more: object) -> object:
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        return really_open(self, *arguments, **more)  # type: ignore[call-overload] # passed on

    monkeypatch.setattr(Path, "open", deny)
    assert bad(path) == f"{path}: permission denied"


@pytest.mark.parametrize("opens", [2, 3])
def test_a_file_that_is_deleted_between_two_reads_is_rejected(
    opens: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, really_open, opened = file_of(tmp_path, header(), *LINES, CLOSE), Path.open, []

    def open_or_delete(self: Path, *arguments: object, **more: object) -> object:
        opened.append(self)
        if len(opened) == opens:
            self.unlink()
        return really_open(self, *arguments, **more)  # type: ignore[call-overload] # passed on

    monkeypatch.setattr(Path, "open", open_or_delete)
    assert bad(path) == f"{path}: no such file or directory"


def test_a_pipe_is_rejected_without_waiting_for_it(tmp_path: Path) -> None:
    path = tmp_path / "pipe.jsonl"
    os.mkfifo(path)
    assert bad(path).startswith(f"{path}: not a regular file")
    assert bad(Path(os.devnull)).startswith(f"{os.devnull}: not a regular file")


def test_the_same_file_is_rejected_under_any_second_name(tmp_path: Path) -> None:
    path = file_of(tmp_path, header(), read(0, 1, 2), CLOSE)
    link, hard_link = tmp_path / "link.jsonl", tmp_path / "hard.jsonl"
    link.symlink_to(path)
    hard_link.hardlink_to(path)
    for other in (path, link, hard_link):
        assert bad(path, other) == f"{other}: same file as {path}; give each file only once"
