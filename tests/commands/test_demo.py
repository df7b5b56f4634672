"""`stalewatch demo`: the commands that it prints and runs, and the cluster that it leaves as it found it."""

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stalewatch.clusters.local.mongo import MongoCluster
from stalewatch.commands import demo
from stalewatch.commands.main import main, parser

ROOT = Path(__file__).parents[2]
Run = Callable[..., list[list[str]]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the demo in an empty folder without starting any process; return the subcommands that it would have run."""
    monkeypatch.chdir(tmp_path)

    def run(expected: int = 0, **codes: int) -> list[list[str]]:
        started: list[list[str]] = []

        def start(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
            assert command[:4] == [sys.executable, "-P", "-m", "stalewatch"]
            started.append(command[4:])
            code = codes.get(command[4] if command[4] != "cluster" else command[5], 0)
            if code < 0:
                raise KeyboardInterrupt
            return subprocess.CompletedProcess(command, code)

        monkeypatch.setattr(subprocess, "run", start)
        assert main(["demo"]) == expected
        return started

    return run


def printed(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert all(line.startswith("$ stalewatch ") for line in lines)
    return [shlex.split(line)[2:] for line in lines]


def test_the_commands_that_run_are_those_that_are_printed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    status, *started = run()
    assert status == ["cluster", "status", "mongo"]
    assert started == printed(capsys)
    assert [command[0] for command in started] == ["bench", "bench", "bench", "report"]
    for command in started:
        assert parser(command[0]).parse_args(command)


def test_results_go_to_a_folder_in_the_current_one(run: Run, tmp_path: Path) -> None:
    _, *benches, report = run()
    assert report == ["report", "--force", "results/demo"]
    assert {Path(bench[-1]).parent for bench in benches} == {Path("results/demo")}
    assert (tmp_path / "results" / "demo").is_dir()


def test_a_cluster_that_was_not_running_is_stopped_at_the_end(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(status=3)[-1] == ["cluster", "down", "mongo"]
    assert printed(capsys)[-1] == ["cluster", "down", "mongo"]


def test_a_failed_scenario_ends_the_demo_with_its_exit_code(run: Run) -> None:
    started = run(expected=3, status=3, bench=3)
    assert [command[0] for command in started] == ["cluster", "bench", "cluster"]


def test_an_interrupted_demo_stops_the_cluster_that_it_started(run: Run) -> None:
    assert run(expected=130, status=3, bench=-1)[-1] == ["cluster", "down", "mongo"]


def test_only_in_its_own_checkout_is_the_current_folder_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert demo.command("report") == [sys.executable, "-m", "stalewatch", "report"]
    monkeypatch.chdir(ROOT / "tests")
    assert demo.command("report") == [sys.executable, "-P", "-m", "stalewatch", "report"]


@pytest.mark.server
def test_the_demo_compares_three_scenarios_on_a_real_replica_set(
    whole: MongoCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("jinja2")
    monkeypatch.setenv("STALEWATCH_HOME", str(whole.home))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    out = capfd.readouterr().out
    assert out.count("\nverdict: ") == 3
    assert "side by side" in out
    assert (tmp_path / "results" / "demo" / "report.html").is_file()
    assert any(node.healthy for node in whole.status())
