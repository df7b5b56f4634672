"""Fixtures shared by the tests of several databases."""

import os
import subprocess
import venv
from pathlib import Path

import pytest

from stalewatch.clusters.local import home
from tests.commands.benching import TIMEOUT_S


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment with only the three drivers."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "bare"  # all processes share one
    python, done = folder / "bin" / "python", folder / "done"
    packages = ("pymongo>=4.20", "cassandra-driver>=3.30,<3.31", "requests")
    with home.locked(folder.with_suffix(".lock"), print):
        if not done.exists():
            venv.create(folder, with_pip=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True, timeout=TIMEOUT_S)
            done.touch()
    return python
