"""Where local clusters live, what they remember there, and the lock that lets one command at a time change them."""

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from stalewatch.clusters.protocol import Busy, ClusterError, DiskFull, Progress, Unwritable

VARIABLE = "STALEWATCH_HOME"
FOLDER = ".stalewatch"

LOCK_TIMEOUT_S = 180.0  # longer than any start or stop lasts, so that only a hung command is reported

_MEANINGS: dict[int | None, type[ClusterError]] = {errno.ENOSPC: DiskFull, errno.EDQUOT: DiskFull}


def location() -> Path:
    """Return the folder of all local clusters: ``$STALEWATCH_HOME``, else ``.stalewatch`` in the current folder."""
    given = os.environ.get(VARIABLE)
    return (Path(given).expanduser() if given else Path(FOLDER)).resolve()


def shown(path: Path) -> str:
    """Return the path as a reader wants it: short when it is below the current folder."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure of the file system below `path` into a `DiskFull` or `Unwritable`."""
    try:
        yield
    except OSError as error:
        kind = _MEANINGS.get(error.errno, Unwritable)
        raise kind(
            f"cannot write below {shown(path)}: {error}; make room or set {VARIABLE} to a folder elsewhere"
        ) from error


def create(home: Path) -> None:
    """Make the folder, which git is told to ignore: it appears in whatever project the user stands in."""
    with writing(home):
        if not home.exists():
            home.mkdir(parents=True, exist_ok=True)
            (home / ".gitignore").write_text("*\n")


@contextmanager
def locked(path: Path, progress: Progress, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold the lock file at `path`; the system lets go of it when the process ends, however it ends.

    Raises `Busy` when another process still holds it after `timeout_s` seconds.
    """
    with writing(path):
        file = path.open("a+")
    with file:
        _acquire(file, progress, timeout_s)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _acquire(file: IO[str], progress: Progress, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    told = False
    # Polled, because a blocking flock would stop every greenlet of the process.
    while not _try_lock(file):
        file.seek(0)
        holder = f"another command (pid {file.read() or 'unknown'})"
        if time.monotonic() > deadline:
            raise Busy(f"{holder} has held {file.name} for {timeout_s:.0f} s; wait for it, or end it and try again")
        if not told:
            progress(f"{holder} is starting or stopping this cluster: waiting for it")
            told = True
        time.sleep(0.1)


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remember(path: Path, facts: dict[str, Any]) -> None:
    """Write a small JSON file so that a reader sees the old or the new one, never half of it."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(facts))
    fresh.replace(path)


def recall(path: Path) -> dict[str, Any]:
    """Return what `remember` wrote, or nothing when the file is missing or damaged."""
    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
