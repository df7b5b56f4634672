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


def test_the_variable_sets_the_clusters_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(home.VARIABLE, str(tmp_path / "elsewhere"))
    assert home.location() == tmp_path / "elsewhere"


def test_the_default_folder_is_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(home.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    assert home.location() == tmp_path / ".stalewatch"
    assert home.shown(home.location()) == ".stalewatch"


def test_a_created_folder_is_ignored_by_git(tmp_path: Path) -> None:
    home.create(tmp_path / "new")
    assert (tmp_path / "new" / ".gitignore").read_text() == "*\n"


def test_an_existing_folder_is_left_as_it_is(tmp_path: Path) -> None:
    home.create(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_remembered_facts_are_recalled(tmp_path: Path) -> None:
    home.remember(tmp_path / "facts.json", {"port": 1})
    assert home.recall(tmp_path / "facts.json") == {"port": 1}


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00"])
def test_a_damaged_state_file_counts_as_empty(tmp_path: Path, text: str) -> None:
    (tmp_path / "facts.json").write_text(text)
    assert home.recall(tmp_path / "facts.json") == {}


def test_a_missing_state_file_counts_as_empty(tmp_path: Path) -> None:
    assert home.recall(tmp_path / "facts.json") == {}


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, DiskFull), (errno.EACCES, Unwritable)])
def test_file_system_errors_are_converted(tmp_path: Path, number: int, error: type[Exception]) -> None:
    with pytest.raises(error, match="STALEWATCH_HOME"), home.writing(tmp_path):
        raise OSError(number, "refused")


def test_a_file_in_place_of_the_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unwritable, match="file"):
        home.create(tmp_path / "file" / "home")


def test_the_lock_excludes_other_processes_until_they_die(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    reported: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Busy, match=f"pid {holder.pid}"), home.locked(lock, reported.append, timeout_s=0.2):
            pass
        holder.kill()
    with home.locked(lock, reported.append):
        pass
    assert len(reported) == 1
    assert f"pid {holder.pid}" in reported[0]


RESERVER = """
import sys
from pathlib import Path
from stalewatch.clusters.local import home
with home.reserved(Path(sys.argv[1]), "local mongo"):
    print("held", flush=True)
    input()
"""


def test_a_reserved_cluster_is_refused_with_the_command_that_has_it_until_that_dies(tmp_path: Path) -> None:
    lock = tmp_path / "mongo.drill.lock"
    home.require_unreserved(lock, "local mongo")
    secrets = ("mongodb://ann:hidden@127.0.0.1", "--password", "hidden")
    with subprocess.Popen(
        [sys.executable, "-c", RESERVER, lock, *secrets], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Busy, match=rf"pid {holder.pid}: -c \S*mongo.drill.lock") as refused:
            home.require_unreserved(lock, "local mongo")
        assert "hidden" not in str(refused.value)
        holder.kill()
    home.require_unreserved(lock, "local mongo")
    with home.reserved(lock, "local mongo"), pytest.raises(Busy):
        home.require_unreserved(lock, "local mongo")
