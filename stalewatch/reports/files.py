"""The files that a run writes: claimed before it starts, so that no two runs share one, and written at its end."""

import errno
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from stalewatch.clients.errors import BadAddress
from stalewatch.history.compression import require_codec

STDOUT = "-"
"""What stands for standard output instead of a file."""

NEVER_STDOUT = frozenset({"--history", "--report"})
"""Options for which "-" is refused, rather than taken for the name of a file."""


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

    Raises `BadAddress` if one is named twice, is being written by another run, is the history of an earlier run, or
    cannot go to standard output; `MissingCodec`; or OSError for a file that cannot be written.
    """
    with ExitStack() as undo:
        claims: dict[Path, OutputFile] = {}
        for file in files:
            if file.is_history:
                require_codec(file.path)
            if str(file.path) == STDOUT and file.flag in NEVER_STDOUT:
                raise BadAddress(f"{file.flag} -: this cannot go to standard output; name a file")
            other = claims.setdefault(file.path.resolve(), file)
            if other is not file:
                raise BadAddress(f"{other.flag} and {file.flag} are both {file.path}: give each a file of its own")
            if file.is_ordinary:
                undo.enter_context(_locked(file))
                _spare(file, log, force=force)
        yield


@contextmanager
def _locked(file: OutputFile) -> Iterator[None]:
    """Hold the lock of a file during the block: on a history itself, else on a hidden file beside it.

    Until a file that is written as a whole is complete, nothing has its name, however the process ends.
    """
    if not file.path.parent.exists():
        file.path.parent.mkdir(parents=True)
    if file.path.is_dir() or (file.path.exists() and not os.access(file.path, os.W_OK)):
        file.path.open("ab").close()  # raises what is wrong with it
    place = file.path if file.is_history or not _can_create(file.path.parent) else _lock_file(file.path)
    new, opened = not place.exists(), place.open("ab")
    try:
        while not _lock(file, place, opened):
            opened.close()
            opened = place.open("ab")
        yield
    finally:
        if not opened.closed and place.exists() and not place.stat().st_size and (new or place != file.path):
            place.unlink()
        opened.close()


def _lock_file(path: Path) -> Path:
    place = path.resolve()
    return place.with_name(f".{place.name}.lock")


def _can_create(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def _lock(file: OutputFile, place: Path, opened: IO[bytes]) -> bool:
    """Lock an open file until it is closed, by whatever end of the process; return False if it was deleted meanwhile.

    Some network file systems have no locks.
    """
    try:
        import fcntl  # noqa: PLC0415 # Unix only
    except ImportError:
        return True
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        opened.close()
        raise BadAddress(f"{file.flag} {file.path}: another run is writing this file; name another one") from None
    except OSError:
        return True
    return place.exists() and os.path.samestat(place.stat(), os.fstat(opened.fileno()))


def _spare(file: OutputFile, log: Callable[[str], None], *, force: bool) -> None:
    """Refuse to overwrite a history, and say that another file will be replaced."""
    if file.appends or not file.path.exists() or not file.path.stat().st_size:
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
    elif append:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    else:
        write_whole(path, text.encode())


IN_PLACE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV})
"""Why a file cannot be replaced that can be written to, such as one that alone is mounted into a container."""


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there as a whole or, whatever ends the process, as it was; raise OSError.

    The content goes into a new file beside it, which is then given its name. A pipe or a device is written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    place = path.resolve()  # a link stays one
    if place.exists() and not place.is_file():
        place.write_bytes(content)
        return
    try:
        _replace(place, content)
    except OSError as error:
        if error.errno not in IN_PLACE or not place.exists():
            raise
        place.write_bytes(content)


def _replace(place: Path, content: bytes) -> None:
    number, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    fresh = Path(name)
    try:
        with os.fdopen(number, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(number)
        fresh.chmod(_mode(place))
        fresh.replace(place)
    except BaseException:
        fresh.unlink()
        raise


def _mode(place: Path) -> int:
    """Return the permissions of a file, or those that a new one gets."""
    if place.exists():
        return place.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def write(file: OutputFile, write_to: Callable[[Path], object]) -> str | None:
    """Write a file; if that fails, leave it as it was, and return which file it is and why."""
    try:
        write_to(file.path)
    except BrokenPipeError:
        raise
    except OSError as error:
        return f"{file.flag} {file.path} could not be written: {error.strerror or error}"
    return None
