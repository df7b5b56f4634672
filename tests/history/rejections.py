"""For every rule of the history format: the smallest file that breaks it, and the nearest valid one."""

from typing import Any, NamedTuple

from tests.history.lines import CLOSE, Line, append, draw, fault, final, header, read, without, write


class Rejection(NamedTuple):
    """Lines rejected at line `at` (the header is line 1) with a message that contains `message`, and a valid twin."""

    rule: str
    at: int
    message: str
    invalid: list[Line]
    valid: list[Line]


ME = {"session": "s2"}
UNKNOWN = {"outcome": "unknown"}
FAIL = {"outcome": "fail"}

HEADER_LINES = [
    Rejection("an operation is no header", 1, "no history header", [write(1, 1, 2)], [header(), write(1, 1, 2)]),
    Rejection("a close is no header", 1, "no history header", [CLOSE], [header(), CLOSE]),
    Rejection("a header is JSON", 1, "no history header", [b"stalewatch-history"], [header(), CLOSE]),
    Rejection("a header is an object", 1, "no history header", [b"[]", CLOSE], [header(), CLOSE]),
    Rejection("a header is the first line", 1, "no history header", [b"", header(), CLOSE], [header(), CLOSE]),
    Rejection("no byte order mark precedes a header", 1, "no history header", [b"\xef\xbb\xbf{}"], [header(), CLOSE]),
    Rejection(
        "a header names its format",
        1,
        "missing required field `format`",
        [without(header(), "format"), CLOSE],
        [header(), CLOSE],
    ),
    Rejection(
        "the format is known",
        1,
        "format 'elle-history' version 1 is not supported; expected 'stalewatch-history' version 1",
        [header(format="elle-history"), CLOSE],
        [header(), CLOSE],
    ),
    Rejection(
        "the version of the format is known",
        1,
        "version 2 is not supported",
        [header(version=2), CLOSE],
        [header(), CLOSE],
    ),
    Rejection("a header gives its format version", 1, "`version`", [without(header(), "version")], [header(), CLOSE]),
    Rejection(
        "a header needs only format and version",
        1,
        "`version`",
        [b'{"format":"stalewatch-history"}'],
        [b'{"format":"stalewatch-history","version":1}', write(1, 1, 2)],
    ),
]


def header_field(name: str, invalid: object, valid: object) -> Rejection:
    rule = f"header: {name} may be {valid!r}, not {invalid!r}"
    return Rejection(rule, 1, name, [header(**{name: invalid}), CLOSE], [header(**{name: valid}), CLOSE])


HEADER_FIELDS = [
    header_field("version", "1", 1),
    header_field("version", True, 1),  # noqa: FBT003 # an invalid value
    header_field("version", 1.0, 1),
    header_field("run", None, ""),
    header_field("worker", "0", 7),
    header_field("worker", None, 0),
    header_field("database", 1, "anything"),
    header_field("horizon_s", "120", 0.5),
    header_field("horizon_s", None, 10**400),
    header_field("horizon_s", -1, 0),
    header_field("clock_error_ns", 1.5, None),
    header_field("clock_error_ns", -1, 0),
    header_field("closes", 1, True),  # noqa: FBT003 # a valid value
    header_field("registers", "shrinking", "overwriting"),
    header_field("registers", None, "growing"),
    header_field("options", [], None),
    header_field("options", "w=1", {"w": [1, None, {"j": True}]}),
]

