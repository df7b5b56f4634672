"""What benchmarks have in common: rows of the one table, paired figures, programs that measure, progress."""

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

from stalewatch.clusters.local_clusters import addresses

ADDRESSES = {"mongo": ("mongo_uri",), "cassandra": ("hosts",), "couch": ("couch_a", "couch_b"), "null": ()}
"""The options that say where the servers of a database are."""


class Row(NamedTuple):
    """One figure: a median over rounds with the smallest and the largest, and the goal that it should reach, if any."""

    benchmark: str
    what: str
    value: float
    unit: str
    low: float
    high: float
    goal: str = ""
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the goal, as in ``<= 1.05``, is reached; None without a goal."""
        if not self.goal:
            return None
        comparison, number = self.goal.split()
        return self.value <= float(number) if comparison == "<=" else self.value >= float(number)


def row(benchmark: str, what: str, values: Sequence[float], unit: str, *, goal: str = "", note: str = "") -> Row:
    """Return the row of a figure that was measured once a round."""
    return Row(benchmark, what, statistics.median(values), unit, min(values), max(values), goal, note)


def ratios(dividends: Sequence[float], divisors: Sequence[float]) -> list[float]:
    """Return the ratios of pairs that were measured one after the other."""
    return [one / other for one, other in zip(dividends, divisors, strict=True)]


def differences(minuends: Sequence[float], subtrahends: Sequence[float]) -> list[float]:
    """Return the differences of pairs that were measured one after the other."""
    return [one - other for one, other in zip(minuends, subtrahends, strict=True)]


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is aligned to the left, the others to the right."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    print(title)
    for cells in (columns, ["-" * width for width in widths], *rows):
        first, *others = (f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        print("  ".join((first.strip().ljust(widths[0]), *others)).rstrip())
    print(flush=True)


def progress(line: str) -> None:
    """Show on standard error what is being done."""
    print(line, file=sys.stderr, flush=True)


def servers(database: str) -> list[str]:
    """Return the addresses of a local cluster, which is started if needed."""
    if not ADDRESSES[database]:
        return []
    found = addresses(database, progress)
    return [found[name] for name in ADDRESSES[database]]


def output_of(command: Sequence[str], **environment: str) -> str:
    """Run a program that has to succeed, and return what it prints; show what it reports if it fails."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout
