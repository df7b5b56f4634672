"""Histories of other tools get the verdicts that their sources state; what does not fit is refused with its first line.

The samples are written by hand from the formats' documentation and the checkers' own tests.
"""

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest

from stalewatch import check
from stalewatch.commands.main import main
from stalewatch.history.operation import Read, Write
from stalewatch.history.reader import History

Calls = list[tuple[float, float, str, int, str]]
"""Calls of a register: invocation, completion, f, value and the type of the completion."""


def event(text: str) -> str:
    """Return an EDN event of ``process type f value``."""
    process, kind, f, value = text.split(maxsplit=3)
    return f"{{:process {process}, :type :{kind}, :f :{f}, :value {value}}}\n"


def edn(*texts: str) -> str:
    return "".join(map(event, texts))


@pytest.fixture
def imported(tmp_path: Path) -> Callable[..., Path]:
    def convert(text: str, *options: str) -> Path:
        source, target = tmp_path / "log", tmp_path / "history.jsonl"
        source.write_text(text)
        assert main(["history", "import", str(source), "-o", str(target), "--force", *options]) == 0
        return target

    return convert


def violated(result: dict[str, Any]) -> set[str]:
    return {name for name, row in result["guarantees"].items() if row["verdict"] == "violated"}


# Jepsen's set-full, as its own tests judge it.

A, A_OK = "0 invoke add 0", "0 ok add 0"
R, R_SEES, R_MISSES = "1 invoke read nil", "1 ok read #{0}", "1 ok read #{}"


@pytest.mark.parametrize(
    "order", [(R, A, R_SEES, A_OK), (R, A, A_OK, R_SEES), (A, R, R_SEES, A_OK), (A, A_OK, R, R_SEES)]
)
def test_set_full_is_valid_if_the_element_is_seen(order: Sequence[str], imported: Callable[..., Path]) -> None:
    assert check([imported(edn(*order))])["verdict"] == "valid"


@pytest.mark.parametrize(
    "order", [(A, A_OK), (A, R, R_MISSES), (R, A, R_MISSES, A_OK), (R, A, A_OK, R_MISSES), (A, R, A_OK, R_MISSES)]
)
def test_set_full_is_unknown_if_no_read_could_prove_anything(
    order: Sequence[str], imported: Callable[..., Path]
) -> None:
    assert check([imported(edn(*order))])["verdict"] == "unknown"


def test_set_full_loses_an_element_that_a_later_read_misses(imported: Callable[..., Path]) -> None:
    assert violated(check([imported(edn(A, A_OK, R, R_MISSES))])) == {"lost_writes"}


FLUTTER = (
    *("0 invoke add 0", "0 ok add 0", "1 invoke add 1", "2 invoke read nil", "2 ok read #{1}", "1 ok add 1"),
    *("2 invoke read nil", "3 invoke read nil", "3 ok read #{1}", "2 ok read #{0}"),
)


def test_set_full_tells_the_lost_element_from_the_stale_one(imported: Callable[..., Path]) -> None:
    """By its own test 0 is lost and 1, which is seen again, stale."""
    result = check([imported(edn(*FLUTTER))])["guarantees"]
    (lost,) = result["lost_writes"]["witnesses"]
    assert lost["operations"][0]["item"] == "0"
    stale = {witness["operations"][-1]["key"] for witness in result["stale_reads"]["witnesses"]}
    assert stale == {"set/0", "set/1"}
    seen_again = [one for one, _ in History([imported(edn(*FLUTTER))]).operations() if isinstance(one, Read)]
    assert [one.version for one in seen_again if one.key == "set/1"] == [1, 1, 0]


@pytest.mark.parametrize(
    ("read", "guarantees"),
    [("[0 0]", {"unexpected_items"}), ("[0 7]", {"unexpected_items"}), ("[0]", set()), ("(0)", set())],
)
def test_a_set_holds_each_element_once_and_no_other(
    read: str, guarantees: set[str], imported: Callable[..., Path]
) -> None:
    assert violated(check([imported(edn(A, A_OK, R, f"1 ok read {read}"))])) == guarantees


# Jepsen's unique-ids, which does not ask ids to rise.


def ids(*values: str) -> str:
    return edn(*(text for value in values for text in ("0 invoke generate nil", f"0 ok generate {value}")))


def test_unique_ids_finds_duplicates_only(imported: Callable[..., Path]) -> None:
    assert check([imported(ids("9", '"a"', "[3 1]", "2"))])["verdict"] == "valid"
    result = check([imported(ids("9", '"a"', "2", "9", "1", "9"))])
    assert result["guarantees"]["unique_ids"]["violated"] == 2  # Jepsen: {:duplicated {9 3}}
    assert result["verdict"] == "invalid"