LINES = [
    Rejection("an op is known", 3, "cas", [write(1, 1, 2), {**write(2, 3, 4), "op": "cas"}], [write(1, 1, 2)]),
    Rejection(
        "an op is present, unknown fields are ignored",
        2,
        "`op`",
        [without(write(1, 1, 2), "op")],
        [write(1, 1, 2, operation="write", rtt_ms=0.5, error=None)],
    ),
    Rejection("there is only one header", 3, "`op`", [write(1, 1, 2), header()], [write(1, 1, 2)]),
    Rejection("a line is not empty", 3, "", [write(1, 1, 2), b"", CLOSE], [write(1, 1, 2), CLOSE]),
    Rejection("no empty line at the end", 3, "", [CLOSE, b""], [CLOSE]),
    Rejection("a line in the middle is complete", 2, "", [b'{"op":"wri', write(1, 1, 2)], [write(1, 1, 2)]),
    Rejection("a last line with its newline is complete", 3, "", [write(1, 1, 2), b'{"op":"wri'], [write(1, 1, 2)]),
    Rejection("one line holds one record", 2, "", [b'{"op":"close","clock_error_ns":0} 1'], [CLOSE]),
    Rejection("a line is UTF-8", 2, "utf-8", [b'{"op":"close","clock_error_ns":0,"x":"\xff"}'], [{**CLOSE, "x": "é"}]),
    Rejection("a line holds no NUL", 3, "", [write(1, 1, 2), b"\x00" * 80, CLOSE], [write(1, 1, 2), CLOSE]),
    Rejection("nesting is limited", 2, "", [b"[" * 100_000], [{**CLOSE, "x": [[[[[]]]]]}]),
    Rejection(
        "an outcome is one of three", 2, "outcome", [write(1, 1, 2, outcome="info")], [write(1, 1, 2, **UNKNOWN)]
    ),
    Rejection("an outcome is present", 2, "outcome", [without(write(1, 1, 2), "outcome")], [write(1, 1, 2)]),
    Rejection(
        "no operation follows the close line", 3, "after the close", [CLOSE, write(1, 1, 2)], [write(1, 1, 2), CLOSE]
    ),
    Rejection("there is only one close line", 3, "after the close", [CLOSE, CLOSE], [CLOSE]),
    Rejection(
        "no fault follows the close line", 3, "after the close", [CLOSE, fault(1, None)], [fault(1, None), CLOSE]
    ),
    Rejection(
        "a close line gives the clock error",
        2,
        "clock_error_ns",
        [{"op": "close"}],
        [{"op": "close", "clock_error_ns": None, "operations": 12}],
    ),
    Rejection("a clock error is not negative", 2, "negative", [{**CLOSE, "clock_error_ns": -1}], [CLOSE]),
]

KINDS: dict[str, dict[str, Any]] = {
    "a write": write(1, 5, 5),
    "a read": read(1, 5, 5),
    "an append": append("i", 5, 5),
    "a draw": draw(1, 5, 5),
    "a final read": final(1, 5, 5),
    "a fault": fault(5, 5),
}
TIMES = [
    case
    for kind, instant in KINDS.items()
    for case in (
        Rejection(f"{kind} does not end before its start", 2, "before `start`", [{**instant, "end": 4}], [instant]),
        Rejection(
            f"{kind} is in order of end",
            3,
            "on an earlier line",
            [fault(0, 6), instant],
            [fault(0, 5), {**instant, "start": 4}],
        ),
        Rejection(
            f"{kind} is followed by lines in order of end",
            3,
            "on an earlier line",
            [instant, fault(0, 4)],
            [instant, fault(0, 5)],
        ),
        Rejection(f"{kind} has an end", 2, "end", [without(instant, "end")], [instant]),
        Rejection(
            f"{kind} ends within range", 2, "out of range", [{**instant, "end": 2**127}], [{**instant, "end": 2**63}]
        ),
    )
] + [
    Rejection(
        "an unknown operation that ended is in order of end",
        3,
        "on an earlier line",
        [write(1, 1, 9), write(2, 3, 8, **UNKNOWN)],
        [write(1, 1, 9), write(2, 3, None, **UNKNOWN)],
    ),
    Rejection(
        "an operation that never ended may be on any line",
        5,
        "on an earlier line",
        [write(1, 8, None, **UNKNOWN), read(0, 1, 4), write(2, 1, None, **UNKNOWN), read(0, 2, 3)],
        [write(1, 8, None, **UNKNOWN), read(0, 1, 4), write(2, 1, None, **UNKNOWN), read(0, 4, 4), fault(9, None)],
    ),
    Rejection(
        "times before the epoch are valid",
        3,
        "on an earlier line",
        [write(1, -5, -2), read(1, -4, -3)],
        [write(1, -5, -3), read(1, -4, -2)],
    ),
    Rejection("a time is an integer", 2, "start", [write(1, 1.5, 2)], [write(1, 1, 2)]),  # type: ignore[arg-type] # wrong on purpose
]

