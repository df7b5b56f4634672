"""stalewatch under Locust: `from stalewatch.locust import DatabaseUser` in a locustfile is all it takes."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stalewatch.locust.user import DatabaseUser

__all__ = ["DatabaseUser"]


def __getattr__(name: str) -> object:
    """Import `DatabaseUser` on first use: the health check must not load Locust, which patches the whole process."""
    if name != "DatabaseUser":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from stalewatch.locust.user import DatabaseUser  # noqa: PLC0415

    return DatabaseUser
