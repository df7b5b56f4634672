import copy
import html
import re
import sys
from bisect import bisect_right
from collections.abc import Mapping
from html.parser import HTMLParser
from math import log10
from pathlib import Path
from typing import Any

import pytest

from stalewatch.checkers.verdict import AGE_EDGES_NS, FRESH_PERCENTAGES, Freshness, wilson
from stalewatch.reports import page, page_charts, page_witnesses
from stalewatch.reports.words import GUARANTEE_WORDS, percent, run_sentence

Result = dict[str, Any]

NOTHING = {"checked": 0, "violated": 0, "rate": None, "interval": None, "witnesses": []}
WRITE = {"op": "write", "session": "s1", "key": "k7", "version": 3, "start": 10**18, "outcome": "ok", "node": "m1"}
WRITE_ENDED = WRITE | {"end": 10**18 + 2_000_000}
READ = {"op": "read", "session": "s2", "key": "k7", "version": 2, "outcome": "ok", "node": "m2"}
READ_ENDED = READ | {"start": 10**18 + 6_000_000, "end": 10**18 + 8_000_000}
NODES = [
    {"node": "m1", "read_ok": 1100, "write_ok": 500, "write_fail": 7},
    {"node": "m2", "read_ok": 1000, "stale_reads": 300},
]
TIMES = {"avg": 1.5, "p50": 1.0, "p95": 4.0, "p99": 9.0, "max": 12.0}


def row(checked: int, violated: int, *witnesses: Mapping[str, Any], **more: object) -> Result:
    rate = violated / checked
    interval = [rate * 0.9, min(1.0, rate * 1.1 + 0.001)]
    verdict = "violated" if violated else "holds"
    counts = {"verdict": verdict, "checked": checked, "violated": violated, "rate": rate, "interval": interval}
    return counts | {"witnesses": list(witnesses)} | more


def stale(*operations: Mapping[str, Any]) -> Result:
    witness = {"operations": list(operations or (WRITE_ENDED, READ_ENDED)), "cause": "lag", "staleness_s": 0.004}
    times = {"p50": 0.012, "p95": 0.3, "p99": 0.9, "max": 1.5}
    return row(2000, 300, witness, causes={"lag": 300}, staleness_s=times, staleness_at_least=0)


def result(**more: Any) -> Result:
    rows: dict[str, Result] = {name: NOTHING | {"verdict": "no_evidence"} for name in GUARANTEE_WORDS}
    rows |= {"stale_reads": stale(), "read_your_writes": row(1000, 0), "lost_writes": row(500, 0)}
    rows["conflicts"] = NOTHING | {"verdict": "not_applicable"}
    latency = {"service_ms": TIMES, "response_ms": None}
    return {
        "verdict": "invalid",
        "complete": True,
        "guarantees": rows,
        "database": "mongo",
        "run": "20260102030405abcd",
        "options": {"write_concern": "1", "read_from": "secondary", "users": 20, "driver": {"retry_writes": False}},
        "duration_s": 12.5,
        "operations": {
            "read": {"ok": 2100, "fail": 0, "unknown": 0},
            "write": {"ok": 500, "fail": 7, "unknown": 2},
        },
        "errors": [{"operation": "write", "outcome": "fail", "error": "NotPrimary", "count": 7}],
        "timeline": [{"second": 0, "read_ok": 5, "write_fail": 7}, {"second": 1}],
        "latency": {"read": copy.deepcopy(latency), "write": copy.deepcopy(latency)},
        **more,
    }


def with_options(**options: object) -> Result:
    return result(options=result()["options"] | options)


