"""Results that were damaged are refused with a sentence, or shown; never a traceback. They are mutated at random."""

import json
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from copy import deepcopy
from io import StringIO
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stalewatch.checkers.judge import Judge
from stalewatch.engine.result import guarantees
from stalewatch.reports import page
from stalewatch.reports.decoding import BadResult, decoded
from stalewatch.reports.table import show_side_by_side, stale_sentence
from tests.checkers.twins import STALE_CAUSES, TWINS
from tests.reports.results import result, stale_result

pytest.importorskip("jinja2")

TIMES = {"rto_s": 4.2, "sustained_rto_s": None, "degraded_s": 3.0, "attempts": 12, "gap": [1, 2], "meanwhile": {}}


def violated_result() -> dict[str, Any]:
    """Return a result with witnesses of every guarantee."""
    whole = Judge()
    findings = whole.findings()
    for history in (*(twins.violating for twins in TWINS), *(twins.history for twins in STALE_CAUSES)):
        judge = Judge()
        for operation in history:
            judge.observe(operation)
        judge.finish()
        findings.merge(judge.findings())
    return result() | {"guarantees": guarantees(findings.verdicts), "verdict": "invalid"}


def drill_result() -> dict[str, Any]:
    return stale_result("drill", 3, 10, driver={"write_concern": {"w": 1}}, servers=["a", "b"]) | {
        "database": "mongo",
        "timeline": [{"second": 0, "write_ok": 3}, {"second": 1, "read_ok": 4, "stale_reads": 2}],
        "errors": [{"operation": "write", "outcome": "unknown", "error": "timeout", "count": 3}],
        "faults": [{"fault": "kill", "node": "a", "start": 1, "end": None, "start_s": 1.0, "end_s": None}],
        "recovery": {"read": TIMES, "write": TIMES | {"rto_s": None}},
        "rpo": {"lost_writes": 1, "span_s": 0.5, "exact": False, "superseded": 0, "lost_items": None, "appended": 0},
        "two_primaries_s": [0.1, 2.0],
        "converged_s": None,
        "resolution": {"strategy": "merge", "merged": 3, "errors": 0},
        "losses": {"basket": {"lost": 1, "acknowledged": 4}},
    }


BASES = (violated_result(), drill_result())

VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, -0.5, 2**63, 10**400, 1e308, float("nan"), float("inf")),
    *(
        "",
        "x",
        "a long integer",
        "\x00<b>",
        "20260231999999",
        [],
        [[]],
        [None],
        ["x"],
        {},
        {"": None},
        {"x": {"y": {"z": {"w": []}}}},
    ),
    *({"node": "a"}, {"p50": 1}, {"write_concern": 3}, {"driver": 3}, {"operations": []}),
)


LONG = '"a long integer"'


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container below a value with each of its keys or indexes."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield value, key
        yield from places(value[key])


def mutate(made: Any, where: int, what: int) -> None:
    """Drop one of the values below `made`, replace it, or repeat it."""
    every = list(places(made))
    container, key = every[where % len(every)]
    choice = what % (len(VALUES) + 2)
    if choice < len(VALUES):
        container[key] = deepcopy(VALUES[choice])  # later mutations may put other values into it
    elif choice == len(VALUES):
        del container[key]
    elif isinstance(container, list):
        container.append(deepcopy(container[key]))
    else:
        container["again"] = deepcopy(container[key])


def shown(results: list[dict[str, Any]]) -> str:
    with redirect_stdout(StringIO()) as table:
        show_side_by_side(results)
    text = page.template(page.FOLDER).render(styles="", scripts=[], hashes=[], **page.content(results))
    return table.getvalue() + stale_sentence(results) + str(text)


def refused_or_shown(base: int, mutations: list[tuple[int, int]]) -> None:
    made = json.loads(json.dumps(BASES[base]))
    for where, what in mutations:
        mutate(made, where, what)
    with suppress(BadResult):
        assert shown([*decoded(_text(made).encode()), *BASES])


def _text(made: Any) -> str:
    """Return the JSON; Python itself writes no integer of 5000 digits."""
    return json.dumps(made).replace(LONG, "1" + "0" * 5000)


MUTATIONS = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 1000)), min_size=1, max_size=3)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(range(len(BASES))), MUTATIONS)
def test_a_mutated_result_is_refused_or_shown(base: int, mutations: list[tuple[int, int]]) -> None:
    refused_or_shown(base, mutations)


def test_every_single_mutation_is_refused_or_shown() -> None:
    for base, made in enumerate(BASES):
        alike = {
            tuple(map(type, one)) if isinstance(one[1], int) else one[1]: at for at, one in enumerate(places(made))
        }
        for where in alike.values():
            for what in range(len(VALUES) + 2):
                refused_or_shown(base, [(where, what)])


def test_the_bases_are_accepted() -> None:
    for made in BASES:
        assert decoded(json.dumps(made).encode())[0] == made
    assert decoded(json.dumps(list(BASES)).encode()) == list(BASES)


@pytest.mark.parametrize("text", [nested(100_000), '{"options":' + nested(900) + "}", "[]", "[1]", "", "\ud800"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(BadResult):
        decoded(text.encode(errors="surrogatepass"))


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("verdict", None, "not the result of a run: expected `str`, got `null` - at `$.verdict`"),
        ("latency", {}, "not the result of a run: expected `latency` to have `read` and `write`"),
        (
            "options",
            {"driver": 3},
            "not the result of a run: expected `options.driver`, and its `write_concern`, to be objects",
        ),
    ],
)
def test_the_reason_names_the_place_and_what_was_expected(field: str, value: object, reason: str) -> None:
    with pytest.raises(BadResult) as caught:
        decoded(json.dumps(result() | {field: value}).encode())
    assert str(caught.value) == reason


def test_the_reason_names_the_guarantee() -> None:
    made = result()
    made["guarantees"]["lost_writes"]["checked"] = "3"
    with pytest.raises(BadResult, match=r"expected `int`, got `str` - at `\$\.guarantees\.lost_writes\.checked`"):
        decoded(json.dumps(made).encode())


def test_losses_that_were_not_checked_are_shown_as_such() -> None:
    made = drill_result()
    made["rpo"]["lost_writes"] = None
    assert "Not checked: the final reads failed" in shown(decoded(json.dumps(made).encode()))
