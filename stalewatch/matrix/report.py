"""The JSON of a matrix, and its words: a table for a terminal, and a page in Markdown."""

import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from stalewatch import __version__
from stalewatch.clients.databases import DATABASES
from stalewatch.clients.options import options_of, public_values
from stalewatch.matrix.cells import PROVOCATIONS, STRATEGY, Cell, level_names
from stalewatch.matrix.evidence import MeasuredCell, judged
from stalewatch.matrix.run import Matrix, Setup, cell_load, clock_time
from stalewatch.reports.page_witnesses import diagrams
from stalewatch.reports.table import show
from stalewatch.workloads.options import LoadOptions

FORMAT, FORMAT_VERSION = "stalewatch-matrix", 1

Document = Mapping[str, Any]

WIDTH = 100

HEADINGS: Mapping[str, str] = {
    "stale_reads": "stale\nreads",
    "read_your_writes": "own\nwrites",
    "monotonic_reads": "went\nback",
    "consistent_prefix": "prefix",
    "lost_writes": "lost\nwrites",
    "conflicts": "con-\nflicts",
    "read_regressions": "regres-\nsions",
    "phantom_reads": "phan-\ntoms",
    "unexpected_items": "items",
    "unique_ids": "ids",
}
"""The guarantees in the order of the columns; those after the fifth that was checked are left to the page."""

MOST_COLUMNS = 5

LEGEND = (
    "12%: violated that often.  <0.05%: holds; upper end of the rate's 95 % interval.  -: no evidence.",
    "*: promised by the database's documentation.  !: promised, and violated.  ms: p95 of writes/reads.",
)


def document(matrix: Matrix, setup: Setup, interrupted: bool, left_out: Mapping[str, str]) -> dict[str, Any]:  # noqa: FBT001 # reads as a fact
    """Return the JSON of a matrix; each cell holds the ordinary result of its run.

    `left_out` are provocations that could not act, with the reason.
    """
    measured = matrix.measured
    rows = zip(measured, judged(measured), strict=True)
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "stalewatch": __version__,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "database": setup.database,
        "scope": setup.scope,
        "levels": list(level_names(setup.database)),
        "labels": labels(matrix.cells),
        "settings": {**public_values(setup.options), **public_values(setup.load)},
        "provocations": {
            one.name: one.words
            for one in PROVOCATIONS[setup.database]
            if any(cell.provocation == one for cell in matrix.cells)
        },
        "left_out": dict(left_out),
        "interrupted": interrupted,
        "cells": [_cell(setup, one, guarantees) for one, guarantees in rows],
        "not_measured": [cell.name for cell in matrix.pending],
        "failed": matrix.failed,
    }


def labels(cells: Sequence[Cell]) -> str:
    """Return what the values in the cells' labels stand for."""
    found = dict.fromkeys((cell.group, tuple(cell.levels)) for cell in cells)
    if len({names for _, names in found}) == 1:
        return ", ".join(next(iter(found))[1])
    return "; ".join(f"{group}: {', '.join(names[1:])}" for group, names in found)


def _cell(setup: Setup, one: MeasuredCell, guarantees: Document) -> dict[str, Any]:
    result = one.result
    counts = result["operations"].values()
    recovery = result.get("recovery")
    return {
        "name": one.cell.name,
        "label": one.cell.label,
        "levels": dict(one.cell.levels),
        "provocation": one.cell.provocation.name,
        "seconds": one.seconds,
        "command": command(setup, one.cell),
        "guarantees": guarantees,
        "write_p95_ms": result["latency"]["write"]["service_ms"]["p95"],
        "read_p95_ms": result["latency"]["read"]["service_ms"]["p95"],
        "operations_per_s": sum(row["ok"] for row in counts) / max(result["duration_s"], 1e-9),
        "rto_s": {kind: times["rto_s"] for kind, times in recovery.items()} if recovery and result["faults"] else None,
        "result": result,
    }


def command(setup: Setup, cell: Cell) -> str:
    """Return the command that runs one cell by itself."""
    provocation, load = cell.provocation, cell_load(setup, cell)
    flags = {one.name: one.flag for one in (*DATABASES[setup.database].flags(), *options_of(LoadOptions))}
    chosen = {**cell.levels, **provocation.options, "workload": load.workload}
    chosen |= {"users": str(load.users), "keys": str(load.keys)}
    if STRATEGY in cell.levels:
        chosen["sticky_seconds"] = f"{setup.options.sticky_seconds:g}"
    if load.rate is not None:
        chosen["rate"] = f"{load.rate:g}"
    begin = f"stalewatch bench {setup.database} --duration {provocation.load_s:g}"
    if provocation.drill:
        times = f"--at {provocation.at_s:g} --for {provocation.lasts_s:g} --after {provocation.after_s:g}"
        begin = f"stalewatch drill {setup.database} --fault {provocation.drill} {times}"
    return " ".join((begin, *(f"{flags[name]} {value}" for name, value in chosen.items())))


