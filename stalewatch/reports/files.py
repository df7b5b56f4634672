"""The files that a run writes: claimed before it starts, so that no two runs share one, and written at its end."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from stalewatch.clients.errors import BadAddress
from stalewatch.history.compression import require_codec

STDOUT = "-"
"""What stands for standard output instead of a file."""


class OutputFile(NamedTuple):
    """A file that a run writes, and the option that names it; an earlier history is kept unless that is forced."""

    flag: str
    path: Path
    is_history: bool = False
    appends: bool = False
    """Whether the run adds to what is there."""

    @property
    def is_ordinary(self) -> bool:
        """Whether it is a file that can be locked and deleted: neither standard output nor a pipe or a device."""
        return str(self.path) != STDOUT and (not self.path.exists() or self.path.is_file() or self.path.is_dir())


@contextmanager
def claimed(files: Iterable[OutputFile], log: Callable[[str], None], *, force: bool = False) -> Iterator[None]:
    """Let no other run write to these files during the block; leave none behind that is still empty and new.

    Raises `BadAddress` if one is named twice, is being written by another run, or is the history of an earlier run;
    `MissingCodec`; or OSError for a file that cannot be written.
    """
    with ExitStack() as undo:
        claims: dict[Path, OutputFile] = {}
        for file in files:
            if file.is_history:
                require_codec(file.path)
            other = claims.setdefault(file.path.resolve(), file)
            if other is not file:
                raise BadAddress(f"{other.flag} and {file.flag} are both {file.path}: give each a file of its own")
            if file.is_ordinary:
                undo.enter_context(_locked(file))
                _spare(file, log, force=force)
        yield


@contextmanager
def _locked(file: OutputFile) -> Iterator[None]:
    new = not file.path.exists()
    if not file.path.parent.exists():
        file.path.parent.mkdir(parents=True)
    opened = file.path.open("ab")
    try:
        _lock(file, opened)
        yield
    finally:
        if new and not opened.closed and file.path.exists() and not file.path.stat().st_size:
            file.path.unlink()
        opened.close()


def _lock(file: OutputFile, opened: IO[bytes]) -> None:
    """Lock a file until it is closed, by whatever end of the process; some network file systems have no locks."""
    try:
        import fcntl  # noqa: PLC0415 # Unix only
    except ImportError:
        return
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        opened.close()
        raise BadAddress(f"{file.flag} {file.path}: another run is writing this file; name another one") from None
    except OSError:
        return


def _spare(file: OutputFile, log: Callable[[str], None], *, force: bool) -> None:
    """Refuse to overwrite a history, and say that another file will be replaced."""
    if file.appends or not file.path.stat().st_size:
        return
    if file.is_history and not force:
        raise BadAddress(f"{file.flag} {file.path} exists: name another file, or give --force to overwrite it")
    log(f"{file.flag} {file.path} exists, and will be replaced")


def write_json(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write results as JSON, several as a list; raise OSError."""
    write_text(json.dumps(results[0] if len(results) == 1 else results, indent=1) + "\n", path)


def write_text(text: str, path: Path, *, append: bool = False) -> None:
    """Write a text to a file or to standard output; raise OSError."""
    if str(path) == STDOUT:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a" if append else "w", encoding="utf-8") as file:
        file.write(text)


def write(file: OutputFile, write_to: Callable[[Path], object]) -> str | None:
    """Write a file; if that fails, leave no part of it, and return which file it is and why."""
    try:
        write_to(file.path)
    except BrokenPipeError:
        raise
    except OSError as error:
        if file.path.is_file() and not file.appends:
            file.path.unlink(missing_ok=True)
        return f"{file.flag} {file.path} could not be written: {error.strerror or error}"
    return None
