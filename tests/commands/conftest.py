"""Fixtures shared by the tests of several databases."""

import subprocess
import venv
from pathlib import Path

import pytest

from tests.commands.benching import TIMEOUT_S


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment with only the three drivers."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    packages = ("pymongo>=4.20", "cassandra-driver>=3.30,<3.31", "requests")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True, timeout=TIMEOUT_S)
    return python