NEVER_ENDED = [
    Rejection(
        f"{kind} that never ended is unknown, not {outcome}",
        2,
        "without an `end`",
        [{**operation, "end": None, "outcome": outcome}],
        [{**operation, "end": None, "outcome": "unknown"}],
    )
    for kind, operation in (("a write", write(1, 1, 2)), ("an append", append("i", 1, 2)), ("a draw", draw(1, 1, 2)))
    for outcome in ("ok", "fail")
] + [
    Rejection("a read has an end", 2, "end", [read(1, 1, None, **UNKNOWN)], [read(1, 1, 2, **UNKNOWN)]),
    Rejection("a final read has an end", 2, "end", [final(1, 1, None, **UNKNOWN)], [final(1, 1, 2, **UNKNOWN)]),
]


def needed(kind: str, field: str, operation: dict[str, Any]) -> list[Rejection]:
    """Return the cases that an ok operation needs the field and others do not."""
    return [
        Rejection(f"an ok {kind} has its {field}: {how}", 2, field, [invalid], [{**invalid, "outcome": outcome}])
        for how, invalid in (("not null", {**operation, field: None}), ("not absent", without(operation, field)))
        for outcome in ("fail", "unknown")
    ]


REQUIRED_FIELDS = [
    *needed("write", "version", write(1, 1, 2)),
    *needed("read", "version", read(1, 1, 2)),
    *needed("append", "item", append("i", 1, 2)),
    *needed("draw", "value", draw(1, 1, 2)),
    *needed("final", "version", final(1, 1, 2)),
    Rejection(
        "an ok final read of a list has its items", 2, "items", [final(None, 1, 2)], [final(None, 1, 2, items=[])]
    ),
    Rejection("an item is a string or an integer", 2, "item", [append(1.5, 1, 2)], [append(1, 1, 2)]),  # type: ignore[arg-type] # wrong on purpose
    Rejection("the version of a write is positive: not 0", 2, "positive", [write(0, 1, 2)], [write(1, 1, 2)]),
    Rejection("the version of a write is positive: not -1", 2, "positive", [write(-1, 1, 2)], [write(1, 1, 2)]),
    Rejection(
        "the version of a failed write is positive",
        2,
        "positive",
        [write(0, 1, 2, **FAIL)],
        [write(None, 1, 2, **FAIL)],
    ),
    Rejection(
        "the version of an unknown write is positive",
        2,
        "positive",
        [write(0, 1, None, **UNKNOWN)],
        [write(2, 1, None, **UNKNOWN)],
    ),
    Rejection("the version of a read is not negative", 2, "negative", [read(-1, 1, 2)], [read(0, 1, 2)]),
    Rejection("the version of a final read is not negative", 2, "negative", [final(-1, 1, 2)], [final(0, 1, 2)]),
]

WRITTEN_TWICE = [
    Rejection(
        "a version is written only once",
        3,
        "version 1 of key 'k' is written twice",
        [write(1, 1, 2), write(1, 3, 4)],
        [write(1, 1, 2), write(2, 3, 4)],
    ),
    Rejection(
        "a version is written by one session only",
        3,
        "written twice",
        [write(1, 1, 2), write(1, 1, 2, **ME)],
        [write(1, 1, 2), write(1, 1, 2, **ME, key="other")],
    ),
    Rejection(
        "a version is written only once: the first write failed",
        3,
        "written twice",
        [write(1, 1, 2, **FAIL), write(1, 3, 4)],
        [write(None, 1, 2, **FAIL), write(1, 3, 4)],
    ),
    Rejection(
        "a version is written only once: the first write never ended",
        4,
        "version 1 of key 'k' is written twice",
        [write(1, 1, None, **UNKNOWN), write(2, 1, 2), write(1, 3, 4)],
        [write(3, 1, None, **UNKNOWN), write(2, 1, 2), write(1, 3, 4)],
    ),
    Rejection(
        "a version is written only once: the second write was superseded",
        3,
        "written twice",
        [write(2, 1, 2), write(2, 3, 4, superseded=True)],
        [write(2, 1, 2), write(1, 3, 4, superseded=True)],
    ),
    Rejection(
        "writes without a version do not repeat one",
        4,
        "written twice",
        [write(None, 1, 2, **FAIL), write(5, 3, 4), write(5, 5, 6)],
        [write(None, 1, 2, **FAIL), write(None, 3, 4, **UNKNOWN), write(5, 5, 6)],
    ),
]


