"""Reading of segments, however TCP splits them."""

import io
from typing import Any

import pytest
from cassandra.connection import Connection
from cassandra.marshal import int32_pack
from cassandra.segment import SegmentCodec

from stalewatch.clients.cassandra.connection import WholeSegments

BODIES = [b"", b"a", b"bc" * 30, b"d" * 5_000, b"e" * 300_000, b"", b"f"]
"""The fifth takes several segments."""


class Recording(Connection):  # type: ignore[misc] # the driver ships no type information
    """A connection of the driver without a socket, which records the messages it reads."""

    def __init__(self) -> None:
        super().__init__(protocol_version=5)
        self._enable_checksumming()
        self.messages: list[bytes] = []

    def close(self) -> None:
        self.is_closed = True

    def process_msg(self, _header: Any, body: bytes) -> None:
        self.messages.append(body)

    def feed(self, data: bytes) -> None:
        self._iobuf.write(data)
        self.process_io_buffer()


class Fixed(WholeSegments, Recording):
    """The same with the fix."""


def encoded() -> bytes:
    buffer = io.BytesIO()
    for stream, body in enumerate(BODIES):
        head = bytes([0x85, 0]) + stream.to_bytes(2, "big") + b"\x08" + int32_pack(len(body))
        SegmentCodec().encode(buffer, head + body)
    return buffer.getvalue()


def messages(connection: Recording, pieces: list[bytes]) -> list[bytes]:
    for piece in pieces:
        connection.feed(piece)
        if connection.is_defunct:
            break
    return connection.messages


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 7, 11, 100, 4096, 131_072, 1_000_000])
def test_pieces_of_any_size_are_read(size: int) -> None:
    data = encoded()
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert messages(Fixed(), pieces) == BODIES


def test_a_split_anywhere_is_read() -> None:
    data = encoded()
    for cut in (*range(1, 200), *range(len(data) - 200, len(data))):
        assert messages(Fixed(), [data[:cut], data[cut:]]) == BODIES, cut


def test_the_driver_still_needs_the_fix() -> None:
    """Once it does not, `WholeSegments` can be deleted."""
    data = encoded()
    assert messages(Recording(), [data]) == BODIES
    assert messages(Recording(), [data[:3], data[3:]]) != BODIES
