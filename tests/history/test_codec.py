"""Both codecs, by msgspec and by json, write the same bytes and reject the same lines."""

import json
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stalewatch.history import codec, operation
from stalewatch.history.operation import FORMAT, FORMAT_VERSION, HAVE_MSGSPEC, Header
from tests.history import plain_codec
from tests.history.examples import examples
from tests.history.lines import CLOSE, append, as_bytes, draw, fault, final, header, read, write

FAST = codec
PLAIN, PLAIN_RECORDS = plain_codec.load()
RECORD_MODULES = {FAST: operation, PLAIN: PLAIN_RECORDS}
CODECS = {"msgspec": FAST, "json": PLAIN}

DEEP = 100_000
LONGEST = int("9" * 4300)

both = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)


def test_the_two_codecs_differ() -> None:
    assert HAVE_MSGSPEC
    assert FAST.encode is not PLAIN.encode
    assert not PLAIN.HAVE_MSGSPEC


# Encoding.

TEXTS = st.text(max_size=12) | st.sampled_from(
    ['"\\/\b\f\n\r\t', "\x00\x1f\x7f\x80", "\u2028\u2029\ufeff", "\U0001f600", ""]
)
NUMBERS = st.integers(-3, 9) | st.integers() | st.sampled_from([2**63, 2**64, -(2**63) - 1, LONGEST])
OUTCOMES = st.sampled_from(["ok", "fail", "unknown"])
DETAILS = {"node": TEXTS | st.none(), "error": TEXTS | st.none()}
SESSION = {"session": TEXTS, "key": TEXTS, "due": NUMBERS | st.none(), "owner": NUMBERS | st.none(), **DETAILS}
TIMES = {"start": NUMBERS, "end": NUMBERS, "outcome": OUTCOMES}
UNENDED = {**TIMES, "end": NUMBERS | st.none()}
SIBLINGS = st.lists(NUMBERS, max_size=3) | st.none()
ITEMS = st.lists(NUMBERS | TEXTS, max_size=3) | st.none()
DEPENDS = st.none() | st.fixed_dictionaries({"key": TEXTS, "version": NUMBERS, "cause": TEXTS | st.none()})

FIELDS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "write": {**SESSION, **UNENDED, "version": NUMBERS | st.none(), "superseded": st.booleans(), "depends": DEPENDS},
    "read": {**SESSION, **TIMES, "version": NUMBERS | st.none(), "siblings": SIBLINGS, "depends": DEPENDS},
    "append": {**SESSION, **UNENDED, "item": NUMBERS | TEXTS | st.none()},
    "draw": {**SESSION, **UNENDED, "value": NUMBERS | st.none()},
    "final": {**DETAILS, **TIMES, "key": TEXTS, "version": NUMBERS | st.none(), "siblings": SIBLINGS, "items": ITEMS},
    "fault": {"fault": TEXTS, "node": TEXTS | st.none(), "start": NUMBERS, "end": NUMBERS | st.none()},
    "close": {"clock_error_ns": NUMBERS | st.none()},
}
OPTIONS = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
HEADERS = st.fixed_dictionaries(
    {
        "format": TEXTS,
        "version": NUMBERS,
        "run": TEXTS,
        "worker": NUMBERS,
        "database": TEXTS,
        "horizon_s": NUMBERS | st.floats(allow_nan=False, allow_infinity=False),
        "clock_error_ns": NUMBERS | st.none(),
        "closes": st.booleans(),
        "registers": st.sampled_from(("growing", "overwriting")),
        "options": st.dictionaries(TEXTS, OPTIONS, max_size=3) | st.none(),
    }
)


def tagged(op: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"op": st.just(op), **FIELDS[op]})


RECORDS = st.one_of([tagged(op) for op in FIELDS])


def built(codec: ModuleType, fields: dict[str, Any]) -> Any:
    """Return a record with these fields, without decoding."""
    values = {name: value for name, value in fields.items() if name != "op"}
    if values.get("depends") is not None:
        values["depends"] = RECORD_MODULES[codec].Depends(**values["depends"])
    return codec.RECORD_TYPES[fields["op"]](**values)


@examples(120)
@given(RECORDS)
def test_both_codecs_encode_a_record_to_the_same_bytes(fields: dict[str, Any]) -> None:
    line = FAST.encode(built(FAST, fields))
    assert PLAIN.encode(built(PLAIN, fields)) == line
    assert b"\n" not in line


@examples(120)
@given(HEADERS)
def test_both_codecs_encode_a_header_to_the_same_bytes(fields: dict[str, Any]) -> None:
    line = FAST.encode_header(Header(**fields))
    assert PLAIN.encode_header(PLAIN_RECORDS.Header(**fields)) == line
    assert json.loads(line) == fields


