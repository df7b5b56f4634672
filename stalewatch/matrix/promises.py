"""What the databases' documentation promises, from `promises.toml`: by levels, with the page that says so."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from stalewatch.matrix.cells import STRATEGY, Cell

FILE = Path(__file__).with_name("promises.toml")

Says = Literal["promised", "not promised", "not said"]


class Promise(NamedTuple):
    """What the documentation says about one guarantee at some levels, and where."""

    documented: Says
    source: str | None
    says: str | None
    causes: Sequence[str] = ()
    """Causes of violations that it rules out, although it does not promise the guarantee as a whole."""


NOT_SAID = Promise("not said", None, None)


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry of the file."""

    where: dict[str, str | list[str]]
    source: str
    says: str
    promised: list[str] = []
    not_promised: list[str] = []
    promised_causes: dict[str, list[str]] = {}

    def fits(self, levels: Mapping[str, str]) -> bool:
        """Return whether it is about these levels."""
        return all(
            levels.get(name) in ([value] if isinstance(value, str) else value) for name, value in self.where.items()
        )

    def about(self, guarantee: str) -> Promise | None:
        """Return what it says about a guarantee, if anything."""
        says = " ".join(self.says.split())
        if guarantee in self.promised:
            return Promise("promised", self.source, says)
        if guarantee in self.not_promised:
            return Promise("not promised", self.source, says, self.promised_causes.get(guarantee, ()))
        return None


@cache
def _entries(database: str) -> Sequence[_Entry]:
    return msgspec.toml.decode(FILE.read_text(encoding="utf-8"), type=dict[str, list[_Entry]]).get(database, [])


def promise(cell: Cell, guarantee: str) -> Promise:
    """Return what the documentation promises of a guarantee at a cell's levels."""
    levels = {STRATEGY: "plain", **cell.levels, "provocation": cell.provocation.name}
    found = (entry.about(guarantee) for entry in _entries(cell.database) if entry.fits(levels))
    return next((one for one in found if one is not None), NOT_SAID)


def promised(cell: Cell, guarantees: Sequence[str]) -> int:
    """Return how many of these guarantees the documentation promises at a cell's levels."""
    return sum(promise(cell, one).documented == "promised" for one in guarantees)
