import json
import sys
from pathlib import Path

import pytest

from stalewatch.commands.main import main
from tests.reports.results import stale_result, write_json


def report(*arguments: object) -> int:
    return main(["report", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_json(tmp_path, "2.json", stale_result("second", 1, 10, topology="leader", write_acks=1, read_from="m2"))
    write_json(tmp_path, "1.json", stale_result("first", 5, 10, topology="leader", write_acks=1, read_from="m1"))
    (tmp_path / "history.jsonl").write_text("not a result, and ignored")
    return tmp_path


def test_the_results_of_a_folder_are_shown_side_by_side_and_as_a_page(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("jinja2")
    assert report(folder) == 0
    out = capsys.readouterr().out
    assert out.index("m1") < out.index("m2")
    assert "5 of 10 reads were stale" in out
    assert out.splitlines()[-1] == f"report: {folder / 'report.html'}"
    assert "<html" in (folder / "report.html").read_text()


def test_single_files_are_accepted_and_html_sets_the_path_of_the_page(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("jinja2")
    page = folder / "new" / "page.html"
    assert report(folder / "2.json", "--html", page) == 0
    assert page.exists()
    assert "m1" not in capsys.readouterr().out


@pytest.mark.parametrize("chosen", [(), ("--html", "page.html")])
def test_a_page_that_exists_is_overwritten_by_force_only(
    folder: Path, chosen: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("jinja2")
    monkeypatch.chdir(folder)
    page = folder / (chosen[-1] if chosen else "report.html")
    page.write_text("mine")
    assert report(folder, *chosen) == 2
    captured = capsys.readouterr()
    assert f"{page.name} exists: give --force to overwrite it, or --html FILE for another one" in captured.err
    assert "5 of 10 reads were stale" in captured.out
    assert page.read_text() == "mine"
    assert report(folder, *chosen, "--force") == 0
    assert "<html" in page.read_text()


def test_results_are_found_below_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jinja2")
    above = folder / "above"
    (above / "demo").mkdir(parents=True)
    (folder / "1.json").rename(above / "demo" / "1.json")
    assert report(above) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {above / 'report.html'}"


def test_each_result_of_a_repeated_or_varied_drill_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jinja2")
    path = tmp_path / "drill.json"
    load = ("--fault", "kill-replica", "--at", "1", "--for", "1", "--after", "1", "--seed", "6")
    assert main(["drill", "memory", *load, "--vary", "write-acks=1,2", "--json", str(path)]) == 0
    assert report(tmp_path) == 0
    shown = capsys.readouterr().out
    assert "w=1" in shown.partition("side by side")[2]
    assert "w=2" in shown.partition("side by side")[2]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "input data was truncated"),
        ("[]", "expected `object`, got `array`"),
        ("null", "expected `object`, got `null`"),
        ('{"verdict": "valid", "guarantees": {}}', "object missing required field `stale_reads` - at `$.guarantees`"),
        ("\udcff", "invalid"),
    ],
)
def test_a_file_that_is_not_a_result_is_skipped_with_one_line_and_the_others_are_shown(
    folder: Path, text: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("jinja2")
    bad = folder / "0.json"
    bad.write_bytes(text.encode(errors="surrogateescape"))
    assert report(folder) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"stalewatch report: {bad}: not the result of a run: ")
    assert reason in captured.err
    assert captured.err.endswith("; skipped\n")
    assert captured.err.count("\n") == 1
    assert captured.out.index("m1") < captured.out.index("m2")
    assert captured.out.splitlines()[-1] == f"report: {folder / 'report.html'}"


def test_without_any_result_nothing_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.json").write_text("{}")
    assert report(tmp_path) == 2
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "report.html").exists()


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(tmp_path / "none.json") == 2
    assert str(tmp_path / "none.json") in capsys.readouterr().err


def test_an_empty_folder_explains_how_to_make_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(tmp_path) == 2
    assert "write some with: stalewatch bench ... --json FILE" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_is_a_usage_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jinja2")
    assert report(folder, "--html", folder / "1.json" / "page.html") == 2
    assert "stalewatch report: " in capsys.readouterr().err


def test_a_page_on_a_full_disk_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jinja2")
    assert report(folder, "--html", "/dev/full") == 74
    assert "stalewatch report: /dev/full: No space left on device" in capsys.readouterr().err


def test_without_jinja2_the_table_is_printed_and_the_missing_package_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert report(folder) == 2
    captured = capsys.readouterr()
    assert "5 of 10 reads were stale" in captured.out
    assert "pip install" in captured.err
    assert "jinja2" in captured.err


def test_a_result_written_by_the_bench_is_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jinja2")

    path = tmp_path / "r.json"
    assert main(["bench", "memory", "--ops", "200", "--json", str(path)]) == 0
    assert report(path) == 0
    assert json.loads(path.read_text())["run"]
    assert "reads was stale" in capsys.readouterr().out


def test_histories_and_results_of_check_are_refused_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history, checked = tmp_path / "run.jsonl.gz", tmp_path / "checked.json"
    assert main(["bench", "memory", "--ops", "50", "--history", str(history)]) == 0
    capsys.readouterr()
    assert main(["check", str(history), "--json"]) == 0
    checked.write_text(capsys.readouterr().out)
    assert report(history, checked) == 2
    err = capsys.readouterr().err
    assert f"{history}: a history, not the result of a run: `stalewatch check {history}` judges it" in err
    assert f"{checked}: not the result of a run: object missing required field `database`; the result of" in err


def test_a_very_long_name_of_a_run_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(tmp_path, "1.json", stale_result("first", 5, 10, topology="x" * 1_000_000))
    assert report(tmp_path) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) < 2000
    assert "xxx…: 5 of 10 reads were stale" in out