@both
@examples(150)
@given(fields=RECORDS)
def test_a_record_survives_a_round_trip(codec: ModuleType, fields: dict[str, Any]) -> None:
    record = built(codec, fields)
    assert codec.decode(codec.encode(record)) == record
    assert codec.decode(as_bytes(fields)) == record


@both
@examples(120)
@given(fields=HEADERS)
def test_a_header_survives_a_round_trip(codec: ModuleType, fields: dict[str, Any]) -> None:
    made = RECORD_MODULES[codec].Header(**fields)
    assert codec.decode_header(codec.encode_header(made)) == made


@both
def test_default_fields_are_omitted_but_a_null_end_is_written(codec: ModuleType) -> None:
    never_ended = codec.RECORD_TYPES["write"](session="s", key="k", start=1, end=None, outcome="unknown")
    line = b'{"op":"write","session":"s","key":"k","start":1,"end":null,"outcome":"unknown"}'
    assert codec.encode(never_ended) == line
    empty = codec.RECORD_TYPES["read"](session="s", key="k", version=0, siblings=[], start=1, end=2, outcome="ok")
    line = b'{"op":"read","session":"s","key":"k","version":0,"start":1,"end":2,"outcome":"ok","siblings":[]}'
    assert codec.encode(empty) == line


@both
@pytest.mark.parametrize("options", [{"x": float("nan")}, {"x": float("inf")}, {"x": "\ud800"}])
def test_a_header_that_could_not_be_read_back_is_not_written(codec: ModuleType, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"float values|surrogates"):
        codec.encode_header(RECORD_MODULES[codec].Header(format=FORMAT, version=FORMAT_VERSION, options=options))


# Decoding: valid records.

READ = b'{"op":"read","session":"s","key":"k","version":1,"start":1,"end":2,"outcome":"ok"'


def accepts(codec: ModuleType, line: bytes) -> bool:
    return answer(codec, line) is not None


def answer(codec: ModuleType, line: bytes) -> bytes | None:
    """Return the record in the line as encoded again, or None if there is none; let other errors pass."""
    try:
        record = codec.decode(line)
    except codec.MalformedLine:
        return None
    written: bytes = codec.encode(record)
    return written


def header_answer(codec: ModuleType, line: bytes) -> bytes | None:
    try:
        record = codec.decode_header(line)
    except codec.MalformedLine:
        return None
    written: bytes = codec.encode_header(record)
    return written


LEGAL_FIELDS = {
    "an unknown field": b'"rtt_ms":0.5',
    "an unknown object": b'"more":{"op":"write","end":[null,{}]}',
    "an unknown field named like a class option": b'"tag":"x"',
    "an unknown number too large for a float": b'"x":1e999',
    "an unknown number of five thousand digits": b'"x":' + b"9" * 5000,
    "a node outside the basic multilingual plane": '"node":"\U0001f600"'.encode(),
    "an escaped pair of surrogates": rb'"node":"\ud83d\ude00"',
    "an escaped slash and NUL": rb'"node":"\/\u0000"',
    "a backslash before what looks like a surrogate": rb'"node":"\\ud800"',
    "the same field again": b'"version":2',
    "the same op again": b'"op":"read"',
    "no siblings": b'"siblings":[]',
    "null siblings": b'"siblings":null',
    "a null node": b'"node":null',
    "a dependency with more in it": b'"depends":{"key":"k","version":1,"cause":null,"x":1}',
    "white space": b' "node" :\t"b" ',
}

