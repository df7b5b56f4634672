import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from stalewatch.clusters.local import home, process
from stalewatch.clusters.local.process import MARKER, ServerProcess
from stalewatch.clusters.protocol import MissingProgram, NotRunning

SLEEP = ["sleep", "600"]
Make = Callable[[str], ServerProcess]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[ServerProcess] = []

    def server(name: str) -> ServerProcess:
        made.append(ServerProcess(name, tmp_path / name))
        return made[-1]

    yield server
    for each in made:
        each.kill()


@pytest.fixture
def running(make: Make, eventually: Callable[..., None]) -> ServerProcess:
    server = make("node1")
    server.start(SLEEP)
    eventually(server._marked)  # for a moment after its birth a process has no environment yet
    return server


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(SLEEP) as other:
        yield other
        other.kill()


def pid_of(server: ServerProcess) -> int:
    assert server.pid is not None
    return server.pid


def test_a_server_that_was_never_started_is_dead(make: Make) -> None:
    server = make("node1")
    assert (server.state, server.pid, server.exit_code, server.last_words(5)) == ("dead", None, None, [])


def test_a_started_server_runs_and_is_known_to_other_commands(running: ServerProcess) -> None:
    other = ServerProcess(running.name, running.folder)
    assert running.state == other.state == "running"
    assert other.pid == running.pid


def test_a_server_leads_a_session_of_its_own_so_that_ctrl_c_passes_it_by(running: ServerProcess) -> None:
    pid = pid_of(running)
    assert os.getsid(pid) == os.getpgid(pid) == pid != os.getsid(0)


def test_a_server_reads_nothing_and_writes_to_its_log(make: Make) -> None:
    server = make("node1")
    server.start(["sh", "-c", "cat; echo out; echo err >&2"])
    assert server.await_end(10)
    assert server.last_words(5) == ["out", "err"]


def test_last_words_are_those_since_the_start(make: Make) -> None:
    server = make("node1")
    for word in ("first", "second"):
        server.start(["echo", word])
        assert server.await_end(10)
    assert server.last_words(5) == ["second"]
    assert server.log.read_text() == "first\nsecond\n"


def test_a_long_log_is_put_aside_at_the_next_start(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_LOG_KEPT_BYTES", 4)
    server = make("node1")
    for word in ("first", "second"):
        server.start(["echo", word])
        assert server.await_end(10)
    assert server.log.read_text() == "second\n"
    assert server.log.with_suffix(".log.1").read_text() == "first\n"


def test_temporary_files_stay_in_the_folder_and_addresses_of_the_bench_outside(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STALEWATCH_MONGO_URI", "mongodb://user:secret@host/")
    server = make("node1")
    server.start(["sh", "-c", 'echo "$TMPDIR $EXTRA"; env'], {"EXTRA": "given"})
    assert server.await_end(10)
    first, *rest = server.last_words(1000)
    assert first == f"{server.folder / 'tmp'} given"
    assert "secret" not in "".join(rest)


def test_how_a_server_ended_is_known(make: Make) -> None:
    server = make("node1")
    server.start(["sh", "-c", "exit 7"])
    assert server.await_end(10)
    assert server.exit_code == 7


def test_a_program_that_cannot_be_run_is_named(make: Make, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o755)
    with pytest.raises(MissingProgram, match=r"node1: .*broken cannot be run on this machine"):
        make("node1").start([broken])


def test_terminating_ends_it(running: ServerProcess) -> None:
    running.terminate()
    assert running.await_end(10)
    assert running.state == "dead"


def test_terminating_ends_a_paused_one_too(running: ServerProcess) -> None:
    running.pause()
    running.terminate()
    assert running.await_end(10)


def test_a_server_that_does_not_want_to_end_is_reported_and_can_be_killed(make: Make, eventually: Callable) -> None:
    server = make("node1")
    server.start(
        [sys.executable, "-c", "import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()"]
    )
    eventually(lambda: server.last_words(1) == ["1"])
    server.terminate()
    assert not server.await_end(0.2)
    server.kill()
    assert server.state == "dead"
    assert server.exit_code == -signal.SIGKILL


def test_pausing_and_resuming(running: ServerProcess) -> None:
    running.pause()
    assert running.state == "paused"
    running.pause()
    running.resume()
    assert running.state == "running"
    running.resume()


def test_a_paused_server_can_be_killed(running: ServerProcess) -> None:
    running.pause()
    running.kill()
    assert running.state == "dead"


@pytest.mark.parametrize("act", [ServerProcess.pause, ServerProcess.resume])
def test_a_dead_server_cannot_be_paused_or_resumed(make: Make, act: Callable[[ServerProcess], None]) -> None:
    with pytest.raises(NotRunning, match="node1 does not run"):
        act(make("node1"))


def test_killing_a_dead_server_changes_nothing(make: Make) -> None:
    make("node1").kill()


def test_a_server_killed_by_somebody_else_is_dead_and_no_zombie(running: ServerProcess, eventually: Callable) -> None:
    pid = pid_of(running)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: running.state == "dead")
    assert not psutil.pid_exists(pid)


def test_a_pid_that_now_belongs_to_another_process_is_left_alone(make: Make, stranger: subprocess.Popen[bytes]) -> None:
    server = make("node1")
    server.folder.mkdir()
    born = psutil.Process(stranger.pid).create_time()
    home.remember(server._pid_file, {"pid": stranger.pid, "started": born - 60})
    assert server.state == "dead"
    server.terminate()
    server.kill()
    assert stranger.poll() is None


@pytest.mark.parametrize("damage", [None, "", "{}", '{"pid": "x", "started": 1.0}', '{"pid": 1}'])
def test_a_server_whose_pid_file_is_lost_is_found(running: ServerProcess, damage: str | None) -> None:
    if damage is None:
        running._pid_file.unlink()
    else:
        running._pid_file.write_text(damage)
    other = ServerProcess(running.name, running.folder)
    assert other.pid == running.pid
    other.kill()
    assert running.state == "dead"


def test_a_server_is_found_after_the_system_clock_was_stepped(running: ServerProcess) -> None:
    facts = home.recall(running._pid_file)
    home.remember(running._pid_file, {**facts, "started": facts["started"] - 3600})
    assert ServerProcess(running.name, running.folder).pid == running.pid


def test_what_a_server_started_is_not_taken_for_it(make: Make, eventually: Callable) -> None:
    server = make("node1")
    server.start(["sh", "-c", "sleep 600 & echo $!; exec sleep 600"])
    eventually(lambda: server.last_words(1))
    child = psutil.Process(int(server.last_words(1)[0]))
    try:
        assert child.environ()[MARKER] == str(server.folder)
        running_pid = pid_of(server)
        server._pid_file.unlink()
        assert server.pid == running_pid
        server.kill()
        assert server.state == "dead"
    finally:
        child.kill()


def test_servers_of_different_folders_are_different(make: Make, eventually: Callable) -> None:
    one, two = make("node1"), make("node2")
    one.start(SLEEP)
    two.start(SLEEP)
    eventually(one._marked)
    one._pid_file.unlink()
    one.kill()
    assert one.state == "dead"
    assert two.state == "running"
