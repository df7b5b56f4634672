"""For every rule of a history file the smallest file that breaks it, and the nearest one that does not."""

from typing import Any, NamedTuple

from tests.history.lines import CLOSE, Line, append, draw, fault, final, header, read, without, write


class Refusal(NamedTuple):
    """Lines after the header that are refused at line `at` (the header is line 1), saying so; and their legal twin."""

    rule: str
    at: int
    says: str
    bad: list[Line]
    legal: list[Line]


ME = {"session": "s2"}
UNKNOWN = {"outcome": "unknown"}
FAIL = {"outcome": "fail"}

IN_PLACE_OF_THE_HEADER = [
    Refusal("an operation is no header", 1, "no history header", [write(1, 1, 2)], [header(), write(1, 1, 2)]),
    Refusal("a close is no header", 1, "no history header", [CLOSE], [header(), CLOSE]),
    Refusal("a header is JSON", 1, "no history header", [b"stalewatch-history"], [header(), CLOSE]),
    Refusal("a header is an object", 1, "no history header", [b"[]", CLOSE], [header(), CLOSE]),
    Refusal("a header is the first line", 1, "no history header", [b"", header(), CLOSE], [header(), CLOSE]),
    Refusal("a header has no mark before it", 1, "no history header", [b"\xef\xbb\xbf{}"], [header(), CLOSE]),
    Refusal(
        "a header names its format",
        1,
        "missing required field `format`",
        [without(header(), "format"), CLOSE],
        [header(), CLOSE],
    ),
    Refusal(
        "the format is this one",
        1,
        "format 'elle-history' version 1 is not stalewatch-history version 1",
        [header(format="elle-history"), CLOSE],
        [header(), CLOSE],
    ),
    Refusal(
        "the version of the format is this one",
        1,
        "version 2 is not stalewatch-history version 1",
        [header(version=2), CLOSE],
        [header(), CLOSE],
    ),
    Refusal("the version of the format is said", 1, "`version`", [without(header(), "version")], [header(), CLOSE]),
    Refusal(
        "a header needs its format and version only",
        1,
        "`version`",
        [b'{"format":"stalewatch-history"}'],
        [b'{"format":"stalewatch-history","version":1}', write(1, 1, 2)],
    ),
]


def field_of_the_header(name: str, bad: object, legal: object) -> Refusal:
    rule = f"{name} may be {legal!r}, not {bad!r}"
    return Refusal(rule, 1, name, [header(**{name: bad}), CLOSE], [header(**{name: legal}), CLOSE])


FIELDS_OF_THE_HEADER = [
    field_of_the_header("version", "1", 1),
    field_of_the_header("version", True, 1),  # noqa: FBT003 # a value that is wrong
    field_of_the_header("version", 1.0, 1),
    field_of_the_header("run", None, ""),
    field_of_the_header("worker", "0", 7),
    field_of_the_header("worker", None, 0),
    field_of_the_header("database", 1, "anything"),
    field_of_the_header("horizon_s", "120", 0.5),
    field_of_the_header("horizon_s", None, 10**400),
    field_of_the_header("horizon_s", -1, 0),
    field_of_the_header("clock_error_ns", 1.5, None),
    field_of_the_header("clock_error_ns", -1, 0),
    field_of_the_header("closes", 1, True),  # noqa: FBT003 # and one that is right
    field_of_the_header("options", [], None),
    field_of_the_header("options", "w=1", {"w": [1, None, {"j": True}]}),
]

