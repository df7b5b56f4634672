"""One server as a process of its own session, found again by other commands and never mistaken for another process.

The pid file holds the process's start time, so a pid that the system has given to somebody else is not taken for the
server. The server's environment holds its folder: that finds it when the pid file was never written (the command was
killed just then), or when a step of the system's clock has moved every start time.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from stalewatch.clusters.local import home
from stalewatch.clusters.local.packages import Lazy
from stalewatch.clusters.protocol import ClusterError, MissingProgram, NotRunning, State

if TYPE_CHECKING:
    import psutil
else:
    psutil = Lazy("psutil")

MARKER = "STALEWATCH_SERVER"

_START_TOLERANCE_S = 2.0  # Linux derives start times from a boot time that wavers by a second
_POLL_S = 0.02
_KILL_TIMEOUT_S = 10.0
_LOG_KEPT_BYTES = 16 << 20
_LAST_WORDS_BYTES = 64 << 10

# This process's own children by pid. A dead one stays a zombie until asked for, and its exit code is known to its
# parent alone, whichever object started it.
_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}


class ServerProcess:
    """A server, known by its folder, where its pid file, log and temporary files are.

    The words of `enter` come before its command line: they lead to the network where it is to run.
    """

    def __init__(self, name: str, folder: Path, enter: Sequence[str] = ()) -> None:
        self.name = name
        self.folder = folder
        self._enter = enter
        self.log = folder / "server.log"
        self._pid_file = folder / "pid.json"
        self._started: int | None = None
        self._log_start = self.log.stat().st_size if self.log.exists() else 0

    def start(self, arguments: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        """Start the server, detached from this terminal; raise `MissingProgram` when it cannot be run."""
        temporary = self.folder / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        self._rotate_log()
        marks = {MARKER: str(self.folder), "TMPDIR": str(temporary)}
        words = [str(argument) for argument in (*self._enter, *arguments)]
        child = self._spawn(words, {**_clean(), **(environment or {}), **marks})
        _CHILDREN[child.pid] = child
        self._started = child.pid
        with suppress(psutil.NoSuchProcess):  # it may have ended already
            home.remember(self._pid_file, {"pid": child.pid, "started": psutil.Process(child.pid).create_time()})

    def _spawn(self, arguments: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            try:
                return subprocess.Popen(  # noqa: S603 -- running the database's program is what this is for
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    cwd=self.folder,
                    start_new_session=True,  # Ctrl-C in the terminal is for the command, not for the database
                )
            except OSError as error:
                raise MissingProgram(
                    f"{self.name}: {arguments[0]} cannot be run on this machine ({error.strerror}): "
                    "install the database's program for this system"
                ) from error

    def _rotate_log(self) -> None:
        if self.log.exists() and self.log.stat().st_size > _LOG_KEPT_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))

    @property
    def pid(self) -> int | None:
        """The server's process id, None when it does not run."""
        process = self._process()
        return process.pid if process else None

    @property
    def state(self) -> State:
        """Whether the server runs, is stopped by a signal, or is no more."""
        process = self._process()
        try:
            paused = process is not None and process.status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return "dead"
        return "dead" if process is None else "paused" if paused else "running"

    @property
    def exit_code(self) -> int | None:
        """How the server that this object started ended; None while it runs or when somebody else started it."""
        child = _CHILDREN.get(self._started) if self._started is not None else None
        return child.poll() if child else None

    def terminate(self) -> None:
        """Ask the server to end in good order; `await_end` says whether it did."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a stopped process handles nothing else

    def await_end(self, timeout_s: float) -> bool:
        """Wait until the server has ended; False when it still runs after `timeout_s` seconds."""
        ended = _await(lambda: self._process() is None, timeout_s)
        if ended:
            self._pid_file.unlink(missing_ok=True)
        return ended

    def kill(self) -> None:
        """End the server at once, and return when it has ended."""
        self._signal(signal.SIGKILL)
        if not self.await_end(_KILL_TIMEOUT_S):
            raise ClusterError(
                f"{self.name}: pid {self.pid} still runs {_KILL_TIMEOUT_S:.0f} s after SIGKILL: its disk may hang"
            )

    def pause(self) -> None:
        """Stop the server where it is; raise `NotRunning` when it does not run."""
        self._require()
        self._signal(signal.SIGSTOP)
        _await(lambda: self.state != "running", _KILL_TIMEOUT_S)

    def resume(self) -> None:
        """Let a stopped server go on; raise `NotRunning` when it does not run."""
        self._require()
        self._signal(signal.SIGCONT)
        _await(lambda: self.state != "paused", _KILL_TIMEOUT_S)

    def last_words(self, lines: int) -> list[str]:
        """Return the last lines written since the server was started, or since this object was made."""
        if not self.log.exists():
            return []
        with self.log.open("rb") as log:
            log.seek(max(self._log_start, self.log.stat().st_size - _LAST_WORDS_BYTES))
            text = log.read().decode(errors="replace")
        return text.splitlines()[-lines:]

    def _require(self) -> None:
        if self.state == "dead":
            raise NotRunning(f"{self.name} does not run: restart it first")

    def _signal(self, number: signal.Signals) -> None:
        process = self._process()
        if process is None:
            return
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)

    def _process(self) -> "psutil.Process | None":
        return self._recorded() or self._marked()

    def _recorded(self) -> "psutil.Process | None":
        facts = home.recall(self._pid_file)
        pid, started = facts.get("pid"), facts.get("started")
        if not isinstance(pid, int) or not isinstance(started, float):
            return None
        try:
            process = psutil.Process(pid)
            same = abs(process.create_time() - started) < _START_TOLERANCE_S
        except psutil.Error:
            return None
        return process if same and _lives(process) else None

    def _marked(self) -> "psutil.Process | None":
        return next((process for process in psutil.process_iter() if self._is_mine(process)), None)

    def _is_mine(self, process: "psutil.Process") -> bool:
        try:
            mark = process.environ().get(MARKER)
            # What the server itself started inherits the mark, but does not lead the session.
            return mark == str(self.folder) and os.getsid(process.pid) == process.pid and _lives(process)
        except (psutil.Error, OSError):
            return False


def _lives(process: "psutil.Process") -> bool:
    child = _CHILDREN.get(process.pid)
    if child and child.poll() is None:
        return True
    try:
        # The first thread can be a zombie while others still hold ports and files.
        return process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1
    except psutil.Error:
        return False


def _clean() -> dict[str, str]:
    # A server has no use for the bench's addresses, and they may hold passwords.
    return {name: value for name, value in os.environ.items() if not name.startswith("STALEWATCH_")}


def _await(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
