"""The lists of packages say what is there."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_requirements_are_the_core_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert sorted(line for line in lines if line and not line.startswith("#")) == sorted(project["dependencies"])
