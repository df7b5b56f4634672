"""Where the databases' programs are: named by a variable, on PATH, or inside an installed wheel."""

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stalewatch.clusters.protocol import MissingProgram


@dataclass(frozen=True, slots=True)
class Program:
    """A program, the variable that overrides where it is, the package that may carry it, and how to get it."""

    name: str
    variable: str
    install: str
    package: str = ""
    inside: str = ""
    """Its path inside the package."""

    @property
    def is_named(self) -> bool:
        """Whether the variable says where it is."""
        return bool(os.environ.get(self.variable))


def find(program: Program, accepts: Callable[[Path], bool] = os.path.exists) -> Path:
    """Return the program's path, or raise `MissingProgram` with what to install.

    One is taken where `accepts` says so, as one that is too old is not; one that the variable names always is.
    """
    for path in candidates(program):
        if program.is_named or accepts(path):
            return path
    raise MissingProgram(
        f"{program.name} was not found: neither {program.variable} nor PATH nor a Python package has one of use; "
        f"{program.install}"
    )


def candidates(program: Program) -> Iterator[Path]:
    """Yield every place where the program is, the best first; nothing but the variable's where that is set.

    Raises `MissingProgram` for one that cannot be run.
    """
    given = os.environ.get(program.variable)
    if given:
        yield _runnable(Path(given).expanduser(), f"{program.variable} names")
        return
    on_path = shutil.which(program.name)
    if on_path:
        yield Path(on_path)
    carried = _carried(program)
    if carried:
        yield _runnable(carried, f"the package {program.package} holds")


def _runnable(path: Path, source: str) -> Path:
    if not path.is_file():
        raise MissingProgram(f"{source} {path}, which is not a file")
    if not os.access(path, os.X_OK):
        raise MissingProgram(f"{source} {path}, which may not be executed: `chmod +x {path}`")
    return path


def _carried(program: Program) -> Path | None:
    # Finding a top-level package does not import it, which may be slow and start things; finding a submodule would.
    spec = importlib.util.find_spec(program.package) if program.package else None
    places = spec.submodule_search_locations if spec else None
    candidates = [Path(place, program.inside) for place in places or []]
    return next((path for path in candidates if path.is_file()), None)
