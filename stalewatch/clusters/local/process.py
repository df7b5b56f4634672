"""One database server as a process: start, stop and find it again, and explain why it exited.

The pid file holds the process's start time, so that a reused pid is not mistaken for the server. The server's
environment holds its folder. That identifies the server if the pid file was never written (the command was killed just
then), or if a step of the system clock has shifted every start time.
"""

import math
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stalewatch.clusters.local import home
from stalewatch.clusters.local.programs import Lazy
from stalewatch.clusters.protocol import (
    ClusterError,
    DiskFull,
    MissingLibrary,
    MissingProgram,
    NotRunning,
    PortTaken,
    ServerDied,
    State,
)

if TYPE_CHECKING:
    import psutil
else:
    psutil = Lazy("psutil")

MARKER = "STALEWATCH_SERVER"

_START_TOLERANCE_S = 2.0  # Linux derives start times from a boot time that wavers by a second
_POLL_S = 0.02
_KILL_TIMEOUT_S = 10.0
_LOG_KEPT_BYTES = 16 << 20
_LAST_LINES_BYTES = 64 << 10

_LINES_READ, _LINES_SHOWN, _CHARACTERS_SHOWN = 200, 5, 400

# This process's own children by pid. A dead child stays a zombie until it is polled, and only its parent, whichever
# object started it, can learn its exit code.
_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}


