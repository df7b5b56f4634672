import copy
import html
import json
import re
import sys
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from stalewatch.reports import page, page_charts
from stalewatch.reports.words import GUARANTEE_WORDS, percent, run_sentence

Result = dict[str, Any]

NOTHING = {"checked": 0, "violated": 0, "rate": None, "interval": None, "witnesses": []}
WRITE = {"op": "write", "session": "s1", "key": "k7", "version": 3, "start": 10**18, "outcome": "ok", "node": "m1"}
WRITE_ENDED = WRITE | {"end": 10**18 + 2_000_000}
READ = {"op": "read", "session": "s2", "key": "k7", "version": 2, "outcome": "ok", "node": "m2"}
READ_ENDED = READ | {"start": 10**18 + 6_000_000, "end": 10**18 + 8_000_000}
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


@pytest.fixture(autouse=True)
def _small_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out five megabytes that no test here reads."""
    monkeypatch.setattr(page, "_plotly", lambda: "/* plotly */")


def text(*results: Result) -> Text:
    return Text(page.render(results))


def test_a_page_shows_verdicts_rates_latencies_errors_and_options() -> None:
    found = text(result())
    assert "mongo 20260102030405abcd" in found
    assert "2026-01-02 03:04:05" in found
    assert (
        "15 % of the reads were stale (300 of 2,000), half of them by 12.0 ms or more and at worst by 1.50 s" in found
    )
    assert "writes: 500 ok, 7 failed, 2 unknown" in found
    assert "✗ violated 15 % 300 / 2,000" in found
    assert "✓ holds 0 % 0 / 1,000" in found
    assert "? no evidence" in found
    assert "not applicable" in found
    assert "NotPrimary 7" in found
    assert "reads service time 1.50 1.00 4.00 9.00 12.0" in found
    assert "replication lag 300 300 12.0 ms 300 ms 900 ms 1.50 s" in found
    assert "write_concern 1 read_from secondary users 20 driver.retry_writes off" in found


def test_every_guarantee_is_explained() -> None:
    for found in (text(result()), text(result(), result())):
        for name, words in GUARANTEE_WORDS.items():
            assert name in found
            assert words.promise in found


def test_the_times_of_a_witness_are_relative_to_its_first_operation() -> None:
    found = text(result())
    assert "replication lag, stale for 4.00 ms" in found
    assert "write s1 k7 3 m1 0.000 2.000" in found
    assert "read s2 k7 2 m2 6.000 8.000" in found
    bars = [
        attributes["style"] for _, attributes in found.tags if (attributes.get("class") or "").strip() == "bar read"
    ]
    assert "left:min(75.0%, calc(100% - 4px));width:25.0%" in bars


def test_the_bar_of_a_write_that_never_ended_reaches_the_end() -> None:
    never = WRITE | {"end": None, "outcome": "unknown", "error": "Timeout"}
    found = text(result(guarantees=result()["guarantees"] | {"phantom_reads": stale(READ_ENDED, never)}))
    assert "write (unknown: Timeout) s1 k7 3 m1 0.000 never" in found


def test_operations_on_registers_lists_and_counters_show_their_content() -> None:
    span = {"start": 0, "end": 1, "outcome": "ok", "key": "k"}
    final = span | {"op": "final", "version": 4, "siblings": [2, 3]}
    items = span | {"op": "final", "items": ["a", "b"]}
    append = span | {"op": "append", "session": "s1", "item": "s1-7"}
    draw = span | {"op": "draw", "session": "s1", "value": 12}
    found = text(result(guarantees=result()["guarantees"] | {"lost_writes": stale(final, items, append, draw)}))
    for words in ("final read k 4, siblings 2, 3", "2 items", "item s1-7", "value 12"):
        assert words in found


def test_runs_are_shown_side_by_side_under_their_levels() -> None:
    found = text(result(), with_options(write_concern="majority", read_from="primary"))
    assert "2 runs of mongo" in found
    assert "w=1 / secondary w=majority / primary stale_reads" in found
    assert [tag for tag, _ in found.tags].count("details") == 2


def test_options_that_differ_come_first() -> None:
    found = text(result(), with_options(users=50))
    assert "users 20 50 write_concern 1 1" in found


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


def test_freshness_has_two_small_tables() -> None:
    buckets = [
        {"from_s": 0.0, "to_s": 0.0001, "checked": 4, "stale": 2},
        {"from_s": 0.005, "to_s": 0.01, "checked": 1996, "stale": 298},
        {"from_s": 100.0, "to_s": None, "checked": 10, "stale": 0},
    ]
    fresh = stale() | {"freshness": buckets, "fresh_after_s": {"99": 0.02, "99.9": None}}
    found = text(result(guarantees=result()["guarantees"] | {"stale_reads": fresh}))
    assert "run 99 % fresh after 99.9 % fresh after w=1 / secondary 20.0 ms no such time seen" in found
    assert "less than 0.100 ms 4 2 50 %" in found
    assert "5.00 ms to 10.0 ms 1,996 298" in found
    assert "100.00 s or more 10 0 0 %" in found


def test_a_result_from_before_a_guarantee_was_added_can_still_be_shown() -> None:
    rows = {name: one for name, one in result()["guarantees"].items() if name != "unexpected_items"}
    assert "unexpected_items ? no evidence" in text(result(guarantees=rows))


def test_the_result_of_check_is_enough_for_a_page() -> None:
    one = {name: value for name, value in result().items() if name in {"verdict", "complete", "guarantees"}}
    found = text(one | {"complete": False, "duplicate_items": 2, "phantom_items": 0})
    assert "the history is incomplete" in found
    assert "2 list items appeared more than once" in found
    assert "Errors" not in found


def test_response_times_have_their_own_rows_and_panels() -> None:
    latency = {"service_ms": TIMES, "response_ms": TIMES | {"p99": 900.0}}
    open_loop = result(latency={"read": latency, "write": latency})
    assert "reads service time" in text(open_loop)
    assert "reads response time 1.50 1.00 4.00 900 12.0" in text(open_loop)
    figure = page_charts.latencies(["one", "two"], [result(), open_loop])
    assert figure is not None
    assert [note["text"] for note in figure["layout"]["annotations"]] == [
        "<b>reads, service time</b>",
        "<b>writes, service time</b>",
        "<b>reads, response time</b>",
        "<b>writes, response time</b>",
    ]


def test_rates_have_error_bars() -> None:
    figure = page_charts.rates(["one"], [result()])
    dots = figure["data"][0]
    assert dots["name"] == "stale reads"
    assert dots["x"] == [15.0]
    assert dots["error_x"]["array"] == [pytest.approx(1.6)]
    assert dots["error_x"]["arrayminus"] == [pytest.approx(1.5)]
    assert "no evidence" in figure["data"][-1]["text"][0]


def test_the_timeline_fills_seconds_without_operations() -> None:
    figure = page_charts.timeline(result())
    assert figure is not None
    assert {line["name"]: line["y"] for line in figure["data"]} == {
        "reads ok": [5, 0],
        "writes ok": [0, 0],
        "failed": [7, 0],
        "stale reads": [0, 0],
    }


def test_plotly_accepts_every_figure() -> None:
    from plotly.graph_objects import Figure  # noqa: PLC0415 # it loads slowly

    figures = page.content([result(), result(run="other")])["figures"]
    assert set(figures) == {"rates", "latencies", "timeline0", "timeline1"}
    for figure in figures.values():
        Figure(json.loads(re.sub(r'"--[a-z]+"', '"red"', json.dumps(figure))))


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


def test_labels_in_charts_are_escaped() -> None:
    figures = page.content([result(run=HOSTILE, options={}), result()])["figures"]
    for figure in figures.values():
        assert "<img" not in json.dumps(figure)
        assert "<script" not in json.dumps(figure)


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


def test_plotly_is_embedded_in_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    source = page.render([result()])
    assert "Plotly.react" in source
    assert len(source) > 1_000_000
    assert len(re.findall(r"</script", source)) == 3


@pytest.mark.parametrize("package", page.PACKAGES)
def test_a_missing_package_is_named_before_anything_is_written(
    package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(page.PageUnavailable, match=f"the page needs {package}: pip install jinja2 plotly"):
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
