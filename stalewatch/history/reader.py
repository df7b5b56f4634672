"""Reads the history files of one run as one stream of operations in the order of their end."""

import heapq
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from stalewatch.history.codec import Malformed, decode, decode_header
from stalewatch.history.compression import Cut, Damaged, MissingCodec, chunks
from stalewatch.history.operation import FORMAT, FORMAT_VERSION, Close, Header, Operation, Read, Write
from stalewatch.history.rules import NEVER, Broken, Rules
from stalewatch.history.versions import VersionRanges

TAIL_BYTES = 1 << 16
LONGEST_HORIZON_S = 10**10  # three hundred years: no run outlasts it


class BadHistory(Exception):
    """A file that is no history; the message names the file and, where there is one, the line."""

    def __init__(self, path: Path, line: int | None, reason: str) -> None:
        super().__init__(f"{path}:{line}: {reason}" if line else f"{path}: {reason}")


@dataclass(frozen=True)
class Source:
    """Where operations come from: one worker's file, or the live worker itself."""

    worker: int = 0
    clock_error_ns: int | None = 0
    complete: bool = True

    def margin(self, other: "Source") -> int | None:
        """Return by how many ns an end here must come before a start there to prove their order; None: it cannot."""
        if other is self:
            return 0
        if self.clock_error_ns is None or other.clock_error_ns is None:
            return None
        return self.clock_error_ns + other.clock_error_ns


class History:
    """The files of one run."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Read headers and last lines (raises `BadHistory`)."""
        self.paths = list(paths)
        _refuse_what_cannot_be_read_once_each(self.paths)
        self.headers = [_header(path) for path in self.paths]
        self.sources = [_source(path, header) for path, header in zip(self.paths, self.headers, strict=True)]
        for path, header in zip(self.paths, self.headers, strict=True):
            if header.run != self.headers[0].run:
                raise BadHistory(path, 1, f"run {header.run!r} is not run {self.headers[0].run!r} of {self.paths[0]}")

    @property
    def complete(self) -> bool:
        """Tell whether every file was written to its end."""
        return all(source.complete for source in self.sources)

    @property
    def horizon_ns(self) -> int:
        """Return how long superseded versions are remembered, in nanoseconds."""
        return round(min(max(header.horizon_s for header in self.headers), LONGEST_HORIZON_S) * 1e9)

    def operations(self) -> Iterator[tuple[Operation, int]]:
        """Yield every operation with the index of its source, in the order of their end (raises `BadHistory`)."""
        written: dict[str, VersionRanges] = {}
        streams = [_stream(path, Rules(written), source) for source, path in enumerate(self.paths)]
        if len(streams) == 1:
            return streams[0]
        return (pair for _, pair in heapq.merge(*map(_timed, streams), key=itemgetter(0)))


def _timed(stream: Iterator[tuple[Operation, int]]) -> Iterator[tuple[int, tuple[Operation, int]]]:
    """Yield operations with their place in time: one that never ended keeps its place in the file."""
    now = NEVER
    for pair in stream:
        end = pair[0].end
        if end is not None:
            now = end
        yield now, pair


def _stream(path: Path, rules: Rules, source: int) -> Iterator[tuple[Operation, int]]:
    """Yield one file's operations by end; reads and writes of no duration come after others of the same end.

    The file may hold an instant [E, E] before [s, E] of the same session. In the session's own order it comes after,
    and the checkers of session guarantees rely on that order.
    """
    instants: list[tuple[Operation, int]] = []
    instant = NEVER
    for operation in _checked(path, rules):
        end = operation.end
        if instants and end is not None and end > instant:
            yield from instants
            instants.clear()
        if operation.start == end and isinstance(operation, Read | Write):
            instants.append((operation, source))
            instant = end
        else:
            yield operation, source
    yield from instants


