"""What a node sends is understood, however it is cut into pieces on its way."""

import io
from typing import Any

import pytest
from cassandra.connection import Connection
from cassandra.marshal import int32_pack
from cassandra.segment import SegmentCodec

from stalewatch.clients.cassandra.segments import WholeSegments

BODIES = [b"", b"a", b"bc" * 30, b"d" * 5_000, b"e" * 300_000, b"", b"f"]
"""The fifth one takes several segments."""


class Telling(Connection):  # type: ignore[misc] # the driver ships no type information
    """A connection of the driver that has no socket, and tells what it understood."""

    def __init__(self) -> None:
        super().__init__(protocol_version=5)
        self._enable_checksumming()
        self.understood: list[bytes] = []

    def close(self) -> None:
        self.is_closed = True

    def process_msg(self, _header: Any, body: bytes) -> None:
        self.understood.append(body)

    def feed(self, data: bytes) -> None:
        self._iobuf.write(data)
        self.process_io_buffer()


class Whole(WholeSegments, Telling):
    """The same, put right."""


def sent() -> bytes:
    buffer = io.BytesIO()
    for stream, body in enumerate(BODIES):
        head = bytes([0x85, 0]) + stream.to_bytes(2, "big") + b"\x08" + int32_pack(len(body))
        SegmentCodec().encode(buffer, head + body)
    return buffer.getvalue()


def understood(connection: Telling, pieces: list[bytes]) -> list[bytes]:
    for piece in pieces:
        connection.feed(piece)
        if connection.is_defunct:
            break
    return connection.understood


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 7, 11, 100, 4096, 131_072, 1_000_000])
def test_pieces_of_any_size_are_understood(size: int) -> None:
    data = sent()
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert understood(Whole(), pieces) == BODIES


def test_a_cut_anywhere_is_understood() -> None:
    data = sent()
    for cut in (*range(1, 200), *range(len(data) - 200, len(data))):
        assert understood(Whole(), [data[:cut], data[cut:]]) == BODIES, cut


def test_the_driver_alone_still_needs_that() -> None:
    """Once it does not, `stalewatch.clients.cassandra.segments` can go."""
    data = sent()
    assert understood(Telling(), [data]) == BODIES
    assert understood(Telling(), [data[:3], data[3:]]) != BODIES
