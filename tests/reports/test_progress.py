import sys
import time

import pytest

from stalewatch.engine.threads import Progress
from stalewatch.reports import progress as module
from stalewatch.reports.progress import progress


def test_without_a_terminal_progress_is_a_plain_line_every_few_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with progress() as advance:
        for now in (100.0, 104.0, 106.0, 107.0, 111.5):
            advance(Progress("load", now, 500, "operations"))
    captured = capsys.readouterr()
    assert captured.err == "load: 106/500 operations\nload: 112/500 operations\n"
    assert captured.out == ""


def test_without_rich_progress_is_plain_lines_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setattr(module, "PLAIN_EVERY_S", 0)
    with progress() as advance:
        advance(Progress("warm-up", 1, 2, "s"))
    assert capsys.readouterr().err == "warm-up: 1/2 s\n"


def test_on_a_terminal_each_phase_has_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rich")
    for name, value in {"TERM": "xterm", "FORCE_COLOR": "1", "TTY_COMPATIBLE": "1", "COLUMNS": "120"}.items():
        monkeypatch.setenv(name, value)
    with progress() as advance:
        advance(Progress("load", 0, 500, "operations"))
        advance(Progress("load", 500, 500, "operations"))
        advance(Progress("final reads", 3, 7, "keys"))
    shown = capsys.readouterr().err
    assert "500/500" in shown
    assert "3/7" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h")  # the cursor is shown again
