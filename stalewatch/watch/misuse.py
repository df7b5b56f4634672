"""Mistakes in the use of sessions and blocks: errors, and warnings that name the line of the caller."""

import sys
import warnings
from pathlib import Path

_PACKAGE = str(Path(__file__).parent)


class Misuse(Exception):
    """A mistake in how a session or a block is used; the message says what to change."""


class MisuseWarning(UserWarning):
    """A mistake that was recorded and judged; the message says what it was counted as."""


class Warnings:
    """Issues one warning for each place in the caller's code and each kind of mistake, however often it is repeated."""

    def __init__(self) -> None:
        self._issued: set[tuple[str, int, str]] = set()

    def warn(self, kind: str, message: str) -> None:
        """Issue the warning at the caller's line, unless one of this kind was issued there."""
        file, line = _caller()
        if (file, line, kind) not in self._issued:
            self._issued.add((file, line, kind))
            warnings.warn_explicit(message, MisuseWarning, file, line)


def _caller() -> tuple[str, int]:
    """Return the file and line of the innermost frame outside this package."""
    frame = sys._getframe(1)  # noqa: SLF001 # documented; inspect.stack() reads every source file on the way
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno
