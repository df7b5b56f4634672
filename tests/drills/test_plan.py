"""Drills as data: those that come along make sense, and one's own say where they do not."""

from pathlib import Path

import pytest

from stalewatch.clients.databases import DATABASES
from stalewatch.drills.plan import BadDrill, catalogue, read
from stalewatch.drills.targets import TARGETS
from stalewatch.faults.catalogue import FAULTS

TWO = """
[two-in-a-row]
databases = ["mongo"]
teaches = '''Two
in a row.'''
options = { mongo = { write-concern = 2 } }

[[two-in-a-row.steps]]
fault = "kill"
on = "primary"
for = 15

[[two-in-a-row.steps]]
fault = "delay"
on = "127.0.0.1:27017"
after = 6
each_way_s = 0.1
"""


def test_the_drills_that_come_along_name_faults_targets_and_options_that_there_are() -> None:
    for drill in catalogue().values():
        assert drill.teaches
        assert drill.expect
        for step in drill.steps:
            assert step.on in TARGETS
            assert step.parameters.keys() <= FAULTS[step.fault].parameters.keys()
        for database, options in drill.options.items():
            known = {option.flag for option in DATABASES[database].flags()}
            assert {f"--{flag}" for flag in options} <= known


def test_those_that_were_asked_for_are_there() -> None:
    names = {
        "kill-primary",
        "pause-primary",
        "isolate-primary",
        "rolling-restart",
        "kill-replica",
        "lagging-replica",
        "resync-replica",
        "semi-sync-stall",
        "minority",
        "kill-all",
        "kill-node",
        "quorum-lost",
        "link-down",
        "kill-leader",
    }
    assert names <= catalogue().keys()


def test_a_file_of_ones_own_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(TWO)
    drill = read(file)["two-in-a-row"]
    first, second = drill.steps
    assert (drill.teaches, drill.options) == ("Two in a row.", {"mongo": {"write-concern": "2"}})
    assert (first.fault, first.on, first.after, first.lasts) == ("kill", "primary", 0, 15)
    assert (second.on, second.after, second.lasts) == ("127.0.0.1:27017", 6, None)
    assert second.parameters == {"each_way_s": 0.1}


WRONG = {
    "no TOML": ("[", "mine.toml: "),
    "no table": ("x = 1", "a table is expected"),
    "no steps": ("[x]\nteaches = ''", "steps is missing"),
    "empty steps": ("[x]\nsteps = []", "a list of [[x.steps]]"),
    "a step without a target": ("[x]\nsteps = [{ fault = 'kill' }]", "step 1: on is missing"),
    "a time that is none": ("[x]\nsteps = [{ fault = 'kill', on = 'all', after = -1 }]", "seconds, 0 or more"),
    "a word that is none": ("[x]\nstep = 1\nsteps = [{ fault = 'kill', on = 'all' }]", "step is unknown"),
    "a database that is none": ("[x]\ndatabases = ['db2']\nsteps = [{ fault = 'kill', on = 'all' }]", "mongo"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_makes_no_sense_is_refused_with_its_place(name: str, tmp_path: Path) -> None:
    text, told = WRONG[name]
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(BadDrill) as refused:
        read(file)
    assert told in str(refused.value)
    assert str(refused.value).startswith(str(file))
