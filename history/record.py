"""The base of every record: ``msgspec.Struct`` where msgspec is installed, else a dataclass that behaves alike.

msgspec decodes a line some eight times faster than ``json``, but the bare bench runs with the standard library and a
driver only. Both bases build the same classes from the same annotations, so the rest of the code never asks which it
is.
"""

import dataclasses
from typing import ClassVar, dataclass_transform

try:
    from msgspec import Struct
except ImportError:
    HAVE_MSGSPEC = False
else:
    HAVE_MSGSPEC = True

if not HAVE_MSGSPEC:

    @dataclass_transform(kw_only_default=True)
    class Struct:  # type: ignore[no-redef] # stands in for the class that could not be imported
        """A record with keyword-only fields, made a dataclass as soon as it is declared."""

        tag: ClassVar[str | None] = None

        def __init_subclass__(cls, *, tag: str | None = None, **_options: object) -> None:
            """Take msgspec's class options; only the tag matters here."""
            super().__init_subclass__()
            cls.tag = tag
            dataclasses.dataclass(kw_only=True)(cls)


__all__ = ["HAVE_MSGSPEC", "Struct"]
