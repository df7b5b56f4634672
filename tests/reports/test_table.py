import json
import sys
from pathlib import Path

import pytest

from stalewatch.checkers.judge import Judge
from stalewatch.checkers.verdict import Verdict
from stalewatch.reports.table import (
    COLUMNS,
    group_labels,
    labels,
    rows,
    show,
    show_guarantees,
    show_side_by_side,
    stale_sentence,
)
from tests.reports.results import result, stale_result, with_counts, with_latency
from tests.reports.terminal import run_on_terminal

WIDE = [("a" * 70, "b" * 70, "holds"), ("c", "[red]d[/red]", "violated")]


def test_a_row_has_counts_rate_interval_and_verdict() -> None:
    verdict = Verdict("stale_reads", checked=200, violated=20)
    assert rows({"stale_reads": verdict}) == [("stale_reads", "200", "20", "0.1000", "0.0657-0.1494", "violated")]


def test_guarantees_that_nothing_checked_share_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = Judge().verdicts()
    for name in ("stale_reads", "lost_writes", "unique_ids"):
        verdicts[name].checked = 5
    verdicts["conflicts"].applicable = False
    assert [row[0] for row in rows(verdicts)] == ["stale_reads", "lost_writes", "unique_ids"]
    assert {len(row) for row in rows(verdicts)} == {len(COLUMNS)}
    show_guarantees("run", verdicts)
    *_, last = capsys.readouterr().out.splitlines()
    assert last == (
        "no evidence (nothing checked): read_your_writes, monotonic_reads, read_regressions, consistent_prefix, "
        "phantom_reads, unexpected_items; not applicable: conflicts"
    )


@pytest.mark.parametrize("columns", ["20", "80", "1000"])
def test_a_table_in_a_file_is_as_wide_as_its_content(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", columns)
    show("title", ("x", "y", "z"), WIDE)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("title")
    assert any(all(cell in line for cell in WIDE[0]) for line in lines)


def test_markup_in_cells_is_printed_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    show("title", ("x", "y", "z"), WIDE)
    assert "[red]d[/red]" in capsys.readouterr().out


def test_without_rich_each_row_is_one_line_separated_by_tabs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.split(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "rich", None)
    show("title", ("", "w=1\nsecondary"), [("stale", "1 %")])
    assert capsys.readouterr().out == "title\n\tw=1 secondary\nstale\t1 %\n"


# Runs side by side.

LEADER = {"topology": "leader", "write_acks": 1, "read_from": "follower"}
STRICT = {"topology": "leader", "write_acks": "majority", "read_from": "leader"}


def test_the_sentence_starts_with_the_worst_run_and_gives_counts_rate_and_age() -> None:
    good = with_counts(result("r1", **STRICT), "stale_reads", 0, 100)
    bad = stale_result("r2", 25, 200, **LEADER)
    assert stale_sentence([good, bad]) == (
        "leader: w=1 / follower: 25 of 200 reads were stale (12.50%), by up to 1.50 s; "
        "leader: w=majority / leader: none of 100 reads was stale."
    )


def test_the_sentence_says_so_if_no_read_could_be_checked() -> None:
    nothing = result("r1", **LEADER)  # type: ignore[arg-type] # options
    assert stale_sentence([nothing]) == "leader: w=1 / follower: no read could be checked for staleness."


def test_runs_at_the_same_levels_are_told_apart_in_the_sentence() -> None:
    sentence = stale_sentence(
        [stale_result("r1", 1, 10, **LEADER, users=5), stale_result("r2", 2, 10, **LEADER, users=50)]
    )
    assert "users=5:" in sentence
    assert "users=50:" in sentence


def test_the_table_has_one_column_for_each_run(capsys: pytest.CaptureFixture[str]) -> None:
    slow = with_latency(stale_result("r2", 25, 200, **LEADER), "write", p95=12.345)
    show_side_by_side([with_counts(result("r1", **STRICT), "lost_writes", 7, 100), slow])
    cells = {line[:19].strip(): line[19:].split() for line in capsys.readouterr().out.splitlines()}
    assert cells["stale reads"] == ["no", "evidence", "12.50%"]
    assert cells["lost writes"] == ["7", "no", "evidence"]
    assert cells["staleness, median"] == ["12.30", "ms"]
    assert cells["staleness, max"] == ["1.50", "s"]
    assert cells["write p95"] == ["no", "evidence", "12.35", "ms"]
    assert cells["verdict"] == ["invalid", "invalid"]


def test_no_run_and_no_figure_is_cut_off_on_a_terminal_of_80_columns(tmp_path: Path) -> None:
    for number in range(5):
        file = tmp_path / f"{number}.json"
        file.write_text(json.dumps(stale_result(f"r{number}", number, 10, **LEADER, users=number)))
    seen = run_on_terminal(["-m", "stalewatch", "report", str(tmp_path)])
    lines = [line.rpartition("\r")[2].rstrip() for line in seen.text.splitlines() if "reads were stale" not in line]
    table = "\n".join(lines[:-1])  # the last one names the page
    assert "…" not in table
    assert max(map(len, table.splitlines())) <= 80
    for number in range(5):
        assert table.count(f"users={number}") == 1, table
        assert f"{number * 10}.00%" in table, table


# Labels.

MONGO = {"write_concern": "1", "read_from": "secondary"}


@pytest.mark.parametrize(
    ("database", "options", "label"),
    [
        ("mongo", {"driver": {"write_concern": {"w": 2}, "read_from": "nearest"}}, "w=2 / nearest"),
        ("mongo", {"write_concern": "majority", "read_concern": "linearizable"}, "w=majority / primary, linearizable"),
        ("mongo", {"read_strategy": "sticky"}, "w=1 / primary, sticky"),
        ("cassandra", {"write_cl": "QUORUM", "read_cl": "ONE"}, "QUORUM / ONE"),
        ("couch", {"write_to": "both", "read_from": "a"}, "write both / read a"),
        (
            "memory",
            {"topology": "leader", "write_acks": 1, "driver": {"reads_at": "follower"}},
            "leader: w=1 / follower",
        ),
        ("memory", {"topology": "quorum", "write_acks": "all", "read_acks": 1}, "quorum: w=all / r=1"),
        (
            "memory",
            {"topology": "multi-leader", "write_to": "home", "read_from": "m2", "driver": {"writes_at": "m1"}},
            "multi-leader: write m1 / read m2",
        ),
    ],
)
def test_a_run_is_labelled_by_its_consistency_levels(database: str, options: dict[str, object], label: str) -> None:
    assert labels([result(database=database, **options)]) == [label]  # type: ignore[arg-type] # options


def test_equal_labels_are_extended_by_what_differs() -> None:
    mongo = {"database": "mongo", **MONGO}
    assert labels([result(**mongo, users=10, lag=0.1), result(**mongo, users=20, lag=0.2)]) == [
        "w=1 / secondary, users=10",
        "w=1 / secondary, users=20",
    ]
    repeats = [result("a", **mongo), result("b", **mongo)]
    assert labels(repeats) == ["w=1 / secondary, run 1", "w=1 / secondary, run 2"]
    assert group_labels(repeats) == ["w=1 / secondary", "w=1 / secondary"]
    drills = [{**one, "drill": drill} for one, drill in zip(repeats, ("kill-primary", "pause-primary"), strict=True)]
    assert labels(drills) == ["w=1 / secondary, kill-primary", "w=1 / secondary, pause-primary"]
    couch = result(database="couch", write_to="a", read_from="b")
    assert labels([result(**mongo), couch]) == ["mongo: w=1 / secondary", "couch: write a / read b"]
