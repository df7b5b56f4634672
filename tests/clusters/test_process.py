import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from stalewatch.clusters.local import home, mongo, process
from stalewatch.clusters.local.process import MARKER, ServerProcess, exit_error
from stalewatch.clusters.protocol import (
    ClusterError,
    DiskFull,
    MissingLibrary,
    MissingProgram,
    NotRunning,
    PortTaken,
    ServerDied,
)

ROOT = Path(__file__).parents[2]
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
    eventually(server._marked)  # for a moment after its creation a process has no environment
    return server


@pytest.fixture
def other_process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(SLEEP) as other:
        yield other
        other.kill()


def pid_of(server: ServerProcess) -> int:
    assert server.pid is not None
    return server.pid


def test_a_server_that_was_never_started_is_dead(make: Make) -> None:
    server = make("node1")
    assert (server.state, server.pid, server.exit_code, server.last_lines(5)) == ("dead", None, None, [])


def test_a_started_server_is_found_by_other_commands(running: ServerProcess) -> None:
    other = ServerProcess(running.name, running.folder)
    assert running.state == other.state == "running"
    assert other.pid == running.pid


DEFAULT = "import signal, sys; sys.exit(signal.getsignal(signal.SIGINT) is not signal.default_int_handler)"


def test_ctrl_c_reaches_what_tests_start_even_if_the_shell_ignores_it() -> None:
    """A shell starts background jobs that way, as in `nohup make test &`."""
    tests = f"import subprocess, sys, tests.conftest; sys.exit(subprocess.call([sys.executable, '-c', {DEFAULT!r}]))"
    shell = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-c"]
    assert subprocess.run([*shell, DEFAULT], check=False).returncode == 1
    assert subprocess.run([*shell, tests], cwd=ROOT, check=False).returncode == 0


def test_a_server_leads_its_own_session_so_that_ctrl_c_does_not_reach_it(running: ServerProcess) -> None:
    pid = pid_of(running)
    assert os.getsid(pid) == os.getpgid(pid) == pid != os.getsid(0)


def test_a_server_has_no_input_and_writes_to_its_log(make: Make) -> None:
    server = make("node1")
    server.start(["sh", "-c", "cat; echo out; echo err >&2"])
    assert server.await_end(10)
    assert server.last_lines(5) == ["out", "err"]


def test_last_lines_are_those_since_the_start(make: Make) -> None:
    server = make("node1")
    for word in ("first", "second"):
        server.start(["echo", word])
        assert server.await_end(10)
    assert server.last_lines(5) == ["second"]
    assert server.log.read_text() == "first\nsecond\n"


