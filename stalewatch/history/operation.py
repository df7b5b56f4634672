"""What a session did and how it ended: the records that make up a history.

Times are integer nanoseconds since the epoch (see `stalewatch.history.clock`). A version is a positive integer, unique and rising
per key; 0 is the preloaded value or no value at all.
"""

from typing import Literal

from stalewatch.history.record import Struct

Outcome = Literal["ok", "fail", "unknown"]
"""``ok``: the database confirmed. ``fail``: certainly not applied. ``unknown``: may have been applied, now or later."""


class Depends(Struct, kw_only=True, omit_defaults=True, gc=False):
    """The version of another key that the author of a value had seen before writing it."""

    key: str
    version: int
    cause: str | None = None


class Write(Struct, tag_field="op", tag="write", kw_only=True, omit_defaults=True, gc=False):
    """One attempt to raise a register to `version`; ``end`` is None when it never ended."""

    session: str
    key: str
    version: int | None = None
    start: int
    end: int | None
    outcome: Outcome
    superseded: bool | None = False
    node: str | None = None
    error: str | None = None
    due: int | None = None
    depends: Depends | None = None
    owner: int | None = None


class Read(Struct, tag_field="op", tag="read", kw_only=True, omit_defaults=True, gc=False):
    """One read of a register: the version it showed, and concurrent versions beside it where the database has them."""

    session: str
    key: str
    version: int | None = None
    start: int
    end: int
    outcome: Outcome
    siblings: list[int] | None = None
    node: str | None = None
    error: str | None = None
    due: int | None = None
    depends: Depends | None = None
    owner: int | None = None


class Append(Struct, tag_field="op", tag="append", kw_only=True, omit_defaults=True, gc=False):
    """One attempt to append a unique item to a list; ``end`` is None when it never ended."""

    session: str
    key: str
    item: str | int | None = None
    start: int
    end: int | None
    outcome: Outcome
    node: str | None = None
    error: str | None = None
    due: int | None = None
    owner: int | None = None


class Draw(Struct, tag_field="op", tag="draw", kw_only=True, omit_defaults=True, gc=False):
    """One id drawn from a counter of the database; ``end`` is None when the draw never ended."""

    session: str
    key: str
    value: int | None = None
    start: int
    end: int | None
    outcome: Outcome
    node: str | None = None
    error: str | None = None
    due: int | None = None
    owner: int | None = None


class Final(Struct, tag_field="op", tag="final", kw_only=True, omit_defaults=True, gc=False):
    """The read at the end that shows all a key holds: a register's version and siblings, or a list's items."""

    key: str
    version: int | None = None
    siblings: list[int] | None = None
    items: list[str | int] | None = None
    start: int
    end: int
    outcome: Outcome
    node: str | None = None
    error: str | None = None


class Fault(Struct, tag_field="op", tag="fault", kw_only=True, omit_defaults=True, gc=False):
    """A fault put on a node from `start` to `end`; ``end`` is None when it was still on as the file ended."""

    fault: str
    node: str | None = None
    start: int
    end: int | None


class Close(Struct, tag_field="op", tag="close", kw_only=True, omit_defaults=True, gc=False):
    """The last line of a complete file, with the clock error over the whole run (None: not known)."""

    clock_error_ns: int | None


Operation = Write | Read | Append | Draw | Final | Fault
Record = Operation | Close

FORMAT = "stalewatch-history"
FORMAT_VERSION = 1
DEFAULT_HORIZON_S = 120


class Header(Struct, kw_only=True, omit_defaults=False):
    """The first line of a history file: where it comes from and how far its clock may be off the master's."""

    format: str
    version: int
    run: str = ""
    worker: int = 0
    database: str = ""
    horizon_s: int | float = DEFAULT_HORIZON_S
    clock_error_ns: int | None = None
    closes: bool = False
    options: dict[str, object] | None = None
