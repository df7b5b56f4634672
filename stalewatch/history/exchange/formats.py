"""Files that keep a whole history, so that an export and an import change no verdict: EDN, JSON lines, CSV, Parquet.

The header of the history is the first line (in EDN a comment) and the close line the last, so the run, the clock error,
the kind of registers, and whether the file is complete survive as well. Fields that a format has no column for are in
`more`.
"""

import csv
import hashlib
import io
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

from stalewatch.history.codec import MalformedLine, decode, encode, encode_header
from stalewatch.history.compression import LONGEST_LINE_BYTES
from stalewatch.history.exchange.edn import Keyword, dump
from stalewatch.history.exchange.events import Pairing, Step, Unfit, is_pair
from stalewatch.history.exchange.staging import Staging
from stalewatch.history.operation import Close, Fault, Header, Record

Fields = dict[str, Any]


def fields_of(record: Record) -> Fields:
    """Return the fields of a record as in its line."""
    fields: Fields = json.loads(encode(record))
    return fields


def record_of(fields: Mapping[str, Any], line: int) -> Record:
    """Return the record with these fields; raise `Unfit`."""
    try:
        return decode(json.dumps(fields).encode())
    except MalformedLine as error:
        raise Unfit(line, str(error)) from None


# Jepsen's EDN.

_CALLS = {"write": "write", "read": "read", "append": "add", "draw": "generate", "final": "read"}
_RESULTS = {"write": "version", "read": "version", "append": "item", "draw": "value"}
_TYPES = {"ok": "ok", "fail": "fail", "unknown": "info"}
_CORE = {"op", "session", "key", "start", "end", "outcome", "version", "item", "value", "items", "fault"}
_INVOKE, _COMPLETE = 0, 1


class _Processes:
    """Numbers of processes for sessions: one with a call under way, or that has crashed, cannot call again."""

    def __init__(self) -> None:
        self._free: dict[str, int] = {}
        self._count = 0

    def take(self, session: str) -> int:
        number = self._free.pop(session, None)
        if number is None:
            number, self._count = self._count, self._count + 1
        return number

    def give_back(self, session: str, number: int) -> None:
        self._free[session] = number


def write_edn(header: Header, records: Iterable[Record], out: BinaryIO) -> None:
    """Write a history as Jepsen would have recorded it: an event a line, invocations before completions of one time."""
    with Staging() as staging:
        close = None
        for number, record in enumerate(records):
            if isinstance(record, Close):
                close = record
                continue
            data = encode(record)
            place = b"%d " % number
            staging.add_sorted(record.start, _INVOKE, b"i" + place + data)
            if record.end is not None:
                staging.add_sorted(record.end, _COMPLETE, b"c" + place + data)
        out.write(b"; " + encode_header(header) + b"\n")
        for line in _events(staging.sorted()):  # noqa: FURB122 # zstandard's files have no writelines
            out.write(line.encode() + b"\n")
        if close is not None:
            out.write(b"; " + encode(close) + b"\n")


def _events(sorted_calls: Iterable[tuple[int, bytes]]) -> Iterator[str]:
    processes, busy = _Processes(), dict[int, int]()
    for index, (_, entry) in enumerate(sorted_calls):
        invokes = entry[:1] == b"i"
        place, _, data = entry[1:].partition(b" ")
        fields: Fields = json.loads(data)
        session = fields.get("session", "final reads")
        event: Fields = {"index": index, "time": fields["start" if invokes else "end"]}
        if fields["op"] == "fault":
            yield dump(_keywords(event | _fault_event(fields, invokes=invokes)))
            continue
        if invokes:
            process = processes.take(session)
            if fields["end"] is not None:
                busy[int(place)] = process
        else:
            process = busy.pop(int(place))
            if fields["outcome"] != "unknown":
                processes.give_back(session, process)
        yield dump(_keywords(event | _call_event(fields, process, invokes=invokes)))


def _call_event(fields: Fields, process: int, *, invokes: bool) -> Fields:
    op, kind = fields["op"], "invoke" if invokes else _TYPES[fields["outcome"]]
    name = "items" if "items" in fields else _RESULTS.get(op, "version")
    value = fields.get(name) if op in {"write", "append"} or not invokes else None
    event: Fields = {"type": Keyword(kind), "process": process, "f": Keyword(_CALLS[op])}
    event["value"] = [fields["key"], value]
    if "session" in fields:
        event["session"] = fields["session"]
    if op == "final":
        event["final?"] = True
    more = {key: item for key, item in fields.items() if key not in _CORE or (key == "version" and name == "items")}
    if more and (not invokes or fields["end"] is None):
        event |= {key: more.pop(key) for key in ("node", "error") if key in more}
        if more:
            event["more"] = more
    return event


def _fault_event(fields: Fields, *, invokes: bool) -> Fields:
    kind = "start" if invokes else "stop"
    event = {"type": Keyword("info"), "process": Keyword("nemesis"), "f": Keyword(f"{kind}-fault")}
    return event | {"value": fields["fault"], "node": fields.get("node"), "start": fields["start"]}


