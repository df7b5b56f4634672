"""The map of the code and the lists of packages say what is there."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = (
    "history",
    "checkers",
    "clients",
    "workloads",
    "reports",
    "metrics",
    "load",
    "replication",
    "replication/faults",
    "replication/lab",
    "replication/local",
    "replication/compose",
    "runs",
    "drills",
)


def test_the_map_names_every_module_once_and_no_other() -> None:
    text = (ROOT / "docs" / "whats-here.md").read_text()
    for part in re.split(r"^## ", text, flags=re.MULTILINE):
        room = part.partition("\n")[0].strip("`/")
        if room in ROOMS:
            listed = re.findall(r"^- `(\w+)\.py`", part, flags=re.MULTILINE)
            there = {path.stem for path in (ROOT / room).glob("*.py")} - {"__init__"}
            assert sorted(listed) == sorted(there), room
    assert all(f"## `{room}/`" in text for room in ROOMS)


def test_requirements_are_the_core_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert sorted(line for line in lines if line and not line.startswith("#")) == sorted(project["dependencies"])


def test_every_room_is_packaged() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert {room for room in ROOMS if "/" not in room} | {"bench.py", "stalewatch.py"} == set(build["only-include"])
