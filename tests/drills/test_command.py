"""`stalewatch drill` on the command line: its list of drills, the usage errors, and comparisons of several runs."""

import subprocess
import sys
from pathlib import Path

import pytest

from stalewatch.clients.errors import BadAddress
from stalewatch.commands.main import main
from stalewatch.drills.catalogue import bundled_drills
from stalewatch.drills.repeats import variations

ROOT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]


def test_the_list_shows_what_each_drill_teaches(capsys: Capture) -> None:
    assert main(["drill", "--list"]) == 0
    out = capsys.readouterr().out
    for drill in bundled_drills().values():
        assert f"{drill.name} (" in out
        assert drill.teaches in out
        assert f"expect: {drill.expect}" in out


def test_the_users_own_drills_are_listed_too(capsys: Capture, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("[mine]\nteaches = 'something'\nsteps = [{ fault = 'kill', on = 'all' }]")
    assert main(["drill", "--drills", str(mine), "--list"]) == 0
    assert "mine (mongo, cassandra, couch, memory)\n    something" in capsys.readouterr().out


def test_the_drills_of_one_database_are_listed(capsys: Capture) -> None:
    assert main(["drill", "couch", "--list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert names == [name for name, drill in bundled_drills().items() if "couch" in drill.databases]
    assert main(["drill", "--list", "couch"]) == 0
    assert "kill-node" not in capsys.readouterr().out


REFUSED = {
    "no drill": (["drill", "couch"], "which drill? Give --fault NAME; stalewatch drill couch --list shows them"),
    "no primary": (
        ["drill", "memory", "--fault", "kill-primary", "--topology", "quorum"],
        "this simulated store has no primary; use --topology leader",
    ),
    "no database": (["drill"], "which database? For example: stalewatch drill mongo"),
    "an unknown drill": (["drill", "mongo", "--fault", "no-such"], "kill-primary"),
    "a drill for other databases": (["drill", "memory", "--fault", "link-down"], "memory has no drill 'link-down'"),
    "too short": (["drill", "memory", "--fault", "kill-primary", "--duration", "20"], "the last fault ends after 30 s"),
    "an address": (
        ["drill", "mongo", "--fault", "kill-primary", "--mongo-uri", "mongodb://u:hidden@127.0.0.1:1/?replicaSet=rs0"],
        "leave the address out",
    ),
    "an unknown option to vary": (
        ["drill", "memory", "--fault", "kill-primary", "--vary", "colour=red"],
        "not an option of memory",
    ),
    "a bad value to vary": (["drill", "memory", "--fault", "kill-primary", "--vary", "users=none"], "--users"),
    "a missing file": (["drill", "memory", "--fault", "x", "--drills", "/nowhere.toml"], "/nowhere.toml"),
    "a folder that cannot be made": (
        ["drill", "memory", "--fault", "kill-primary", "--json", "/dev/null/result.json"],
        "/dev/null",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_usage_is_refused_before_anything_is_broken(name: str, capsys: Capture) -> None:
    arguments, message = REFUSED[name]
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert "hidden" not in shown.err + shown.out


def test_an_unknown_fault_is_named(capsys: Capture, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("[mine]\nsteps = [{ fault = 'melt', on = 'all' }]")
    assert main(["drill", "mongo", "--drills", str(mine), "--fault", "mine"]) == 2
    assert "no fault 'melt'" in capsys.readouterr().err


def test_the_package_that_drills_need_is_named_if_it_is_missing() -> None:
    script = "import sys; sys.modules['msgspec'] = None; from stalewatch.commands.main import main; main(['drill'])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr == "stalewatch: drills need msgspec: pip install msgspec\n"


def test_options_vary_together_and_repeats_are_the_outer_loop() -> None:
    found = variations(["write-cl=ONE,QUORUM", "read-cl=ONE,ALL", "rf=3"], 2)
    assert [one.label for one in found] == [
        "--write-cl ONE --read-cl ONE --rf 3",
        "--write-cl QUORUM --read-cl ALL --rf 3",
    ] * 2


@pytest.mark.parametrize("vary", [["a"], ["a="], ["=1"], ["a=1,2", "b=1,2,3"]])
def test_variations_that_do_not_match_are_refused(vary: list[str]) -> None:
    with pytest.raises(BadAddress, match="--vary"):
        variations(vary, 1)


def test_variations_are_compared_within_80_columns(capsys: Capture, tmp_path: Path) -> None:
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
    assert "\nkill-primary --lag 0.001: 2 runs\n  write RTO, s " in table
    assert "\nkill-primary --lag 2: 2 runs\n" in table
    assert table.count("lost writes") == 2
    assert max(map(len, table.splitlines())) <= 80
    assert len(list(tmp_path.glob("*-h.jsonl"))) == 4
    assert "kill" in (tmp_path / "page.html").read_text()
