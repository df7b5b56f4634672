"""Progress: a live view on a real terminal, plain lines everywhere else."""

import io
import re
import sys
import time

import pytest

from stalewatch.clusters.local import ports
from stalewatch.engine.threads import Progress
from stalewatch.history.operation import Fault
from stalewatch.recording.totals import Figures
from stalewatch.reports import progress as module
from stalewatch.reports.progress import LiveView, progress
from tests.reports.terminal import run_on_terminal

NOTHING = Figures(0, {"read": (0, 0), "write": (0, 0)}, {}, {})
BENCH = ["bench.py", "memory", "--seed", "1", "--read-from", "secondary", "--lag", "0.02"]
HEADLESS = ["-m", "locust", "-f", "locustfiles/memory_users.py", "--headless", "-u", "5", "-r", "50", "--rate", "300"]


def test_without_a_terminal_progress_is_a_plain_line_every_few_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with progress(lambda: NOTHING) as advance:
        for now in (100.0, 104.0, 106.0, 107.0, 111.5):
            advance(Progress("load", now, 500, "operations"))
    captured = capsys.readouterr()
    assert captured.err == "load: 106/500 operations\nload: 112/500 operations\n"
    assert captured.out == ""


@pytest.mark.parametrize(
    "environment", [{"TERM": "dumb"}, {"CI": "true"}, {"without": "rich"}], ids=["dumb", "CI", "without rich"]
)
def test_progress_is_plain_lines_too(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if "without" in environment and name.split(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    if "without" in environment:
        monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.delenv("CI", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(module, "PLAIN_EVERY_S", 0)
    with progress(lambda: NOTHING) as advance:
        advance(Progress("warm-up", 1, 2, "s"))
    assert capsys.readouterr().err == "warm-up: 1/2 s\n"


def drawn(state: Progress, *seen: Figures) -> str:
    """Return the last of some frames as plain text of 80 columns."""
    rich = pytest.importorskip("rich.console")
    console = rich.Console(file=io.StringIO(), width=80)
    view = LiveView(console, lambda: NOTHING)
    for one in seen:
        lines = view._lines(state, one)
    console.print(lines)
    return str(console.file.getvalue())


def test_a_frame_has_rates_violations_faults_and_outages() -> None:
    S = 1_000_000_000  # noqa: N806 # a unit
    violated = {"stale_reads": (3, 200), "read_your_writes": (0, 90)}
    seen = [
        Figures(10 * S, {"read": (100, 0), "write": (50, 0)}, violated, {"read": 10 * S, "write": 10 * S}),
        Figures(
            14 * S,
            {"read": (900, 0), "write": (50, 7)},
            violated,
            {"read": 14 * S, "write": 10 * S},
            [Fault(fault="kill", node="m1", start=11 * S, end=None)],
        ),
    ]
    text = drawn(Progress("load", 14, 60, "s"), *seen)
    assert "14/60 s, 46 s left" in text
    assert "202 operations/s (200 reads/s, 2 writes/s), 7 failed" in text
    assert "violations: stale_reads 3 (1.5 %)\n" in text
    assert "fault: kill of m1 for 3.0 s" in text
    assert "outage: no successful write for 4.0 s" in text
    assert "successful read" not in text


def test_a_frame_tells_the_time_left_from_the_operations_left() -> None:
    seen = [Figures(n * 10**9, {"read": (100 * n, 0), "write": (0, 0)}, {}, {}) for n in (1, 2)]
    assert "200/1000 operations, 8 s left" in drawn(Progress("load", 200, 1000, "operations"), *seen)
    assert "no violation in 0 checks" in drawn(Progress("final reads", 1, 7, "keys"), *seen)


@pytest.mark.parametrize("columns", [80, 120])
def test_a_bench_on_a_terminal_shows_a_view_and_leaves_only_the_summary(columns: int) -> None:
    pytest.importorskip("rich")
    seen = run_on_terminal([*BENCH, "--duration", "30", "--rate", "1000"], columns)
    assert seen.code == 0
    frames, _, summary = seen.text.rpartition("write avg/p95 ms: ")
    assert re.search(r"\d+/30 s, \d+ s left", frames)
    assert re.search(r"\d+ operations/s \(\d+ reads/s, \d+ writes/s\)", frames)
    assert "violations: stale_reads " in frames
    assert max(map(len, re.split(r"[\r\n]", frames))) <= columns
    assert "\x1b[?25l" not in seen.output  # whatever kills the process, the cursor is there
    assert "operations/s" not in summary.replace("operations: ", "")
    assert seen.after == seen.before


def test_without_colour_the_view_has_none() -> None:
    seen = run_on_terminal([*BENCH, "--duration", "3", "--rate", "500"], NO_COLOR="1")
    assert " s left" in seen.text
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", seen.output)


def test_ctrl_c_ends_the_view_and_shows_the_summary() -> None:
    pytest.importorskip("rich")
    seen = run_on_terminal([*BENCH, "--duration", "1000000"], interrupt_at=lambda output: "violations: " in output)
    assert seen.code == 130
    assert "the run ended early: interrupted after" in seen.text
    assert seen.text.rstrip().endswith("verdict: invalid")
    assert seen.after == seen.before


def test_a_headless_locust_run_shows_the_view_instead_of_its_tables() -> None:
    pytest.importorskip("rich")
    began = "operations/s ("
    seen = run_on_terminal([*HEADLESS, "-t", "60s"], 120, interrupt_at=lambda output: began in output)
    assert seen.code == 130
    assert re.search(r"\d/60 s, \d+ s left", seen.text)
    assert seen.text.count("# reqs") <= 2  # only the summary's two tables
    assert seen.text.rstrip().endswith("verdict: unknown")
    assert seen.after == seen.before


def test_what_workers_print_appears_above_the_view_and_leaves_nothing_of_it_behind() -> None:
    pytest.importorskip("rich")
    port = str(ports.free(1)[0])
    talking = ["tests/locust/talking_users.py" if word.endswith("users.py") else word for word in HEADLESS]
    workers = ("--processes", "2", "--master-bind-port", port, "--master-port", port, "-t", "300s")
    drawn_for_a_while = re.compile(r"operations/s \(.*logged \d+.*operations/s \(.*logged \d+.*printed", re.DOTALL)
    seen = run_on_terminal(
        [*talking, *workers], 120, interrupt_at=lambda output: bool(drawn_for_a_while.search(output))
    )
    text = "\n".join(seen.screen)
    assert seen.code == 130
    assert " s left" in seen.text
    assert " s left" not in text
    assert "reads/s," not in text
    assert not [one for one in seen.screen if "printed" in one and not re.fullmatch(r"printed \d+ *", one)]
    assert text.count("printed 0") == 2  # one of each worker
    assert text.count("logged 0") == 2
