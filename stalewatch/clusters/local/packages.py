"""Packages that only local clusters need, imported when first used.

A bench that is given an address runs in a venv without them, and a command that touches no cluster should not pay for
their import. Modules name them under ``TYPE_CHECKING`` and bind a `Lazy` otherwise.
"""

import importlib

from stalewatch.clusters.protocol import MissingPackage


class Lazy:
    """Stands for a package, and imports it at the first look at one of its names."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> object:
        """Return the package's attribute, or raise `MissingPackage` with what to install."""
        try:
            package = importlib.import_module(self._name)
        except ModuleNotFoundError as error:
            raise MissingPackage(
                f"the Python package {error.name} is missing, which local clusters need: "
                f"`pip install {error.name}`, or give the address of a running database"
            ) from error
        return getattr(package, attribute)
