"""What was found: violations, the verdict of each guarantee, and the findings of a run."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from stalewatch.checkers.distribution import Distribution
from stalewatch.history.operation import Operation

GuaranteeVerdict = Literal["holds", "violated", "no_evidence", "not_applicable"]
RunVerdict = Literal["valid", "invalid", "unknown"]

Z_95 = 1.959963984540054
WITNESSES = 5


class Violation(NamedTuple):
    """A violation of a guarantee and the operations that prove it, in the order of their end."""

    guarantee: str
    operations: tuple[Operation, ...]
    cause: str | None = None
    staleness_ns: int | None = None
    staleness_exact: bool = True
    versions_behind: int | None = None


@dataclass
class Verdict:
    """The verdict of one guarantee, as counts that can be added up."""

    name: str
    checked: int = 0
    violated: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    staleness: Distribution = field(default_factory=Distribution)
    behind: Counter[int] = field(default_factory=Counter)
    """Violations by how many versions behind they were, if that is known."""
    at_least: int = 0
    """Violations whose staleness is a lower bound, since operations beyond the horizon are forgotten."""
    witnesses: list[Violation] = field(default_factory=list)
    applicable: bool = True

    @property
    def verdict(self) -> GuaranteeVerdict:
        """Return the verdict in one word; it is never ``holds`` if nothing was checked."""
        if self.violated:
            return "violated"
        if self.checked:
            return "holds"
        return "no_evidence" if self.applicable else "not_applicable"

    @property
    def rate(self) -> float | None:
        """Return the fraction of the checked operations that are violations; None if nothing was checked."""
        return self.violated / self.checked if self.checked else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Return the 95 % Wilson interval of the rate; None if nothing was checked."""
        return wilson(self.violated, self.checked) if self.checked else None

    def add(self, violation: Violation) -> Violation:
        """Count a violation and return it."""
        self.violated += 1
        if violation.cause is not None:
            self.causes[violation.cause] += 1
        if violation.staleness_ns is not None:
            self.staleness.add(violation.staleness_ns)
            self.at_least += not violation.staleness_exact
        if violation.versions_behind is not None:
            self.behind[violation.versions_behind] += 1
        if len(self.witnesses) < WITNESSES:
            self.witnesses.append(violation)
        return violation

    def merge(self, other: "Verdict") -> None:
        """Add the verdict of another worker on the same guarantee."""
        self.checked += other.checked
        self.violated += other.violated
        self.causes += other.causes
        self.staleness.merge(other.staleness)
        self.behind += other.behind
        self.at_least += other.at_least
        self.witnesses = (self.witnesses + other.witnesses)[:WITNESSES]
        self.applicable = self.applicable and other.applicable


@dataclass
class Findings:
    """The findings of a run or of a part of it. Findings about different keys can be added up in any order."""

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    complete: bool = True
    """Whether nothing is missing: no history is truncated, no worker died."""
    duplicate_items: int = 0
    """Items that a list contains more than once."""
    phantom_items: int = 0
    """Items that were never appended, or whose append failed."""

    def verdict(self) -> RunVerdict:
        """Return the verdict of the run."""
        return overall(self.verdicts, complete=self.complete)

    def merge(self, other: "Findings") -> None:
        """Add findings about other keys, or later findings about the same."""
        for name, verdict in other.verdicts.items():
            self.verdicts.setdefault(name, Verdict(name)).merge(verdict)
        self.complete = self.complete and other.complete
        self.duplicate_items += other.duplicate_items
        self.phantom_items += other.phantom_items


def wilson(violated: int, checked: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion (Wilson 1927); `checked` is positive.

    Unlike the normal approximation it stays within [0, 1], and has a positive width if nothing was violated.
    """
    rate, z2 = violated / checked, Z_95**2
    middle = (rate + z2 / (2 * checked)) / (1 + z2 / checked)
    half = Z_95 / (1 + z2 / checked) * math.sqrt(rate * (1 - rate) / checked + z2 / (4 * checked**2))
    low = 0.0 if violated == 0 else max(0.0, middle - half)
    high = 1.0 if violated == checked else min(1.0, middle + half)
    return low, high


def overall(verdicts: Mapping[str, Verdict] | Iterable[Verdict], *, complete: bool) -> RunVerdict:
    """Return the verdict of a run. Conflicts are a fact, not a broken promise, and never make it invalid."""
    found = list(verdicts.values() if isinstance(verdicts, Mapping) else verdicts)
    if any(verdict.verdict == "violated" for verdict in found if verdict.name != "conflicts"):
        return "invalid"
    if complete and any(verdict.verdict == "holds" for verdict in found):
        return "valid"
    return "unknown"