def test_a_long_log_is_rotated_at_the_next_start(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_LOG_KEPT_BYTES", 4)
    server = make("node1")
    for word in ("first", "second"):
        server.start(["echo", word])
        assert server.await_end(10)
    assert server.log.read_text() == "second\n"
    assert server.log.with_suffix(".log.1").read_text() == "first\n"


def test_a_server_gets_its_own_temporary_folder_and_no_addresses_of_the_bench(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STALEWATCH_MONGO_URI", "mongodb://user:secret@host/")
    server = make("node1")
    server.start(["sh", "-c", 'echo "$TMPDIR $EXTRA"; env'], {"EXTRA": "given"})
    assert server.await_end(10)
    first, *rest = server.last_lines(1000)
    assert first == f"{server.folder / 'tmp'} given"
    assert "secret" not in "".join(rest)


def test_the_exit_code_is_known(make: Make) -> None:
    server = make("node1")
    server.start(["sh", "-c", "exit 7"])
    assert server.await_end(10)
    assert server.exit_code == 7


def test_a_program_that_cannot_be_executed_is_reported(make: Make, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o755)
    with pytest.raises(MissingProgram, match=r"node1: .*broken does not run on this machine"):
        make("node1").start([broken])


def test_terminate_ends_a_server(running: ServerProcess) -> None:
    running.terminate()
    assert running.await_end(10)
    assert running.state == "dead"


def test_terminate_ends_a_paused_server(running: ServerProcess) -> None:
    running.pause()
    running.terminate()
    assert running.await_end(10)


def test_a_server_that_ignores_sigterm_can_be_killed(make: Make, eventually: Callable) -> None:
    server = make("node1")
    server.start(
        [sys.executable, "-c", "import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()"]
    )
    eventually(lambda: server.last_lines(1) == ["1"])
    server.terminate()
    assert not server.await_end(0.2)
    server.kill()
    assert server.state == "dead"
    assert server.exit_code == -signal.SIGKILL


def test_a_server_can_be_paused_and_resumed(running: ServerProcess) -> None:
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
    with pytest.raises(NotRunning, match="node1 is not running"):
        act(make("node1"))


def test_killing_a_dead_server_changes_nothing(make: Make) -> None:
    make("node1").kill()


def test_a_server_killed_by_another_process_is_dead_and_not_a_zombie(
    running: ServerProcess, eventually: Callable
) -> None:
    pid = pid_of(running)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: running.state == "dead")
    assert not psutil.pid_exists(pid)


def test_a_process_with_a_reused_pid_is_left_alone(make: Make, other_process: subprocess.Popen[bytes]) -> None:
    server = make("node1")
    server.folder.mkdir()
    born = psutil.Process(other_process.pid).create_time()
    home.remember(server._pid_file, {"pid": other_process.pid, "started": born - 60})
    assert server.state == "dead"
    server.terminate()
    server.kill()
    assert other_process.poll() is None


@pytest.mark.parametrize("damage", [None, "", "{}", '{"pid": "x", "started": 1.0}', '{"pid": 1}'])
def test_a_server_is_found_without_a_valid_pid_file(running: ServerProcess, damage: str | None) -> None:
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


def test_a_servers_child_is_not_mistaken_for_it(make: Make, eventually: Callable) -> None:
    server = make("node1")
    server.start(["sh", "-c", "sleep 600 & echo $!; exec sleep 600"])
    eventually(lambda: server.last_lines(1))
    child = psutil.Process(int(server.last_lines(1)[0]))
    try:
        assert child.environ()[MARKER] == str(server.folder)
        running_pid = pid_of(server)
        server._pid_file.unlink()
        assert server.pid == running_pid
        server.kill()
        assert server.state == "dead"
    finally:
        child.kill()


def test_servers_are_distinguished_by_folder(make: Make, eventually: Callable) -> None:
    one, two = make("node1"), make("node2")
    one.start(SLEEP)
    two.start(SLEEP)
    eventually(one._marked)
    one._pid_file.unlink()
    one.kill()
    assert one.state == "dead"
    assert two.state == "running"


LOADER = "mongod: error while loading shared libraries: {}: cannot open shared object file: No such file or directory"

EXITS = [
    (LOADER.format("libcurl.so.4"), 127, MissingLibrary, "apt-get install libcurl4"),
    (LOADER.format("libcrypto.so.3"), 127, MissingLibrary, "apt-get install libssl3"),
    (LOADER.format("libodd.so.9"), 127, MissingLibrary, "libodd.so.9 is missing"),
    ("mongod: /lib/libc.so.6: version `GLIBC_2.34' not found", 1, MissingLibrary, "GLIBC_2.34 is missing"),
    ('"error":"WiredTigerError: 28: No space left on device"', 14, DiskFull, "free some space"),
    ('{"error":"SocketException: Address already in use"}', 48, PortTaken, "another program listens"),
    ('{"error":"DBPathInUse: Unable to lock the lock file"}', 100, ServerDied, "another mongod uses its data"),
    ('{"msg":"** IMPORTANT: UPGRADE PROBLEM"}', 62, ServerDied, "another version of MongoDB"),
    ("who knows", 9, ServerDied, "see its log"),
]


def exited(folder: Path, script: str) -> ServerProcess:
    server = ServerProcess("mongo1", folder / "mongo1")
    server.start(["sh", "-c", script])
    assert server.await_end(10)
    return server


@pytest.mark.parametrize(("line", "code", "expected", "advice"), EXITS)
def test_known_failures_are_recognized_in_the_log(
    tmp_path: Path, line: str, code: int, expected: type[ClusterError], advice: str
) -> None:
    (tmp_path / "line").write_text(f"{line}\n")
    server = exited(tmp_path, f"cat {tmp_path / 'line'}; exit {code}")
    error = exit_error(server, mongo.FAILURES)
    assert type(error) is expected
    for part in (f"mongo1 exited with code {code}", advice, line, str(server.log)):
        assert part in str(error)


def test_an_unsupported_cpu_is_reported(tmp_path: Path) -> None:
    error = exit_error(exited(tmp_path, "kill -ILL $$"))
    assert type(error) is MissingProgram
    assert "AVX" in str(error)


def test_long_log_lines_are_truncated(tmp_path: Path) -> None:
    error = exit_error(exited(tmp_path, "printf '%9999s\\n' x; seq 100"))
    assert len(str(error)) < 1000
    assert "\n  100" in str(error)
    assert "\n  95" not in str(error)
