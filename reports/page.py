"""One HTML page for one run or several side by side; placeholder signature, see `write`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class MissingPackage(Exception):
    """A package that the page needs and that is not installed."""


def require() -> None:
    """Raise `MissingPackage` where the page cannot be made."""


def write(path: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Write the page."""
    path.write_text(str(results))
