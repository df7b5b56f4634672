"""What a drill is: which faults, on whom, when; and the small files that drills are written in."""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stalewatch.clients.databases import BREAKABLE

CATALOGUE = Path(__file__).with_name("catalogue.toml")


class BadDrill(ValueError):
    """A drill that makes no sense; the message names the file, the drill and what is wrong."""


class Step(NamedTuple):
    """One fault: on whom (a row of `stalewatch.drills.targets`, or a node's HOST:PORT), and when, in seconds of the load.

    `after` counts from the drill's ``--at``; `lasts` is how long the fault stands (None: the drill's ``--for``). What
    is left of the step are the fault's own parameters.
    """

    fault: str
    on: str
    after: float = 0.0
    lasts: float | None = None
    parameters: Mapping[str, Any] = {}


class Drill(NamedTuple):
    """A row of the catalogue: what it teaches, what to expect for which options, and its steps."""

    name: str
    databases: Sequence[str]
    teaches: str
    expect: str
    steps: Sequence[Step]
    options: Mapping[str, Mapping[str, str]] = {}
    """By database, what the drill chooses where nobody else does, by flag: ``{"mongo": {"write-concern": "2"}}``."""


def catalogue() -> dict[str, Drill]:
    """Return the drills that come with stalewatch, by name."""
    return read(CATALOGUE)


def read(path: Path) -> dict[str, Drill]:
    """Return the drills of a TOML file, by name; raise `BadDrill`, or OSError where it cannot be read."""
    try:
        tables = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadDrill(f"{path}: {error}") from None
    return {name: _drill(f"{path}: {name}", name, table) for name, table in tables.items()}


def _drill(where: str, name: str, table: Any) -> Drill:  # noqa: ANN401 # whatever a file holds
    table = _table(where, table, required=("steps",), optional=("databases", "teaches", "expect", "options"))
    steps = table["steps"]
    if not isinstance(steps, list) or not steps:
        raise BadDrill(f"{where}: steps: a list of [[{name}.steps]] is expected")
    return Drill(
        name,
        _databases(where, table.get("databases", BREAKABLE)),
        " ".join(str(table.get("teaches", "")).split()),
        " ".join(str(table.get("expect", "")).split()),
        [_step(f"{where}: step {number}", step) for number, step in enumerate(steps, start=1)],
        _options(where, table.get("options", {})),
    )


def _options(where: str, table: Any) -> dict[str, dict[str, str]]:  # noqa: ANN401 # whatever a file holds
    by_database = _table(f"{where}: options", table, optional=BREAKABLE)
    return {
        database: {flag: str(value) for flag, value in _table(f"{where}: options.{database}", chosen).items()}
        for database, chosen in by_database.items()
    }


def _databases(where: str, names: Any) -> Sequence[str]:  # noqa: ANN401 # whatever a file holds
    if not isinstance(names, list | tuple) or not names or not set(names) <= set(BREAKABLE):
        raise BadDrill(f"{where}: databases: a list of {', '.join(BREAKABLE)} is expected")
    return tuple(names)


def _step(where: str, step: Any) -> Step:  # noqa: ANN401 # whatever a file holds
    table = dict(_table(where, step, required=("fault", "on")))
    fault, on = str(table.pop("fault")), str(table.pop("on"))
    after, lasts = table.pop("after", 0.0), table.pop("for", None)
    return Step(
        fault,
        on,
        _seconds(f"{where}: after", after),
        None if lasts is None else _seconds(f"{where}: for", lasts),
        table,
    )


def _seconds(where: str, value: Any) -> float:  # noqa: ANN401 # whatever a file holds
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise BadDrill(f"{where}: {value!r}: seconds, 0 or more, are expected")
    return float(value)


def _table(
    where: str,
    table: Any,  # noqa: ANN401 # whatever a file holds
    required: Iterable[str] = (),
    optional: Iterable[str] | None = None,
) -> Mapping[str, Any]:
    if not isinstance(table, Mapping):
        raise BadDrill(f"{where}: a table is expected, not {table!r}")
    missing = [name for name in required if name not in table]
    if missing:
        raise BadDrill(f"{where}: {', '.join(missing)} is missing")
    known = None if optional is None else (*required, *optional)
    unknown = [] if known is None else sorted(table.keys() - set(known))
    if unknown:
        raise BadDrill(f"{where}: {', '.join(unknown)} is unknown; known are {', '.join(known or ())}")
    return table