ILLEGAL_FIELDS = {
    "a lone surrogate": rb'"node":"\ud800"',
    "a lone surrogate in an unknown field": rb'"x":"\udc00"',
    "a lone surrogate in the name of an unknown field": rb'"\udc00":1',
    "surrogates in the wrong order": rb'"node":"\ude00\ud83d"',
    "a surrogate as bytes": b'"node":"\xed\xa0\x80"',
    "a byte that is not UTF-8": b'"node":"\xff"',
    "a byte that is not UTF-8 in an unknown field": b'"x":"\xff"',
    "a byte that is not UTF-8 in the name of an unknown field": b'"\xff":1',
    "a raw control character": b'"node":"\x01"',
    "a raw control character in an unknown field": b'"x":"\t"',
    "an invalid escape": rb'"x":"\x"',
    "NaN": b'"x":NaN',
    "infinity": b'"x":-Infinity',
    "a number with a leading zero": b'"x":01',
    "a number that starts with a point": b'"x":.5',
    "an extra comma": b'"x":1,',
    "an extra value": b'"x":1 2',
    "a name without a value": b'"x"',
    "a second, different op": b'"op":"write"',
    "a wrong version before the right one": b'"version":"x","version":2',
    "a node that is a number": b'"node":1',
    "siblings that contain null": b'"siblings":[null]',
    "siblings that are floats": b'"siblings":[1.0]',
    "siblings that are bools": b'"siblings":[true]',
    "siblings that are an object": b'"siblings":{}',
    "a dependency without a version": b'"depends":{"key":"k"}',
    "a dependency that is a list": b'"depends":[]',
    "an owner that is a bool": b'"owner":false',
    "a due time that is a float": b'"due":1.5',
    "deep nesting": b'"x":' + b"[" * DEEP,
    "deep nesting that ends": b'"x":' + b"[" * DEEP + b"]" * DEEP,
    "deep nesting in a known field": b'"siblings":' + b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'"x":' + b'{"x":' * DEEP + b"1" + b"}" * DEEP,
}


@both
@pytest.mark.parametrize("field", LEGAL_FIELDS.values(), ids=LEGAL_FIELDS)
def test_a_read_may_have(codec: ModuleType, field: bytes) -> None:
    assert accepts(codec, READ + b"," + field + b"}")


@both
@pytest.mark.parametrize("field", ILLEGAL_FIELDS.values(), ids=ILLEGAL_FIELDS)
def test_a_read_may_not_have(codec: ModuleType, field: bytes) -> None:
    assert not accepts(codec, READ + b"," + field + b"}")


VERSIONS = {
    b"0": True,
    b"-0": True,
    b"18446744073709551616": True,
    b"9" * 4300: True,
    b"-" + b"9" * 4300: False,
    b"9" * 4301: False,
    b"1.0": False,
    b"1e3": False,
    b"1e999": False,
    b"-0.0": False,
    b"true": False,
    b'"1"': False,
    b"null": True,
    b"[1]": False,
}


@both
@pytest.mark.parametrize(("version", "legal"), VERSIONS.items(), ids=lambda value: str(value)[:20])
def test_a_version_is_written_as_an_integer(codec: ModuleType, version: bytes, legal: bool) -> None:  # noqa: FBT001 # a column of the table
    assert accepts(codec, READ.replace(b'"version":1', b'"version":' + version) + b"}") is legal


NOT_RECORDS = {
    "nothing": b"",
    "white space": b" \t",
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "an empty object": b"{}",
    "an op without the rest": b'{"op":"read"}',
    "an op that is a number": b'{"op":1}',
    "an op that is null": b'{"op":null}',
    "an op that is a list": b'{"op":["read"]}',
    "an unknown op": READ.replace(b'"read"', b'"cas"') + b"}",
    "an op in capitals": READ.replace(b'"read"', b'"Read"') + b"}",
    "a truncated line": READ,
    "trailing text": READ + b"} x",
    "two records": READ + b"}" + READ + b"}",
    "a byte order mark": b"\xef\xbb\xbf" + READ + b"}",
    "another encoding": (READ + b"}").decode().encode("utf-16"),
    "a NUL": b"\x00",
    "many brackets": b"[" * DEEP,
    "many objects": b'{"a":' * DEEP,
    "single quotes": (READ + b"}").replace(b'"', b"'"),
    "a header": as_bytes(header()),
}


@both
@pytest.mark.parametrize("line", NOT_RECORDS.values(), ids=NOT_RECORDS)
def test_a_line_holds_no_record_if_it_is(codec: ModuleType, line: bytes) -> None:
    assert not accepts(codec, line)


@both
@pytest.mark.parametrize("fold", [bytes, lambda line: line + b"\r", lambda line: b" " + line.replace(b",", b" ,\t")])
def test_white_space_in_a_record_is_ignored(codec: ModuleType, fold: Callable[[bytes], bytes]) -> None:
    assert answer(codec, fold(READ + b"}")) == READ + b"}"


COMPLETE: dict[str, dict[str, Any]] = {
    "write": {**write(1, 1, 2), "superseded": True, "depends": {"key": "k", "version": 1}},
    "read": {**read(1, 1, 2), "siblings": [2]},
    "append": append("i", 1, 2),
    "draw": draw(1, 1, 2),
    "final": {**final(1, 1, 2), "items": ["i", 1]},
    "fault": fault(1, 2),
    "close": CLOSE,
}
OPTIONAL = {"version", "superseded", "depends", "siblings", "item", "items", "value", "node"}
MAY_BE_NULL = {"write": {"end"}, "append": {"end"}, "draw": {"end"}, "fault": {"end"}, "close": {"clock_error_ns"}}
EVERY_FIELD = [(op, name) for op, fields in COMPLETE.items() for name in fields if name != "op"]


