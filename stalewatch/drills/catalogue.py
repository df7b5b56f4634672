"""The drills: which faults, on which nodes, when; the TOML files that hold them; and the flags that choose one.

A file is decoded by msgspec, so this module needs it; the bench does not use drills and runs without.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self, TypeVar

import msgspec

from stalewatch.clients.databases import BREAKABLE
from stalewatch.clients.options import positive, seconds

BUNDLED = Path(__file__).with_name("catalogue.toml")
START_S, FAULT_S = 10.0, 20.0

T = TypeVar("T")
Seconds = Annotated[float, msgspec.Meta(ge=0, le=sys.float_info.max)]
"""A finite number of seconds."""


class BadDrill(ValueError):
    """A drill that makes no sense; the message names the file, the drill and what is wrong."""


class DrillDefaults(NamedTuple):
    """What drills choose for a database if the user does not.

    `single_node` are the options with which a node answers by itself, as text by the options' names; None if nodes
    cannot be read one by one.
    """

    workload: str | None = None
    single_node: Mapping[str, str] | None = None


DEFAULTS: Mapping[str, DrillDefaults] = {
    "mongo": DrillDefaults("register,ledger,sequence", {"read_concern": "local"}),
    "cassandra": DrillDefaults("register,ledger", {"read_cl": "ONE"}),
    "couch": DrillDefaults(single_node={}),
    "memory": DrillDefaults("register,ledger,sequence"),
}
"""By database. A ledger shows exactly which writes are lost, a sequence which ids were given out twice."""


def defaults_of(database: str) -> DrillDefaults:
    """Return what drills choose for a database, which may be another package's."""
    return DEFAULTS.get(database, DrillDefaults())


class DrillStep(msgspec.Struct, frozen=True, kw_only=True):
    """One fault: its target (a role of `stalewatch.drills.clusters`, or a node's HOST:PORT) and its times.

    `after` counts from the start of the drill (``--at``); `lasts`, which a file calls ``for``, is the duration of the
    fault, None for that of the drill (``--for``). `parameters` are the fault's own: every other key of a step.
    """

    fault: str
    on: str
    after: Seconds = 0.0
    lasts: Seconds | None = msgspec.field(name="for", default=None)
    parameters: Mapping[str, Any] = {}


class _DrillTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A drill as a file holds it."""

    steps: Annotated[tuple[DrillStep, ...], msgspec.Meta(min_length=1)]
    databases: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = tuple(BREAKABLE)
    teaches: str = ""
    expect: str = ""
    options: dict[str, dict[str, str | int | float]] = {}


class Drill(NamedTuple):
    """One drill: what it teaches, what to expect for which options, and its steps."""

    name: str
    databases: Sequence[str]
    teaches: str
    expect: str
    steps: Sequence[DrillStep]
    options: Mapping[str, Mapping[str, str]] = {}
    """By database, options that the user did not choose, by flag: ``{"mongo": {"write-concern": "2"}}``."""


def bundled_drills() -> dict[str, Drill]:
    """Return the drills that come with stalewatch, by name."""
    return read_drills(BUNDLED)


def all_drills(own: Path | None) -> dict[str, Drill]:
    """Return the bundled drills and those of the user's own file, which win."""
    return bundled_drills() | (read_drills(own) if own else {})


def read_drills(path: Path) -> dict[str, Drill]:
    """Return the drills of a TOML file, by name; raise `BadDrill`, or OSError if it cannot be read."""
    try:
        tables = msgspec.toml.decode(path.read_text())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadDrill(f"{path}: {error}") from None
    return {name: _drill(path, name, table) for name, table in tables.items()}


