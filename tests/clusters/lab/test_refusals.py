"""A lab that cannot be created explains why, and leaves nothing behind."""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stalewatch.clusters.lab import links
from stalewatch.clusters.lab.network import RANGE, Lab
from stalewatch.clusters.local import home
from stalewatch.clusters.protocol import MissingProgram
from stalewatch.commands import cluster as command

REFUSED = """
import sys
from pathlib import Path
from stalewatch.clusters.lab.network import Lab
lab = Lab(Path(sys.argv[1]), ["node"])
try:
    lab.prepare(print, lambda: None)
except Exception as error:
    print(type(error).__name__, error)
"""


def do(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(words))


@pytest.fixture
def elsewhere(lab_rights: Lab) -> Iterator[str]:
    """A network namespace in which other routes may exist."""
    assert lab_rights
    name = f"stalewatch-test-{os.getpid()}"
    links.run("ip", "netns", "add", name)
    links.run("ip", "-netns", name, "link", "set", "lo", "up")
    yield name
    links.run("ip", "netns", "delete", name)


def refused(namespace: str, folder: Path) -> str:
    words = [*links.inside(namespace), sys.executable, "-c", REFUSED, str(folder)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_a_lab_without_root_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(home.VARIABLE, str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert do("up", "mongo", "--lab") == command.UNREACHABLE
    assert (
        "only root may create the network namespaces of a lab: use sudo, or leave out --lab" in capsys.readouterr().err
    )


def test_a_missing_command_is_reported_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    find = shutil.which
    monkeypatch.setattr(shutil, "which", lambda program: None if program == "nft" else find(program) or program)
    with pytest.raises(MissingProgram, match=r"needs the command nft: .*apt-get install nftables"):
        links.require_privileges()


def test_a_subnet_in_use_is_skipped(elsewhere: str, tmp_path: Path) -> None:
    lab = Lab(tmp_path, ["node"])
    usual = lab.subnet
    links.run("ip", "-netns", elsewhere, "route", "add", str(usual), "dev", "lo")
    try:
        output = refused(elsewhere, tmp_path)
        assert output.startswith("creating an isolated network for node: 198.1")
        assert lab.subnet != usual
        assert RANGE.supernet_of(lab.subnet)
    finally:
        lab.remove(print)


def test_a_lab_is_refused_if_the_whole_range_is_in_use(elsewhere: str, tmp_path: Path) -> None:
    links.run("ip", "-netns", elsewhere, "route", "add", str(RANGE), "dev", "lo")
    assert refused(elsewhere, tmp_path).startswith(
        "RangeTaken this machine has routes to all of 198.18.0.0/15, the addresses of labs"
    )
    assert not Path("/run/netns", Lab(tmp_path, ["node"]).hub).exists()


def test_a_lab_whose_subnet_is_now_in_use_explains_how_to_move_it(elsewhere: str, tmp_path: Path) -> None:
    lab = Lab(tmp_path, ["node"])
    lab.prepare(print, lambda: None)
    lab.remove(print)
    links.run("ip", "-netns", elsewhere, "route", "add", str(lab.subnet), "dev", "lo")
    assert refused(elsewhere, tmp_path).startswith("RangeTaken this machine has a route to 198.1")


def test_down_without_a_lab_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(home.VARIABLE, str(tmp_path / "none"))
    assert do("down", "mongo", "--lab") == command.DONE
    assert capsys.readouterr().out == "mongo --lab is stopped\n"
    assert not (tmp_path / "none").exists()
