"""What was found of a guarantee: counts, rate with its interval, causes, staleness, witnesses; and of a whole run."""

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
    """One broken promise and the operations that prove it, in the order of their end."""

    guarantee: str
    operations: tuple[Operation, ...]
    cause: str | None = None
    staleness_ns: int | None = None
    staleness_exact: bool = True
    versions_behind: int | None = None


@dataclass
class Verdict:
    """The state of one guarantee."""

    name: str
    checked: int = 0
    violated: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    staleness: Distribution = field(default_factory=Distribution)
    behind: Counter[int] = field(default_factory=Counter)
    """Violations by how many versions behind they were, where that is known."""
    at_least: int = 0
    """Violations whose staleness is a lower bound, since what came before the horizon is forgotten."""
    witnesses: list[Violation] = field(default_factory=list)
    applicable: bool = True

    @property
    def verdict(self) -> GuaranteeVerdict:
        """Return the word for it; nothing checked is never ``holds``."""
        if self.violated:
            return "violated"
        if self.checked:
            return "holds"
        return "no_evidence" if self.applicable else "not_applicable"

    @property
    def rate(self) -> float | None:
        """Return the share of the checked operations that broke the promise; None where nothing was checked."""
        return self.violated / self.checked if self.checked else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Return the 95 % Wilson interval of the rate; None where nothing was checked."""
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
        """Add what another worker found of the same guarantee."""
        self.checked += other.checked
        self.violated += other.violated
        self.causes += other.causes
        self.staleness.merge(other.staleness)
        self.behind += other.behind
        self.at_least += other.at_least
        self.witnesses = (self.witnesses + other.witnesses)[:WITNESSES]
        self.applicable = self.applicable and other.applicable


def wilson(violated: int, checked: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion (Wilson 1927); `checked` is positive.

    Unlike the normal approximation it stays within [0, 1] and says something when nothing was violated.
    """
    rate, z2 = violated / checked, Z_95**2
    middle = (rate + z2 / (2 * checked)) / (1 + z2 / checked)
    half = Z_95 / (1 + z2 / checked) * math.sqrt(rate * (1 - rate) / checked + z2 / (4 * checked**2))
    low = 0.0 if violated == 0 else max(0.0, middle - half)
    high = 1.0 if violated == checked else min(1.0, middle + half)
    return low, high


def overall(verdicts: Mapping[str, Verdict] | Iterable[Verdict], *, complete: bool) -> RunVerdict:
    """Return the verdict of a run; open conflicts are a fact, not a broken promise, and never make it invalid."""
    found = list(verdicts.values() if isinstance(verdicts, Mapping) else verdicts)
    if any(verdict.verdict == "violated" for verdict in found if verdict.name != "conflicts"):
        return "invalid"
    if complete and any(verdict.verdict == "holds" for verdict in found):
        return "valid"
    return "unknown"
