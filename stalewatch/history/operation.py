"""The records of a history: what a session did, when, and how it ended.

Times are integer nanoseconds since the epoch (see `stalewatch.history.clock`). A version is a positive integer, unique
and rising per key; 0 is the preloaded value or no value at all.

Records are msgspec structs if msgspec is installed, else dataclasses: msgspec decodes a line about eight times faster
than `json`, and creates a record in a quarter of the time of a named tuple, but the bare bench must run on the standard
library and a database driver alone. Both bases build the same classes from the same annotations, so no other code needs
to know which one is in use.
"""

import dataclasses
from typing import ClassVar, Literal, dataclass_transform

try:
    from msgspec import Struct as Struct  # noqa: PLC0414 # exported
    from msgspec.structs import replace as replace  # noqa: PLC0414 # exported
except ImportError:
    HAVE_MSGSPEC = False
else:
    HAVE_MSGSPEC = True

if not HAVE_MSGSPEC:
    from dataclasses import replace as replace  # type: ignore[assignment] # noqa: PLC0414 # does the same for the class below

    @dataclass_transform()
    class Struct:  # type: ignore[no-redef] # stands in for the class that could not be imported
        """A record that becomes a dataclass when it is declared."""

        tag: ClassVar[str | None] = None

        def __init_subclass__(cls, *, tag: str | None = None, kw_only: bool = False, **_options: object) -> None:
            """Accept msgspec's class options; only these two matter here."""
            super().__init_subclass__()
            cls.tag = tag
            dataclasses.dataclass(kw_only=kw_only)(cls)


Registers = Literal["growing", "overwriting"]
"""``growing``: a write never undoes a newer one. ``overwriting``: the write that arrives last wins, even an old one."""

Outcome = Literal["ok", "fail", "unknown"]
"""``ok``: confirmed by the database. ``fail``: certainly not applied. ``unknown``: may have been, or may be later."""


class Depends(Struct, kw_only=True, omit_defaults=True, gc=False):
    """The version of another key that the author of a value had seen before writing it."""

    key: str
    version: int
    cause: str | None = None


class Write(Struct, tag_field="op", tag="write", kw_only=True, omit_defaults=True, gc=False):
    """An attempt to raise a register to `version`; ``end`` is None if it never ended."""

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
    """A read of a register: the version returned, and its concurrent siblings if the database exposes them."""

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
    """An attempt to append a unique item to a list; ``end`` is None if it never ended."""

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
    """An attempt to draw an id from a counter of the database; ``end`` is None if it never ended."""

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
    """A read after the load of everything a key holds: a register's version and siblings, or a list's items."""

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
    """A fault injected into a node from `start` to `end`; ``end`` is None if it outlasted the file."""

    fault: str
    node: str | None = None
    start: int
    end: int | None


class Close(Struct, tag_field="op", tag="close", kw_only=True, omit_defaults=True, gc=False):
    """The last line of a complete file, with the clock error over the whole run (None: unknown)."""

    clock_error_ns: int | None


Operation = Write | Read | Append | Draw | Final | Fault
Record = Operation | Close

FORMAT = "stalewatch-history"
FORMAT_VERSION = 1
DEFAULT_HORIZON_S = 120


class Header(Struct, kw_only=True, omit_defaults=False):
    """The first line of a history file: its origin, and how far its clock may be from the master's."""

    format: str
    version: int
    run: str = ""
    worker: int = 0
    database: str = ""
    horizon_s: int | float = DEFAULT_HORIZON_S
    clock_error_ns: int | None = None
    closes: bool = False
    registers: Registers = "growing"
    options: dict[str, object] | None = None
