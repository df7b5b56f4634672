"""Aligned tables on standard output, and the figures in their cells."""

import statistics
from collections.abc import Sequence


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is aligned to the left, the others to the right."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    print(title)
    for cells in (columns, ["-" * width for width in widths], *rows):
        first, *others = (f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        print("  ".join((first.strip().ljust(widths[0]), *others)).rstrip())
    print(flush=True)


def median_and_range(values: Sequence[float]) -> str:
    """Return the median of some values, and the smallest and largest of them."""
    return f"{statistics.median(values):.0f} ({min(values):.0f}-{max(values):.0f})"


def median_ratio(dividends: Sequence[float], divisors: Sequence[float]) -> float:
    """Return the median of the ratios of pairs, which were measured one after the other."""
    return statistics.median(one / other for one, other in zip(dividends, divisors, strict=True))


def median_difference(minuends: Sequence[float], subtrahends: Sequence[float]) -> float:
    """Return the median of the differences of pairs, which were measured one after the other."""
    return statistics.median(one - other for one, other in zip(minuends, subtrahends, strict=True))
