"""The same drill several times: for each value of an option, and again, with the figures of all runs."""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from stalewatch.clients.errors import BadAddress

Result = Mapping[str, Any]


class Variation(NamedTuple):
    """What distinguishes one run of a drill: its options by flag, and the number of the repeat."""

    options: Mapping[str, str]
    repeat: int

    @property
    def label(self) -> str:
        """The options as on the command line."""
        return " ".join(f"--{flag} {value}" for flag, value in self.options.items())


def variations(vary: Sequence[str], repeats: int) -> list[Variation]:
    """Return every run: the options vary together, so that the first values of all make one run, and so on.

    A single value is used in all runs. Raises `BadAddress` if the numbers of values do not match.
    """
    values = dict(map(_option_values, vary))
    lengths = {len(each) for each in values.values()} - {1}
    if len(lengths) > 1:
        raise BadAddress("--vary: give the same number of values for each option, or a single one")
    length = lengths.pop() if lengths else 1
    columns = {flag: found * length if len(found) == 1 else found for flag, found in values.items()}
    # The outer loop is over repeats: a drift while the machine warms up then affects all variations alike.
    return [
        Variation({flag: found[place] for flag, found in columns.items()}, repeat)
        for repeat in range(repeats)
        for place in range(length)
    ]


def _option_values(text: str) -> tuple[str, list[str]]:
    flag, equals, values = text.lstrip("-").partition("=")
    found = [value.strip() for value in values.split(",") if value.strip()]
    if not (flag and equals and found):
        raise BadAddress(f"--vary {text}: write OPTION=VALUE,VALUE, such as write-concern=1,majority")
    return flag, found


def _recovery(kind: str, figure: str) -> Callable[[Result], float | None]:
    def found(result: Result) -> float | None:
        recovery = result["recovery"][kind]
        value: float | None = recovery[figure]
        return math.inf if value is None and recovery["attempts"] and recovery["sustained_known"] else value

    return found


def _before(kind: str) -> Callable[[Result], float | None]:
    def found(result: Result) -> float | None:
        phase = result.get("phases", {}).get("before")
        value: float | None = phase and phase["latency_ms"][kind]["p50"]
        return value

    return found


def _violated(guarantee: str) -> Callable[[Result], float | None]:
    def found(result: Result) -> float | None:
        row = result["guarantees"][guarantee]
        return row["violated"] if row["checked"] else None

    return found


FIGURES: Mapping[str, Callable[[Result], float | None]] = {
    "write RTO, s": _recovery("write", "rto_s"),
    "write RTO, sustained, s": _recovery("write", "sustained_rto_s"),
    "read RTO, s": _recovery("read", "rto_s"),
    "lost writes": lambda result: result["rpo"]["lost_writes"],
    "acknowledged within, s": lambda result: result["rpo"]["span_s"],
    "ids given out twice": _violated("unique_ids"),
    "stale reads": _violated("stale_reads"),
    "reads that went back": _violated("monotonic_reads"),
    "two primaries, s": lambda result: (result["two_primaries_s"] or (None, None))[0],
    "replicas agreed after, s": lambda result: result["converged_s"],
    "write before the fault, ms": _before("write"),
    "read before the fault, ms": _before("read"),
}
"""By heading: recovery, loss, what sessions saw, and what the guarantee costs while nothing is broken."""


def show_comparison(drill: str, runs: Sequence[tuple[Variation, Result]]) -> None:
    """Print one block of figures for each variation: the median and the range of its repeats."""
    results: dict[str, list[Result]] = {}
    for variation, result in runs:
        results.setdefault(variation.label, []).append(result)
    print(f"{drill}: median (least - most) of the runs")
    for label, repeats in results.items():
        print(f"\n{' '.join(filter(None, (drill, label)))}: {len(repeats)} {'run' if len(repeats) == 1 else 'runs'}")
        for heading, figure in FIGURES.items():
            spread = _spread([figure(one) for one in repeats])
            if spread != NOTHING:
                print(f"  {heading:<{HEADING_WIDTH}}  {spread}")


NOTHING = "-"
HEADING_WIDTH = max(map(len, FIGURES))


def _spread(values: Sequence[float | None]) -> str:
    """Return the median and the range; "never" counts as more than any figure."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return NOTHING
    missing = f", {len(values) - len(known)} without" if len(known) < len(values) else ""
    if known[0] == known[-1]:
        return f"{_number(known[0])}{missing}"
    return f"{_number(median(known))} ({_number(known[0])} - {_number(known[-1])}{missing})"


def _number(value: float) -> str:
    if value == math.inf:
        return "never"
    return str(value) if isinstance(value, int) else f"{value:.2f}"
