import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stalewatch.clusters.local import mongo, programs
from stalewatch.clusters.local.programs import Lazy
from stalewatch.clusters.protocol import MissingPackage, MissingProgram

PROGRAM = programs.Program("dbserver", "STALEWATCH_DBSERVER", "`pip install dbwheel`", "dbwheel", "bin/dbserver")


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "site" / "dbwheel"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(str(package.parent))
    return program(package / "bin" / "dbserver")


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return program(tmp_path / "bin" / "dbserver")


@pytest.fixture(autouse=True)
def _nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PROGRAM.variable, raising=False)


def test_the_variable_comes_first(tmp_path: Path, on_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = program(tmp_path / "mine")
    monkeypatch.setenv(PROGRAM.variable, str(named))
    assert programs.find(PROGRAM) == named != on_path


def test_the_path_comes_before_the_wheel(wheel: Path, on_path: Path) -> None:
    assert programs.find(PROGRAM) == on_path != wheel


def test_the_wheel_comes_last_and_is_not_imported(wheel: Path) -> None:
    assert programs.find(PROGRAM) == wheel
    assert "dbwheel" not in sys.modules


def test_a_missing_program_is_reported_with_what_to_install() -> None:
    with pytest.raises(
        MissingProgram, match=r"no usable dbserver was found in STALEWATCH_DBSERVER.*pip install dbwheel"
    ):
        programs.find(PROGRAM)


def test_a_variable_that_names_no_file_is_an_error(on_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROGRAM.variable, str(on_path.parent / "missing"))
    with pytest.raises(MissingProgram, match=r"STALEWATCH_DBSERVER names .*missing, which is not a file"):
        programs.find(PROGRAM)


def test_a_program_that_is_not_executable_is_an_error(wheel: Path) -> None:
    wheel.chmod(0o644)
    with pytest.raises(MissingProgram, match="chmod"):
        programs.find(PROGRAM)


def test_mongod_listens_only_on_loopback_and_creates_no_socket_file(tmp_path: Path) -> None:
    arguments = mongo.arguments(tmp_path / "mongod", tmp_path / "data", "127.0.0.1:1")
    assert arguments[arguments.index("--bind_ip") + 1] == "127.0.0.1"
    assert "--nounixsocket" in arguments


def test_an_unacceptable_program_on_the_path_gives_way_to_the_wheels(on_path: Path, wheel: Path) -> None:
    assert programs.find(PROGRAM, accepts=lambda path: path != on_path) == wheel
    assert programs.find(PROGRAM, accepts=lambda path: path == on_path) == on_path


BARE = """
import argparse, sys
sys.modules.update(psutil=None, rich=None)  # as if they were not installed
from stalewatch.clusters.local import mongo
from stalewatch.commands import cluster as command
parser = argparse.ArgumentParser()
command.add_arguments(parser)
sys.exit(command.run(parser.parse_args(["status", "mongo"])))
"""


def test_a_lazy_package_is_imported_when_it_is_used() -> None:
    assert Lazy("json").dumps is json.dumps


def test_a_missing_package_is_reported_when_it_is_used() -> None:
    absent = Lazy("no_such_package")
    with pytest.raises(MissingPackage, match="pip install no_such_package"):
        absent.anything  # noqa: B018 -- looking is using


def test_importing_the_command_imports_no_heavy_package() -> None:
    program = (
        "import sys; import stalewatch.commands.cluster; print(sys.modules.keys() & {'psutil', 'pymongo', 'rich'})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_without_psutil_the_command_says_what_to_install(tmp_path: Path) -> None:
    environment = {**os.environ, "STALEWATCH_HOME": str(tmp_path)}
    (tmp_path / "mongo" / "mongo1").mkdir(parents=True)
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 3
    assert "pip install psutil" in done.stderr
    assert "Traceback" not in done.stderr
