import errno
import subprocess
import sys
from pathlib import Path

import pytest

from stalewatch.clusters.local import home
from stalewatch.clusters.protocol import Busy, DiskFull, Unwritable

HOLDER = """
import sys
from pathlib import Path
from stalewatch.clusters.local import home
with home.locked(Path(sys.argv[1]), print):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_variable_says_where_clusters_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(home.VARIABLE, str(tmp_path / "elsewhere"))
    assert home.location() == tmp_path / "elsewhere"


def test_without_the_variable_they_live_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(home.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    assert home.location() == tmp_path / ".stalewatch"
    assert home.shown(home.location()) == ".stalewatch"


def test_git_ignores_the_folder_that_was_created(tmp_path: Path) -> None:
    home.create(tmp_path / "new")
    assert (tmp_path / "new" / ".gitignore").read_text() == "*\n"


def test_a_folder_that_was_there_is_left_as_it_is(tmp_path: Path) -> None:
    home.create(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_remembered_is_recalled(tmp_path: Path) -> None:
    home.remember(tmp_path / "facts.json", {"port": 1})
    assert home.recall(tmp_path / "facts.json") == {"port": 1}


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00"])
def test_damaged_memory_is_no_memory(tmp_path: Path, text: str) -> None:
    (tmp_path / "facts.json").write_text(text)
    assert home.recall(tmp_path / "facts.json") == {}


def test_missing_memory_is_no_memory(tmp_path: Path) -> None:
    assert home.recall(tmp_path / "facts.json") == {}


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, DiskFull), (errno.EACCES, Unwritable)])
def test_a_file_system_that_refuses_is_named(tmp_path: Path, number: int, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="STALEWATCH_HOME"), home.writing(tmp_path):
        raise OSError(number, "refused")


def test_a_file_where_the_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unwritable, match="file"):
        home.create(tmp_path / "file" / "home")


def test_the_lock_excludes_other_processes_until_they_die(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    said: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Busy, match=f"pid {holder.pid}"), home.locked(lock, said.append, timeout_s=0.2):
            pass
        holder.kill()
    with home.locked(lock, said.append):
        pass
    assert len(said) == 1
    assert f"pid {holder.pid}" in said[0]