def _drill(path: Path, name: str, table: object) -> Drill:
    place = f"{path}: $.{name}"
    if isinstance(table, dict) and isinstance(table.get("steps"), list):
        table = {**table, "steps": [_with_parameters(step) for step in table["steps"]]}
    found = _converted(place, table, _DrillTable)
    _require_databases(f"{place}.databases", found.databases)
    _require_databases(f"{place}.options", found.options)
    options = {
        database: {flag: str(value) for flag, value in chosen.items()} for database, chosen in found.options.items()
    }
    teaches, expect = " ".join(found.teaches.split()), " ".join(found.expect.split())
    return Drill(name, found.databases, teaches, expect, found.steps, options)


def _with_parameters(step: object) -> object:
    """Return a step with the parameters of its fault in a table of their own."""
    if not isinstance(step, dict):
        return step
    known = {"fault", "on", "after", "for"}
    return {
        **{name: value for name, value in step.items() if name in known},
        "parameters": {name: value for name, value in step.items() if name not in known},
    }


def _converted(place: str, value: object, kind: type[T]) -> T:
    """Return the value as that type; raise `BadDrill` with the path of a misfit, such as ``$.x.steps[0].for``."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message, _, inner = str(error).partition(" - at `$")
        raise BadDrill(f"{place}{inner.rstrip('`')}: {message}") from None


def _require_databases(place: str, names: Mapping[str, object] | Sequence[str]) -> None:
    unknown = [name for name in names if name not in BREAKABLE]
    if unknown:
        raise BadDrill(f"{place}: no database {', '.join(unknown)}; choose from {', '.join(BREAKABLE)}")


FLAGS: Mapping[str, Mapping[str, Any]] = {
    "--drills": {"type": Path, "metavar": "FILE", "help": "a TOML file with your own drills (see docs/drills.md)"},
    "--at": {
        "type": seconds,
        "default": START_S,
        "metavar": "S",
        "help": f"seconds of load before the drill starts (default {START_S:g})",
    },
    "--for": {
        "dest": "lasts",
        "type": positive,
        "default": FAULT_S,
        "metavar": "S",
        "help": f"how long each fault lasts, in seconds, unless the drill says otherwise (default {FAULT_S:g})",
    },
    "--lab": {
        "action": "store_true",
        "help": "use a cluster in an isolated network (needs root); the default for drills that break links",
    },
    "--compose": {"action": "store_true", "help": "break the containers of replication/docker-compose.yml"},
}
"""The arguments of a drill, for every command line that has drills."""


class ScheduledDrill(NamedTuple):
    """A drill, when it starts, in seconds of load, and how long its faults last unless a step says otherwise."""

    drill: Drill
    start_s: float
    fault_s: float

    @classmethod
    def from_arguments(cls, arguments: Any) -> Self:  # noqa: ANN401 # parsed arguments
        """Return the drill that the arguments name; raise `BadDrill` if their database has none, or OSError."""
        drills = all_drills(arguments.drills or getattr(arguments, "own", None))
        return cls(_named(drills, arguments.fault, arguments.database), arguments.at, arguments.lasts)

    @property
    def end_s(self) -> float:
        """When the last fault is to end, in seconds of load."""
        return self.start_s + max(
            step.after + (self.fault_s if step.lasts is None else step.lasts) for step in self.drill.steps
        )


def _named(drills: Mapping[str, Drill], name: str, database: str) -> Drill:
    drill = drills.get(name)
    if drill is not None and database in drill.databases:
        return drill
    others = ", ".join(one for one, drill in drills.items() if database in drill.databases)
    raise BadDrill(f"{database} has no drill {name!r}; choose from {others} (see: stalewatch drill --list)")


def apply_options(arguments: Any, drill: Drill) -> None:  # noqa: ANN401 # parsed arguments
    """Set the options of a drill that the user did not choose; raise `BadDrill` for one that does not exist."""
    for flag, value in drill.options.get(arguments.database, {}).items():
        name = flag.replace("-", "_")
        if not hasattr(arguments, name):
            raise BadDrill(f"{drill.name}: options: {arguments.database} has no option --{flag}")
        if getattr(arguments, name) in (None, ""):
            setattr(arguments, name, value)