class Text(HTMLParser):
    """The text and the elements of a page, without its scripts."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._raw = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._raw = tag if tag in {"script", "style"} else ""

    def handle_endtag(self, tag: str) -> None:
        self._raw = ""

    def handle_data(self, data: str) -> None:
        if not self._raw:
            self.words.append(data)

    def __contains__(self, words: str) -> bool:
        return words in " ".join(" ".join(self.words).replace("\xa0", " ").split())


def text(*results: Result) -> Text:
    return Text(page.render(results))


def test_a_page_shows_verdicts_answers_rates_latencies_errors_and_options() -> None:
    found = text(result(nodes=NODES, command="stalewatch bench mongo --users 20"))
    for words in (
        "MongoDB, w=1 / secondary",
        "2026-01-02 03:04:05",
        "invalid 15 % of the reads were stale.",
        "How long could nobody write? No write succeeded",
        "What was lost? None of 500 acknowledged writes, unless a newer write hides it",
        "How old were reads? 15 % were stale (300 of 2,000): half of these by 12.0 ms or less, the worst by 1.50 s",
        "What did it cost? 208 operations/s; reads p50 1.00 ms, p99 9.00 ms; writes p50 1.00 ms, p99 9.00 ms; 9 ",
        "writes: 500 ok, 7 failed, 2 unknown",
        "✗ violated 15 % 300 / 2,000",
        "✓ holds 0 % 0 / 1,000",
        "? no evidence",
        "not applicable",
        "NotPrimary 7",
        "reads service time 1.50 1.00 4.00 9.00 12.0",
        "replication lag 300 300 12.0 ms 300 ms 900 ms 1.50 s",
        "write_concern 1 read_from secondary users 20 driver.retry_writes off",
        "node reads stale writes failed m2 1,000 300 (30 %) 0 0 m1 1,100 0 500 7",
        "stalewatch bench mongo --users 20",
    ):
        assert words in found, words


def test_a_run_is_never_called_by_its_id() -> None:
    for results in ([result()], [result(), result(run="20260102030405ffff")]):
        source = page.render(results)
        assert source.count("20260102030405abcd") == 1  # in the fold with the ids
    assert "w=1 / secondary, run 1" in text(result(), result(run="20260102030405ffff"))


def test_every_guarantee_is_explained() -> None:
    for found in (text(result()), text(result(), result())):
        for name, words in GUARANTEE_WORDS.items():
            assert name in found
            assert words.promise in found


def diagram(guarantee: str, *operations: Mapping[str, Any], **more: object) -> dict[str, Any]:
    witness = {"operations": list(operations), "cause": None, "staleness_s": None, **more}
    rows = {**result()["guarantees"], guarantee: row(2000, 300, witness)}
    groups = page_witnesses.diagrams(result(guarantees=rows, run="r"))
    (found,) = (one["witnesses"][0] for one in groups if one["guarantee"] == guarantee)
    return found  # type: ignore[no-any-return] # what the template gets


def test_a_witness_has_a_sentence_lanes_and_an_arrow_from_the_missed_write_to_the_read() -> None:
    key = {"key": "r-w0-7"}
    found = diagram("stale_reads", WRITE_ENDED | key, READ_ENDED | key, cause="lag", staleness_s=0.004)
    assert found["sentence"].replace("\xa0", " ") == (
        "Session s1 wrote version 3 to key w0-7 at m1, and 4.00 ms later session s2 read version 2 at m2 "
        "(replication lag, stale for 4.00 ms)."
    )
    assert [lane["name"] for lane in found["lanes"]] == ["session s1 at m1", "session s2 at m2"]
    write, read = found["operations"]
    assert (write["left"], write["width"], write["times"]) == (0, 25, "0.000 to 2.000 ms")
    assert (read["left"], read["width"], read["times"]) == (75, 25, "6.000 to 8.000 ms")
    arrow = found["arrow"]
    assert (arrow["left"], arrow["width"], arrow["down"]) == (25, 50, True)
    assert (arrow["top"], arrow["top"] + arrow["height"]) == (write["top"], read["top"])


def test_the_arrow_of_three_operations_starts_at_the_newest_missed_write() -> None:
    older = WRITE_ENDED | {"version": 2, "session": "s0", "end": 10**18 + 1}
    found = diagram("stale_reads", older, WRITE_ENDED, READ_ENDED | {"version": 1})
    assert found["arrow"]["left"] == found["operations"][1]["width"]


def test_the_bar_of_a_write_that_never_ended_reaches_the_end_and_has_no_arrow() -> None:
    never = WRITE | {"end": None, "outcome": "unknown", "error": "Timeout"}
    found = diagram("phantom_reads", READ_ENDED, never, cause="not_started")
    bar = found["operations"][1]
    assert (bar["open"], bar["left"] + bar["width"], found["arrow"]) == (True, 100, None)
    assert bar["words"].endswith("wrote version 3 to key k7 at m1 (unknown: Timeout)")
    assert bar["times"] == "0.000 to never ms"
    assert "the write started only after the read" in found["sentence"]


SPAN = {"start": 0, "end": 1, "outcome": "ok", "key": "k"}
SENTENCES = [
    (
        "read_your_writes",
        (WRITE_ENDED, READ_ENDED | {"session": "s1"}),
        "Session s1 wrote version 3 to key k7 at m1, and 4.00 ms later read version 2 at m2.",
    ),
    (
        "monotonic_reads",
        (READ_ENDED | {"version": 4}, READ_ENDED | {"start": 10**18 + 9_000_000, "end": 10**18 + 10_000_000}),
        "Session s2 read version 4 from key k7 at m2, and 1.00 ms later read version 2 at m2.",
    ),
    (
        "lost_writes",
        (WRITE_ENDED, SPAN | {"op": "final", "start": 10**18 + 3_000_000, "end": 10**18 + 4_000_000, "version": 0}),
        (
            "Session s1 wrote version 3 to key k7, m1 acknowledged it, and 1.00 ms later, in the final read, there was "
            "nothing (version 0)."
        ),
    ),
    (
        "lost_writes",
        (
            SPAN | {"op": "append", "session": "s1", "item": "s1-7"},
            SPAN | {"op": "final", "items": ["a"], "start": 2_000_001, "end": 2_000_002},
        ),
        (
            "Session s1 appended item s1-7 to key k, the database acknowledged it, and 2.00 ms later, in the final "
            "read, it is missing."
        ),
    ),
    (
        "unique_ids",
        (SPAN | {"op": "draw", "session": "a", "value": 12}, SPAN | {"op": "draw", "session": "b", "value": 12}),
        "Session a drew 12 from key k, and session b drew 12.",
    ),
    (
        "conflicts",
        (SPAN | {"op": "final", "version": 4, "siblings": [2, 3]},),
        "The final read showed version 4, siblings 2, 3 of key k.",
    ),
]


@pytest.mark.parametrize(("guarantee", "operations", "sentence"), SENTENCES)
def test_each_guarantee_has_its_sentence(guarantee: str, operations: tuple[Any, ...], sentence: str) -> None:
    assert diagram(guarantee, *operations)["sentence"].replace("\xa0", " ") == sentence


def test_runs_are_shown_side_by_side_under_their_levels() -> None:
    found = text(result(), with_options(write_concern="majority", read_from="primary"))
    assert "2 runs: MongoDB" in found
    assert "2 of 2 runs broke a promise." in found
    assert "w=1 / secondary w=majority / primary stale_reads" in found
    runs = [attributes for tag, attributes in found.tags if tag == "details" and attributes.get("class") == "run"]
    assert len(runs) == 2


def test_repeats_are_added_up_as_median_and_range() -> None:
    times = {"attempts": 9, "sustained_known": True, "sustained_rto_s": None, "degraded_s": 1}
    drills = [
        with_options(write_concern=concern)
        | {"recovery": {"write": times | {"rto_s": rto_s}}, "rpo": {"lost_writes": lost}, "faults": []}
        for concern, rto_s, lost in (("1", 3.0, 7), ("1", None, 2), ("1", 1.5, 4), ("majority", 2.0, 0))
    ]
    found = text(*drills)
    assert "runs nobody could write writes lost" in found
    assert "w=1 / secondary 3 3.00 s (1.50 s \u2013 to the end) 4 (2 \u2013 7)" in found
    assert "w=majority / secondary 1 2.00 s 0" in found


def test_options_that_differ_come_first() -> None:
    found = text(result(), with_options(users=50))
    assert (
        "Those that differ between the runs. w=1 / secondary, users=20 w=1 / secondary, users=50 users 20 50" in found
    )
    assert "3 settings that are the same in all runs write_concern 1" in found


def test_a_run_without_evidence_proves_nothing() -> None:
    rows = {name: NOTHING | {"verdict": "no_evidence"} for name in GUARANTEE_WORDS}
    empty = dict.fromkeys(("avg", "p50", "p95", "p99", "max"))
    times = {kind: {"service_ms": empty, "response_ms": None} for kind in ("read", "write")}
    one = result(verdict="unknown", guarantees=rows, latency=times, timeline=[], errors=[])
    assert "successful reads and 500 successful writes left nothing to judge" in run_sentence(one)
    found = text(one)
    assert "holds" not in found
    assert "No guarantee was violated." in found


@pytest.mark.parametrize("exact", [True, False, None])
def test_registers_prove_only_that_no_loss_showed(exact: bool | None) -> None:  # noqa: FBT001 # a parameter
    held = run_sentence(result(lost_writes_exact=exact))
    assert ("none of 500 acknowledged writes was lost" in held) == bool(exact)
    assert ("no loss showed among 500 acknowledged writes, though a newer write hides" in held) == (not exact)
    rows = result()["guarantees"] | {"lost_writes": row(500, 5)}
    lost = run_sentence(result(lost_writes_exact=exact, guarantees=rows))
    assert ("at least 5 of 500 acknowledged writes" in lost) == (not exact)
    assert "5 of 500 acknowledged writes (1\u00a0%) were lost" in lost


BUCKETS = [
    {"from_s": 0.0, "to_s": 0.0001, "checked": 1000, "stale": 500},
    {"from_s": 0.005, "to_s": 0.01, "checked": 20000, "stale": 50},
    {"from_s": 0.01, "to_s": 0.02, "checked": 20000, "stale": 0},
    {"from_s": 100.0, "to_s": None, "checked": 10, "stale": 0},
]


def with_freshness(buckets: list[dict[str, Any]]) -> Result:
    ages = Freshness()
    for bucket in buckets:
        place = bisect_right(AGE_EDGES_NS, round(bucket["from_s"] * 1e9))
        ages.checked[place], ages.stale[place] = bucket["checked"], bucket["stale"]
    after = {name: ages.fresh_after_ns(share) for name, share in FRESH_PERCENTAGES.items()}
    found = {name: None if age is None else age / 1e9 for name, age in after.items()}
    rows = stale() | {"freshness": buckets, "fresh_after_s": found}
    return result(guarantees=result()["guarantees"] | {"stale_reads": rows})


def test_the_freshness_curve_has_the_marks_of_the_json() -> None:
    one = with_freshness(BUCKETS)
    found = text(one)
    assert "How long after a write are reads fresh? 99 % after 0.100 ms, 99.9 % after 10.0 ms" in found
    assert "less than 0.100 ms 1,000 500 50 %" in found
    assert "5.00 ms to 10.0 ms 20,000 50" in found
    assert "100.00 s or more 10 0 0 %" in found
    figure = page_charts.freshness({"all": [one]})
    assert figure is not None
    (curve,) = figure["curves"]
    after = one["guarantees"]["stale_reads"]["fresh_after_s"]
    assert after == {"99": 0.0001, "99.9": 0.01}
    assert {mark["nines"]: mark["x"] for mark in curve["marks"]} == {2: after["99"], 3: after["99.9"]}
    assert (curve["x"][0], curve["x"][-1]) == (page_charts.AT_ONCE_S, 0.01)  # ten reads after 100 s tell nothing
    assert curve["least"] == sorted(curve["least"])
    low, high = wilson(550, 41010)
    assert (curve["least"][0], curve["most"][0]) == (
        pytest.approx(-log10(high), 1e-3),
        pytest.approx(-log10(low), 1e-3),
    )


def test_the_curve_of_repeats_is_that_of_all_their_reads() -> None:
    one, other = with_freshness(BUCKETS[:2]), with_freshness(BUCKETS[1:3])
    both = [BUCKETS[0], {**BUCKETS[1], "checked": 40000, "stale": 100}, BUCKETS[2]]
    pooled, whole = (page_charts.freshness({"all": runs}) for runs in ([one, other], [with_freshness(both)]))
    assert pooled == whole


def test_without_stale_reads_there_is_no_curve() -> None:
    assert page_charts.freshness({"all": [with_freshness([{**BUCKETS[2]}])]}) is None


def test_a_result_from_before_a_guarantee_was_added_can_still_be_shown() -> None:
    rows = {name: one for name, one in result()["guarantees"].items() if name != "unexpected_items"}
    assert "unexpected_items ? no evidence" in text(result(guarantees=rows))


def test_the_result_of_check_is_enough_for_a_page() -> None:
    one = {name: value for name, value in result().items() if name in {"verdict", "complete", "guarantees"}}
    found = text(one | {"complete": False, "duplicate_items": 2, "phantom_items": 0})
    assert "the history is incomplete" in found
    assert "2 list items appeared more than once" in found
    assert "Errors" not in found


def test_response_times_have_their_own_rows() -> None:
    latency = {"service_ms": TIMES, "response_ms": TIMES | {"p99": 900.0}}
    open_loop = result(latency={"read": latency, "write": latency})
    assert "reads service time" in text(open_loop)
    assert "reads response time 1.50 1.00 4.00 900 12.0" in text(open_loop)


def lines_of(figure: Any) -> dict[str, list[float | None]]:
    return {line["name"]: line["y"] for panel in figure["panels"] for line in panel["lines"]}


def test_the_timeline_fills_seconds_without_operations_and_leaves_out_lines_of_zeros() -> None:
    assert lines_of(page_charts.timeline(result())) == {"reads": [5, 0], "failed": [7, 0]}


def test_a_long_timeline_has_a_bounded_number_of_points() -> None:
    rows = [{"second": number, "read_ok": 10, "read_p99_ms": float(number % 7)} for number in range(100_000)]
    figure = page_charts.timeline(result(timeline=rows))
    assert figure is not None
    lines = lines_of(figure)
    assert len(figure["x"]) == len(lines["reads"]) <= page_charts.MAX_POINTS
    assert set(lines["reads"]) == {10}
    assert max(filter(None, lines["read p99"])) == 6
    assert figure["end"] == 100_000


def test_faults_are_bands_at_their_seconds() -> None:
    begin = 10**18 + 400_000_000  # the load began 0.4 s into the first second of the timeline
    fault = {"fault": "kill", "node": "m1", "start": begin + 2 * 10**9, "end": None, "start_s": 2.0, "end_s": None}
    figure = page_charts.timeline(result(faults=[fault], timeline=[{"second": number} for number in range(9)]))
    assert figure is not None
    assert figure["bands"] == [{"from": pytest.approx(2.4, abs=1e-3), "to": 9, "name": "kill m1"}]


def test_the_recovery_of_a_drill_is_shown() -> None:
    times = {"rto_s": 3.25, "sustained_rto_s": None, "degraded_s": 4}
    drill = result(
        recovery={"read": times, "write": times},
        rpo={"lost_writes": 9, "span_s": 0.5, "exact": False},
        faults=[{"fault": "kill", "node": "m1", "start": 0, "end": 1}],
        two_primaries_s=[1.0, 2.5],
        probed=True,
        convergence_wait_s=60.0,
        converged_s=None,
    )
    found = text(drill)
    assert (
        "fault kill m1 longest time without a successful read 3.25 s until reads worked reliably again never" in found
    )
    assert "acknowledged writes lost at least 9, acknowledged within 500 ms" in found
    assert "time with two primaries 1.00 s to 2.50 s" in found
    assert "from the heal until all replicas agreed not within 60 s after the load" in found


def test_what_a_drill_could_not_find_out_is_not_called_zero_or_never() -> None:
    times = {"rto_s": 0.4, "sustained_rto_s": None, "sustained_known": False, "degraded_s": 1, "attempts": 9}
    drill = result(
        recovery={"read": times, "write": {**times, "rto_s": None, "attempts": 0}},
        rpo={"lost_writes": None, "span_s": None, "exact": False},
        faults=[],
        converged_s=None,
    )
    found = text(drill)
    assert "until reads worked reliably again the load ended too early to tell" in found
    assert "longest time without a successful write none attempted" in found
    assert "acknowledged writes lost unknown: the final reads failed or were not made" in found
    drill["rpo"] = {"lost_writes": 0, "span_s": None, "exact": False}
    assert "acknowledged writes lost none showed, though newer writes may hide some" in text(drill)


def test_the_losses_of_conflict_resolution_are_shown() -> None:
    found = text(
        result(
            resolution={"strategy": "lww", "merged": 12, "errors": 0},
            losses={"basket": {"acknowledged": 1870, "lost": 52}, "count": {"acknowledged": 9, "lost": 0}},
        )
    )
    assert "part lost acknowledged basket items 52 1,870 increments 0 9" in found
    assert "resolved by lww (12 merged, 0 errors)" in found
    assert "Lost in conflict resolution" not in text(result())


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}\ud800\u2028"


def test_invisible_characters_are_shown_and_long_texts_are_cut() -> None:
    hostile = "a\x1b[31m\x00\u202eb" + "x" * 1_000_000
    one = result(run=hostile, options={"users": hostile}, errors=[
        {"operation": "read", "outcome": "fail", "error": hostile, "count": 1}
    ], nodes=[{"node": hostile, "read_ok": 1}])  # fmt: skip
    source = page.render([one])
    assert len(source) < 200_000
    assert not set("\x1b\x00\u202e") & set(source)
    assert "a\\u001b[31m\\u0000\\u202eb" in source
    assert "… (1,000,009 characters)" in source


def test_text_from_results_is_escaped(tmp_path: Path) -> None:
    witness = stale(WRITE_ENDED | {"key": HOSTILE, "session": HOSTILE, "node": HOSTILE}, READ_ENDED)
    hostile = result(
        database=HOSTILE,
        run=HOSTILE,
        verdict=HOSTILE,
        guarantees=result()["guarantees"] | {"stale_reads": witness | {"verdict": HOSTILE, "causes": {HOSTILE: 1}}},
        options={HOSTILE: HOSTILE},
        errors=[{"operation": HOSTILE, "outcome": HOSTILE, "error": HOSTILE, "count": 1}],
        recovery={HOSTILE: {}},
        faults=[{"fault": HOSTILE}],
    )
    page.write(tmp_path / "page.html", [hostile, hostile])
    found = Text((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert [tag for tag, _ in found.tags].count("script") == 3
    assert "img" not in {tag for tag, _ in found.tags}
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert "{{7*7}}" in found


def test_the_policy_allows_only_the_two_scripts_of_the_page() -> None:
    source = page.render([result()])
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', source)
    assert policy
    scripts = re.findall(r"<script>(.*?)</script>", source, re.DOTALL)
    assert len(scripts) == 2
    allowed = html.unescape(policy[1])
    assert [page._hash(script) in allowed for script in scripts] == [True, True]
    assert "default-src 'none'" in allowed
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", source)


def test_credentials_in_urls_are_masked() -> None:
    found = text(with_options(couch_a="http://admin:secret@db:5984/x"))
    assert "http://***@db:5984/x" in found
    assert "secret" not in found


def test_missing_folders_are_created(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "page.html"
    page.write(path, [result()])
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_library_is_embedded_with_its_license() -> None:
    source = page.render([result()])
    assert "uPlot (v1." in source
    assert "Permission is hereby granted" in source
    assert len(source) < 200_000
    assert len(re.findall(r"</script", source)) == 3


@pytest.mark.parametrize("package", page.PACKAGES)
def test_a_missing_package_is_named_before_anything_is_written(
    package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(page.PageUnavailable, match=f"the page needs {package}: pip install jinja2"):
        page.require()
    with pytest.raises(page.PageUnavailable):
        page.write(tmp_path / "page.html", [result()])
    assert not list(tmp_path.iterdir())


def test_every_guarantee_has_its_words() -> None:
    from stalewatch.checkers.judge import GUARANTEES  # noqa: PLC0415 # nothing else here needs it

    assert list(GUARANTEE_WORDS) == list(GUARANTEES)


@pytest.mark.parametrize(
    ("rate", "words"),
    [(None, ""), (0.0, "0 %"), (1.0, "100 %"), (0.123456, "12.3 %"), (1e-9, "<0.001 %"), (0.99999, ">99.9 %")],
)
def test_a_rate_is_never_rounded_to_0_or_100_percent(rate: float | None, words: str) -> None:
    assert percent(rate).replace("\xa0", " ") == words
