"""History files by ending: plain, ``.gz`` and ``.zst``, as streams of bytes that survive a cut."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, Protocol, cast

CHUNK_BYTES = 1 << 18


class MissingCodec(Exception):
    """A compression whose package is not installed."""


class Damaged(Exception):
    """Compressed data that is broken, not only cut."""


class Cut(Exception):
    """Compressed data that ends before its end: its checksum may be missing even where all lines are there."""


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
        import zstandard  # noqa: PLC0415
    except ImportError:
        raise MissingCodec("a .zst history needs a package: pip install zstandard") from None
    return zstandard


_DECODERS: dict[str, Callable[[], _Decoder]] = {".gz": _gzip_decoder, ".zst": _zstd_decoder}


def chunks(path: Path) -> Iterator[bytes]:
    """Yield the file's content, decompressed, as far as it goes (raises `Damaged`, and `Cut` at the end)."""
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
        raise Cut


def _decompress(decoder: _Decoder, data: bytes) -> bytes:
    try:
        return decoder.decompress(data)
    except Exception as error:  # zlib and zstandard have no common base
        raise Damaged(f"compressed data is damaged: {error}") from error


def create(path: Path) -> BinaryIO:
    """Open a file for writing, compressed as its ending says; `flush` makes what was written readable."""
    if path.suffix == ".gz":
        return cast("BinaryIO", gzip.open(path, "wb", compresslevel=1))
    if path.suffix == ".zst":
        compressor = _zstandard().ZstdCompressor(level=1, write_checksum=True)
        return cast("BinaryIO", _zstandard().open(path, "wb", cctx=compressor))
    return path.open("wb", buffering=CHUNK_BYTES)