LINES = [
    Refusal("an op is known", 3, "cas", [write(1, 1, 2), {**write(2, 3, 4), "op": "cas"}], [write(1, 1, 2)]),
    Refusal(
        "an op is said, other fields may be unknown",
        2,
        "`op`",
        [without(write(1, 1, 2), "op")],
        [write(1, 1, 2, operation="write", rtt_ms=0.5, error=None)],
    ),
    Refusal("a second header is no operation", 3, "`op`", [write(1, 1, 2), header()], [write(1, 1, 2)]),
    Refusal("a line is not empty", 3, "", [write(1, 1, 2), b"", CLOSE], [write(1, 1, 2), CLOSE]),
    Refusal("no empty line at the end", 3, "", [CLOSE, b""], [CLOSE]),
    Refusal("a line in the middle is whole", 2, "", [b'{"op":"wri', write(1, 1, 2)], [write(1, 1, 2)]),
    Refusal("a last line with its newline is whole", 3, "", [write(1, 1, 2), b'{"op":"wri'], [write(1, 1, 2)]),
    Refusal("one line holds one record", 2, "", [b'{"op":"close","clock_error_ns":0} 1'], [CLOSE]),
    Refusal("a line is UTF-8", 2, "utf-8", [b'{"op":"close","clock_error_ns":0,"x":"\xff"}'], [{**CLOSE, "x": "é"}]),
    Refusal("a line holds no NUL", 3, "", [write(1, 1, 2), b"\x00" * 80, CLOSE], [write(1, 1, 2), CLOSE]),
    Refusal("a line does not nest without end", 2, "", [b"[" * 100_000], [{**CLOSE, "x": [[[[[]]]]]}]),
    Refusal("an outcome is one of three", 2, "outcome", [write(1, 1, 2, outcome="info")], [write(1, 1, 2, **UNKNOWN)]),
    Refusal("an outcome is said", 2, "outcome", [without(write(1, 1, 2), "outcome")], [write(1, 1, 2)]),
    Refusal("nothing comes after the close", 3, "after the close", [CLOSE, write(1, 1, 2)], [write(1, 1, 2), CLOSE]),
    Refusal("there is one close", 3, "after the close", [CLOSE, CLOSE], [CLOSE]),
    Refusal("no fault after the close", 3, "after the close", [CLOSE, fault(1, None)], [fault(1, None), CLOSE]),
    Refusal(
        "a close says the clock error",
        2,
        "clock_error_ns",
        [{"op": "close"}],
        [{"op": "close", "clock_error_ns": None, "operations": 12}],
    ),
    Refusal("a clock error is no less than 0", 2, "negative", [{**CLOSE, "clock_error_ns": -1}], [CLOSE]),
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
    refusal
    for kind, instant in KINDS.items()
    for refusal in (
        Refusal(f"{kind} does not end before its start", 2, "before `start`", [{**instant, "end": 4}], [instant]),
        Refusal(
            f"{kind} stands in the order of ends",
            3,
            "of an earlier line",
            [fault(0, 6), instant],
            [fault(0, 5), {**instant, "start": 4}],
        ),
        Refusal(
            f"{kind} keeps the next line in the order of ends",
            3,
            "of an earlier line",
            [instant, fault(0, 4)],
            [instant, fault(0, 5)],
        ),
        Refusal(f"{kind} has an end", 2, "end", [without(instant, "end")], [instant]),
        Refusal(f"{kind} ends in our time", 2, "no time", [{**instant, "end": 2**127}], [{**instant, "end": 2**63}]),
    )
] + [
    Refusal(
        "an unknown operation that ended stands in the order of ends",
        3,
        "of an earlier line",
        [write(1, 1, 9), write(2, 3, 8, **UNKNOWN)],
        [write(1, 1, 9), write(2, 3, None, **UNKNOWN)],
    ),
    Refusal(
        "what never ended may stand anywhere",
        5,
        "of an earlier line",
        [write(1, 8, None, **UNKNOWN), read(0, 1, 4), write(2, 1, None, **UNKNOWN), read(0, 2, 3)],
        [write(1, 8, None, **UNKNOWN), read(0, 1, 4), write(2, 1, None, **UNKNOWN), read(0, 4, 4), fault(9, None)],
    ),
    Refusal(
        "a time before the epoch is a time",
        3,
        "of an earlier line",
        [write(1, -5, -2), read(1, -4, -3)],
        [write(1, -5, -3), read(1, -4, -2)],
    ),
    Refusal("a time is a whole number", 2, "start", [write(1, 1.5, 2)], [write(1, 1, 2)]),  # type: ignore[arg-type] # wrong on purpose
]

