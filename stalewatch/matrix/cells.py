"""The cells of a matrix: each combination of a database's levels, calm and under each provocation, in order."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import check_options, options_of, with_values
from stalewatch.workloads.options import LoadOptions

STRATEGY = "read_strategy"


class Dimension(NamedTuple):
    """A level that varies: the option's name, and its values with the weakest first."""

    name: str
    values: tuple[str, ...]


class Grid(NamedTuple):
    """Levels of which every combination is a cell; `fixed` are options that all of its cells have."""

    dimensions: tuple[Dimension, ...]
    fixed: Mapping[str, str] = {}


STRATEGIES = Dimension(STRATEGY, ("plain", "pinned", "sticky", "token"))

_MONGO_WRITES = Dimension("write_concern", ("1", "majority"))
_LEVELS = ("ONE", "QUORUM", "ALL")
_ACKS = ("1", "majority", "all")

GRIDS: Mapping[str, tuple[Grid, ...]] = {
    "mongo": (
        Grid(
            (
                _MONGO_WRITES,
                Dimension("read_concern", ("local", "majority")),
                Dimension("read_from", ("secondary", "nearest", "primary")),
                STRATEGIES,
            )
        ),
        # Only the primary answers such reads.
        Grid(
            (
                _MONGO_WRITES,
                Dimension("read_concern", ("linearizable",)),
                Dimension("read_from", ("primary",)),
                STRATEGIES,
            )
        ),
    ),
    "cassandra": (Grid((Dimension("write_cl", _LEVELS), Dimension("read_cl", _LEVELS), STRATEGIES)),),
    "couch": (
        Grid(
            (
                Dimension("write_to", ("both",)),
                Dimension("read_from", ("other", "a", "same")),
                Dimension("resolve", ("none", "lww", "max", "union", "sum", "fields")),
                STRATEGIES,
            )
        ),
        # If every key has one leader, there are no conflicts to resolve.
        Grid(
            (
                Dimension("write_to", ("home", "a")),
                Dimension("read_from", ("other", "a", "same")),
                Dimension("resolve", ("none",)),
                STRATEGIES,
            )
        ),
    ),
    "memory": (
        Grid(
            (Dimension("write_acks", _ACKS), Dimension("read_from", ("follower", "any", "leader")), STRATEGIES),
            {"topology": "leader"},
        ),
        Grid((Dimension("write_acks", _ACKS), Dimension("read_acks", _ACKS), STRATEGIES), {"topology": "quorum"}),
        Grid(
            (
                Dimension("write_to", ("any", "home", "a")),
                Dimension("read_from", ("any", "home", "a")),
                STRATEGIES,
            ),
            {"topology": "multi-leader"},
        ),
    ),
}
"""By database. A simulated store that is linearizable by construction is left out: nothing can provoke it."""

WORKLOADS: Mapping[str, str] = {
    "mongo": "register,ledger,causal",
    "cassandra": "register,ledger",
    "couch": "conflict",
    "memory": "register,ledger",
}
"""By database: what reads need, and lists or documents in which each lost write is counted."""


class Provocation(NamedTuple):
    """Something that can break guarantees: a drill of the catalogue, or options of a simulated store.

    `levels` are those that it needs, `options` set for its cells. The load lasts `at_s` before the fault, which lasts
    `lasts_s`, and `after_s` after it. `other_s` is a first guess of what else a cell takes: connecting, healing,
    final reads.
    """

    name: str
    words: str
    drill: str | None = None
    options: Mapping[str, str] = {}
    levels: Mapping[str, str] = {}
    at_s: float = 2.0
    lasts_s: float = 8.0
    after_s: float = 3.0
    other_s: float = 6.0
    misses: bool = False
    """Whether it does harm only by the writes that a node misses meanwhile."""
    slow: bool = False
    """Whether cells may take minutes, as when a server starts again: they come after those of other provocations."""

    @property
    def load_s(self) -> float:
        """How long the load lasts if nothing delays the end of the fault."""
        return self.at_s + self.lasts_s + self.after_s


def _calm(options: Mapping[str, str] | None = None) -> Provocation:
    return Provocation("calm", "nothing is broken", None, options or {}, at_s=0, lasts_s=4, after_s=0, other_s=2)


_LAGGING = {"lag": "0.1"}
_LED = {"topology": "leader"}

CALM = "calm"

PROVOCATIONS: Mapping[str, tuple[Provocation, ...]] = {
    "mongo": (
        Provocation(
            "stall", "a secondary stops applying writes, and still answers reads", "lagging-replica", misses=True
        ),
        Provocation("kill", "the primary is killed", "kill-primary", lasts_s=6, after_s=5),
        Provocation("isolate", "the primary is cut off from its secondaries", "isolate-primary", lasts_s=6, after_s=6),
        Provocation("pause", "the primary is paused while another is elected", "pause-primary", lasts_s=6, after_s=5),
        _calm(),
    ),
    "cassandra": (
        Provocation("pause", "a node is paused, and nobody keeps hints for it", "pause-node", other_s=15, misses=True),
        Provocation("isolate", "a node is cut off from the others", "isolate-node", other_s=20),
        Provocation("no-hints", "a node is killed, and nobody keeps hints for it", "no-hints", other_s=40, slow=True),
        Provocation("kill", "a node is killed", "kill-node", other_s=40, slow=True),
        _calm(),
    ),
    "couch": (
        Provocation("link", "the leaders do not send each other their changes", "link-down", lasts_s=6, misses=True),
        Provocation("kill", "leader a is killed", "kill-leader", lasts_s=6),
        _calm(),
    ),
    "memory": (
        Provocation("lag", "writes take 100 ms on average to another node", None, _LAGGING, other_s=1),
        Provocation("isolate", "the leader is cut off from its followers", "isolate-primary", _LAGGING, _LED),
        Provocation("kill", "the leader is killed", "kill-primary", _LAGGING, _LED),
        _calm({"lag": "0"}),
    ),
}
"""By database, those that threaten most first."""