# Porcupine's key-value logs.


def log(*calls: str) -> str:
    """Return the log of one client: ``f key value``."""
    lines = []
    for call in calls:
        f, key, value = call.split(maxsplit=2)
        asked = "nil" if f == "get" else value
        lines += [
            f'{{:process 0, :type {kind}, :f :{f}, :key "{key}", :value {given}}}\n'
            for kind, given in ((":invoke", asked), (":ok", value))
        ]
    return "".join(lines)


def test_a_key_value_log_is_judged_by_the_texts_that_its_writes_leave(imported: Callable[..., Path]) -> None:
    good = ('append 5 "x 0 1 y"', 'get 5 "x 0 1 y"', 'append 5 "x 0 2 y"', 'get 5 "x 0 1 yx 0 2 y"', 'get 4 ""')
    assert check([imported(log(*good))])["verdict"] == "valid"
    put = ('put 5 "x 0 3 y"', 'append 5 "x 0 4 y"', 'get 5 "x 0 3 yx 0 4 y"')
    assert check([imported(log(*good, *put))])["verdict"] == "valid"
    assert violated(check([imported(log(*good, 'get 5 "x 0 1 y"'))])) >= {"stale_reads", "read_your_writes"}
    assert violated(check([imported(log(*good, 'get 5 "x 0 2 y"'))])) == {"phantom_reads"}


def test_a_log_from_which_a_get_misses_a_put_is_invalid(imported: Callable[..., Path]) -> None:
    bad = ('put 2 "x 0 7 y"', 'get 2 "x 0 7 y"', 'put 2 "x 0 10 y"', 'get 2 "x 0 7 y"')
    assert violated(check([imported(log(*bad))])) == {"stale_reads", "read_your_writes"}


# Jepsen's counter: its bounds, for adds of one amount.

COUNTING = [
    *("0 invoke read nil", "1 invoke add 2", "2 invoke read nil", "3 invoke add 2", "4 invoke read nil"),
    *("0 ok read 4", "1 ok add 2", "2 ok read 0", "3 ok add 2", "4 ok read {}"),
]


@pytest.mark.parametrize(
    ("total", "guarantees"),
    [
        ("4", set()),
        ("2", {"read_regressions"}),
        ("6", {"phantom_reads"}),
        ("3", {"phantom_reads"}),
        ("-2", {"phantom_reads"}),
    ],
)
def test_a_counter_keeps_its_bounds(total: str, guarantees: set[str], imported: Callable[..., Path]) -> None:
    after = ("5 invoke read nil", f"5 ok read {total}")
    history = edn("9 invoke read nil", *(text.format("4") for text in COUNTING), "9 ok read 4", *after)
    found = violated(check([imported(history)]))
    assert found == (guarantees | {"stale_reads"} if total == "2" else guarantees)


def test_reads_that_overlap_adds_may_miss_them(imported: Callable[..., Path]) -> None:
    assert check([imported(edn(*(text.format("2") for text in COUNTING)))])["verdict"] == "valid"


# Elle's list-append with one operation a transaction.


def txn(process: int, *ops: str) -> list[str]:
    return [
        text
        for op in ops
        for text in (f"{process} invoke txn [{op if 'append' in op else '[:r 1 nil]'}]", f"{process} ok txn [{op}]")
    ]


@pytest.mark.parametrize(
    ("last", "guarantees"),
    [
        ("[:r 1 [5 3]]", set()),
        ("[:r 1 [5]]", {"stale_reads", "read_regressions", "monotonic_reads", "lost_writes"}),
        ("[:r 1 [5 3 3]]", {"phantom_reads", "unexpected_items"}),
        ("[:r 1 [5 3 9]]", {"phantom_reads", "unexpected_items"}),
    ],
)
def test_lists_grow(last: str, guarantees: set[str], imported: Callable[..., Path]) -> None:
    history = [*txn(0, "[:append 1 5]", "[:append 1 3]"), *txn(1, "[:r 1 [5 3]]", last)]
    assert violated(check([imported(edn(*history))])) == guarantees


# Registers: exact, by a search for linearizations.


def history_of(random: Random, size: int) -> Calls:
    """Return calls of a register as (invocation, completion, f, value, type), each by a process of its own."""
    places = list(range(2 * size))
    random.shuffle(places)
    calls = []
    for number in range(size):
        start, end = sorted(places[2 * number : 2 * number + 2])
        f = random.choice(("write", "read"))
        kind = random.choice(("ok", "ok", "ok", "ok", "info", "fail")) if f == "write" else "ok"
        value = number + 1 if f == "write" else random.randint(0, size)
        calls.append((start, end, f, value, kind))
    return calls