def _checked(path: Path, rules: Rules) -> Iterator[Operation]:
    """Yield the operations after the header; raise `BadHistory` at the first line that breaks a rule."""
    check, number, closed = rules.check, 0, False
    try:
        for lines in _blocks(path):
            for line in lines:
                number += 1
                if number == 1:
                    continue
                record = decode(line)
                if closed:
                    raise Broken("a line after the close")
                if type(record) is Close:
                    closed = True
                    _refuse_negative(record.clock_error_ns, "clock_error_ns")
                    continue
                check(record)  # type: ignore[arg-type] # all but Close
                yield record  # type: ignore[misc] # all but Close
    except (Malformed, Broken) as error:
        raise BadHistory(path, number, str(error)) from None
    except Damaged as error:
        raise BadHistory(path, number + 1, str(error)) from None
    except OSError as error:
        raise BadHistory(path, None, _reason(error)) from None


def _blocks(path: Path) -> Iterator[list[bytes]]:
    """Yield whole lines, many at a time; what follows the last newline is cut and left out."""
    rest: list[bytes] = []  # the pieces of a line so far, which may be longer than a chunk
    try:
        for data in chunks(path):
            lines = data.split(b"\n")
            last = lines.pop()
            if lines:
                lines[0] = b"".join((*rest, lines[0]))
                rest.clear()
                yield lines
            rest.append(last)
    except Cut:
        return


def _refuse_what_cannot_be_read_once_each(paths: Sequence[Path]) -> None:
    given: dict[tuple[int, int], Path] = {}
    for path in paths:
        with _blamed_on(path):
            status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise BadHistory(path, None, "not a regular file; a history is read twice, so save it to a file first")
        file = (status.st_dev, status.st_ino)
        if file in given:
            raise BadHistory(path, None, f"the same file as {given[file]}; give each file once")
        given[file] = path


def _header(path: Path) -> Header:
    with _blamed_on(path):
        line = next((line for lines in _blocks(path) for line in lines), None)
    if line is None:
        raise BadHistory(path, 1, "no history header: the file is empty, or cut in its first line")
    try:
        header = decode_header(line)
        _refuse_negative(header.horizon_s, "horizon_s")
        _refuse_negative(header.clock_error_ns, "clock_error_ns")
    except (Malformed, Broken) as error:
        raise BadHistory(path, 1, f"no history header: {error}") from None
    if header.format != FORMAT or header.version != FORMAT_VERSION:
        raise BadHistory(
            path, 1, f"format {header.format!r} version {header.version} is not {FORMAT} version {FORMAT_VERSION}"
        )
    return header


def _refuse_negative(number: float | None, field: str) -> None:
    if number is not None and number < 0:
        raise Broken(f"`{field}` {number} is negative")


@contextmanager
def _blamed_on(path: Path) -> Iterator[None]:
    """Turn what goes wrong with a file, rather than with a line of it, into `BadHistory`."""
    try:
        yield
    except (OSError, MissingCodec, Damaged) as error:
        raise BadHistory(path, None, _reason(error)) from None


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)


def _source(path: Path, header: Header) -> Source:
    """Return what the last line says: whether the file is complete, and its clock error over the whole run."""
    with _blamed_on(path):
        tail, cut = _tail(path)
    close = _close(tail)
    whole = tail.endswith(b"\n") and (close is not None or not header.closes)
    error = close.clock_error_ns if close else header.clock_error_ns
    return Source(header.worker, error, whole and not cut)


def _tail(path: Path) -> tuple[bytes, bool]:
    """Return the end of the file, and whether its compressed data is cut."""
    if path.suffix not in {".gz", ".zst"}:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return file.read(), False
    tail = b""
    try:
        for data in chunks(path):
            tail = (tail + data)[-TAIL_BYTES:]
    except Cut:
        return tail, True
    except Damaged:
        return b"", True  # reading the operations will say at which line
    return tail, False


def _close(tail: bytes) -> Close | None:
    *_, last, _rest = [b"", *tail.split(b"\n")]
    try:
        record = decode(last)
    except Malformed:
        return None
    return record if isinstance(record, Close) and tail.endswith(b"\n") else None
