"""A violation. It is never compiled: that would lose the types of its fields, by which messages are decoded."""

from typing import NamedTuple

from stalewatch.history.operation import Operation


class Violation(NamedTuple):
    """A violation of a guarantee and the operations that prove it, in the order of their end."""

    guarantee: str
    operations: tuple[Operation, ...]
    cause: str | None = None
    staleness_ns: int | None = None
    staleness_exact: bool = True
    versions_behind: int | None = None
    age_ns: int | None = None
    """Of a stale read: its start minus the end of the write that set its floor."""
