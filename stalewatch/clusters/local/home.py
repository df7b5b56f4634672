"""The folders of local clusters and of downloads, small state files, and the lock for changing a cluster."""

import errno
import fcntl
import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from stalewatch.clusters.protocol import Busy, ClusterError, DiskFull, Progress, Unwritable
from stalewatch.credentials import without_passwords

VARIABLE = "STALEWATCH_HOME"
FOLDER = ".stalewatch"

LOCK_TIMEOUT_S = 180.0  # longer than any start or stop takes, so that only a command that hangs is reported

_ERRORS: dict[int | None, type[ClusterError]] = {errno.ENOSPC: DiskFull, errno.EDQUOT: DiskFull}


def location() -> Path:
    """Return the folder of all local clusters: ``$STALEWATCH_HOME``, else ``.stalewatch`` in the current folder."""
    given = os.environ.get(VARIABLE)
    return (Path(given).expanduser() if given else Path(FOLDER)).resolve()


def cache() -> Path:
    """Return the folder for downloads, shared by all checkouts: ``$XDG_CACHE_HOME/stalewatch``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "stalewatch"


def shown(path: Path) -> str:
    """Return the path as shown to users: relative if it is below the current folder."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Convert an OSError in the block to `DiskFull` or `Unwritable`, naming `path`."""
    try:
        yield
    except OSError as error:
        convert = _ERRORS.get(error.errno, Unwritable)
        raise convert(
            f"cannot write to {shown(path)}: {error}; free some space or set {VARIABLE} to another folder"
        ) from error


def create(home: Path) -> None:
    """Create the folder with a .gitignore: it appears inside whatever project the user works in."""
    with writing(home):
        if not home.exists():
            home.mkdir(parents=True, exist_ok=True)
            (home / ".gitignore").write_text("*\n")


def require_space(home: Path, names: Sequence[str], bytes_per_node: int) -> None:
    """Raise `DiskFull` unless there is room for the data of these new nodes."""
    needed, free = len(names) * bytes_per_node, shutil.disk_usage(home).free
    if free < needed:
        raise DiskFull(
            f"{', '.join(names)} need {needed >> 20} MB in {shown(home)}, but only {free >> 20} MB are free: "
            f"free some space or set {VARIABLE} to another folder"
        )


@contextmanager
def locked(path: Path, progress: Progress, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold the lock file at `path` during the block; the kernel releases it if the process dies.

    Raises `Busy` if another process still holds it after `timeout_s` seconds.
    """
    with _lock_file(path) as file:
        _acquire(file, progress, timeout_s)
        _sign(file)
        yield


@contextmanager
def reserved(path: Path, cluster: str) -> Iterator[None]:
    """Hold the lock file at `path`, which reserves a cluster for a drill, during the block, as `locked` does.

    Raises `Busy` at once if another process holds it.
    """
    with _lock_file(path) as file:
        if not _try_lock(file):
            raise Busy(
                f"a drill is using the {cluster} cluster ({_holder(file)}): wait until it has ended, or stop it with "
                "Ctrl-C; whatever else changes the cluster meanwhile would falsify its figures"
            )
        _sign(file)
        yield


def require_unreserved(path: Path, cluster: str) -> None:
    """Raise `Busy` if another process holds the lock file that reserves the cluster."""
    if path.exists():
        with reserved(path, cluster):
            pass


def _lock_file(path: Path) -> IO[str]:
    with writing(path):
        return path.open("a+")


def _sign(file: IO[str]) -> None:
    """Write who holds the lock, without credentials."""
    program = Path(sys.argv[0]).name.replace("__main__.py", "stalewatch")
    command = without_passwords(shlex.join((program, *sys.argv[1:])))
    file.truncate(0)
    file.write(f"pid {os.getpid()}: {command}")
    file.flush()


def _holder(file: IO[str]) -> str:
    file.seek(0)
    return file.read() or "another command"


def _acquire(file: IO[str], progress: Progress, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    reported = False
    # Polled, because a blocking flock would stop every greenlet of the process.
    while not _try_lock(file):
        holder = _holder(file)
        if time.monotonic() > deadline:
            raise Busy(f"{holder} has held {file.name} for {timeout_s:.0f} s; wait for it, or end it and try again")
        if not reported:
            progress(f"waiting for another command, which is starting or stopping this cluster ({holder})")
            reported = True
        time.sleep(0.1)


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remember(path: Path, facts: dict[str, Any]) -> None:
    """Write a small JSON file atomically, creating its folder if necessary."""
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(facts))
        fresh.replace(path)


def recall(path: Path) -> dict[str, Any]:
    """Return the contents of a file written by `remember`; empty if it is missing or damaged."""
    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