def is_linearizable(calls: Calls) -> bool:
    """Return whether there is a legal order, by an exhaustive search of a register that is overwritten."""
    steps = [call for call in calls if call[4] != "fail"]

    @cache
    def rest(left: frozenset[int], value: int) -> bool:
        if all(steps[index][4] == "info" for index in left):
            return True
        first_end = min(steps[index][1] for index in left if steps[index][4] == "ok")
        return any(
            rest(left - {index}, steps[index][3])
            for index in left
            if steps[index][0] < first_end and (steps[index][2] == "write" or steps[index][3] == value)
        )

    return rest(frozenset(range(len(steps))), 0)


def as_edn(calls: Calls) -> str:
    events = []
    for process, (start, end, f, value, kind) in enumerate(calls):
        shown = "nil" if value == 0 else str(value)
        events.append((start, f"{process} invoke {f} {shown if f == 'write' else 'nil'}"))
        events.append((end, f"{process} {kind} {f} {shown}"))
    return edn(*(text for _, text in sorted(events)))


def test_a_register_that_is_linearizable_violates_nothing_and_the_others_are_often_found(
    imported: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    random, found = Random(20), {True: [0, 0], False: [0, 0]}
    for _ in range(200):
        calls = history_of(random, random.randint(2, 7))
        legal = is_linearizable(calls)
        guarantees = violated(check([imported(as_edn(calls), "--format", "edn")]))
        assert not (legal and guarantees), as_edn(calls)
        found[legal][bool(guarantees)] += 1
    assert found[True][0] > 15
    assert found[False][1] > 50
    capsys.readouterr()


def test_registers_whose_writers_wait_for_each_other_are_judged_exactly(imported: Callable[..., Path]) -> None:
    """Acknowledged writes one after the other, of one session: every history that is not linearizable is found."""
    random, broken = Random(21), 0
    for _ in range(80):
        writes = random.randint(1, 4)
        calls = [(4 * n + 1, 4 * n + 3, "write", n + 1, "ok") for n in range(writes)]
        for _read in range(random.randint(1, 3)):
            start = random.randint(0, 4 * writes) + random.random() / 2
            calls.append((start, start + random.random() * 6, "read", random.randint(0, writes), "ok"))
        guarantees = violated(check([imported(as_edn(calls), "--format", "edn")]))
        assert bool(guarantees) != is_linearizable(calls), as_edn(calls)
        broken += bool(guarantees)
    assert 15 < broken < 65


def test_an_older_write_that_took_effect_last_is_no_violation(
    imported: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The counterexample to numbering writes by their starts."""
    overlapping = (
        "0 invoke write 1",
        "1 invoke write 2",
        "1 ok write 2",
        "0 ok write 1",
        "2 invoke read nil",
        "2 ok read 1",
    )
    assert violated(check([imported(edn(*overlapping))])) == set()
    assert "2 of 2 acknowledged writes overlap another write of their key" in capsys.readouterr().err


def test_an_unknown_write_that_started_during_another_may_come_first(imported: Callable[..., Path]) -> None:
    calls = ("0 invoke write 1", "1 invoke write 2", "1 info write 2", "2 invoke read nil", "2 ok read 2")
    after = ("0 ok write 1", "2 invoke read nil", "2 ok read 1")
    assert violated(check([imported(edn(*calls, *after))])) == set()
    assert violated(check([imported(edn(*calls, *after, "2 invoke read nil", "2 ok read nil"))])) >= {"stale_reads"}


def test_a_failed_write_that_is_read_is_a_phantom(imported: Callable[..., Path]) -> None:
    calls = ("0 invoke write 1", "0 fail write 1", "0 invoke read nil", "0 ok read 1")
    assert violated(check([imported(edn(*calls))])) == {"phantom_reads"}


# Forms of the same history.


def test_tagged_records_vectors_tuples_and_json_lines_are_the_same_history(imported: Callable[..., Path]) -> None:
    events = [
        {"index": 0, "time": 5, "type": "invoke", "process": 0, "f": "write", "value": ["a", 7]},
        {"index": 1, "time": 9, "type": "ok", "process": 0, "f": "write", "value": ["a", 7]},
        {"index": 2, "time": 9, "type": "invoke", "process": 1, "f": "read", "value": ["a", None]},
        {"index": 3, "time": 12, "type": "ok", "process": 1, "f": "read", "value": ["a", None]},
        {"index": 4, "time": 13, "type": "info", "process": "nemesis", "f": "kill", "value": None},
    ]

    def form(one: dict[str, Any]) -> str:
        key, value = one["value"] or (None, None)
        pair = f'["{key}" {value or "nil"}]' if key else "nil"
        process = ":nemesis" if one["process"] == "nemesis" else one["process"]
        rest = f":process {process}, :f :{one['f']}, :value {pair}"
        return f"{{:index {one['index']}, :time {one['time']}, :type :{one['type']}, {rest}}}"

    forms = [form(one) for one in events]
    texts = [
        "".join(json.dumps(one) + "\n" for one in events),
        "\n".join(forms),
        "".join(f"#jepsen.history.Op{one}\n" for one in forms),
        f"; a comment\n[{' '.join(forms[:2])}\n #_ {forms[0]} {', '.join(forms[2:])}]\n",
    ]
    histories = [[one for one, _ in History([imported(text)]).operations()] for text in texts]
    assert histories[0] == [
        Write(session="p0", key="a", version=1, start=5, end=9, outcome="ok"),
        Read(session="p1", key="a", version=0, start=10, end=12, outcome="ok"),
    ]
    assert all(history == histories[0] for history in histories)
    assert violated(check([imported(texts[0])])) == {"stale_reads"}


CSV = """session,op,key,version,start,end,outcome
s2,read,k,0,30,40,ok
s1,write,k,1,10,20,ok
s1,write,k,2,50,,unknown
"""


def test_rows_of_a_csv_may_be_in_any_order(imported: Callable[..., Path]) -> None:
    assert violated(check([imported(CSV)])) == {"stale_reads"}


# Refusals: the reason, and the first line.

REFUSALS = {
    "cas": (
        edn("0 invoke write 1", "0 ok write 1", "0 invoke cas [1 2]", "0 ok cas [1 2]"),
        "3: :cas is not supported: a compare-and-set",
    ),
    "reused": (
        edn("0 invoke write 1", "0 ok write 1", "0 invoke write 1", "0 ok write 1"),
        "3: the value 1 of key 'register' was used on line 1 already",
    ),
    "initial": (edn("0 invoke write nil", "0 ok write nil"), "1: nil is written, which is also the initial value"),
    "transaction": (
        edn("0 invoke txn [[:r 1 nil] [:append 1 2]]", "0 ok txn [[:r 1 []] [:append 1 2]]"),
        "1: the transaction ",
    ),
    "forked": (
        edn(*txn(0, "[:append 1 5]", "[:append 1 3]"), *txn(1, "[:r 1 [5 3]]", "[:r 1 [3 5]]")),
        "7: the list of key '1' is no beginning",
    ),
    "uneven": (
        edn("0 invoke read nil", "0 ok read 0", "0 invoke add 1", "0 ok add 1", "0 invoke add 2", "0 ok add 2"),
        "5: an add of 2: only a counter",
    ),
    "mixed": (
        edn("0 invoke write 1", "0 ok write 1", "0 invoke generate nil", "0 ok generate 1"),
        "3: :generate does not belong to a history of :read, :write",
    ),
    "queue": (edn("0 invoke enqueue 1"), "1: :enqueue is not supported: queues"),
    "unheard of": (edn("0 invoke launch 1"), "1: :launch is of no workload"),
    "twice": (edn("0 invoke read nil", "0 invoke read nil"), "2: process 0 invokes again before its call of line 1"),
    "alone": (edn("0 ok read 1"), "1: process 0 completes what it has not invoked"),
    "overlapping appends": (
        "".join(
            f'{{:process {process}, :type :{kind}, :f :append, :key "5", :value "{process}"}}\n'
            for process, kind in ((0, "invoke"), (1, "invoke"), (1, "ok"), (0, "ok"))
        ),
        "2: writes of key '5' overlap or are unknown, and some append",
    ),
    "no end": ("{:process 0, :type :invoke\n", "1: the { of line 1 does not end"),
    "no type": ("{:process 0}\n", "1: `:type` must be invoke, ok, fail or info, not nil"),
    "no EDN": ('{:process 0, :type :invoke, :f :read}\n{:a "b', "2: a string does not end"),
    "no JSON": ('{"process": 0, "type": "invoke", "f": "read"}\n{"a"\n', "2: not JSON: "),
    "no CSV": (
        "session,op,key,version,start,end,outcome\ns1,write,k,x,1,2,ok\n",
        "2: invalid value for column 'version': 'x'",
    ),
    "no column": (
        "session,op\n",
        "1: no column 'key'; the first line names them: session,op,key,version,start,end,outcome",
    ),
    "written twice": (CSV + "s3,write,k,1,60,70,ok\n", "5: version 1 of key 'k' is written twice"),
    "nothing": ("", "1: not a format that is known"),
    "a history": ('{"format":"stalewatch-history","version":1}\n', "1: this is a history of stalewatch already"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_does_not_fit_is_refused_with_its_first_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, refusal = REFUSALS[name]
    source, target = tmp_path / "log", tmp_path / "history.jsonl"
    source.write_text(text)
    assert main(["history", "import", str(source), "-o", str(target)]) == 64
    assert f"{source}:{refusal}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
