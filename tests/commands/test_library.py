"""The library: `stalewatch.check` and `stalewatch.read_history`, and their documentation."""

import doctest
import gc
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import stalewatch
from stalewatch.checkers import files
from stalewatch.checkers.files import judge_files
from stalewatch.commands.main import main
from stalewatch.history.reader import BadHistory
from tests.history.lines import CLOSE, as_operations, file_of, header, read, write

PAGE = Path(__file__).parents[2] / "docs" / "library.md"
FENCE = re.compile(r"^```(?P<language>[\w ]+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)

STALE = [write(1, 1, 2), read(0, 3, 4)]


def fences(language: str) -> Iterator[str]:
    for fence in FENCE.finditer(PAGE.read_text(encoding="utf-8")):
        if fence["language"] == language:
            yield fence["text"]


def test_the_examples_of_the_page_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (history,) = fences("json lines")
    Path("run.jsonl").write_text(history)
    session = doctest.DocTestParser().get_doctest("\n".join(fences("pycon")), {}, PAGE.name, str(PAGE), 0)
    report: list[str] = []
    results = doctest.DocTestRunner().run(session, out=report.append)
    assert (results.attempted > 5, results.failed) == (True, 0), "".join(report)


def test_check_returns_what_the_command_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = file_of(tmp_path, header(), *STALE, CLOSE, name="first.jsonl.zst")
    second = file_of(tmp_path, header(worker=1), write(1, 1, 2, key="other"), name="second.jsonl.gz")
    main(["check", "--json", str(first), str(second)])
    printed = json.loads(capsys.readouterr().out)
    assert stalewatch.check([first, str(second)]) == printed
    assert (printed["verdict"], printed["complete"]) == ("invalid", False)


def test_read_history_yields_operations_in_judging_order(tmp_path: Path) -> None:
    first = file_of(tmp_path, header(), write(1, 1, 2), write(2, 5, 6), CLOSE, name="first.jsonl")
    second = file_of(tmp_path, header(worker=1), read(0, 3, 4), CLOSE, name="second.jsonl.zst")
    in_order = as_operations([write(1, 1, 2), read(0, 3, 4), write(2, 5, 6)])
    assert list(stalewatch.read_history([str(first), second])) == in_order


def test_a_single_path_is_accepted(tmp_path: Path) -> None:
    path = file_of(tmp_path, header(), *STALE, CLOSE)
    for one in (path, str(path)):
        assert stalewatch.check(one) == stalewatch.check([path])
        assert list(stalewatch.read_history(one)) == as_operations(STALE)


def test_an_invalid_history_is_rejected_with_file_and_line(tmp_path: Path) -> None:
    path = file_of(tmp_path, header(), write(1, 1, 2), read(0, 5, 4))
    with pytest.raises(stalewatch.BadHistory, match=rf"^{path}:3: `end` 4 is before `start` 5$"):
        stalewatch.check([path])
    operations = stalewatch.read_history([path])
    assert next(operations) == as_operations([write(1, 1, 2)])[0]
    with pytest.raises(stalewatch.BadHistory, match=f"^{path}:3: "):
        next(operations)
    with pytest.raises(stalewatch.BadHistory, match="no such file"):
        stalewatch.read_history([tmp_path / "missing.jsonl"])


def test_no_files_are_an_error() -> None:
    with pytest.raises(ValueError, match="no history files given"):
        stalewatch.check([])
    with pytest.raises(ValueError, match="no history files given"):
        stalewatch.read_history([])


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert stalewatch.BadHistory is BadHistory
    with pytest.raises(AttributeError, match="module 'stalewatch' has no attribute 'chekc'"):
        stalewatch.chekc  # type: ignore[attr-defined] # noqa: B018 # misspelled on purpose


def test_importing_stalewatch_loads_nothing_else() -> None:
    code = (
        "import sys, stalewatch; print([name for name in sys.modules if name.startswith(('stalewatch.', 'msgspec'))])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_judging_leaves_the_garbage_collector_as_it_was(tmp_path: Path) -> None:
    path = file_of(tmp_path, header(), *STALE, CLOSE)
    judge_files([path])
    assert gc.isenabled()
    gc.disable()
    try:
        judge_files([path])
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_progress_is_reported_while_files_are_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PROGRESS_EVERY", 20_000)
    path = file_of(tmp_path, header(), *(write(number, number, number) for number in range(1, 45_001)), CLOSE)
    reported: list[int] = []
    judge_files([path], reported.append)
    assert reported == [20_000, 40_000]
