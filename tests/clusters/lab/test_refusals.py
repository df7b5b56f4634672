"""Where a lab cannot be, it says why, and leaves nothing."""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stalewatch.clusters.lab import subnet, system
from stalewatch.clusters.lab.network import Lab
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
    """A namespace in which somebody else uses addresses."""
    assert lab_rights
    name = f"stalewatch-test-{os.getpid()}"
    system.run("ip", "netns", "add", name)
    system.run("ip", "-netns", name, "link", "set", "lo", "up")
    yield name
    system.run("ip", "netns", "delete", name)


def refused(namespace: str, folder: Path) -> str:
    words = [*system.inside(namespace), sys.executable, "-c", REFUSED, str(folder)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_without_root_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(home.VARIABLE, str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert do("up", "mongo", "--lab") == command.UNREACHABLE
    assert "which only root may make: use sudo, or go without --lab" in capsys.readouterr().err


def test_a_command_that_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    find = shutil.which
    monkeypatch.setattr(shutil, "which", lambda program: None if program == "nft" else find(program) or program)
    with pytest.raises(MissingProgram, match=r"needs the command nft: .*apt-get install nftables"):
        system.require()


def test_a_subnet_that_is_in_use_is_passed_over(elsewhere: str, tmp_path: Path) -> None:
    lab = Lab(tmp_path, ["node"])
    usual = lab.subnet
    system.run("ip", "-netns", elsewhere, "route", "add", str(usual), "dev", "lo")
    try:
        said = refused(elsewhere, tmp_path)
        assert said.startswith("making a network of its own for node: 198.1")
        assert lab.subnet != usual
        assert subnet.RANGE.supernet_of(lab.subnet)
    finally:
        lab.remove(print)


def test_where_the_whole_range_is_in_use_it_refuses_and_leaves_nothing(elsewhere: str, tmp_path: Path) -> None:
    system.run("ip", "-netns", elsewhere, "route", "add", str(subnet.RANGE), "dev", "lo")
    assert refused(elsewhere, tmp_path).startswith(
        "RangeTaken this machine has routes into all of 198.18.0.0/15, where labs have their addresses"
    )
    assert not Path("/run/netns", Lab(tmp_path, ["node"]).hub).exists()


def test_a_lab_whose_addresses_are_in_use_now_says_how_to_move_it(elsewhere: str, tmp_path: Path) -> None:
    lab = Lab(tmp_path, ["node"])
    lab.prepare(print, lambda: None)
    lab.remove(print)
    system.run("ip", "-netns", elsewhere, "route", "add", str(lab.subnet), "dev", "lo")
    assert refused(elsewhere, tmp_path).startswith("RangeTaken this machine has a route to 198.1")


def test_down_where_no_lab_is_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(home.VARIABLE, str(tmp_path / "none"))
    assert do("down", "mongo", "--lab") == command.DONE
    assert capsys.readouterr().out == "mongo --lab is stopped\n"
    assert not (tmp_path / "none").exists()
