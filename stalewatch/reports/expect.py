"""`--expect`: the expectations of a run, such as ``read_your_writes=0,stale_reads<0.05``."""

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stalewatch.checkers.judge import GUARANTEES
from stalewatch.checkers.verdict import FRESH_PERCENTAGES
from stalewatch.reports.words import recovery_time, unread_keys

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_LATENCIES = ("avg_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms")
_RECOVERIES = ("rto_s", "sustained_rto_s", "degraded_s")
_ITEMS = ("duplicate_items", "phantom_items")
_FROM_FINAL_READS = frozenset({"lost_writes", "unexpected_items", *_ITEMS})
_FRESH = tuple(f"fresh_after_s.{percentage}" for percentage in FRESH_PERCENTAGES)
_PATTERN = re.compile(r"\s*([a-z_0-9.]+)\s*(<=|>=|=|<|>)\s*(\S+)\s*")

NAMES = frozenset(
    [
        *GUARANTEES,
        *(f"{name}.violated" for name in GUARANTEES),
        *_ITEMS,
        *_FRESH,
        *(f"{kind}.{figure}" for kind in ("read", "write") for figure in (*_LATENCIES, *_RECOVERIES)),
    ]
)


@dataclass(frozen=True)
class Expectation:
    """A comparison of one figure of the result with a number."""

    name: str
    operator: str
    number: float

    def __str__(self) -> str:
        """Return the expectation as it is written on the command line."""
        return f"{self.name}{self.operator}{self.number:g}"

    def missed(self, result: Mapping[str, Any]) -> str | None:
        """Return how the result misses the expectation, else None; without evidence every expectation is missed."""
        figure = _figure(self.name, result)
        if figure is None:
            return f"expected {self}: {_why_unknown(self.name, result)}"
        if not _OPERATORS[self.operator](figure, self.number):
            return f"expected {self}: it is {figure:g}"
        if result.get("unread_keys") and self.name.partition(".")[0] in _FROM_FINAL_READS:
            return f"expected {self}: unknown, since {unread_keys(result)}"
        return None


def parse(text: str) -> list[Expectation]:
    """Return the expectations; raise ValueError that says what is wrong."""
    found = [_parse(part) for part in text.split(",") if part.strip()]
    if not found:  # an empty shell variable must not pass as an expectation that is met
        raise ValueError("no expectation given; write NAME OP NUMBER, such as stale_reads<0.05")
    return found


def _parse(part: str) -> Expectation:
    match = _PATTERN.fullmatch(part)
    if match is None:
        raise ValueError(f"{part.strip()!r} is not NAME OP NUMBER with OP one of = < <= > >=")
    name, sign, number = match.groups()
    if name not in NAMES:
        raise ValueError(
            f"unknown name {name!r}; use a guarantee ({', '.join(GUARANTEES)}), its .violated, "
            f"{', '.join((*_ITEMS, *_FRESH))}, or read.p95_ms ..."
        )
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{number!r} in {part.strip()!r} is not a number")
    return Expectation(name, sign, value)


def missed(expectations: Iterable[Expectation], result: Mapping[str, Any]) -> list[str]:
    """Return one line for each expectation that the JSON result of a run misses.

    A run that ended before its time misses them all: what it did not do might have broken them.
    """
    lines = []
    for expectation in expectations:
        line = expectation.missed(result)
        if line is None and result.get("ended_early"):
            line = f"expected {expectation}: not shown, since the run ended early: {result['ended_early']}"
        if line is not None:
            lines.append(line)
    return lines


def _why_unknown(name: str, result: Mapping[str, Any]) -> str:
    """Return why there is no figure of that name."""
    subject, _, figure = name.partition(".")
    found = result.get("recovery", {}).get(subject)
    if figure in _RECOVERIES and found:
        why = recovery_time(found, figure)
        return f"{subject}s did not recover" if why == "never" else f"no evidence: {why}"
    if result.get("unread_keys") and subject in _FROM_FINAL_READS:
        return f"no evidence, since {unread_keys(result)}"
    return "no evidence"


def _figure(name: str, result: Mapping[str, Any]) -> float | None:
    subject, _, figure = name.partition(".")
    if subject in GUARANTEES:
        row = result["guarantees"][subject]
        value = row["violated"] if figure and row["checked"] else row["rate"]
    elif name in _ITEMS:
        value = result[name] if result["guarantees"]["unexpected_items"]["checked"] else None
    elif name in _FRESH:
        value = result["guarantees"]["stale_reads"][subject][figure]
    elif figure in _LATENCIES:
        value = result["latency"][subject]["service_ms"][figure.removesuffix("_ms")]
    else:
        value = result.get("recovery", {}).get(subject, {}).get(figure)
    return None if value is None else float(value)
