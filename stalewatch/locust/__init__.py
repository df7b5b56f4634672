"""stalewatch under Locust: `from stalewatch.locust import DatabaseUser, Watched` in a locustfile is all it takes."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stalewatch.locust.user import DatabaseUser
    from stalewatch.locust.watched import Watched

__all__ = ["DatabaseUser", "Watched"]

_MODULES = {"DatabaseUser": "user", "Watched": "watched"}


def __getattr__(name: str) -> object:
    """Import a class on first use: the health check must not load Locust, which patches the whole process."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
