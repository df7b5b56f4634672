"""Importing and exporting of files: which format a file has, and the way from one to the other."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from stalewatch.history.codec import MalformedLine, decode_header, encode
from stalewatch.history.compression import (
    LONGEST_LINE_BYTES,
    CorruptData,
    MissingCodec,
    TruncatedData,
    open_for_writing,
    read_chunks,
)
from stalewatch.history.exchange.edn import MalformedEdn, forms
from stalewatch.history.exchange.events import Pairing, Step, Unfit
from stalewatch.history.exchange.formats import TARGETS as TARGETS  # noqa: PLC0414 # exported
from stalewatch.history.exchange.formats import CsvRows, EdnRecords, json_line_record, record_of
from stalewatch.history.exchange.models import check_call, model_of
from stalewatch.history.exchange.registers import Model
from stalewatch.history.exchange.staging import OutOfRange, Staging
from stalewatch.history.operation import FORMAT, FORMAT_VERSION, Close, Header, Operation, Record, Registers
from stalewatch.history.reader import BadHistory, History, check_files
from stalewatch.history.rules import FileRules, InvalidRecord
from stalewatch.history.writer import HistoryWriter

PROGRESS_EVERY = 1 << 18
MARK = f'{{"format":"{FORMAT}"'
SUFFIXES = {".edn": "edn", ".clj": "edn", ".json": "json", ".jsonl": "json", ".csv": "csv"}
COMPRESSED = {".gz", ".zst"}

Progress = Callable[[int], None]


class Summary(NamedTuple):
    """The result of an import or export, for the user."""

    operations: int
    complete: bool
    notes: list[str]


def suffix_of(path: Path) -> str:
    """Return a file's suffix without that of its compression."""
    return Path(path.stem).suffix if path.suffix in COMPRESSED else path.suffix


def guess(path: Path) -> tuple[str, str]:
    """Return the format of a file and what tells it; raise `BadHistory`."""
    check_files([path])
    with _errors(path):
        first = next((line for line in _lines(path) if line.strip()), "").strip()
    start = first[:1]
    if first.startswith(MARK):
        other = next((line for number, line in enumerate(_lines(path)) if number == 1), "")
        if '"Input":' not in other:
            raise BadHistory(
                path, 1, "this is a history of stalewatch already; `stalewatch history export` converts it"
            )
        return "json", "content"
    if start == "{" and first[1:].lstrip()[:1] == '"':
        return "json", "content"
    if start in {"{", "[", "(", ";", "#"} and start:
        return "edn", "content"
    if "," in first and "op" in first.split(","):
        return "csv", "content"
    if suffix_of(path) in SUFFIXES:
        return SUFFIXES[suffix_of(path)], "name"
    raise BadHistory(path, 1, "not a format that is known; docs/histories.md lists them, and --format names one")


def _lines(path: Path) -> Iterator[str]:
    """Yield a file's lines with their newlines; the last may have none."""
    rest: list[bytes] = []
    number, length = 0, 0
    for data in read_chunks(path):
        lines = data.split(b"\n")
        last = lines.pop()
        for line in lines:
            number += 1
            yield _decoded(b"".join((*rest, line, b"\n")), number)
            rest.clear()
            length = 0
        rest.append(last)
        length += len(last)
        if length > LONGEST_LINE_BYTES:
            raise Unfit(number + 1, f"the line is longer than {LONGEST_LINE_BYTES >> 20} MiB")
    if any(rest):
        yield _decoded(b"".join(rest), number + 1)


def _decoded(line: bytes, number: int) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise Unfit(number, f"not UTF-8: {error.reason}") from None


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Raise what is wrong with the file as `BadHistory`."""
    try:
        yield
    except (Unfit, MalformedEdn) as error:
        raise BadHistory(path, error.line, str(error)) from None
    except TruncatedData:
        raise BadHistory(path, None, "its compressed data are cut off") from None
    except (CorruptData, MissingCodec, OutOfRange) as error:
        raise BadHistory(path, None, str(error)) from None
    except MemoryError:
        raise BadHistory(path, None, "not enough memory to read it") from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the name of a new file that takes the place of `path` once the block has succeeded."""
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


