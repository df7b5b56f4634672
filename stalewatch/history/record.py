"""The base of every record: ``msgspec.Struct`` where msgspec is installed, else a dataclass that behaves alike.

msgspec decodes a line some eight times faster than ``json``, and makes a record in a quarter of a named tuple's time,
but the bare bench runs with the standard library and a driver only. Both bases build the same classes from the same
annotations, so the rest of the code never asks which it is.
"""

import dataclasses
from typing import ClassVar, dataclass_transform

try:
    from msgspec import Struct
    from msgspec.structs import replace
except ImportError:
    HAVE_MSGSPEC = False
else:
    HAVE_MSGSPEC = True

if not HAVE_MSGSPEC:
    from dataclasses import replace  # type: ignore[assignment] # does the same for the class below

    @dataclass_transform()
    class Struct:  # type: ignore[no-redef] # stands in for the class that could not be imported
        """A record, made a dataclass as soon as it is declared."""

        tag: ClassVar[str | None] = None

        def __init_subclass__(cls, *, tag: str | None = None, kw_only: bool = False, **_options: object) -> None:
            """Take msgspec's class options; only these matter here."""
            super().__init_subclass__()
            cls.tag = tag
            dataclasses.dataclass(kw_only=kw_only)(cls)


__all__ = ["HAVE_MSGSPEC", "Struct", "replace"]
