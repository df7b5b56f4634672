"""The same drill several times: for each value of an option, and again, with the figures of all runs."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from stalewatch.clients.errors import BadAddress
from stalewatch.reports.repeats import Column, Figure, Result, by_group, lost_writes, recovered_after, spread


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


def _before(kind: str) -> Callable[[Result], Figure]:
    def found(result: Result) -> Figure:
        phase = result.get("phases", {}).get("before")
        value: Figure = phase and phase["latency_ms"][kind]["p50"]
        return value

    return found


def _violated(guarantee: str) -> Callable[[Result], Figure]:
    def found(result: Result) -> Figure:
        row = result["guarantees"][guarantee]
        return row["violated"] if row["checked"] else None

    return found


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.2f}"


_FIGURES: Mapping[str, Callable[[Result], Figure]] = {
    "write RTO, s": recovered_after("write"),
    "write RTO, sustained, s": recovered_after("write", "sustained_rto_s"),
    "read RTO, s": recovered_after("read"),
    "lost writes": lost_writes,
    "acknowledged within, s": lambda result: result["rpo"]["span_s"],
    "ids given out twice": _violated("unique_ids"),
    "stale reads": _violated("stale_reads"),
    "reads that went back": _violated("monotonic_reads"),
    "two primaries, s": lambda result: (result["two_primaries_s"] or (None, None))[0],
    "replicas agreed after, s": lambda result: result["converged_s"],
    "write before the fault, ms": _before("write"),
    "read before the fault, ms": _before("read"),
}
COLUMNS = {heading: Column(figure, _number) for heading, figure in _FIGURES.items()}
"""By heading: recovery, loss, what sessions saw, and what the guarantee costs while nothing is broken."""

HEADING_WIDTH = max(map(len, COLUMNS))


def show_comparison(drill: str, runs: Sequence[tuple[Variation, Result]]) -> None:
    """Print one block of figures for each variation: the median and the range of its repeats."""
    groups = by_group([variation.label for variation, _ in runs], [result for _, result in runs])
    print(f"{drill}: median (least - most) of the runs")
    for label, repeats in groups.items():
        print(f"\n{' '.join(filter(None, (drill, label)))}: {len(repeats)} {'run' if len(repeats) == 1 else 'runs'}")
        for heading, column in COLUMNS.items():
            if figures := spread(column, repeats):
                print(f"  {heading:<{HEADING_WIDTH}}  {figures}")
