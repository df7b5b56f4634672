import sys

import pytest

from stalewatch.checkers.judge import Judge
from stalewatch.checkers.verdict import Verdict
from stalewatch.reports.table import COLUMNS, rows, show

WIDE = [("a" * 70, "b" * 70, "holds"), ("c", "[red]d[/red]", "violated")]


def test_a_row_has_counts_rate_interval_and_verdict_in_words() -> None:
    verdict = Verdict("stale_reads", checked=200, violated=20)
    assert rows({"stale_reads": verdict}) == [("stale_reads", "200", "20", "0.1000", "0.0657-0.1494", "violated")]


def test_every_guarantee_has_a_row_also_without_evidence() -> None:
    found = rows(Judge().verdicts())
    assert len(found) == 9
    assert {len(row) for row in found} == {len(COLUMNS)}
    assert found[0] == ("stale_reads", "0", "0", "", "", "no evidence")


@pytest.mark.parametrize("columns", ["20", "80", "1000"])
def test_a_table_in_a_file_is_as_wide_as_it_has_to_be(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", columns)
    show("title", ("x", "y", "z"), WIDE)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("title")
    assert any(all(cell in line for cell in WIDE[0]) for line in lines)


def test_cells_are_text_and_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    show("title", ("x", "y", "z"), WIDE)
    assert "[red]d[/red]" in capsys.readouterr().out


def test_without_rich_columns_are_parted_by_tabs_one_row_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.split(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "rich", None)
    show("title", ("", "w=1\nsecondary"), [("stale", "1 %")])
    assert capsys.readouterr().out == "title\n\tw=1 secondary\nstale\t1 %\n"
