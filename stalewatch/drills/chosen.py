"""Which drill is asked for, when it begins and how long it lasts: the flags for it, for every front end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from stalewatch.clients.options import positive, seconds
from stalewatch.drills.plan import BadDrill, Drill, catalogue, read

AT_S, LASTS_S = 10.0, 20.0

FLAGS: Mapping[str, Mapping[str, Any]] = {
    "--drills": {"type": Path, "metavar": "FILE", "help": "your own drills, a TOML file (see docs/drills.md)"},
    "--at": {
        "type": seconds,
        "default": AT_S,
        "metavar": "S",
        "help": f"seconds of load before the drill begins (default {AT_S:g})",
    },
    "--for": {
        "dest": "lasts",
        "type": positive,
        "default": LASTS_S,
        "metavar": "S",
        "help": f"seconds that its faults last (default {LASTS_S:g})",
    },
    "--lab": {"action": "store_true", "help": "in a network of its own (needs root); so where links are broken"},
    "--compose": {"action": "store_true", "help": "break the containers of replication/docker-compose.yml"},
}


class Chosen(NamedTuple):
    """A drill, when it begins, in seconds of load, and how long its faults last where it does not say so itself."""

    drill: Drill
    at: float
    lasts: float

    @classmethod
    def of(cls, arguments: Any) -> Self:  # noqa: ANN401 # parsed arguments
        """Return what the arguments name; raise `BadDrill` where their database has no such drill, or OSError."""
        own = arguments.drills or getattr(arguments, "own", None)
        return cls(_named(drills(own), arguments.fault, arguments.database), arguments.at, arguments.lasts)

    @property
    def over_s(self) -> float:
        """When the last fault is to be over, in seconds of load."""
        return self.at + max(
            step.after + (self.lasts if step.lasts is None else step.lasts) for step in self.drill.steps
        )


def choose(arguments: Any, drill: Drill) -> None:  # noqa: ANN401 # parsed arguments
    """Choose the options that the drill asks for where nobody chose; raise `BadDrill` for one that there is not."""
    for flag, value in drill.options.get(arguments.database, {}).items():
        name = flag.replace("-", "_")
        if not hasattr(arguments, name):
            raise BadDrill(f"{drill.name}: options: --{flag} is no option of {arguments.database}")
        if getattr(arguments, name) in (None, ""):
            setattr(arguments, name, value)


def drills(own: Path | None) -> dict[str, Drill]:
    """Return all drills, those of a file of one's own among them."""
    return catalogue() | (read(own) if own else {})


def _named(known: Mapping[str, Drill], name: str, database: str) -> Drill:
    drill = known.get(name)
    if drill is not None and database in drill.databases:
        return drill
    fitting = ", ".join(one for one, drill in known.items() if database in drill.databases)
    raise BadDrill(f"{name}: no drill of {database}; there are {fitting} (see: stalewatch drill --list)")