# Export.


def export_history(source: Path, target: Path, form: str, progress: Progress) -> Summary:
    """Write a history in another format; raise `BadHistory`, `MissingFormat` or OSError."""
    history = History([source])
    header, origin = history.headers[0], history.sources[0]
    header.closes, header.clock_error_ns = True, origin.clock_error_ns
    counted = _Counted(progress)

    def records() -> Iterator[Record]:
        for operation, _ in history.operations():
            counted.add()
            yield operation
        if origin.complete:
            yield Close(clock_error_ns=origin.clock_error_ns)

    with _errors(source), replacing(target) as part, open_for_writing(part) as out:
        TARGETS[form].write(header, records(), out)
    return Summary(counted.count, origin.complete, [])


def write_part(
    history: History, target: Path, operations: Iterable[Operation], progress: Progress, *, complete: bool
) -> Summary:
    """Write some operations of a history of one file; if not `complete`, or the history is not, the part is incomplete.

    Raises `BadHistory`, also if there are no operations, or OSError.
    """
    header, origin = history.headers[0], history.sources[0]
    header.closes, header.clock_error_ns = True, origin.clock_error_ns
    complete, counted = complete and origin.complete, _Counted(progress)
    with replacing(target) as part:
        writer = HistoryWriter(part, header)
        try:
            for operation in operations:
                writer.add(operation)
                counted.add()
            if not counted.count:
                raise BadHistory(history.paths[0], None, "no operation matches; nothing was written")
        except BaseException:
            writer.abandon()
            raise
        if complete:
            writer.close(origin.clock_error_ns)
        else:
            writer.abandon()
    return Summary(counted.count, complete, [])


class _Counted:
    """A count of operations that reports its progress."""

    def __init__(self, progress: Progress) -> None:
        self.count = 0
        self._progress = progress

    def add(self) -> None:
        self.count += 1
        if not self.count % PROGRESS_EVERY:
            self._progress(self.count)


# Import.


class Options(NamedTuple):
    """How to read another tool's file: which value a key has before any write, and what its registers are (CSV)."""

    form: str
    initial: str = "nil"
    registers: Registers = "growing"


class _Imported(NamedTuple):
    """What a file holds: its header, and its records with their lines."""

    header: Header
    records: Iterator[tuple[int, Record]]


def import_history(source: Path, target: Path, options: Options, progress: Progress) -> Summary:
    """Write another tool's history as one of ours; raise `BadHistory` or OSError."""
    check_files([source])
    notes: list[str] = []
    with _errors(source), Staging() as staging, replacing(target) as part:
        imported = _READERS[options.form](source, options, staging, notes)
        return _write(part, imported, _Counted(progress), notes)


def _write(part: Path, imported: _Imported, counted: _Counted, notes: list[str]) -> Summary:
    """Write what was read; raise `BadHistory` at the line of the first record that breaks a rule of histories."""
    rules = FileRules({}, overwriting=imported.header.registers == "overwriting")
    writer, close = HistoryWriter(part, imported.header), None
    try:
        for line, record in imported.records:
            if isinstance(record, Close):
                close = record
                continue
            try:
                rules.check(record)
            except InvalidRecord as error:
                raise Unfit(line, str(error)) from None
            writer.add(record)
            counted.add()
    except BaseException:
        writer.abandon()
        raise
    if close is None:
        writer.abandon()
    else:
        writer.close(close.clock_error_ns)
    return Summary(counted.count, close is not None, notes)


def _foreign(source: Path, options: Options, registers: Registers) -> Header:
    return Header(
        format=FORMAT,
        version=FORMAT_VERSION,
        run=source.name,
        clock_error_ns=0,
        closes=True,
        registers=registers,
        options={"imported": options.form},
    )


