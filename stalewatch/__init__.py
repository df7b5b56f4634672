"""Load replicated databases, break them, and report exactly which reads were stale and which writes were lost.

    import stalewatch
    stalewatch.check(["run.jsonl.zst"])["verdict"]
    with stalewatch.Watch() as watch: ...

docs/library.md and docs/watch-your-own.md describe the library. Importing this package is cheap: modules are loaded
when a name is first used.
"""

# ruff: noqa: PLC0415 # imports inside functions keep `import stalewatch` cheap

import os
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stalewatch.history.operation import Operation
    from stalewatch.history.reader import BadHistory
    from stalewatch.watch.misuse import Misuse, MisuseWarning
    from stalewatch.watch.watch import Watch

__version__ = "0.1.0"
__all__ = ["BadHistory", "Misuse", "MisuseWarning", "Watch", "__version__", "check", "read_history"]

Files = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""One path, or several."""

_DEFINED_IN = {
    "BadHistory": "stalewatch.history.reader",
    "Misuse": "stalewatch.watch.misuse",
    "MisuseWarning": "stalewatch.watch.misuse",
    "Watch": "stalewatch.watch.watch",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 # any exported object
    """Return an exported object from the module that defines it."""
    if name not in _DEFINED_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_DEFINED_IN[name]), name)


def check(files: Files, *, jobs: int | None = None) -> dict[str, Any]:
    """Judge the history files of one run; return the result that `stalewatch check --json` prints.

    `jobs` processes judge them, each some of the keys; by default, as many as pay. The result is the same.

    Raise `BadHistory` if a file is not a valid history; the message names the file and the line.
    """
    from stalewatch.checkers.files import judge_files
    from stalewatch.engine.result import check_result

    return check_result(judge_files(_paths(files), jobs=jobs).findings())


def read_history(files: Files) -> "Iterator[Operation]":
    """Return an iterator over the operations of the history files of one run, in the order in which they are judged.

    Raise `BadHistory` if a file is not a valid history: at once for its header, during the iteration for its lines.
    """
    from stalewatch.history.reader import History

    return (operation for operation, _ in History(_paths(files)).operations())


def _paths(files: Files) -> list[Path]:
    paths = [Path(files)] if isinstance(files, str | os.PathLike) else [Path(file) for file in files]
    if not paths:
        raise ValueError("no history files given")
    return paths