@both
@pytest.mark.parametrize(("op", "name"), EVERY_FIELD)
def test_only_optional_fields_may_be_missing(codec: ModuleType, op: str, name: str) -> None:
    assert accepts(codec, as_bytes(COMPLETE[op]))
    fields = {field: value for field, value in COMPLETE[op].items() if field != name}
    assert accepts(codec, as_bytes(fields)) is (name in OPTIONAL)


@both
@pytest.mark.parametrize(("op", "name"), EVERY_FIELD)
def test_only_nullable_fields_may_be_null(codec: ModuleType, op: str, name: str) -> None:
    legal = name in MAY_BE_NULL.get(op, set()) | OPTIONAL
    assert accepts(codec, as_bytes({**COMPLETE[op], name: None})) is legal


@both
@pytest.mark.parametrize(("op", "name"), EVERY_FIELD)
def test_no_field_may_be_a_float_or_a_wrong_string(codec: ModuleType, op: str, name: str) -> None:
    assert not accepts(codec, as_bytes({**COMPLETE[op], name: 1.5}))
    if name not in {"session", "key", "item", "node", "fault"}:
        assert not accepts(codec, as_bytes({**COMPLETE[op], name: "x"}))


@both
@pytest.mark.parametrize(("op", "name"), EVERY_FIELD)
def test_the_error_names_the_field(codec: ModuleType, op: str, name: str) -> None:
    with pytest.raises(codec.MalformedLine, match=name):
        codec.decode(as_bytes({**COMPLETE[op], name: 1.5}))


# Decoding: both codecs agree on any line.

VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS | st.floats() | OUTCOMES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
NAMES = st.sampled_from(sorted({name for fields in FIELDS.values() for name in fields})) | TEXTS


@examples(500)
@given(RECORDS, st.dictionaries(NAMES, VALUES, max_size=2), st.sets(NAMES, max_size=1))
def test_both_codecs_accept_the_same_objects(record: dict[str, Any], more: dict[str, Any], missing: set[str]) -> None:
    fields = {name: value for name, value in {**record, **more}.items() if name not in missing}
    for line in (as_bytes(fields), json.dumps(fields, ensure_ascii=False).encode()):
        assert answer(PLAIN, line) == answer(FAST, line)


@examples(150)
@given(HEADERS, st.dictionaries(st.sampled_from(sorted(header())) | TEXTS, VALUES, max_size=2), st.booleans())
def test_both_codecs_accept_the_same_headers(fields: dict[str, Any], more: dict[str, Any], complete: bool) -> None:  # noqa: FBT001 # drawn
    line = as_bytes({**fields, **more} if complete else more)
    assert header_answer(PLAIN, line) == header_answer(FAST, line)


MARKS = (*'{}[]:,"-.e0/ \r\x00\x7f', "null", "NaN", "true", "1.0", "1e5", '"x":1,', "\\", "\\u", "\\ud800", "\\n")
PIECES = st.sampled_from([b"", b"\xff", b"\xc3", b"\xef\xbb\xbf", *(mark.encode() for mark in MARKS)])
EDITS = st.lists(st.tuples(st.integers(0, 160), st.integers(0, 3), PIECES | st.binary(max_size=2)), max_size=3)


@examples(500)
@given(RECORDS | HEADERS, EDITS)
def test_both_codecs_accept_the_same_mangled_lines(fields: dict[str, Any], edits: list[tuple[int, int, bytes]]) -> None:
    line = as_bytes(fields)
    for place, length, piece in edits:
        line = line[:place] + piece + line[place + length :]
    assert answer(PLAIN, line) == answer(FAST, line)
    assert header_answer(PLAIN, line) == header_answer(FAST, line)


@both
@pytest.mark.parametrize("nest", [(b"[", b"]"), (b'{"a":', b"}")], ids=["lists", "objects"])
def test_deep_nesting_is_accepted_or_rejected_but_never_crashes(codec: ModuleType, nest: tuple[bytes, bytes]) -> None:
    for depth in range(850, 1010, 8):
        value = nest[0] * depth + b"1" + nest[1] * depth
        for field in (b'"x":', b'"version":', b'"siblings":', b'"depends":'):
            answer(codec, READ + b"," + field + value + b"}")
        with suppress(codec.MalformedLine):
            codec.decode_header(as_bytes(header())[:-1] + b',"options":' + value + b"}")
