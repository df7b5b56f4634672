"""One line of a history file to a record and back: msgspec where installed, else json, with the same bytes."""

import dataclasses
import json
import math
import types
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, NoReturn, TypeVar, cast, get_args, get_origin, get_type_hints

from stalewatch.history.operation import Append, Close, Draw, Fault, Final, Header, Read, Record, Write
from stalewatch.history.record import HAVE_MSGSPEC

RECORD_TYPES: dict[str, type[Record]] = {
    "write": Write,
    "read": Read,
    "append": Append,
    "draw": Draw,
    "final": Final,
    "fault": Fault,
    "close": Close,
}


class Malformed(ValueError):
    """A line that is no record: the message says what is wrong with it."""


def encode_header(header: Header) -> bytes:
    """Return the header as one line of JSON; always by json, for msgspec writes floats in another way (1e16, 1e+16)."""
    return _json({name: getattr(header, name) for name in Header.__annotations__})


def _json(fields: Mapping[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


T = TypeVar("T")

if HAVE_MSGSPEC:
    import msgspec

    _decode_record: Callable[[bytes], Record] = msgspec.json.Decoder(Record).decode
    _decode_header = msgspec.json.Decoder(Header).decode
    _encoder = msgspec.json.Encoder()

    def decode(line: bytes) -> Record:
        """Return the record that the line holds, or raise `Malformed`."""
        try:
            if not line.isascii():
                line.decode()  # msgspec leaves unknown fields unread
            return _decode_record(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed(str(error)) from None

    def decode_header(line: bytes) -> Header:
        """Return the header that the line holds, or raise `Malformed`."""
        try:
            line.decode()
            return _decode_header(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed(str(error)) from None

    def encode(record: Record) -> bytes:
        """Return the record as one line of JSON, without its newline."""
        return _encoder.encode(record)

    def encode_lines(records: Sequence[Record]) -> bytes:
        """Return the records as lines of JSON, each with its newline."""
        return _encoder.encode_lines(records)

else:

    def decode(line: bytes) -> Record:
        """Return the record that the line holds, or raise `Malformed`."""
        return _parse(line, lambda fields: _build(_record_type(fields), fields))

    def decode_header(line: bytes) -> Header:
        """Return the header that the line holds, or raise `Malformed`."""
        return _parse(line, lambda fields: _build(Header, fields))

    def encode(record: Record) -> bytes:
        """Return the record as one line of JSON, without its newline."""
        return _json(_fields(record))

    def encode_lines(records: Sequence[Record]) -> bytes:
        """Return the records as lines of JSON, each with its newline."""
        return b"".join([encode(record) + b"\n" for record in records])


LONGEST_INTEGER = 4300  # characters: where msgspec stops


class _Object(dict[str, Any]):
    """A JSON object that remembers fields given twice: each of them must fit, as with msgspec."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def _parse(line: bytes, build: Callable[[_Object], T]) -> T:
    try:
        return build(_object(line))
    except RecursionError:
        raise Malformed("nested too deeply") from None


def _object(line: bytes) -> _Object:
    try:
        text = line.decode()
        fields = json.loads(text, object_pairs_hook=_Object, parse_int=_integer, parse_constant=_refuse)
        if "\\u" in text:
            json.dumps(fields, ensure_ascii=False).encode()  # a lone surrogate could not be written again
    except Malformed:
        raise
    except ValueError as error:
        raise Malformed(str(error)) from None
    if not isinstance(fields, _Object):
        raise Malformed("not a JSON object")
    return fields


def _integer(digits: str) -> int | float:
    """Return the integer, or infinity, which no field takes, where it is too long to be one."""
    return int(digits) if len(digits) <= LONGEST_INTEGER else math.inf


def _refuse(constant: str) -> NoReturn:
    raise Malformed(f"{constant} is no JSON")


def _record_type(fields: _Object) -> type[Record]:
    tags = [value for name, value in fields.pairs if name == "op"]
    if not tags:
        raise Malformed("missing field `op`")
    for tag in tags:
        if not isinstance(tag, str) or tag not in RECORD_TYPES or tag != tags[0]:
            raise Malformed(f"unknown op {json.dumps(tag)[:40]}")
    return RECORD_TYPES[tags[0]]


def _build(kind: type[T], fields: _Object) -> T:
    """Return a record of that kind, every field checked against its annotation; unknown fields are ignored."""
    hints, required = _annotations(cast("Any", kind))
    given = {name: _fit(value, hints[name], name) for name, value in fields.pairs if name in hints}
    for name in required:
        if name not in given:
            raise Malformed(f"missing field `{name}`")
    return kind(**given)


@cache
def _annotations(kind: Any) -> tuple[dict[str, Any], list[str]]:  # noqa: ANN401 # any dataclass
    """Return the annotation of each field, and the fields that must be given."""
    hints, fields = get_type_hints(kind), dataclasses.fields(kind)
    required = [field.name for field in fields if field.default is dataclasses.MISSING]
    return {field.name: hints[field.name] for field in fields}, required


def _fit(value: object, hint: object, name: str) -> object:
    """Return the value where it fits the annotation, nested records built, or raise `Malformed`."""
    origin, choices = get_origin(hint), get_args(hint)
    if origin is types.UnionType:
        return _fit_any(value, choices, name)
    if origin is Literal and value in choices:
        return value
    if origin is list and isinstance(value, list):
        return [_fit(item, choices[0], name) for item in value]
    if origin is dict and isinstance(value, _Object) and _finite(value):
        return value
    if isinstance(hint, type) and origin is None:
        if type(value) is hint and _finite(value):  # not isinstance: True is no version
            return value
        if dataclasses.is_dataclass(hint) and isinstance(value, _Object):
            return _build(hint, value)
    raise Malformed(f"field `{name}` cannot be {json.dumps(value)[:40]}")


def _fit_any(value: object, choices: tuple[object, ...], name: str) -> object:
    for choice in choices:
        try:
            return _fit(value, choice, name)
        except Malformed:
            continue
    raise Malformed(f"field `{name}` cannot be {json.dumps(value)[:40]}")


def _finite(value: object) -> bool:
    """Tell whether no number in the value is too large for a float."""
    if isinstance(value, _Object):
        return all(_finite(item) for _, item in value.pairs)
    if isinstance(value, list):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _fields(record: Any) -> dict[str, Any]:  # noqa: ANN401 # any dataclass
    """Return the record's fields as msgspec would write them: the tag first, fields at their default left out."""
    fields: dict[str, Any] = {} if record.tag is None else {"op": record.tag}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if field.default is dataclasses.MISSING or value != field.default:
            fields[field.name] = _fields(value) if dataclasses.is_dataclass(value) else value
    return fields
