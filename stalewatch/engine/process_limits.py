"""Limits of this process that a run could hit, checked before it: an error of ours must not count as the database's."""

from contextlib import suppress

from stalewatch.clients.errors import BadAddress
from stalewatch.clients.protocol import Database

SPARE_FILES = 100
"""Open files besides the sessions' connections: modules, the history, pollers, background tasks."""


def require_files(database: Database, options: object, users: int) -> None:
    """Let this process open as many files as its users need; raise `BadAddress` if the system forbids it."""
    try:
        import resource  # noqa: PLC0415 # Unix only
    except ImportError:
        return
    needed = users * database.connections_per_user(options) + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    unlimited = hard == resource.RLIM_INFINITY
    if unlimited or hard >= needed:
        with suppress(OSError, ValueError):  # macOS has a limit of its own below an unlimited one
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
            return
    raise BadAddress(
        f"{users} users in one process need up to {needed} open files, but this process may open "
        f"{soft if unlimited else hard} (ulimit -n); that is a limit of ours, not of {database.label}: raise it, or "
        "give fewer users per process"
    )
