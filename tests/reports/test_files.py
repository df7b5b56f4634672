"""Files that a run writes: claimed for one run, whole or not there at all, whatever ends the process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stalewatch.clients.errors import BadAddress
from stalewatch.reports.files import OutputFile, claimed, write, write_json, write_whole
from tests.adversary.running import ROOT

KILLED = """
import os, signal, sys
from pathlib import Path
from stalewatch.reports.files import OutputFile, claimed
with claimed([OutputFile("--json", Path(sys.argv[1]))], print):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def output(path: Path) -> OutputFile:
    return OutputFile("--json", path)


@pytest.mark.parametrize("before", [None, "the last result"])
def test_a_killed_run_leaves_what_was_there_and_the_next_run_works(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "results" / "r.json"
    if before is not None:
        path.parent.mkdir()
        path.write_text(before)
    killed = subprocess.run([sys.executable, "-c", KILLED, path], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (path.read_text() if path.exists() else None) == before
    with claimed([output(path)], print):
        write_json([{"a": 1}], path)
    assert [one.name for one in path.parent.iterdir()] == ["r.json"]
    assert path.read_text() == '{\n "a": 1\n}\n'


@pytest.mark.parametrize("flag", ["--report", "--history"])
def test_a_dash_is_not_taken_for_a_file_name(flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadAddress, match="standard output; name a file"), claimed([OutputFile(flag, Path("-"))], print):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_belongs_to_one_run_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    for _ in range(2):
        with claimed([output(path)], print):
            assert not path.exists()
            with pytest.raises(BadAddress, match="another run is writing this file"), claimed([output(path)], print):
                pass
            write_json([{}], path)
            with pytest.raises(BadAddress, match="another run is writing this file"), claimed([output(path)], print):
                pass
        path.unlink()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_as_a_whole_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.json"
    path.write_text("the last result")

    def full(_number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    said = write(output(path), lambda place: write_json([{"a": 1}], place))
    assert said == f"--json {path} could not be written: No space left on device"
    assert path.read_text() == "the last result"
    assert list(tmp_path.iterdir()) == [path]


def test_links_and_permissions_stay(tmp_path: Path) -> None:
    path, link = tmp_path / "r.json", tmp_path / "latest.json"
    path.write_text("{}")
    path.chmod(0o640)
    link.symlink_to(path)
    write_whole(link, b"[]")
    assert link.is_symlink()
    assert path.read_bytes() == b"[]"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_folder_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError), claimed([output(tmp_path)], print):
        pass


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        write_whole(pipe, b"{}")
        assert reader.communicate()[0] == b"{}"
