"""The bundled drills make sense, and a file of one's own is refused with the place of its error if it does not."""

from pathlib import Path

import pytest

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.options import check_options, with_values
from stalewatch.drills.catalogue import DEFAULTS, BadDrill, bundled_drills, defaults_of, read_drills
from stalewatch.drills.clusters import TARGETS
from stalewatch.drills.observers import of_one_node
from stalewatch.faults.catalogue import FAULTS

TWO_IN_A_ROW = """
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


def test_the_bundled_drills_use_existing_faults_targets_and_options() -> None:
    for drill in bundled_drills().values():
        assert drill.teaches
        assert drill.expect
        for step in drill.steps:
            assert step.on in TARGETS
            assert step.parameters.keys() <= FAULTS[step.fault].parameters.keys()
        for database, options in drill.options.items():
            known = {option.flag for option in DATABASES[database].flags()}
            assert {f"--{flag}" for flag in options} <= known


def test_the_required_drills_are_bundled() -> None:
    names = {
        "kill-primary",
        "pause-primary",
        "isolate-primary",
        "dirty-reads",
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
    assert names <= bundled_drills().keys()


@pytest.mark.parametrize("strategy", ["plain", "sticky", "token", "pinned"])
@pytest.mark.parametrize("database", [name for name, row in DEFAULTS.items() if row.single_node is not None])
def test_each_node_can_be_read_by_itself_whatever_the_read_strategy(database: str, strategy: str) -> None:
    row = DATABASES[database]
    options = with_values(row.options(), {"read_strategy": strategy})
    check_options(with_values(options, of_one_node(database, "a" if database == "couch" else "127.0.0.1:1")))


def test_a_users_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(TWO_IN_A_ROW)
    drill = read_drills(file)["two-in-a-row"]
    first, second = drill.steps
    assert (drill.teaches, drill.options) == ("Two in a row.", {"mongo": {"write-concern": "2"}})
    assert (first.fault, first.on, first.after, first.lasts) == ("kill", "primary", 0, 15)
    assert (second.on, second.after, second.lasts) == ("127.0.0.1:27017", 6, None)
    assert second.parameters == {"each_way_s": 0.1}


def test_a_drill_without_databases_is_for_all_of_them(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[x]\nsteps = [{ fault = 'kill', on = 'all' }]")
    assert set(read_drills(file)["x"].databases) == set(DATABASES)


def test_defaults_name_existing_options() -> None:
    for name, defaults in DEFAULTS.items():
        assert (defaults.single_node or {}).keys() <= {option.name for option in DATABASES[name].flags()}


def test_a_database_of_another_package_has_no_defaults() -> None:
    assert defaults_of("redis") == (None, None)


STEP = "steps = [{ fault = 'kill', on = 'all' }]"
WRONG = {
    "not TOML": ("[", "mine.toml: "),
    "not a table": ("x = 1", "$.x: Expected `object`, got `int`"),
    "no steps": ("[x]\nteaches = ''", "$.x: Object missing required field `steps`"),
    "empty steps": ("[x]\nsteps = []", "$.x.steps: Expected `array` of length >= 1"),
    "a step that is not a table": ("[x]\nsteps = [1]", "$.x.steps[0]: Expected `object`, got `int`"),
    "a step without a target": (
        "[x]\nsteps = [{ fault = 'kill' }]",
        "$.x.steps[0]: Object missing required field `on`",
    ),
    "a negative time": (
        "[x]\nsteps = [{ fault = 'kill', on = 'all', after = -1 }]",
        "$.x.steps[0].after: Expected `float` >= 0.0",
    ),
    "a duration that is not a number": (
        "[kill-primary]\nsteps = [{ fault = 'kill', on = 'all', for = true }]",
        "$.kill-primary.steps[0].for: Expected `float",
    ),
    "an endless duration": ("[x]\nsteps = [{ fault = 'kill', on = 'all', for = inf }]", "$.x.steps[0].for: "),
    "an unknown key": (f"[x]\nstep = 1\n{STEP}", "$.x: Object contains unknown field `step`"),
    "an unknown database": (
        f"[x]\ndatabases = ['db2']\n{STEP}",
        "$.x.databases: no database db2; choose from mongo, cassandra, couch, memory",
    ),
    "options of an unknown database": (f"[x]\noptions = {{ db2 = {{}} }}\n{STEP}", "$.x.options: no database db2"),
    "options that are not a table": (f"[x]\noptions = {{ mongo = 1 }}\n{STEP}", "$.x.options[...]: Expected `object`"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_bad_file_is_refused_with_the_place_of_the_error(name: str, tmp_path: Path) -> None:
    text, message = WRONG[name]
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(BadDrill) as refused:
        read_drills(file)
    assert message in str(refused.value)
    assert str(refused.value).startswith(str(file))
