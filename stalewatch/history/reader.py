"""Reading of the history files of one run as one stream of operations in the order of their end.

The order of a history. Lines are in order of `end`, and operations of one file that end together keep the order of
their lines, because the recorder judged them live in that order: two equal ids drawn, or the last of two final reads,
must be the same ones here. Files are merged by `end`, then `start`: of the next operations of all files, the one that
ends first comes first; if several end together, the one that started first; then that of the file given first. This
cannot be written as sorting by a key, which would break the order of some file: with the lines [3,9] and [1,9] in one
file and [2,9] in the other, the first file wants [3,9] before [1,9], and the starts want [1,9], [2,9], [3,9]. Merging
yields [2,9], [3,9], [1,9].

One exception: reads and writes of no duration come after all others of their file that end with them (see `_stream`).
They started last, so this is also their place between files.
"""

import heapq
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from stalewatch.history.codec import MalformedLine, decode, decode_header, decode_lines
from stalewatch.history.compression import LONGEST_LINE_BYTES, CorruptData, MissingCodec, TruncatedData, read_chunks
from stalewatch.history.operation import FORMAT, FORMAT_VERSION, Close, Header, Operation, Read, Record, Write
from stalewatch.history.rules import (
    NEVER,
    FileRules,
    InvalidRecord,
    Turns,
    TurnsBetweenFiles,
    VersionRanges,
    WorkerRules,
)

TAIL_BYTES = 1 << 16
BLOCK_BYTES = 1 << 20
"""The longest block of lines that is decoded at once; the records of a longer one could take too much memory."""
BLOCK_OPERATIONS = 4096
"""How many operations of several files are passed on at once."""
LONGEST_HORIZON_S = 10**10  # three hundred years: no run outlasts it


class BadHistory(Exception):
    """A file that is not a valid history; the message names the file and, if there is one, the line."""

    def __init__(self, path: Path, line: int | None, reason: str) -> None:
        super().__init__(f"{path}:{line}: {reason}" if line else f"{path}: {reason}")


@dataclass(frozen=True)
class Source:
    """The origin of operations: one worker's file, or the live worker itself."""

    worker: int = 0
    clock_error_ns: int | None = 0
    complete: bool = True
    overwriting: bool = False
    """Whether its registers are overwriting, so that an old write that arrives late wins."""

    def margin(self, other: "Source") -> int | None:
        """Return by how many ns an end here must precede a start there to prove their order; None: never proven."""
        if other is self:
            return 0
        if self.clock_error_ns is None or other.clock_error_ns is None:
            return None
        return self.clock_error_ns + other.clock_error_ns


class OperationBlock(NamedTuple):
    """Operations that follow each other in a history."""

    operations: Sequence[Operation]
    sources: Sequence[int]
    """The indexes of their sources."""
    lines: bytes | None = None
    """The lines of the file that they were read from, one after the other, if known; more may follow."""


class History:
    """The files of one run."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Read the headers and last lines; raise `BadHistory` if that fails or they do not belong together."""
        self.paths = list(paths)
        check_files(self.paths)
        self.headers = [_read_header(path) for path in self.paths]
        self.sources = [_read_source(path, header) for path, header in zip(self.paths, self.headers, strict=True)]
        for path, header in zip(self.paths, self.headers, strict=True):
            if header.run != self.headers[0].run:
                raise BadHistory(
                    path, 1, f"belongs to run {header.run!r}, but {self.paths[0]} to run {self.headers[0].run!r}"
                )

    @property
    def complete(self) -> bool:
        """Return whether every file was written to its end."""
        return all(source.complete for source in self.sources)

    @property
    def horizon_ns(self) -> int:
        """Return how long superseded versions are remembered, in nanoseconds."""
        return round(min(max(header.horizon_s for header in self.headers), LONGEST_HORIZON_S) * 1e9)

    def operations(self) -> Iterator[tuple[Operation, int]]:
        """Yield every operation and the index of its source, in the order of the history; raise `BadHistory`."""
        for block in self.blocks():
            yield from zip(block.operations, block.sources, strict=True)

    def blocks(self) -> Iterator[OperationBlock]:
        """Yield the operations, many at a time; raise `BadHistory` after the good ones.

        The rules of files see the operations in the order of the history. So only a single file is checked block by
        block: if two files write the same version, the second write is the one to report.
        """
        written: dict[str, VersionRanges] = {}
        rules = [FileRules(written, overwriting=source.overwriting) for source in self.sources]
        if len(self.paths) == 1:
            blocks = _valid_blocks(_record_blocks(self.paths[0]), self.paths[0], rules[0])
            return (
                OperationBlock(operations, bytes(len(operations)), lines) for operations, lines in _in_order(blocks)
            )
        streams = [
            _stream(path, rule, source) for source, (path, rule) in enumerate(zip(self.paths, rules, strict=True))
        ]
        merged = (pair for _, pair in heapq.merge(*map(_timed, streams), key=itemgetter(0)))
        between: list[tuple[int, WorkerRules | TurnsBetweenFiles]] = [*self._worker_rules(), *self._write_turns()]
        return _in_blocks(self._checked(merged, between) if between else merged)

    def _worker_rules(self) -> Iterator[tuple[int, WorkerRules]]:
        """Yield the rules of workers with several files, for each of the files' sources."""
        files = Counter(source.worker for source in self.sources)
        rules = {worker: WorkerRules() for worker, number in files.items() if number > 1}
        for index, source in enumerate(self.sources):
            if source.worker in rules:
                yield index, rules[source.worker]

    def _write_turns(self) -> Iterator[tuple[int, TurnsBetweenFiles]]:
        """Yield the rules of overwriting registers between files, for each of the files' sources."""
        turns: dict[str, Turns] = {}
        for index, source in enumerate(self.sources):
            if source.overwriting:
                margins = [other.margin(source) for other in self.sources]
                yield index, TurnsBetweenFiles(turns, index, margins)

    def _checked(
        self, merged: Iterator[tuple[Operation, int]], rules: Sequence[tuple[int, WorkerRules | TurnsBetweenFiles]]
    ) -> Iterator[tuple[Operation, int]]:
        """Yield the operations; raise `BadHistory` at the first that breaks a rule of its source."""
        checks = [[rule.check for index, rule in rules if index == source] for source in range(len(self.paths))]
        for operation, source in merged:
            for check in checks[source]:
                try:
                    check(operation)
                except InvalidRecord as error:
                    path = self.paths[source]
                    raise BadHistory(path, _line_of(path, operation), str(error)) from None
            yield operation, source


