"""Writing of one history file: a header, operations in the order of their end, and a close line."""

from pathlib import Path
from types import TracebackType
from typing import Self

from stalewatch.history.codec import encode, encode_header, encode_lines
from stalewatch.history.compression import open_for_writing
from stalewatch.history.operation import Close, Header, Operation

BUFFER_OPERATIONS = 512
BUFFER_NS = 1_000_000_000


class HistoryWriter:
    """A history file that is being written; it buffers at most 512 operations or one second of them.

    Not locked: the recorder that takes the end times passes operations on in their order.

    The first failure to write (a full disk) ends the file: anything written later would follow a gap.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self._file = open_for_writing(path)
        self._buffer: list[Operation] = []
        self._written_ns = 0
        self._failed = False
        try:
            self._write(encode_header(header) + b"\n")
        except OSError:
            self._close_file()
            raise

    def add(self, *operations: Operation) -> None:
        """Add the next operations."""
        buffer = self._buffer
        buffer += operations
        end = buffer[-1].end if buffer else None
        if len(buffer) >= BUFFER_OPERATIONS or (end or 0) - self._written_ns > BUFFER_NS:
            self.flush(end)

    def flush(self, now: int | None = None) -> None:
        """Pass everything added so far to the operating system; raise `OSError` the first time that fails."""
        lines = encode_lines(self._buffer)
        self._buffer.clear()
        self._write(lines)
        self._written_ns = now or self._written_ns

    def _write(self, lines: bytes) -> None:
        if self._failed:
            return
        try:
            self._file.write(lines)
            self._file.flush()
        except OSError as error:
            self._failed = True
            error.filename = error.filename or str(self._path)
            raise

    def close(self, clock_error_ns: int | None) -> None:
        """Write the close line and close the file."""
        try:
            self.flush()
            self._write(encode(Close(clock_error_ns=clock_error_ns)) + b"\n")
        finally:
            self._close_file()

    def abandon(self) -> None:
        """Close the file without a close line, so that readers know that it is incomplete."""
        try:
            self.flush()
        finally:
            self._close_file()

    def _close_file(self) -> None:
        try:
            self._file.close()
        except OSError:
            if not self._failed:  # else it has been raised already
                raise

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the file, or abandon it after an exception. Times are this process's own: the clock error is 0."""
        if kind is None:
            self.close(0)
        else:
            self.abandon()
