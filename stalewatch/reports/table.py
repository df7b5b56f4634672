"""The table of guarantees on a terminal, drawn by rich where it is installed."""

from collections.abc import Iterable, Mapping

from stalewatch.checkers.verdict import Verdict

COLUMNS = ("guarantee", "checked", "violated", "rate", "95 % interval", "verdict")


def rows(verdicts: Mapping[str, Verdict]) -> list[tuple[str, ...]]:
    """Return one row of text a guarantee."""
    return [_row(verdict) for verdict in verdicts.values()]


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


WIDEST = 10_000
"""Columns that a table in a file may take; on a terminal it takes those that are there."""

STYLES = {
    "holds": "green",
    "valid": "green",
    "violated": "red",
    "invalid": "red",
    "no evidence": "dim",
    "not applicable": "dim",
}


def show(title: str, columns: tuple[str, ...], body: Iterable[tuple[str, ...]]) -> None:
    """Print a table on stdout, its headings of several lines maybe; without rich, columns parted by tabs."""
    try:
        from rich.box import SIMPLE_HEAD  # noqa: PLC0415 # the bare bench runs without it
        from rich.console import Console  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415
    except ImportError:
        print(title)
        for row in (columns, *body):
            print("\t".join(row).replace("\n", " "))
        return
    table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=True)
    for row in body:
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = console.measure(table, options=console.options.update(max_width=WIDEST)).maximum
    with console.capture() as text:  # rich's own printing turns a closed pipe into exit code 1
        console.print(table)
    print(text.get(), end="")