def _line_of(path: Path, operation: Operation) -> int | None:
    """Return the line that the operation is on: the files are read ahead of each other, so nobody counts."""
    lines = (line for block in _line_blocks(path) for line in block.split(b"\n"))
    next(lines)  # the header
    return next((number for number, line in enumerate(lines, 2) if decode(line) == operation), None)


def _timed(stream: Iterator[tuple[Operation, int]]) -> Iterator[tuple[tuple[int, int], tuple[Operation, int]]]:
    """Yield operations with the times to merge them by; one that never ended follows the line before it."""
    times = NEVER, NEVER
    for pair in stream:
        operation = pair[0]
        if operation.end is not None:
            times = operation.end, operation.start
        yield times, pair


_RecordBlock = tuple[list[Record], bytes | None]
"""Records, and their lines."""

_ValidBlock = tuple[list[Operation], bool, bytes | None]
"""Operations, whether some may have no duration, and their lines."""


def _in_blocks(pairs: Iterator[tuple[Operation, int]]) -> Iterator[OperationBlock]:
    operations: list[Operation] = []
    sources: list[int] = []
    try:
        for operation, source in pairs:
            operations.append(operation)
            sources.append(source)
            if len(operations) == BLOCK_OPERATIONS:
                yield OperationBlock(operations, sources)
                operations, sources = [], []
    except BadHistory:
        yield OperationBlock(operations, sources)
        raise
    yield OperationBlock(operations, sources)


def _stream(path: Path, rules: FileRules, source: int) -> Iterator[tuple[Operation, int]]:
    """Yield one of several files' operations, each checked when it is asked for."""
    one_by_one = (([record], None) for records, _ in _record_blocks(path) for record in records)
    blocks = _in_order(_valid_blocks(one_by_one, path, rules))
    return ((operation, source) for operations, _ in blocks for operation in operations)


def _in_order(blocks: Iterator[_ValidBlock]) -> Iterator[tuple[list[Operation], bytes | None]]:
    """Yield one file's operations by end; reads and writes of no duration come after others of the same end.

    The file may hold an instant [E, E] before [s, E] of the same session. In the session's own order it comes after,
    and the checkers of session guarantees rely on that order.
    """
    instants: list[Operation] = []
    instant = NEVER
    for operations, some_are_instants, lines in blocks:
        if not instants and not some_are_instants:
            yield operations, lines
            continue
        ordered: list[Operation] = []
        for operation in operations:
            end = operation.end
            if instants and end is not None and end > instant:
                ordered += instants
                instants.clear()
            if operation.start == end and isinstance(operation, Read | Write):
                instants.append(operation)
                instant = end
            else:
                ordered.append(operation)
        yield ordered, None
    yield instants, None


def _valid_blocks(blocks: Iterator[_RecordBlock], path: Path, rules: FileRules) -> Iterator[_ValidBlock]:
    """Yield the operations; raise `BadHistory` at the first that breaks a rule.

    `blocks` is a name of the caller's, too, so that it outlives a MemoryError: closing a generator takes memory.
    """
    before, index, closed = 1, 0, False
    records: list[Record] = []
    try:
        for records, lines in blocks:
            index, some_are_instants = 0, False
            while index < len(records):
                if closed:
                    raise InvalidRecord("unexpected line after the close line")
                index = rules.pass_usual(records, index)
                if index < len(records):
                    record = records[index]
                    if isinstance(record, Close):
                        closed = True
                        _check_not_negative(record.clock_error_ns, "clock_error_ns")
                    else:
                        rules.check(record)
                        some_are_instants = some_are_instants or record.start == record.end
                    index += 1
            before += index
            yield _without_close(records, closed=closed), some_are_instants, lines
    except InvalidRecord as error:
        yield _without_close(records[:index], closed=closed), True, None
        raise BadHistory(path, before + index + 1, str(error)) from None
    except (MalformedLine, CorruptData) as error:
        raise BadHistory(path, before + 1, str(error)) from None
    except OSError as error:
        raise BadHistory(path, None, _reason(error)) from None


