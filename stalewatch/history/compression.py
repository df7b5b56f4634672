"""Plain, ``.gz`` and ``.zst`` files as streams of bytes, chosen by suffix; a truncated file can be read to its end."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, Protocol, cast

CHUNK_BYTES = 1 << 18


class MissingCodec(Exception):
    """A compression whose package is not installed."""


class CorruptData(Exception):
    """Compressed data that is damaged, not just truncated."""


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
    return cast("_Decoder", _zstandard().ZstdDecompressor().decompressobj())


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
    with path.open("rb") as file:
        while data := file.read(CHUNK_BYTES):
            while data:
                decoder = decoder or new_decoder()
                yield _decompress(decoder, data)
                data = b""
                if decoder.eof:
                    data, decoder = decoder.unused_data, None
    if decoder is not None:
        raise TruncatedData


def _decompress(decoder: _Decoder, data: bytes) -> bytes:
    try:
        return decoder.decompress(data)
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
