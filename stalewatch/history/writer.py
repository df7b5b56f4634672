"""Writes one history file: a header, operations in the order of their end, a close."""

from pathlib import Path
from types import TracebackType
from typing import Self

from stalewatch.history.codec import encode, encode_header, encode_lines
from stalewatch.history.compression import create
from stalewatch.history.operation import Close, Header, Operation

BUFFER_OPERATIONS = 512
BUFFER_NS = 1_000_000_000


class HistoryWriter:
    """A history file being written; at most half a thousand operations or a second of them are ever unwritten.

    Not locked: the recorder that takes the end times hands operations over in their order.

    Where writing fails (the disk is full), the file ends: what came later would stand behind a gap.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self._file = create(path)
        self._buffer: list[Operation] = []
        self._written_ns = 0
        self._failed = False
        self._write(encode_header(header) + b"\n")

    def add(self, *operations: Operation) -> None:
        """Take the next operations."""
        buffer = self._buffer
        buffer += operations
        end = buffer[-1].end if buffer else None
        if len(buffer) >= BUFFER_OPERATIONS or (end or 0) - self._written_ns > BUFFER_NS:
            self.flush(end)

    def flush(self, now: int | None = None) -> None:
        """Hand everything taken so far to the operating system (raises `OSError`, once)."""
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
        except OSError:
            self._failed = True
            raise

    def close(self, clock_error_ns: int | None) -> None:
        """End the file with its promised last line."""
        try:
            self.flush()
            self._write(encode(Close(clock_error_ns=clock_error_ns)) + b"\n")
        finally:
            self._end()

    def abandon(self) -> None:
        """Close the file without its last line, so that readers know that something is missing."""
        try:
            self.flush()
        finally:
            self._end()

    def _end(self) -> None:
        try:
            self._file.close()
        except OSError:
            if not self._failed:  # else it was raised when it happened
                raise

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close a file that was written to its end by this process's own clock; abandon one that was not."""
        if kind is None:
            self.close(0)
        else:
            self.abandon()
