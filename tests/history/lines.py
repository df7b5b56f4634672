"""Builders of history lines, as JSON objects or bytes, and of files made of them."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zstandard

from stalewatch.history.codec import decode
from stalewatch.history.operation import FORMAT, FORMAT_VERSION, Close, Header, Operation, Write
from stalewatch.history.reader import History

Line = dict[str, Any] | bytes
"""A record as a JSON object, or the raw bytes of a line (without its newline)."""

MILLISECOND_NS = 1_000_000
ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst")

CLOSE: dict[str, Any] = {"op": "close", "clock_error_ns": 0}


def header(**more: Any) -> dict[str, Any]:
    fields = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "run": "r1",
        "worker": 0,
        "database": "mongo",
        "horizon_s": 120,
        "clock_error_ns": 0,
        "closes": True,
        "options": {},
    }
    return {**fields, **more}


def write(version: int | None, start: int, end: int | None, **more: Any) -> dict[str, Any]:
    fields = {"op": "write", "session": "s1", "key": "k", "version": version, "start": start, "end": end}
    return {**fields, "outcome": "ok", **more}


def read(version: int | None, start: int, end: int | None, **more: Any) -> dict[str, Any]:
    fields = {"op": "read", "session": "s2", "key": "k", "version": version, "start": start, "end": end}
    return {**fields, "outcome": "ok", **more}


def append(item: str | int | None, start: int, end: int | None, **more: Any) -> dict[str, Any]:
    fields = {"op": "append", "session": "s1", "key": "list", "item": item, "start": start, "end": end}
    return {**fields, "outcome": "ok", **more}


def draw(value: int | None, start: int, end: int | None, **more: Any) -> dict[str, Any]:
    fields = {"op": "draw", "session": "s1", "key": "seq", "value": value, "start": start, "end": end}
    return {**fields, "outcome": "ok", **more}


def final(version: int | None, start: int, end: int | None, **more: Any) -> dict[str, Any]:
    return {"op": "final", "key": "k", "version": version, "start": start, "end": end, "outcome": "ok", **more}


def fault(start: int, end: int | None) -> dict[str, Any]:
    return {"op": "fault", "fault": "kill", "node": "a", "start": start, "end": end}


def without(line: dict[str, Any], name: str) -> dict[str, Any]:
    return {field: value for field, value in line.items() if field != name}


def as_bytes(line: Line) -> bytes:
    return line if isinstance(line, bytes) else json.dumps(line, separators=(",", ":")).encode()


def text(*lines: Line) -> bytes:
    return b"".join(as_bytes(line) + b"\n" for line in lines)


def compressed(data: bytes, suffix: str) -> bytes:
    if suffix.endswith(".gz"):
        return gzip.compress(data, mtime=0)
    return zstandard.compress(data) if suffix.endswith(".zst") else data


def file_of(folder: Path, *lines: Line, name: str = "history.jsonl") -> Path:
    """Write a file of just these lines, compressed by its suffix, and return its path."""
    path = folder / name
    path.write_bytes(compressed(text(*lines), name))
    return path


def operations_of(*paths: Path) -> list[Operation]:
    return [operation for operation, _ in History(paths).operations()]


def as_operations(lines: Sequence[Line]) -> list[Operation]:
    records = [decode(as_bytes(line)) for line in lines]
    return [record for record in records if not isinstance(record, Close)]


# Records for the writer.


def a_header(**more: object) -> Header:
    return Header(format=FORMAT, version=FORMAT_VERSION, run="r1", clock_error_ns=0, closes=True, **more)  # type: ignore[arg-type] # any field


def a_write(number: int) -> Write:
    """Return one of a series of writes that are a millisecond apart."""
    start = number * MILLISECOND_NS
    return Write(session=f"s{number % 7}", key="k", version=number + 1, start=start, end=start + 1, outcome="ok")
