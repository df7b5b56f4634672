"""Encoding of records as lines of JSON and back, by msgspec if it is installed, else by json, with the same bytes."""

import dataclasses
import json
import math
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Literal, NoReturn, TypeVar, cast, get_args, get_origin, get_type_hints

from stalewatch.history.operation import HAVE_MSGSPEC, Header, Record

RECORD_TYPES: dict[str, type[Record]] = {record.__name__.lower(): record for record in get_args(Record)}

T = TypeVar("T")


class MalformedLine(ValueError):
    """A line that holds no record; the message says what is wrong with it."""


def encode_header(header: Header) -> bytes:
    """Return the header as one line of JSON; always by json, since msgspec formats floats differently (1e16, 1e+16)."""
    return _json({name: getattr(header, name) for name in Header.__annotations__})


def _json(fields: Mapping[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


if HAVE_MSGSPEC:
    import msgspec

    _decoder = msgspec.json.Decoder(Record)
    _decode_record: Callable[[bytes], Record] = _decoder.decode
    _decode_header = msgspec.json.Decoder(Header).decode
    _encoder = msgspec.json.Encoder()

    def decode(line: bytes) -> Record:
        """Return the record in the line; raise `MalformedLine` if there is none."""
        try:
            if not line.isascii():
                line.decode()  # msgspec does not look into unknown fields
            return _decode_record(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedLine(str(error)) from None

    def decode_lines(block: bytes) -> list[Record]:
        """Return the records in lines, the last one without its newline; raise `MalformedLine` if one may hold none.

        msgspec takes a newline for any other space. But where ``}`` ends a line and ``{`` begins the next one, no value
        goes on: JSON wants a comma or a colon there. So each line holds one value or more, and one if the number of
        values is that of the lines.
        """
        try:
            if not block.isascii():
                block.decode()
            records = _decoder.decode_lines(block)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedLine(str(error)) from None
        if not len(records) == block.count(b"\n") + 1 == block.count(b"}\n{") + block.startswith(b"{"):
            raise MalformedLine("not one record on each line")
        return records

    def decode_header(line: bytes) -> Header:
        """Return the header in the line; raise `MalformedLine` if there is none."""
        try:
            line.decode()
            return _decode_header(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedLine(str(error)) from None

    def encode(record: Record) -> bytes:
        """Return the record as one line of JSON, without its newline."""
        return _encoder.encode(record)

    def encode_lines(records: Sequence[Record]) -> bytes:
        """Return the records as lines of JSON, each with its newline."""
        return _encoder.encode_lines(records)

else:

    def decode_lines(block: bytes) -> list[Record]:
        """Return the records in lines, the last one without its newline; raise `MalformedLine` if one holds none."""
        return [decode(line) for line in block.split(b"\n")]

    def decode(line: bytes) -> Record:
        """Return the record in the line; raise `MalformedLine` if there is none."""
        return _parse(line, lambda fields: _build(_record_type(fields), fields))

    def decode_header(line: bytes) -> Header:
        """Return the header in the line; raise `MalformedLine` if there is none."""
        return _parse(line, lambda fields: _build(Header, fields))

    def encode(record: Record) -> bytes:
        """Return the record as one line of JSON, without its newline."""
        return _json(_fields(record))

    def encode_lines(records: Sequence[Record]) -> bytes:
        """Return the records as lines of JSON, each with its newline."""
        return b"".join([encode(record) + b"\n" for record in records])


LONGEST_INTEGER = 4300
"""Most characters of an integer; msgspec has the same limit."""


class _Object(dict[str, Any]):
    """A JSON object that keeps repeated fields, since msgspec checks every occurrence."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def _parse(line: bytes, build: Callable[[_Object], T]) -> T:
    try:
        return build(_object(line))
    except RecursionError:
        raise MalformedLine("nested too deeply") from None


def _object(line: bytes) -> _Object:
    try:
        text = line.decode()
        fields = json.loads(text, object_pairs_hook=_Object, parse_int=_integer, parse_constant=_refuse)
        if "\\u" in text:
            json.dumps(fields, ensure_ascii=False).encode()  # fails for a lone surrogate, which cannot be written again
    except MalformedLine:
        raise
    except ValueError as error:
        raise MalformedLine(str(error)) from None
    if not isinstance(fields, _Object):
        raise MalformedLine("not a JSON object")
    return fields


def _integer(digits: str) -> int | float:
    """Return the integer; if it is too long, return infinity, which no field accepts."""
    return int(digits) if len(digits) <= LONGEST_INTEGER else math.inf


def _refuse(constant: str) -> NoReturn:
    raise MalformedLine(f"{constant} is not valid JSON")


def _record_type(fields: _Object) -> type[Record]:
    tags = [value for name, value in fields.pairs if name == "op"]
    if not tags:
        raise MalformedLine("missing field `op`")
    for tag in tags:
        if not isinstance(tag, str) or tag not in RECORD_TYPES or tag != tags[0]:
            raise MalformedLine(f"unknown `op` {json.dumps(tag)[:40]}")
    return RECORD_TYPES[tags[0]]


def _build(record_type: type[T], fields: _Object) -> T:
    """Return a record of that type, every field checked against its annotation; unknown fields are ignored."""
    hints, required = _annotations(cast("Any", record_type))
    given = {name: _checked(value, hints[name], name) for name, value in fields.pairs if name in hints}
    for name in required:
        if name not in given:
            raise MalformedLine(f"missing field `{name}`")
    return record_type(**given)


@cache
def _annotations(record_type: Any) -> tuple[dict[str, Any], list[str]]:  # noqa: ANN401 # any dataclass
    """Return the annotation of each field, and the names of the required fields."""
    hints, fields = get_type_hints(record_type), dataclasses.fields(record_type)
    required = [field.name for field in fields if field.default is dataclasses.MISSING]
    return {field.name: hints[field.name] for field in fields}, required


def _checked(value: object, hint: object, name: str) -> object:
    """Return the value if it fits the annotation, with nested records built; raise `MalformedLine` if it does not."""
    origin, choices = get_origin(hint), get_args(hint)
    if origin is types.UnionType:
        for choice in choices:
            with suppress(MalformedLine):
                return _checked(value, choice, name)
    elif origin is list and isinstance(value, list):
        return [_checked(item, choices[0], name) for item in value]
    elif dataclasses.is_dataclass(hint) and isinstance(value, _Object):
        return _build(cast("type", hint), value)
    elif (
        (origin is Literal and value in choices)
        or (origin is dict and isinstance(value, _Object) and _finite(value))
        or (type(value) is hint and _finite(value))  # not isinstance: True is no version
    ):
        return value
    raise MalformedLine(f"invalid value for field `{name}`: {json.dumps(value)[:40]}")


def _finite(value: object) -> bool:
    """Return whether every number in the value fits a float."""
    if isinstance(value, _Object):
        return all(_finite(item) for _, item in value.pairs)
    if isinstance(value, list):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _fields(record: Any) -> dict[str, Any]:  # noqa: ANN401 # any dataclass
    """Return the fields that msgspec would write: the tag first, fields that have their default left out."""
    fields: dict[str, Any] = {} if record.tag is None else {"op": record.tag}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if field.default is dataclasses.MISSING or value != field.default:
            fields[field.name] = _fields(value) if dataclasses.is_dataclass(value) else value
    return fields
