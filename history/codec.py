"""One line of a history file to a record and back: msgspec where installed, else json, with the same bytes."""

import dataclasses
import json
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from history.operation import Append, Close, Draw, Fault, Final, Header, Read, Record, Write
from history.record import HAVE_MSGSPEC

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


T = TypeVar("T")

if HAVE_MSGSPEC:
    import msgspec

    _decode_record: Callable[[bytes], Record] = msgspec.json.Decoder(Record).decode
    _decode_header = msgspec.json.Decoder(Header).decode
    _to_json = msgspec.json.Encoder().encode

    def decode(line: bytes) -> Record:
        """Return the record that the line holds, or raise `Malformed`."""
        try:
            return _decode_record(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed(str(error)) from None

    def decode_header(line: bytes) -> Header:
        """Return the header that the line holds, or raise `Malformed`."""
        try:
            return _decode_header(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed(str(error)) from None

    def encode(record: Record | Header) -> bytes:
        """Return the record as one line of JSON, without its newline."""
        return _to_json(record)

else:

    def decode(line: bytes) -> Record:
        """Return the record that the line holds, or raise `Malformed`."""
        fields = _json_object(line)
        kind = RECORD_TYPES.get(str(fields.get("op", "")))
        if kind is None:
            raise Malformed(f"unknown op {fields.get('op')!r}" if "op" in fields else "missing field `op`")
        return _build(kind, fields)

    def decode_header(line: bytes) -> Header:
        """Return the header that the line holds, or raise `Malformed`."""
        return _build(Header, _json_object(line))

    def encode(record: Record | Header) -> bytes:
        """Return the record as one line of JSON, without its newline."""
        return json.dumps(_fields(record), separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _refuse(constant: str) -> NoReturn:
    raise Malformed(f"{constant} is no JSON")


def _json_object(line: bytes) -> dict[str, Any]:
    try:
        text = line.decode()
        fields = json.loads(text, parse_constant=_refuse)
        if "\\u" in text:
            json.dumps(fields, ensure_ascii=False).encode()  # a lone surrogate could not be written again
    except Malformed:
        raise
    except (ValueError, RecursionError) as error:
        raise Malformed(str(error)) from None
    if not isinstance(fields, dict):
        raise Malformed("not a JSON object")
    return fields


def _build(kind: type[T], fields: Mapping[str, Any]) -> T:
    """Return a record of that kind, every field checked against its annotation; unknown fields are ignored."""
    given = {name: _fit(fields[name], hint, name) for name, hint in get_type_hints(kind).items() if name in fields}
    try:
        return kind(**given)
    except TypeError as error:
        raise Malformed(str(error)) from None


def _fit(value: object, hint: object, name: str) -> object:
    """Return the value where it fits the annotation, nested records built, or raise `Malformed`."""
    origin, choices = get_origin(hint), get_args(hint)
    if origin is types.UnionType:
        return _fit_any(value, choices, name)
    if origin is Literal and value in choices:
        return value
    if origin is list and isinstance(value, list):
        return [_fit(item, choices[0], name) for item in value]
    if origin is dict and isinstance(value, dict):
        return value
    if isinstance(hint, type) and origin is None:
        if type(value) is hint:  # not isinstance: True is no version
            return value
        if dataclasses.is_dataclass(hint) and isinstance(value, dict):
            return _build(hint, value)
    raise Malformed(f"field `{name}` cannot be {json.dumps(value)[:40]}")


def _fit_any(value: object, choices: tuple[object, ...], name: str) -> object:
    for choice in choices:
        try:
            return _fit(value, choice, name)
        except Malformed:
            continue
    raise Malformed(f"field `{name}` cannot be {json.dumps(value)[:40]}")


def _fields(record: Any) -> dict[str, Any]:  # noqa: ANN401 # any dataclass
    """Return the record's fields as msgspec would write them: the tag first, fields at their default left out."""
    fields: dict[str, Any] = {} if record.tag is None else {"op": record.tag}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if isinstance(record, Header) or field.default is dataclasses.MISSING or value != field.default:
            fields[field.name] = _fields(value) if dataclasses.is_dataclass(value) else value
    return fields