def _keywords(event: Fields) -> Fields:
    return {Keyword(key): _keywords(item) if isinstance(item, dict) else item for key, item in event.items()}


class EdnRecords:
    """The records in a file that `write_edn` wrote, from its events."""

    def __init__(self) -> None:
        self._pairing = Pairing(exact_times=True)
        self._faults: dict[tuple[Any, ...], Record] = {}

    def take(self, line: int, event: Any) -> Iterator[Record]:  # noqa: ANN401 # any form
        """Yield the record that an event completes."""
        if isinstance(event, dict) and event.get("process") == "nemesis" and isinstance(event.get("f"), Keyword):
            yield from self._fault(line, event)
        step = self._pairing.take(line, event)
        if step is not None:
            yield record_of(_call_fields(step), step.line)

    def _fault(self, line: int, event: Fields) -> Iterator[Record]:
        fault, ended = (event.get("value"), event.get("node"), event.get("start")), event["f"] == "stop-fault"
        fields = {"op": "fault", **dict(zip(("fault", "node", "start"), fault, strict=True))}
        if ended:
            self._faults.pop(fault, None)
            yield record_of(fields | {"end": event.get("time")}, line)
        elif event["f"] == "start-fault":
            self._faults[fault] = record_of(fields | {"end": None}, line)

    def rest(self) -> Iterator[Record]:
        """Yield those of calls and faults that never ended."""
        yield from self._faults.values()
        for step in self._pairing.rest():
            yield record_of(_call_fields(step), step.line)


def _call_fields(step: Step) -> Fields:
    done = step.asked if step.end is None else step.answer
    if not is_pair(done) or type(done[0]) is not str:
        raise Unfit(step.line, "the value is no pair [key value]")
    key, value = done
    op = {"write": "write", "add": "append", "generate": "draw"}.get(
        step.f, "final" if step.more.get("final?") else "read"
    )
    name = "items" if op == "final" and isinstance(value, list) else _RESULTS.get(op, "version")
    fields: Fields = {"op": op, "key": key, "start": step.start, "end": step.end, "outcome": step.outcome}
    if value is not None:
        fields[name] = value
    for extra in ("session", "node", "error"):
        if step.more.get(extra) is not None:
            fields[extra] = step.more[extra]
    more: Fields = step.more.get("more", {})
    return fields | more


# JSON lines with porcupine's names.


def write_json_lines(header: Header, records: Iterable[Record], out: BinaryIO) -> None:
    """Write an operation a line with the fields of porcupine's Operation; one that never ended has no Return."""
    clients: dict[str, int] = {}
    out.write(encode_header(header) + b"\n")
    for record in records:
        if isinstance(record, Close | Fault):
            out.write(encode(record) + b"\n")
            continue
        fields = fields_of(record)
        session = fields.pop("session", None)
        given = {"op": fields.pop("op"), "key": fields.pop("key")}
        line: Fields = {"ClientId": clients.setdefault(session or "final reads", len(clients)), "Input": given}
        line |= {"Call": fields.pop("start"), "Output": {"outcome": fields.pop("outcome")}, "Return": fields.pop("end")}
        place = given if given["op"] in {"write", "append"} else line["Output"]
        place |= {name: fields.pop(name) for name in ("version", "item", "value", "items") if name in fields}
        if session is not None:
            line["Session"] = session
        if fields:
            line["Metadata"] = fields
        out.write(json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")


def json_line_record(line: Fields, number: int) -> Record:
    """Return the record in a line that `write_json_lines` wrote."""
    if "op" in line:
        return record_of(line, number)
    try:
        fields = {**line["Input"], **line["Output"], "start": line["Call"], "end": line["Return"]}
        if "Session" in line:
            fields["session"] = line["Session"]
        return record_of(fields | line.get("Metadata", {}), number)
    except (KeyError, TypeError):
        raise Unfit(number, "not an operation with Input, Call, Output and Return") from None


# CSV.

COLUMNS = ("session", "op", "key", "version", "start", "end", "outcome", "item", "value", "node", "error", "more")
_NUMBERS = {"version", "start", "end", "value"}
LONGEST_CELL = 32_000
"""Spreadsheets have at most 32,767 characters in a cell."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _cell(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula, without control characters."""
    shown = _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text.replace("\\", "\\\\"))
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


def _cell_text(cell: str) -> str:
    """Return the text of a cell."""
    return (
        json.loads('"' + cell.removeprefix("'").replace('"', '\\"') + '"')
        if "\\" in cell or '"' in cell
        else cell.removeprefix("'")
    )


def _cut(value: Any) -> Any:  # noqa: ANN401 # any field
    """Return a text that fits a cell; different ones stay different."""
    if isinstance(value, str) and len(value) > LONGEST_CELL // 8:
        return f"{value[:1000]}... ({len(value):,} characters, SHA-256 {hashlib.sha256(value.encode()).hexdigest()})"
    if isinstance(value, list):
        return [_cut(item) for item in value]
    return {key: _cut(item) for key, item in value.items()} if isinstance(value, dict) else value