def overlap(rule: str, invalid: list[Line], valid: list[Line]) -> Rejection:
    return Rejection(rule, len(invalid) + 1, "overlaps itself", invalid, valid)


SESSIONS = [
    overlap("operations of a session may touch", [read(0, 1, 3), read(0, 2, 4)], [read(0, 1, 3), read(0, 3, 4)]),
    overlap(
        "reads and writes of a session do not overlap",
        [write(1, 1, 3, **ME), read(1, 2, 4)],
        [write(1, 1, 3), read(1, 2, 4)],
    ),
    overlap(
        "operations of a session on two keys do not overlap",
        [read(0, 1, 3), read(0, 2, 4, key="other")],
        [read(0, 1, 3), read(0, 3, 4, key="other")],
    ),
    overlap(
        "appends and draws of a session do not overlap",
        [append("i", 1, 3), draw(1, 2, 4)],
        [append("i", 1, 3), draw(1, 2, 4, session="other")],
    ),
    overlap(
        "an operation is not contained in another",
        [read(0, 2, 3), read(0, 1, 4)],
        [read(0, 2, 3), read(0, 3, 4)],
    ),
    overlap(
        "an operation does not start with another",
        [read(0, 1, 2), read(0, 1, 4)],
        [read(0, 1, 2), read(0, 1, 4, **UNKNOWN)],
    ),
    overlap("an operation does not end with another", [read(0, 1, 4), read(0, 3, 4)], [read(0, 1, 4), read(0, 4, 4)]),
    overlap(
        "an operation does not coincide with another",
        [read(0, 1, 4), read(0, 1, 4)],
        [read(0, 1, 4), read(0, 1, 4, session="other")],
    ),
    overlap(
        "a failed operation counts as overlapping",
        [read(0, 1, 3), read(None, 2, 4, **FAIL)],
        [read(0, 1, 3), read(None, 2, 4, **UNKNOWN)],
    ),
    overlap(
        "an unknown operation does not count, whichever comes first",
        [read(0, 1, 3, **FAIL), read(0, 2, 4)],
        [read(0, 1, 3, **UNKNOWN), read(0, 2, 4)],
    ),
    overlap(
        "unknown operations do not hide that others overlap",
        [read(0, 1, 3), write(1, 2, 3, **ME, **UNKNOWN), read(0, 2, 4)],
        [read(0, 1, 3), write(1, 2, 3, **ME, **UNKNOWN), read(0, 3, 4)],
    ),
    overlap(
        "an instant at the end of another operation may precede it in the file",
        [read(0, 4, 4), read(0, 1, 5)],
        [read(0, 4, 4), read(0, 1, 4)],
    ),
    overlap(
        "an instant at the end of another operation may follow it in the file",
        [read(0, 1, 5), read(0, 5, 5), read(0, 4, 6)],
        [read(0, 1, 4), read(0, 4, 4), read(0, 4, 6)],
    ),
    overlap(
        "only one operation may end at an instant",
        [read(0, 4, 4), read(0, 1, 4), read(0, 2, 4)],
        [read(0, 4, 4), read(0, 1, 4), read(0, 4, 4)],
    ),
    overlap(
        "an operation that ends at an instant starts after the earlier ones",
        [read(0, 1, 3), read(0, 4, 4), read(0, 2, 4)],
        [read(0, 1, 3), read(0, 4, 4), read(0, 3, 4)],
    ),
    overlap(
        "an instant after its operation does not excuse a later overlap",
        [read(0, 1, 4), read(0, 4, 4), read(0, 3, 4)],
        [read(0, 1, 4), read(0, 4, 4), read(0, 4, 5)],
    ),
]

REJECTIONS = [
    *HEADER_LINES,
    *HEADER_FIELDS,
    *(
        case._replace(invalid=[header(closes=False), *case.invalid], valid=[header(closes=False), *case.valid])
        for case in (*LINES, *TIMES, *NEVER_ENDED, *REQUIRED_FIELDS, *WRITTEN_TWICE, *SESSIONS)
    ),
]