def _without_close(records: list[Record], *, closed: bool) -> list[Operation]:
    return [one for one in records if type(one) is not Close] if closed else records  # type: ignore[return-value,misc] # no Close


def _record_blocks(path: Path) -> Iterator[_RecordBlock]:
    """Yield the records after the header, many at a time.

    A block with a line that holds none is decoded line by line, so that those before it come first. What a block holds
    is the same either way.
    """
    blocks = _line_blocks(path)
    _header, newline, first = next(blocks, b"").partition(b"\n")
    for block in chain([first] if newline else [], blocks):
        try:
            records = decode_lines(block) if len(block) <= BLOCK_BYTES else None
        except MalformedLine:
            records = None
        if records is None:
            for line in block.split(b"\n"):
                yield [decode(line)], None  # a job might not decode it among others, as here
        else:
            yield records, block


def _line_blocks(path: Path) -> Iterator[bytes]:
    """Yield complete lines, many at a time, without their last newline; what follows the last of all was cut off."""
    rest: list[bytes] = []  # the pieces of the current line, which may be longer than a chunk
    length = 0
    chunks = read_chunks(path)
    try:
        for data in chunks:
            lines, newline, last = data.rpartition(b"\n")
            if newline:
                block = b"".join((*rest, lines))
                rest.clear()
                length = 0
                yield block
            rest.append(last)
            length += len(last)
            if length > LONGEST_LINE_BYTES:
                raise CorruptData(f"the line is longer than {LONGEST_LINE_BYTES >> 20} MiB")
    except TruncatedData:
        return


def check_files(paths: Sequence[Path]) -> None:
    """Raise `BadHistory` for anything that cannot be read twice, and for a file that is given twice."""
    given: dict[tuple[int, int], Path] = {}
    for path in paths:
        with _file_errors(path):
            status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise BadHistory(path, None, "not a regular file; a history is read twice, so save it to a file first")
        file = (status.st_dev, status.st_ino)
        if file in given:
            raise BadHistory(path, None, f"same file as {given[file]}; give each file only once")
        given[file] = path


def _read_header(path: Path) -> Header:
    try:
        with _file_errors(path):
            block = next(_line_blocks(path), None)
            header = None if block is None else decode_header(block.partition(b"\n")[0])
        if header is None:
            raise BadHistory(path, 1, "no history header: the file is empty, or its first line is cut off")
        _check_not_negative(header.horizon_s, "horizon_s")
        _check_not_negative(header.clock_error_ns, "clock_error_ns")
    except (MalformedLine, InvalidRecord) as error:
        raise BadHistory(path, 1, f"no history header: {error}") from None
    if header.format != FORMAT or header.version != FORMAT_VERSION:
        found = f"format {header.format!r} version {header.version}"
        raise BadHistory(path, 1, f"{found} is not supported; expected {FORMAT!r} version {FORMAT_VERSION}")
    return header


def _check_not_negative(number: float | None, field: str) -> None:
    if number is not None and number < 0:
        raise InvalidRecord(f"`{field}` must not be negative, but is {number}")


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    """Raise errors that concern the file, not one of its lines, as `BadHistory`."""
    try:
        yield
    except (OSError, MissingCodec, CorruptData, MemoryError) as error:
        raise BadHistory(path, None, _reason(error)) from None


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "not enough memory to read it"
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)


def _read_source(path: Path, header: Header) -> Source:
    """Return the source that header and last line describe: complete or not, and its clock error over the run."""
    with _file_errors(path):
        tail, truncated = _read_tail(path)
    close = _close_line(tail)
    ends_well = tail.endswith(b"\n") and (close is not None or not header.closes)
    clock_error_ns = close.clock_error_ns if close else header.clock_error_ns
    return Source(header.worker, clock_error_ns, ends_well and not truncated, header.registers == "overwriting")


def _read_tail(path: Path) -> tuple[bytes, bool]:
    """Return the end of the file, and whether its compressed data is truncated."""
    if path.suffix not in {".gz", ".zst"}:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return file.read(), False
    tail = b""
    try:
        for data in read_chunks(path):
            tail = (tail + data)[-TAIL_BYTES:]
    except TruncatedData:
        return tail, True
    except CorruptData:
        return b"", True  # reading the operations will report the line
    return tail, False


def _close_line(tail: bytes) -> Close | None:
    *_, last, _rest = [b"", *tail.split(b"\n")]
    try:
        record = decode(last)
    except MalformedLine:
        return None
    return record if isinstance(record, Close) and tail.endswith(b"\n") else None