def write_csv(header: Header, records: Iterable[Record], out: BinaryIO) -> None:
    """Write an operation a row, safe to open in a spreadsheet: no formulas, no control characters, long texts cut."""
    text = io.TextIOWrapper(out, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerow(["", "header", *[""] * (len(COLUMNS) - 3), _cell(encode_header(header).decode())])
    for record in records:
        writer.writerow(_row(_cut(fields_of(record))))
    text.flush()
    text.detach()


def _row(fields: Fields) -> list[object]:
    row: list[object] = []
    more = dict(fields)
    for column in COLUMNS[:-1]:
        value = more.get(column)
        if column in _NUMBERS:
            row.append("" if value is None else value)
            fits = value is not None or column not in more or column == "end"
        else:
            row.append(_cell(value) if isinstance(value, str) and value else "")
            fits = isinstance(value, str) and value != ""
        if fits:
            more.pop(column, None)
    return [*row, _cell(json.dumps(more, separators=(",", ":"), ensure_ascii=False)) if more else ""]


class CsvRows:
    """The rows of a CSV file as records: one that `write_csv` wrote, or one with the first seven columns."""

    def __init__(self, lines: Iterable[str]) -> None:
        csv.field_size_limit(LONGEST_LINE_BYTES)
        self._reader = csv.reader(lines, strict=True)
        self._names = self._next() or []
        unknown = [name for name in ("session", "op", "key", "start", "end", "outcome") if name not in self._names]
        if unknown:
            raise Unfit(1, f"no column {unknown[0]!r}; the first line names them: {','.join(COLUMNS[:7])}")
        row = self._next()
        self._exported = row is not None and dict(zip(self._names, row, strict=False)).get("op") == "header"
        self._first = row
        self.header: Fields | None = self._fields(row or [])["more"] if self._exported else None

    def _next(self) -> list[str] | None:
        try:
            return next(self._reader, None)
        except csv.Error as error:
            raise Unfit(self._reader.line_num, str(error)) from None

    def records(self) -> Iterator[tuple[int, Record]]:
        """Yield the records and their lines; raise `Unfit`."""
        row = self._next() if self._exported else self._first
        while row is not None:
            line = self._reader.line_num
            if row:
                fields = self._fields(row)
                yield line, record_of(fields | fields.pop("more", {}), line)
            row = self._next()

    def _fields(self, row: list[str]) -> Fields:
        line = self._reader.line_num
        if len(row) != len(self._names):
            raise Unfit(line, f"{len(row)} cells, but {len(self._names)} columns")
        cells = dict(zip(self._names, row, strict=True))
        fields: Fields = {"end": None} if not cells["end"] and cells["op"] not in {"header", "close"} else {}
        for name, cell in cells.items():
            if cell and name in COLUMNS:
                fields[name] = self._value(name, cell, line)
        return fields

    def _value(self, name: str, cell: str, line: int) -> Any:  # noqa: ANN401 # any field
        try:
            if name in _NUMBERS:
                return int(cell)
            text = _cell_text(cell) if self._exported else cell
            return json.loads(text) if name == "more" else text
        except ValueError:
            raise Unfit(line, f"invalid value for column {name!r}: {cell[:40]!r}") from None


# Parquet.


class MissingFormat(Exception):
    """A format whose package is not installed."""


def write_parquet(header: Header, records: Iterable[Record], out: BinaryIO) -> None:
    """Write the columns of the CSV, whole texts, with the header of the history in the file's metadata."""
    try:
        import pyarrow as pa  # noqa: PLC0415 # optional, 45 MB
        from pyarrow.parquet import ParquetWriter  # noqa: PLC0415
    except ImportError:
        raise MissingFormat("Parquet needs the package pyarrow: pip install 'stalewatch[parquet]'") from None
    kinds = {name: pa.int64() if name in _NUMBERS else pa.string() for name in COLUMNS}
    schema = pa.schema(list(kinds.items()), metadata={"stalewatch-history": encode_header(header)})
    with ParquetWriter(out, schema, compression="zstd") as writer:
        rows = map(_parquet_row, records)
        while batch := list(itertools.islice(rows, PARQUET_ROWS)):
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))


PARQUET_ROWS = 8192


def _parquet_row(record: Record) -> Fields:
    fields = fields_of(record)
    fits = {name: value for name, value in fields.items() if isinstance(value, int if name in _NUMBERS else str)}
    row = {name: fits.get(name) for name in COLUMNS}
    more = {
        name: value for name, value in fields.items() if name not in row or (name not in fits and value is not None)
    }
    row["more"] = json.dumps(more, separators=(",", ":")) if more else None
    return row


Writer = Callable[[Header, Iterable[Record], BinaryIO], None]


class ExportFormat(NamedTuple):
    """A format to export to."""

    write: Writer
    suffixes: tuple[str, ...]


TARGETS = {
    "edn": ExportFormat(write_edn, (".edn",)),
    "json": ExportFormat(write_json_lines, (".json", ".jsonl")),
    "csv": ExportFormat(write_csv, (".csv",)),
    "parquet": ExportFormat(write_parquet, (".parquet",)),
}