def _header(line: int, fields: Any) -> Header:  # noqa: ANN401 # any JSON
    try:
        return decode_header(json.dumps(fields).encode())
    except MalformedLine as error:
        raise Unfit(line, f"no history header: {error}") from None


def _read_edn(source: Path, options: Options, staging: Staging, notes: list[str]) -> _Imported:
    first = next(_lines(source), "").removeprefix("; ")
    if first.startswith(MARK):
        return _Imported(_header(1, _json(1, first)), _exported_edn(source))
    return _modelled(source, options, staging, notes, lambda: forms(_lines(source)))


def _exported_edn(source: Path) -> Iterator[tuple[int, Record]]:
    reader, last = EdnRecords(), ""

    def lines() -> Iterator[str]:
        nonlocal last
        for line in _lines(source):
            last = line
            yield line

    line = 1
    for line, event in forms(lines()):
        yield from ((line, record) for record in reader.take(line, event))
    yield from ((line, record) for record in reader.rest())
    if last.startswith('; {"op":"close"'):
        yield line, record_of(_json(line, last.removeprefix("; ")), line)


def _read_json(source: Path, options: Options, staging: Staging, notes: list[str]) -> _Imported:
    def objects() -> Iterator[tuple[int, Any]]:
        for number, line in enumerate(_lines(source), 1):
            if line.strip():
                yield number, _json(number, line)

    first: Any = next(objects(), (1, {}))[1]
    if isinstance(first, dict) and first.get("format") == FORMAT:
        records = ((line, json_line_record(fields, line)) for line, fields in objects() if line > 1)
        return _Imported(_header(1, first), records)
    return _modelled(source, options, staging, notes, objects)


def _json(line: int, text: str) -> Any:  # noqa: ANN401 # any JSON
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unfit(line, f"not JSON: {error}") from None


Events = Callable[[], Iterable[tuple[int, Any]]]


def _steps(events: Events, pairing: Pairing) -> Iterator[Step]:
    for line, event in events():
        step = pairing.take(line, event)
        if step is not None:
            yield step
    yield from pairing.rest()


def _modelled(source: Path, options: Options, staging: Staging, notes: list[str], events: Events) -> _Imported:
    """Return what the model of a log makes of it; the log is read twice, since its first lines may not tell which."""
    model = model_of(_steps(events, Pairing()))(staging, options.initial)
    pairing = Pairing()
    for step in _steps(events, pairing):
        check_call(step, model)
        model.accept(step)
    if pairing.nemesis:
        notes.append(f"{pairing.nemesis:,} events of processes without a number (nemesis) are left out")
    if not pairing.timed:
        notes.append("events without `:time`: times are line numbers, so durations mean nothing")
    return _Imported(_foreign(source, options, model.registers), _modelled_records(model, notes))


def _modelled_records(model: Model, notes: list[str]) -> Iterator[tuple[int, Record]]:
    for operation, line in model.operations():
        yield line, operation
    notes += model.notes
    yield 0, Close(clock_error_ns=0)


def _read_csv(source: Path, options: Options, staging: Staging, _notes: list[str]) -> _Imported:
    rows = CsvRows(_lines(source))
    if rows.header is not None:
        return _Imported(_header(2, rows.header), rows.records())
    return _Imported(_foreign(source, options, options.registers), _sorted_rows(rows, staging))


def _sorted_rows(rows: CsvRows, staging: Staging) -> Iterator[tuple[int, Record]]:
    """Yield the records in the order of their ends, those that end together in the order of their lines."""
    for line, record in rows.records():
        if isinstance(record, Close):
            continue
        time = record.start if record.end is None else record.end
        staging.add_sorted(time, line, encode(record))
    for line, data in staging.sorted():
        yield line, record_of(json.loads(data), line)
    yield 0, Close(clock_error_ns=0)


_Reader = Callable[[Path, Options, Staging, list[str]], _Imported]
_READERS: dict[str, _Reader] = {"edn": _read_edn, "json": _read_json, "csv": _read_csv}
FORMATS = tuple(_READERS)