class Contradiction(NamedTuple):
    """A promise of the documentation that a run broke."""

    cell: Document
    guarantee: str

    @property
    def judged(self) -> Document:
        """What is documented and measured."""
        found: Document = self.cell["guarantees"][self.guarantee]
        return found

    @property
    def sentence(self) -> str:
        """What was violated, and where."""
        row, cell = self.judged, self.cell
        where = f"under {cell['provocation']} at {cell['label']}: promised, and violated"
        if broken := row.get("broken_causes"):
            return f"{self.guarantee} ({', '.join(broken)}) {where} {sum(row['causes'][one] for one in broken)} times"
        return f"{self.guarantee} {where} {row['violated']} of {row['checked']} times ({percent(row['rate'])})"

    def witness(self) -> list[str]:
        """Return the operations of the first witness, one a line."""
        return witness_lines(self.cell["result"], self.guarantee)


def contradictions(matrix: Document) -> list[Contradiction]:
    """Return every promise that was broken."""
    return [
        Contradiction(cell, name)
        for cell in matrix["cells"]
        for name, row in cell["guarantees"].items()
        if row["contradiction"]
    ]


def witness_lines(result: Document, guarantee: str) -> list[str]:
    """Return the operations of a guarantee's first witness, one a line."""
    group = next((one for one in diagrams(result) if one["guarantee"] == guarantee), None)
    if group is None:
        return []
    return [f"{one['words']}: {one['times']}" for one in group["witnesses"][0]["operations"]]


def columns(matrix: Document) -> list[str]:
    """Return the guarantees about which any cell has something to say, in the order of `HEADINGS`."""
    rows = [cell["guarantees"] for cell in matrix["cells"]]
    return [name for name in HEADINGS if any(_says_something(row[name]) for row in rows)]


def _says_something(judged: Document) -> bool:
    return judged["measured"] in {"holds", "violated"} or judged["documented"] == "promised"


def show_matrix(matrix: Document) -> None:
    """Print the tables, contradictions and what was not measured."""
    names = columns(matrix)[:MOST_COLUMNS]
    for provocation, cells in by_provocation(matrix):
        title = f"{matrix['database']}, {provocation}: {matrix['provocations'][provocation]}"
        headings = ("levels", *(HEADINGS[name] for name in names), "p95\nms", "ok/s", "RTO\ns")
        show(title, headings, [_row(cell, names) for cell in cells])
    for line in (heading(matrix), f"levels: {matrix['labels']}", *LEGEND):
        print("\n".join(textwrap.wrap(line, WIDTH)))
    for line in summary(matrix):
        print("\n".join(textwrap.wrap(line, WIDTH, subsequent_indent="  ")))


def heading(matrix: Document) -> str:
    """Return the database, and what tells this matrix from others of it."""
    label, scope = DATABASES[matrix["database"]].label, matrix.get("scope")
    return f"{label} ({scope})" if scope else label


def by_provocation(matrix: Document) -> Iterator[tuple[str, list[Document]]]:
    """Yield each provocation with its cells, in the order of the table of provocations."""
    order = list(matrix["provocations"])
    cells = sorted(matrix["cells"], key=lambda cell: order.index(cell["provocation"]))
    for provocation, group in groupby(cells, key=lambda cell: cell["provocation"]):
        yield str(provocation), list(group)


def _row(cell: Document, names: Sequence[str]) -> tuple[str, ...]:
    return (cell["label"], *(figure(cell["guarantees"][name]) for name in names), *figures(cell))


def figure(judged: Document) -> str:
    """Return what was measured of a guarantee, marked if it is promised."""
    mark = "!" if judged["contradiction"] else "*" if judged["documented"] == "promised" else ""
    if judged["measured"] == "violated":
        return percent(judged["rate"]) + mark
    return (f"<{percent(judged['interval'][1])}" if judged["measured"] == "holds" else "-") + mark


def figures(cell: Document) -> tuple[str, str, str]:
    """Return the latencies, the throughput and the longest time without a success."""
    latencies = "/".join(_number(cell[name]) for name in ("write_p95_ms", "read_p95_ms"))
    known = [times for times in (cell["rto_s"] or {}).values() if times is not None]
    return latencies, _number(cell["operations_per_s"]), _number(max(known)) if known else ""


