"""`stalewatch drill` before anything is broken: what it lists, what it refuses, and what it says then."""

from pathlib import Path

import pytest

from stalewatch.clients.errors import BadAddress
from stalewatch.commands.main import main
from stalewatch.drills.plan import catalogue
from stalewatch.drills.variations import variations

Capture = pytest.CaptureFixture[str]


def test_the_list_says_what_each_drill_teaches(capsys: Capture) -> None:
    assert main(["drill", "--list"]) == 0
    out = capsys.readouterr().out
    for drill in catalogue().values():
        assert f"{drill.name} (" in out
        assert drill.teaches in out
        assert f"expect: {drill.expect}" in out


def test_ones_own_are_listed_too(capsys: Capture, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("[mine]\nteaches = 'something'\nsteps = [{ fault = 'kill', on = 'all' }]")
    assert main(["drill", "--drills", str(mine), "--list"]) == 0
    assert "mine (mongo, cassandra, couch, memory)\n    something" in capsys.readouterr().out


REFUSED = {
    "no database": (["drill"], "which database?"),
    "no drill": (["drill", "mongo", "--fault", "no-such"], "kill-primary"),
    "another database's": (["drill", "memory", "--fault", "link-down"], "no drill of memory"),
    "too short": (["drill", "memory", "--fault", "kill-primary", "--duration", "20"], "over at 30 s; give more"),
    "an address": (
        ["drill", "mongo", "--fault", "kill-primary", "--mongo-uri", "mongodb://u:hidden@127.0.0.1:1/?replicaSet=rs0"],
        "leave the address out",
    ),
    "an unknown option": (
        ["drill", "memory", "--fault", "kill-primary", "--vary", "colour=red"],
        "no option of memory",
    ),
    "a value that is none": (["drill", "memory", "--fault", "kill-primary", "--vary", "users=none"], "--users"),
    "no file": (["drill", "memory", "--fault", "x", "--drills", "/nowhere.toml"], "/nowhere.toml"),
    "a folder that is none": (
        ["drill", "memory", "--fault", "kill-primary", "--json", "/nowhere/result.json"],
        "/nowhere/result.json",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused_before_anything_is_broken(name: str, capsys: Capture) -> None:
    arguments, told = REFUSED[name]
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert told in shown.err
    assert "hidden" not in shown.err + shown.out


def test_a_fault_that_there_is_not_is_named(capsys: Capture, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("[mine]\nsteps = [{ fault = 'melt', on = 'all' }]")
    assert main(["drill", "mongo", "--drills", str(mine), "--fault", "mine"]) == 2
    assert "no fault 'melt'" in capsys.readouterr().err


def test_values_of_several_options_go_together_and_repeats_stand_outside() -> None:
    found = variations(["write-cl=ONE,QUORUM", "read-cl=ONE,ALL", "rf=3"], 2)
    assert [one.words for one in found] == [
        "--write-cl ONE --read-cl ONE --rf 3",
        "--write-cl QUORUM --read-cl ALL --rf 3",
    ] * 2


@pytest.mark.parametrize("vary", [["a"], ["a="], ["=1"], ["a=1,2", "b=1,2,3"]])
def test_variations_that_do_not_fit_are_refused(vary: list[str]) -> None:
    with pytest.raises(BadAddress, match="--vary"):
        variations(vary, 1)


def test_drills_that_vary_stand_side_by_side(capsys: Capture, tmp_path: Path) -> None:
    short = (
        "--at",
        "1",
        "--for",
        "3",
        "--duration",
        "9",
        "--users",
        "4",
        "--keys",
        "20",
        "--rate",
        "100",
        "--seed",
        "4",
    )
    varied = ("--vary", "lag=0.001,2", "--repeat", "2", "--history", str(tmp_path / "h.jsonl"))
    arguments = ["drill", "memory", "--fault", "kill-primary", *short, *varied, "--report", str(tmp_path / "page.html")]
    assert main(arguments) == 0
    table = capsys.readouterr().out.rpartition("median (least - most)")[2]
    rows = {line.split()[1]: line for line in table.splitlines() if "--lag" in line}
    assert rows.keys() == {"0.001", "2"}
    assert [line.split()[2] for line in rows.values()] == ["2", "2"]
    assert len(list(tmp_path.glob("*-h.jsonl"))) == 4
    assert "kill" in (tmp_path / "page.html").read_text()
