import sys
from pathlib import Path

import pytest

from stalewatch.clusters.local import mongod, programs
from stalewatch.clusters.protocol import MissingProgram

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


def test_then_the_path(wheel: Path, on_path: Path) -> None:
    assert programs.find(PROGRAM) == on_path != wheel


def test_then_the_wheel_which_is_not_imported(wheel: Path) -> None:
    assert programs.find(PROGRAM) == wheel
    assert "dbwheel" not in sys.modules


def test_nothing_found_says_what_to_install() -> None:
    with pytest.raises(MissingProgram, match=r"dbserver was not found.*STALEWATCH_DBSERVER.*pip install dbwheel"):
        programs.find(PROGRAM)


def test_a_variable_that_names_nothing_is_not_passed_over(on_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROGRAM.variable, str(on_path.parent / "gone"))
    with pytest.raises(MissingProgram, match=r"STALEWATCH_DBSERVER names .*gone, which is not a file"):
        programs.find(PROGRAM)


def test_a_program_that_may_not_be_executed_is_named(wheel: Path) -> None:
    wheel.chmod(0o644)
    with pytest.raises(MissingProgram, match="chmod"):
        programs.find(PROGRAM)


def test_mongod_is_started_on_loopback_alone_and_leaves_no_socket_file(tmp_path: Path) -> None:
    arguments = mongod.arguments(tmp_path / "mongod", tmp_path / "data", "127.0.0.1:1")
    assert arguments[arguments.index("--bind_ip") + 1] == "127.0.0.1"
    assert "--nounixsocket" in arguments


def test_one_on_path_that_will_not_do_gives_way_to_the_wheels(on_path: Path, wheel: Path) -> None:
    assert programs.find(PROGRAM, accepts=lambda path: path != on_path) == wheel
    assert programs.find(PROGRAM, accepts=lambda path: path == on_path) == on_path