class ServerProcess:
    """A server, identified by the folder with its pid file, log and temporary files.

    `enter` is a command prefix that runs the server in another network namespace.
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
        """Start the server, detached from this terminal; raise `MissingProgram` if it cannot be executed."""
        temporary = self.folder / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        self._rotate_log()
        marks = {MARKER: str(self.folder), "TMPDIR": str(temporary)}
        words = [str(argument) for argument in (*self._enter, *arguments)]
        child = self._spawn(words, {**_inherited(), **(environment or {}), **marks})
        _CHILDREN[child.pid] = child
        self._started = child.pid
        with suppress(psutil.NoSuchProcess):  # it may have exited already
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
                    f"{self.name}: {arguments[0]} does not run on this machine ({error.strerror}): "
                    "install the database's program for this system"
                ) from error

    def _rotate_log(self) -> None:
        if self.log.exists() and self.log.stat().st_size > _LOG_KEPT_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))

    @property
    def pid(self) -> int | None:
        """The server's process id; None if it is not running."""
        process = self._process()
        return process.pid if process else None

    @property
    def state(self) -> State:
        """Whether the server is running, paused by a signal, or dead."""
        process = self._process()
        try:
            paused = process is not None and process.status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return "dead"
        return "dead" if process is None else "paused" if paused else "running"

    @property
    def age_s(self) -> float:
        """Seconds since the server was last started, by this or another command; infinite if that is not known."""
        with suppress(FileNotFoundError):
            age_s = time.time() - self._pid_file.stat().st_mtime
            return age_s if age_s >= 0 else math.inf  # the clock was set back
        return math.inf

    @property
    def exit_code(self) -> int | None:
        """The exit code of the server that this object started; None if it runs, or another command started it."""
        child = _CHILDREN.get(self._started) if self._started is not None else None
        return child.poll() if child else None

    def terminate(self) -> None:
        """Ask the server to shut down cleanly (SIGTERM), without waiting for it."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a stopped process handles no other signal

    def await_end(self, timeout_s: float) -> bool:
        """Wait until the server has exited; return False if it still runs after `timeout_s` seconds."""
        ended = _await(lambda: self._process() is None, timeout_s)
        if ended:
            self._pid_file.unlink(missing_ok=True)
        return ended

    def kill(self) -> None:
        """Kill the server (SIGKILL) and wait until it is gone."""
        self._signal(signal.SIGKILL)
        if not self.await_end(_KILL_TIMEOUT_S):
            raise ClusterError(
                f"{self.name}: pid {self.pid} still runs {_KILL_TIMEOUT_S:.0f} s after SIGKILL: its disk may hang"
            )

    def pause(self) -> None:
        """Freeze the server (SIGSTOP); raise `NotRunning` if it is dead."""
        self._signal_living(signal.SIGSTOP)
        _await(lambda: self.state != "running", _KILL_TIMEOUT_S)

    def resume(self) -> None:
        """Resume the frozen server (SIGCONT); raise `NotRunning` if it is dead."""
        self._signal_living(signal.SIGCONT)
        _await(lambda: self.state != "paused", _KILL_TIMEOUT_S)

    def last_lines(self, count: int) -> list[str]:
        """Return the last lines logged since the server was started, or since this object was created."""
        if not self.log.exists():
            return []
        with self.log.open("rb") as log:
            log.seek(max(self._log_start, self.log.stat().st_size - _LAST_LINES_BYTES))
            text = log.read().decode(errors="replace")
        return text.splitlines()[-count:]

    def _signal_living(self, number: signal.Signals) -> None:
        if self.state == "dead":
            raise NotRunning(f"{self.name} is not running: restart it first")
        self._signal(number)

    def _signal(self, number: signal.Signals) -> None:
        process = self._process()
        if process is not None:
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
        return process if same and _is_alive(process) else None

    def _marked(self) -> "psutil.Process | None":
        return next((process for process in psutil.process_iter() if self._is_marked(process)), None)

    def _is_marked(self, process: "psutil.Process") -> bool:
        try:
            mark = process.environ().get(MARKER)
            # The server's own children inherit the mark, but do not lead the session.
            return mark == str(self.folder) and os.getsid(process.pid) == process.pid and _is_alive(process)
        except (psutil.Error, OSError):
            return False


def _is_alive(process: "psutil.Process") -> bool:
    child = _CHILDREN.get(process.pid)
    if child and child.poll() is None:
        return True
    try:
        # The main thread can be a zombie while other threads still hold ports and files.
        return process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1
    except psutil.Error:
        return False


def _inherited() -> dict[str, str]:
    # A server has no use for the addresses in the bench's environment, and they may contain passwords.
    return {name: value for name, value in os.environ.items() if not name.startswith("STALEWATCH_")}


def _await(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


class KnownFailure(NamedTuple):
    """A pattern in a program's output, the error it means, and what to do; the pattern's groups fill `advice`."""

    pattern: str
    error: type[ClusterError]
    advice: str


# Debian package names. Ubuntu uses the same; newer releases of both provide them under longer names.
LIBRARY_PACKAGES = {
    "libcurl.so.4": "libcurl4",
    "libssl.so.3": "libssl3",
    "libcrypto.so.3": "libssl3",
    "liblzma.so.5": "liblzma5",
    "libz.so.1": "zlib1g",
    "libstdc++.so.6": "libstdc++6",
    "libatomic.so.1": "libatomic1",
}

_FAILURES = (
    *(
        KnownFailure(
            rf"error while loading shared libraries: {re.escape(library)}:",
            MissingLibrary,
            f"the system library {library} is missing; on Debian and Ubuntu: `apt-get install {package}`",
        )
        for library, package in LIBRARY_PACKAGES.items()
    ),
    KnownFailure(
        r"error while loading shared libraries: ([^:\s]+):",
        MissingLibrary,
        "the system library {} is missing; install the package that provides it",
    ),
    KnownFailure(
        r"version `(\S+)' not found",
        MissingLibrary,
        "this system's libraries are too old for it ({} is missing); install a build for this system",
    ),
    KnownFailure(
        r"exit code -4\b",
        MissingProgram,
        "the CPU lacks instructions that it uses (MongoDB 5 and later need AVX)",
    ),
    KnownFailure(r"(?i)no space left on device|disk quota exceeded", DiskFull, "the disk is full: free some space"),
    KnownFailure(r"(?i)address already in use", PortTaken, "another program listens on its port"),
)


def require_alive(servers: Iterable[ServerProcess], failures: Sequence[KnownFailure], relevant: str) -> None:
    """Raise the error that explains why one of the servers is dead; arguments as for `exit_error`."""
    for server in servers:
        if server.state == "dead":
            raise exit_error(server, failures, relevant)


def exit_error(server: ServerProcess, failures: Sequence[KnownFailure] = (), relevant: str = "") -> ClusterError:
    """Return the error that explains why the server exited: one of the database's known failures, or a common one.

    Log lines that match `relevant` are shown instead of the very last ones, which may say nothing about the cause.
    """
    code, lines = server.exit_code, server.last_lines(_LINES_READ)
    output = "\n".join([*lines, f"exit code {code}"])
    error, advice = _diagnose(output, (*failures, *_FAILURES))
    exited = "exited" if code is None else f"exited with code {code}"
    chosen = [line for line in lines if re.search(relevant, line)] or lines
    quoted = "".join(f"\n  {line[:_CHARACTERS_SHOWN]}" for line in chosen[-_LINES_SHOWN:])
    return error(f"{server.name} {exited}: {advice}\nlast lines of {home.shown(server.log)}:{quoted or ' none'}")


def _diagnose(output: str, failures: Sequence[KnownFailure]) -> tuple[type[ClusterError], str]:
    for failure in failures:
        found = re.search(failure.pattern, output)
        if found:
            return failure.error, failure.advice.format(*found.groups())
    return ServerDied, "see its log"
