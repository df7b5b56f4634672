"""Plain, ``.gz`` and ``.zst`` files as streams of bytes, chosen by suffix; a truncated file can be read to its end.

A file may be hostile. However well it is compressed, its content comes in pieces of at most 32 MiB, because little of
it is decompressed at a time: deflate expands at most 1,032 times, zstandard 32,768 times.
"""

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, Protocol, cast

CHUNK_BYTES = 1 << 18

_READ_BYTES = {".gz": 1 << 14, ".zst": 1 << 10}
"""How much of a compressed file is decompressed at a time. Smaller pieces would cost time, these do not."""

MAX_WINDOW_BYTES = 1 << 27
"""The most memory that a .zst file may ask for. The zstd tool refuses more, too, unless it is told otherwise."""

MAX_RATIO = 1000
"""The most that a file may expand. Histories expand 8 to 40 times."""

LONGEST_LINE_BYTES = 1 << 26
"""The longest line that is read: a final read of a list with two million items."""

FREE_BYTES = 1 << 26
"""How much content is accepted whatever the ratio."""


class MissingCodec(Exception):
    """A compression whose package is not installed."""


class CorruptData(Exception):
    """Data that no history holds: damaged, not just truncated, or out of all proportion."""


class TruncatedData(Exception):
    """Compressed data that ends early: its checksum may be missing although every line is there."""


class _Decoder(Protocol):
    eof: bool
    unused_data: bytes

    def decompress(self, data: bytes) -> bytes: ...


class _Plain:
    eof = True
    unused_data = b""

    def decompress(self, data: bytes) -> bytes:
        return data


def _gzip_decoder() -> _Decoder:
    return cast("_Decoder", zlib.decompressobj(wbits=zlib.MAX_WBITS | 16))


def _zstd_decoder() -> _Decoder:
    return cast("_Decoder", _zstandard().ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompressobj())


def _zstandard() -> ModuleType:
    try:
        import zstandard  # noqa: PLC0415 # optional
    except ImportError:
        raise MissingCodec(".zst histories need the package zstandard: pip install zstandard") from None
    return zstandard


_DECODERS: dict[str, Callable[[], _Decoder]] = {".gz": _gzip_decoder, ".zst": _zstd_decoder}


def read_chunks(path: Path) -> Iterator[bytes]:
    """Yield the decompressed content as far as it goes; raise `CorruptData`, or `TruncatedData` at the end."""
    new_decoder = _DECODERS.get(path.suffix, _Plain)
    decoder: _Decoder | None = None
    room = FREE_BYTES
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES.get(path.suffix, CHUNK_BYTES)):
            room += MAX_RATIO * len(data)
            while data:
                decoder = decoder or new_decoder()
                content = _decompress(decoder, data)
                room -= len(content)
                if room < 0:
                    raise CorruptData(f"it expands to more than {MAX_RATIO:,} times its size, which no history does")
                yield content
                data = b""
                if decoder.eof:
                    data, decoder = decoder.unused_data, None
    if decoder is not None:
        raise TruncatedData


def _decompress(decoder: _Decoder, data: bytes) -> bytes:
    try:
        return decoder.decompress(data)
    except MemoryError:
        raise
    except Exception as error:  # zlib and zstandard have no common base
        raise CorruptData(f"compressed data is corrupt: {error}") from error


def require_codec(path: Path) -> None:
    """Raise `MissingCodec` if the package for a file's compression is not installed."""
    if path.suffix == ".zst":
        _zstandard()


def open_for_writing(path: Path) -> BinaryIO:
    """Open a file for writing, compressed by its suffix; flushing it makes everything written so far readable."""
    if path.suffix == ".gz":
        return cast("BinaryIO", gzip.open(path, "wb", compresslevel=1))
    if path.suffix == ".zst":
        compressor = _zstandard().ZstdCompressor(level=1, write_checksum=True)
        return cast("BinaryIO", _zstandard().open(path, "wb", cctx=compressor))
    return path.open("wb", buffering=CHUNK_BYTES)