NEVER_ENDED = [
    Refusal(
        f"{kind} that never ended is unknown, not {outcome}",
        2,
        "never ended",
        [{**operation, "end": None, "outcome": outcome}],
        [{**operation, "end": None, "outcome": "unknown"}],
    )
    for kind, operation in (("a write", write(1, 1, 2)), ("an append", append("i", 1, 2)), ("a draw", draw(1, 1, 2)))
    for outcome in ("ok", "fail")
] + [
    Refusal("a read has an end", 2, "end", [read(1, 1, None, **UNKNOWN)], [read(1, 1, 2, **UNKNOWN)]),
    Refusal("a final read has an end", 2, "end", [final(1, 1, None, **UNKNOWN)], [final(1, 1, 2, **UNKNOWN)]),
]


def needed(kind: str, field: str, operation: dict[str, Any]) -> list[Refusal]:
    """Return that an ok operation of that kind needs the field, and that no other does."""
    return [
        Refusal(f"an ok {kind} has its {field}: {how}", 2, field, [bad], [{**bad, "outcome": outcome}])
        for how, bad in (("not null", {**operation, field: None}), ("not absent", without(operation, field)))
        for outcome in ("fail", "unknown")
    ]


WHAT_IS_SAID = [
    *needed("write", "version", write(1, 1, 2)),
    *needed("read", "version", read(1, 1, 2)),
    *needed("append", "item", append("i", 1, 2)),
    *needed("draw", "value", draw(1, 1, 2)),
    *needed("final", "version", final(1, 1, 2)),
    Refusal("an ok final read of a list has its items", 2, "items", [final(None, 1, 2)], [final(None, 1, 2, items=[])]),
    Refusal("an item is a word or a number", 2, "item", [append(1.5, 1, 2)], [append(1, 1, 2)]),  # type: ignore[arg-type] # wrong on purpose
    Refusal("a written version is above 0", 2, "positive", [write(0, 1, 2)], [write(1, 1, 2)]),
    Refusal("a written version is no less than 0", 2, "positive", [write(-1, 1, 2)], [write(1, 1, 2)]),
    Refusal("nor is one that failed", 2, "positive", [write(0, 1, 2, **FAIL)], [write(None, 1, 2, **FAIL)]),
    Refusal(
        "nor is one that is unknown", 2, "positive", [write(0, 1, None, **UNKNOWN)], [write(2, 1, None, **UNKNOWN)]
    ),
    Refusal("a version shown is no less than 0", 2, "negative", [read(-1, 1, 2)], [read(0, 1, 2)]),
    Refusal("a version held is no less than 0", 2, "negative", [final(-1, 1, 2)], [final(0, 1, 2)]),
]

WRITTEN_TWICE = [
    Refusal(
        "a version is written once",
        3,
        "version 1 of key 'k' is written twice",
        [write(1, 1, 2), write(1, 3, 4)],
        [write(1, 1, 2), write(2, 3, 4)],
    ),
    Refusal(
        "by one session only",
        3,
        "written twice",
        [write(1, 1, 2), write(1, 1, 2, **ME)],
        [write(1, 1, 2), write(1, 1, 2, **ME, key="other")],
    ),
    Refusal(
        "also where the first one failed",
        3,
        "written twice",
        [write(1, 1, 2, **FAIL), write(1, 3, 4)],
        [write(None, 1, 2, **FAIL), write(1, 3, 4)],
    ),
    Refusal(
        "also where one never ended",
        4,
        "version 1 of key 'k' is written twice",
        [write(1, 1, None, **UNKNOWN), write(2, 1, 2), write(1, 3, 4)],
        [write(3, 1, None, **UNKNOWN), write(2, 1, 2), write(1, 3, 4)],
    ),
    Refusal(
        "also where the second one is superseded",
        3,
        "written twice",
        [write(2, 1, 2), write(2, 3, 4, superseded=True)],
        [write(2, 1, 2), write(1, 3, 4, superseded=True)],
    ),
    Refusal(
        "what has no version is not twice the same",
        4,
        "written twice",
        [write(None, 1, 2, **FAIL), write(5, 3, 4), write(5, 5, 6)],
        [write(None, 1, 2, **FAIL), write(None, 3, 4, **UNKNOWN), write(5, 5, 6)],
    ),
]


