"""Programs and Python packages that local clusters need: where to find them, or what to install."""

import importlib
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stalewatch.clusters.protocol import MissingPackage, MissingProgram


@dataclass(frozen=True, slots=True)
class Program:
    """A program, the environment variable with its path, how to install it, and the Python package that may ship it."""

    name: str
    variable: str
    install: str
    package: str = ""
    inside: str = ""
    """The program's path inside the package."""

    @property
    def is_named(self) -> bool:
        """Whether the environment variable is set."""
        return bool(os.environ.get(self.variable))


def find(program: Program, accepts: Callable[[Path], bool] = os.path.exists) -> Path:
    """Return the program's path, or raise `MissingProgram` with installation instructions.

    `accepts` may reject a candidate, such as one that is too old, unless the environment variable names it.
    """
    for path in candidates(program):
        if program.is_named or accepts(path):
            return path
    raise MissingProgram(
        f"no usable {program.name} was found in {program.variable}, on PATH, or in a Python package; {program.install}"
    )


def candidates(program: Program) -> Iterator[Path]:
    """Yield the program's possible paths, best first; only that in the environment variable if it is set.

    Raises `MissingProgram` for a path that is not an executable file.
    """
    given = os.environ.get(program.variable)
    if given:
        yield _executable(Path(given).expanduser(), f"{program.variable} names")
        return
    on_path = shutil.which(program.name)
    if on_path:
        yield Path(on_path)
    packaged = _packaged(program)
    if packaged:
        yield _executable(packaged, f"the package {program.package} contains")


def _executable(path: Path, source: str) -> Path:
    if not path.is_file():
        raise MissingProgram(f"{source} {path}, which is not a file")
    if not os.access(path, os.X_OK):
        raise MissingProgram(f"{source} {path}, which is not executable: `chmod +x {path}`")
    return path


def _packaged(program: Program) -> Path | None:
    # find_spec does not import a top-level package, which could be slow or have side effects; it would import the
    # parent of a submodule.
    spec = importlib.util.find_spec(program.package) if program.package else None
    places = spec.submodule_search_locations if spec else None
    paths = [Path(place, program.inside) for place in places or []]
    return next((path for path in paths if path.is_file()), None)


class Lazy:
    """A Python package that is imported when one of its attributes is first used.

    A bench with the address of a running database works without the packages that local clusters need, and commands
    that touch no cluster do not pay for importing them. Modules import such packages under ``TYPE_CHECKING`` and bind
    a `Lazy` otherwise.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> object:
        """Return the package's attribute, or raise `MissingPackage` with installation instructions."""
        try:
            package = importlib.import_module(self._name)
        except ModuleNotFoundError as error:
            raise MissingPackage(
                f"local clusters need the Python package {error.name}, which is not installed: "
                f"`pip install {error.name}`, or give the address of a running database"
            ) from error
        return getattr(package, attribute)