@dataclass(frozen=True)
class Cell:
    """One combination of levels under one provocation.

    `strength` is 0 for the weakest levels of its grid, 1 for the strongest. Cells of one `group` can be each other's
    controls: the same provocation threatens them.
    """

    database: str
    levels: Mapping[str, str]
    provocation: Provocation
    strength: float
    group: str = ""

    @property
    def name(self) -> str:
        """The provocation and the levels: ``lag write_concern=1,read_from=secondary``."""
        return f"{self.provocation.name} {','.join(f'{name}={value}' for name, value in self.levels.items())}"

    @property
    def label(self) -> str:
        """The values of the levels."""
        return " ".join(self.levels.values())


def level_names(database: str) -> dict[str, tuple[str, ...]]:
    """Return the levels that a database's matrix varies or fixes, each with its values."""
    found: dict[str, tuple[str, ...]] = {}
    for grid in GRIDS[database]:
        fixed = (Dimension(name, (value,)) for name, value in grid.fixed.items())
        for name, values in (*fixed, *_dimensions(database, grid)):
            found[name] = tuple(dict.fromkeys((*found.get(name, ()), *values)))
    return found


def all_cells(database: str, provocations: Sequence[Provocation]) -> list[Cell]:
    """Return the cells of a database, without those whose levels it refuses."""
    return [cell for grid in GRIDS[database] for cell in _cells(database, grid, provocations)]


def _cells(database: str, grid: Grid, provocations: Sequence[Provocation]) -> Iterator[Cell]:
    dimensions = _dimensions(database, grid)
    steps = sum(len(one.values) - 1 for one in dimensions)
    for places in product(*(range(len(one.values)) for one in dimensions)):
        chosen = {one.name: one.values[place] for one, place in zip(dimensions, places, strict=True)}
        levels = {**grid.fixed, **chosen}
        if not _accepted(database, levels):
            continue
        strength = sum(places) / steps if steps else 1.0
        for provocation in provocations:
            if provocation.levels.items() <= levels.items():
                yield Cell(database, levels, provocation, strength, ",".join(grid.fixed.values()))


def _dimensions(database: str, grid: Grid) -> list[Dimension]:
    """Return the dimensions for which the database has options."""
    known = {one.name for one in (*DATABASES[database].flags(), *options_of(LoadOptions))}
    return [one for one in grid.dimensions if one.name in known]


def _accepted(database: str, levels: Mapping[str, str]) -> bool:
    row = DATABASES[database]
    own = {one.name for one in row.flags()}
    try:
        check_options(with_values(row.options(), {name: text for name, text in levels.items() if name in own}))
    except BadAddress:
        return False
    return True


def parse_only(database: str, text: str) -> Callable[[Cell], bool]:
    """Return which cells NAME=VALUE,... chooses; several values of one name are alternatives. Raises `BadAddress`."""
    values = {**level_names(database), "provocation": tuple(one.name for one in PROVOCATIONS[database])}
    wanted: dict[str, set[str]] = {}
    for part in text.split(","):
        name, equals, value = (one.strip() for one in part.partition("="))
        name = name.replace("-", "_")
        if not equals or name not in values:
            raise BadAddress(f"--only {part!r}: write NAME=VALUE, with a NAME of {', '.join(values)}")
        if value not in values[name]:
            raise BadAddress(f"--only {part!r}: {name} is one of {', '.join(values[name])}")
        wanted.setdefault(name, set()).add(value)
    return lambda cell: all(_level(cell, name) in chosen for name, chosen in wanted.items())


def _level(cell: Cell, name: str) -> str | None:
    return cell.provocation.name if name == "provocation" else cell.levels.get(name)


def in_order(cells: Sequence[Cell], promises: Callable[[Cell], int]) -> list[Cell]:
    """Return the cells, the most telling first.

    The weakest levels under each provocation come first, since they show that it does harm; then the strongest, the
    same without provocation, those about which the documentation promises most, and the others. Cells under a slow
    provocation come after these, in the same order, and the rest of the calm ones last.
    """

    def rank(cell: Cell) -> tuple[int, int, int]:
        return _tier(cell, promises(cell)), -promises(cell), PROVOCATIONS[cell.database].index(cell.provocation)

    return sorted(cells, key=rank)


def _tier(cell: Cell, promised: int) -> int:
    provoked, extreme = cell.provocation.name != CALM, cell.strength in {0, 1}
    slow = cell.provocation.slow
    tiers = (
        provoked and not slow and cell.strength == 0,
        provoked and not slow and cell.strength == 1,
        extreme and not slow,
        provoked and not slow and bool(promised),
        provoked and not slow,
        provoked and cell.strength == 0,
        provoked and cell.strength == 1,
        provoked and bool(promised),
        provoked,
    )
    return tiers.index(True) if True in tiers else len(tiers)