def percent(rate: float) -> str:
    """Return a rate in two significant digits."""
    value = rate * 100
    return f"{value:.0f}%" if value >= 10 else f"{value:.2g}%" if value >= 0.01 else f"{value:.1g}%"  # noqa: PLR2004 # digits


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"  # noqa: PLR2004 # digits


def summary(matrix: Document) -> Iterator[str]:
    """Yield the sentences below the tables; contradictions last, with their witnesses."""
    yield ""
    measured, rest, failed = len(matrix["cells"]), len(matrix["not_measured"]), len(matrix["failed"])
    took = clock_time(sum(cell["seconds"] for cell in matrix["cells"]))
    yield f"{measured} of {measured + rest + failed} cells measured in {took}" + (
        ", interrupted" if matrix["interrupted"] else ""
    )
    for name, reason in {**matrix["left_out"], **matrix["failed"]}.items():
        yield f"not measured: {name}: {reason}"
    found = contradictions(matrix)
    if not found:
        yield "no cell contradicts the documentation"
    for one in found:
        yield f"contradiction: {one.sentence}; {one.judged['source']}: {one.judged['says']}"
        for line in one.witness():
            yield f"  {line}"


def markdown(matrices: Sequence[Document]) -> str:
    """Return the page of one or several matrices; contradictions come first."""
    return "\n".join(
        (
            "# Measured guarantees",
            "",
            "What each database's documentation promises, and what was measured. Generated by `stalewatch matrix`",
            "([how it decides](matrix.md)); every figure is of a real run.",
            "",
            "## Contradictions",
            "",
            *(line for matrix in matrices for line in _contradictions(matrix)),
            *(line for matrix in matrices for line in _section(matrix)),
        )
    )


def _contradictions(matrix: Document) -> Iterator[str]:
    label = heading(matrix)
    found = contradictions(matrix)
    if not found:
        yield f"{label}: no promise of the documentation was broken."
        yield ""
    for one in found:
        yield f"{label}: {one.sentence}. Documented: {one.judged['says']} ({one.judged['source']}). Witness:"
        yield ""
        yield from (f"    {line}" for line in one.witness())
        yield ""


def _section(matrix: Document) -> Iterator[str]:
    names = columns(matrix)
    yield from (f"## {heading(matrix)}", "", *_facts(matrix), "")
    headings = [HEADINGS[name].replace("-\n", "").replace("\n", " ") for name in names]
    for provocation, cells in by_provocation(matrix):
        yield f"### {provocation}: {matrix['provocations'][provocation]}"
        yield ""
        yield _markdown_row([*matrix["levels"], *headings, "p95 ms", "ok/s", "RTO s"])
        yield "|" + "---|" * (len(matrix["levels"]) + len(headings) + 3)
        for cell in cells:
            levels = [cell["levels"].get(name, "") for name in matrix["levels"]]
            yield _markdown_row([*levels, *(figure(cell["guarantees"][name]) for name in names), *figures(cell)])
        yield ""
    yield from (*LEGEND, "", "Documented:", "", *_sources(matrix), "")


def _markdown_row(values: Sequence[str]) -> str:
    escaped = (value.replace("*", "\\*") for value in values)
    return f"| {' | '.join(escaped)} |"


_PER_CELL = frozenset({"ops", "duration", "workload", "resolve", "warmup", "topology", "lag", "rate"})
"""Settings that cells choose for themselves; their commands have them."""


def _facts(matrix: Document) -> Iterator[str]:
    varied = {*matrix["levels"], *_PER_CELL}
    chosen = ((name, value) for name, value in matrix["settings"].items() if name not in varied)
    settings = ", ".join(f"{name} {value}" for name, value in chosen if value not in (None, ""))
    measured = next(line for line in summary(matrix) if line)
    yield f"{matrix['date'][:10]}, stalewatch {matrix['stalewatch']}, {versions(matrix)}. {measured}."
    yield f"Settings: {settings}."


def versions(matrix: Document) -> str:
    """Return the versions of the servers and the driver, as far as the results have them."""
    drivers = [cell["result"]["options"].get("driver") or {} for cell in matrix["cells"]]
    servers = {str(name) for one in drivers for name in one.get("servers", ())}
    used = {str(one["driver"]) for one in drivers if one.get("driver")}
    return ", ".join((*sorted(servers), *sorted(used))) or matrix["database"]


def _sources(matrix: Document) -> Iterator[str]:
    found: dict[tuple[str, str], None] = {}
    for cell in matrix["cells"]:
        for row in cell["guarantees"].values():
            if row["source"]:
                found[(row["source"], row["says"])] = None
    return (f"- {says} <{source}>" if source.startswith("http") else f"- {says} `{source}`" for source, says in found)
