"""Writes one history file: a header, operations in the order of their end, a close."""

from pathlib import Path
from types import TracebackType
from typing import Self

from history.codec import encode
from history.compression import create
from history.operation import Close, Header, Operation

BUFFER_OPERATIONS = 512
BUFFER_NS = 1_000_000_000


class HistoryWriter:
    """A history file being written; at most half a thousand operations or a second of them are ever unwritten.

    Not locked: the recorder that takes the end times hands operations over one at a time, in their order.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self._file = create(path)
        self._buffer: list[Operation] = []
        self._written_ns = 0
        self._file.write(encode(header) + b"\n")
        self._file.flush()

    def add(self, operation: Operation) -> None:
        """Take the next operation."""
        buffer = self._buffer
        buffer.append(operation)
        if len(buffer) >= BUFFER_OPERATIONS or (operation.end or 0) - self._written_ns > BUFFER_NS:
            self.flush(operation.end)

    def flush(self, now: int | None = None) -> None:
        """Hand everything taken so far to the operating system."""
        self._file.write(b"".join([encode(operation) + b"\n" for operation in self._buffer]))
        self._file.flush()
        self._buffer.clear()
        self._written_ns = now or self._written_ns

    def close(self, clock_error_ns: int | None) -> None:
        """End the file with its promised last line."""
        self.flush()
        self._file.write(encode(Close(clock_error_ns=clock_error_ns)) + b"\n")
        self._file.close()

    def abandon(self) -> None:
        """Close the file without its last line, so that readers know that something is missing."""
        self.flush()
        self._file.close()

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close a file that was written to its end by this process's own clock; abandon one that was not."""
        if kind is None:
            self.close(0)
        else:
            self.abandon()
