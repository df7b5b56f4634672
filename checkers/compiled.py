"""Attributes of classes for mypyc, which can compile the other modules (docs/performance.md)."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr  # noqa: PLC0414 # exported
else:

    def mypyc_attr(**_attributes: object) -> Callable[[type], type]:
        """Return a decorator that does nothing."""
        return lambda cls: cls
