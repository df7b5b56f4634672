"""Tables on a terminal: the guarantees of one run, or several runs side by side under labels that tell them apart.

Rich draws them if it is installed.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stalewatch.checkers.verdict import Verdict
from stalewatch.reports.words import plain

if TYPE_CHECKING:
    from rich.table import Table

Result = Mapping[str, Any]
Results = Sequence[Result]

COLUMNS = ("guarantee", "checked", "violated", "rate", "95 % interval", "verdict")

MAX_WIDTH = 10_000
"""The most columns that a table may take in a file. On a terminal it takes the terminal's width."""

STYLES = {
    "holds": "green",
    "valid": "green",
    "violated": "red",
    "invalid": "red",
}


def show_guarantees(title: str, verdicts: Mapping[str, Verdict]) -> None:
    """Print a table of the guarantees that were checked, and a line with the others."""
    show(title, COLUMNS, rows(verdicts))
    for line in unchecked_lines(verdicts):
        print(line)


def rows(verdicts: Mapping[str, Verdict]) -> list[tuple[str, ...]]:
    """Return one row of text for each guarantee for which something was checked."""
    return [_row(verdict) for verdict in verdicts.values() if verdict.checked]


def unchecked_lines(verdicts: Mapping[str, Verdict]) -> Iterator[str]:
    """Yield a line with the guarantees for which nothing was checked, if there are any."""
    unchecked = [verdict for verdict in verdicts.values() if not verdict.checked]
    groups = {
        "no evidence (nothing checked)": [verdict.name for verdict in unchecked if verdict.applicable],
        "not applicable": [verdict.name for verdict in unchecked if not verdict.applicable],
    }
    if unchecked:
        yield "; ".join(f"{label}: {', '.join(names)}" for label, names in groups.items() if names)


def _row(verdict: Verdict) -> tuple[str, ...]:
    rate, interval = verdict.rate, verdict.interval
    return (
        verdict.name,
        f"{verdict.checked}",
        f"{verdict.violated}",
        "" if rate is None else f"{rate:.4f}",
        "" if interval is None else f"{interval[0]:.4f}-{interval[1]:.4f}",
        verdict.verdict.replace("_", " "),
    )


def show(title: str, columns: tuple[str, ...], body: Iterable[tuple[str, ...]]) -> None:
    """Print a table on stdout; headings may have several lines. Without rich, tabs separate the columns.

    On a terminal that is too narrow for all columns it is several tables, one below the other.
    """
    rows = [columns, *body]
    try:
        from rich.console import Console  # noqa: PLC0415 # the bare bench runs without it
    except ImportError:
        print(title)
        for row in rows:
            print("\t".join(row).replace("\n", " "))
        return
    console = Console()
    width = console.width if console.is_terminal else MAX_WIDTH
    with console.capture() as text:  # rich's own printing turns a closed pipe into exit code 1
        for number, chosen in enumerate(_fitting(rows, width)):
            table = _drawn("" if number else title, [[row[index] for index in chosen] for row in rows])
            console.width = console.measure(table, options=console.options.update(max_width=width)).maximum
            console.print(table)
    print(text.get(), end="")


def _fitting(rows: Sequence[Sequence[str]], width: int) -> list[list[int]]:
    """Return the columns of each table that is not wider, if possible: the first one and as many others as fit."""
    needed = [max(len(line) for cell in column for line in cell.split("\n")) + 2 for column in zip(*rows, strict=True)]
    tables = [[0]]
    for index in range(1, len(needed)):
        if len(tables[-1]) > 1 and sum(needed[one] for one in (*tables[-1], index)) + 1 > width:
            tables.append([0])
        tables[-1].append(index)
    return tables


def _drawn(title: str, rows: Sequence[Sequence[str]]) -> "Table":
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 # as above
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(title=Text(title) if title else None, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    columns, *body = rows
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=True)
    for row in body:
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    return table


LONGEST_LABEL = 200
"""Longer names of runs are cut on the terminal, as on the page."""


def show_side_by_side(results: Results) -> None:
    """Print a table with one column for each run."""
    columns = ("", *(_cut(label).replace(", ", "\n") for label in labels(results)))
    show("side by side", columns, [(name, *map(figure, results)) for name, figure in _FIGURES.items()])


def _cut(label: str) -> str:
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}…"


def _rate(guarantee: str) -> Callable[[Result], str]:
    return lambda result: _percent(result["guarantees"][guarantee]["rate"])


def _p95(kind: str) -> Callable[[Result], str]:
    return lambda result: _milliseconds(result["latency"][kind]["service_ms"]["p95"])


def _staleness(quantile: str) -> Callable[[Result], str]:
    return lambda result: _duration(result["guarantees"]["stale_reads"]["staleness_s"][quantile])


_FIGURES: dict[str, Callable[[Result], str]] = {
    "stale reads": _rate("stale_reads"),
    "own writes missed": _rate("read_your_writes"),
    "went back in time": _rate("monotonic_reads"),
    "lost writes": lambda result: _violated(result["guarantees"]["lost_writes"]),
    "staleness, median": _staleness("p50"),
    "staleness, max": _staleness("max"),
    "99 % fresh after": lambda result: _fresh_after(result["guarantees"]["stale_reads"]),
    "write p95": _p95("write"),
    "read p95": _p95("read"),
    "verdict": lambda result: str(result["verdict"]),
}