def overlap(rule: str, bad: list[Line], legal: list[Line]) -> Refusal:
    return Refusal(rule, len(bad) + 1, "overlaps itself", bad, legal)


SESSIONS = [
    overlap("operations of a session may touch", [read(0, 1, 3), read(0, 2, 4)], [read(0, 1, 3), read(0, 3, 4)]),
    overlap(
        "reads and writes of a session do not overlap",
        [write(1, 1, 3, **ME), read(1, 2, 4)],
        [write(1, 1, 3), read(1, 2, 4)],
    ),
    overlap(
        "nor do those of two keys",
        [read(0, 1, 3), read(0, 2, 4, key="other")],
        [read(0, 1, 3), read(0, 3, 4, key="other")],
    ),
    overlap(
        "nor do appends and draws",
        [append("i", 1, 3), draw(1, 2, 4)],
        [append("i", 1, 3), draw(1, 2, 4, session="other")],
    ),
    overlap(
        "an operation does not lie in another",
        [read(0, 2, 3), read(0, 1, 4)],
        [read(0, 2, 3), read(0, 3, 4)],
    ),
    overlap("nor begin with it", [read(0, 1, 2), read(0, 1, 4)], [read(0, 1, 2), read(0, 1, 4, **UNKNOWN)]),
    overlap("nor end with it", [read(0, 1, 4), read(0, 3, 4)], [read(0, 1, 4), read(0, 4, 4)]),
    overlap("nor be the same", [read(0, 1, 4), read(0, 1, 4)], [read(0, 1, 4), read(0, 1, 4, session="other")]),
    overlap(
        "a failed one overlaps", [read(0, 1, 3), read(None, 2, 4, **FAIL)], [read(0, 1, 3), read(None, 2, 4, **UNKNOWN)]
    ),
    overlap(
        "an unknown one does not, whichever comes first",
        [read(0, 1, 3, **FAIL), read(0, 2, 4)],
        [read(0, 1, 3, **UNKNOWN), read(0, 2, 4)],
    ),
    overlap(
        "unknown ones do not hide that others overlap",
        [read(0, 1, 3), write(1, 2, 3, **ME, **UNKNOWN), read(0, 2, 4)],
        [read(0, 1, 3), write(1, 2, 3, **ME, **UNKNOWN), read(0, 3, 4)],
    ),
    overlap(
        "an instant may stand at the end of another operation, before it in the file",
        [read(0, 4, 4), read(0, 1, 5)],
        [read(0, 4, 4), read(0, 1, 4)],
    ),
    overlap(
        "or after it",
        [read(0, 1, 5), read(0, 5, 5), read(0, 4, 6)],
        [read(0, 1, 4), read(0, 4, 4), read(0, 4, 6)],
    ),
    overlap(
        "one operation only ends at an instant",
        [read(0, 4, 4), read(0, 1, 4), read(0, 2, 4)],
        [read(0, 4, 4), read(0, 1, 4), read(0, 4, 4)],
    ),
    overlap(
        "and it begins where the one before has ended",
        [read(0, 1, 3), read(0, 4, 4), read(0, 2, 4)],
        [read(0, 1, 3), read(0, 4, 4), read(0, 3, 4)],
    ),
    overlap(
        "an instant at the end of an operation is of no use to a later one",
        [read(0, 1, 4), read(0, 4, 4), read(0, 3, 4)],
        [read(0, 1, 4), read(0, 4, 4), read(0, 4, 5)],
    ),
]

REFUSALS = [
    *IN_PLACE_OF_THE_HEADER,
    *FIELDS_OF_THE_HEADER,
    *(
        refusal._replace(bad=[header(closes=False), *refusal.bad], legal=[header(closes=False), *refusal.legal])
        for refusal in (*LINES, *TIMES, *NEVER_ENDED, *WHAT_IS_SAID, *WRITTEN_TWICE, *SESSIONS)
    ),
]
