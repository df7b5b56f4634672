"""The codec as imported when msgspec is not installed, next to the regular one."""

import importlib
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from types import ModuleType
from unittest import mock


@contextmanager
def _absent(package: str, reloading: str) -> Iterator[None]:
    """Hide a package from imports and reload another; restore `sys.modules` at the end."""
    modules: MutableMapping[str, ModuleType | None] = sys.modules  # type: ignore[assignment] # None: do not import
    others = {name for name in modules if name == reloading or name.startswith(f"{reloading}.")}
    with mock.patch.dict(modules):
        for name in others:
            del modules[name]
        modules[package] = None
        yield


def load() -> tuple[ModuleType, ModuleType]:
    """Return a second copy of the codec, based on json, and of the records that it uses."""
    with _absent("msgspec", reloading="stalewatch.history"):
        return importlib.import_module("stalewatch.history.codec"), importlib.import_module(
            "stalewatch.history.operation"
        )