def stale_sentence(results: Results) -> str:
    """Return in one sentence how often each run read stale data and how stale it was, the worst run first."""
    stale = [result["guarantees"]["stale_reads"] for result in results]
    ranked = sorted(zip(labels(results), stale, strict=True), key=lambda one: -(one[1]["rate"] or 0))
    return "; ".join(f"{_cut(label)}: {_stale(row)}" for label, row in ranked) + "."


def _stale(row: Result) -> str:
    if not row["checked"]:
        return "no read could be checked for staleness"
    if not row["violated"]:
        return f"none of {row['checked']} reads was stale"
    age = _duration(row["staleness_s"]["max"])
    return f"{row['violated']} of {row['checked']} reads were stale ({_percent(row['rate'])}), by up to {age}"


def _violated(row: Result) -> str:
    return str(row["violated"]) if row["checked"] else "no evidence"


def _fresh_after(row: Result) -> str:
    """Return the age from which on 99 % of the reads were fresh; results of older versions do not have it."""
    return _duration(row.get("fresh_after_s", {}).get("99"))


def _percent(rate: float | None) -> str:
    return "no evidence" if rate is None else f"{rate:.2%}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.2f} ms"


def _milliseconds(value: float | None) -> str:
    return "no evidence" if value is None else f"{value:.2f} ms"


MAX_LABEL_VALUE = 24
"""The longest value of an option, in characters, that may become part of a label."""

NOT_IN_LABELS = frozenset({"driver", "seed"})


def labels(results: Results) -> list[str]:
    """Return a different label for every run: its consistency levels, and whatever else sets it apart.

    An example is ``w=1 / secondary``; runs that nothing sets apart are numbered.
    """
    return _with_distinctions(group_labels(results), results, _numbers)


def group_labels(results: Results) -> list[str]:
    """Return a label for every run that it shares with its repeats."""
    found = [_levels(result) for result in results]
    if len({result.get("database") for result in results}) > 1:
        found = [f"{result.get('database')}: {label}" for result, label in zip(results, found, strict=True)]
    for distinguish in (_drills, _differing_options):
        found = _with_distinctions(found, results, distinguish)
    return found


def _with_distinctions(
    found: Sequence[str], results: Results, distinguish: Callable[[Results], list[str]]
) -> list[str]:
    """Return the labels; those that occur more than once are extended by what sets their runs apart."""
    distinct = list(found)
    for label in (label for label, times in Counter(found).items() if times > 1):
        places = [place for place, other in enumerate(found) if other == label]
        extras = distinguish([results[place] for place in places])
        for place, extra in zip(places, extras, strict=True):
            distinct[place] = f"{label}, {extra}" if extra else label
    return distinct


def _differing_options(results: Results) -> list[str]:
    """Return the first options that differ, no more of them than it takes to tell the runs apart."""
    every = [
        {name: plain(value) for name, value in (result.get("options") or {}).items() if name not in NOT_IN_LABELS}
        for result in results
    ]
    extras = [""] * len(every)
    for name in dict.fromkeys(name for one in every for name in one):
        values = [one.get(name, plain(None)) for one in every]
        if len(set(values)) > 1 and max(map(len, values)) <= MAX_LABEL_VALUE and len(set(extras)) < len(extras):
            extras = [f"{extra}, {name}={value}" for extra, value in zip(extras, values, strict=True)]
    return [extra.removeprefix(", ") for extra in extras]


def _drills(results: Results) -> list[str]:
    drills = [str(result.get("drill") or "") for result in results]
    return drills if len(set(drills)) > 1 else [""] * len(drills)


def _numbers(results: Results) -> list[str]:
    return [f"run {number}" for number, _ in enumerate(results, 1)]


def _levels(result: Result) -> str:
    options = result.get("options") or {}
    levels = _LEVELS.get(str(result.get("database")))
    if levels is None or not options:
        return str(result.get("database") or result.get("run") or "run")
    strategy = options.get("read_strategy")
    return levels(options, options.get("driver") or {}) + (f", {strategy}" if strategy not in (None, "plain") else "")


def _mongo(options: Result, driver: Result) -> str:
    """Return the levels in force: those of the options, else those that the driver took from the URI."""
    write = options.get("write_concern") or (driver.get("write_concern") or {}).get("w", 1)
    read = options.get("read_from") or driver.get("read_from") or "primary"
    concern = options.get("read_concern") or driver.get("read_concern")
    return f"w={write} / {read}" + (f", {concern}" if concern else "")


def _memory(options: Result, driver: Result) -> str:
    topology, acks = options.get("topology"), options.get("write_acks")
    reads = driver.get("reads_at") or options.get("read_from")
    if topology == "quorum":
        return f"quorum: w={acks} / r={options.get('read_acks')}"
    if topology == "multi-leader":
        return f"multi-leader: write {driver.get('writes_at') or options.get('write_to')} / read {reads}"
    return f"{topology}: w={acks} / {reads}"


_LEVELS: Mapping[str, Callable[[Result, Result], str]] = {
    "mongo": _mongo,
    "cassandra": lambda options, _: f"{options.get('write_cl')} / {options.get('read_cl')}",
    "couch": lambda options, _: f"write {options.get('write_to')} / read {options.get('read_from')}",
    "memory": _memory,
}
