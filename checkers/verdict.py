"""What was found: violations, the verdict of each guarantee, the findings of a run, and distributions of durations."""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self

from stalewatch.checkers.violation import Violation as Violation  # noqa: PLC0414 # exported

EXACT_VALUES = 1 << 16
SIGNIFICANT_BITS = 11


class Distribution:
    """Counts of durations in nanoseconds.

    Up to 65,536 different values are kept as they are. Beyond that, values are rounded down to eleven significant bits
    (0.05 %), which leaves a few ten thousand at most. The sum, hence the mean, and the maximum stay exact.
    """

    __slots__ = ("_counts", "_exact", "count", "max_ns", "total_ns")

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._exact = True
        self.count = 0
        self.total_ns = 0
        self.max_ns = 0

    def add(self, duration_ns: int) -> None:
        """Add a duration."""
        counts, value = self._counts, duration_ns if self._exact else _rounded(duration_ns)
        counts[value] = counts.get(value, 0) + 1  # most values are new, and a Counter is slow for those
        self.count += 1
        self.total_ns += duration_ns
        self.max_ns = max(self.max_ns, duration_ns)
        if self._exact and len(counts) > EXACT_VALUES:
            self._round()

    def update(self, durations_ns: Sequence[int]) -> None:
        """Add several durations; at once that is much faster than one by one."""
        self._counts.update(durations_ns if self._exact else map(_rounded, durations_ns))
        self.count += len(durations_ns)
        self.total_ns += sum(durations_ns)
        self.max_ns = max(self.max_ns, max(durations_ns, default=0))
        if self._exact and len(self._counts) > EXACT_VALUES:
            self._round()

    def _round(self) -> None:
        self._exact = False
        counts, self._counts = self._counts, Counter()
        for duration_ns, times in counts.items():
            self._counts[_rounded(duration_ns)] += times

    def merge(self, other: Self) -> None:
        """Add the counts of another distribution."""
        if not other._exact and self._exact:
            self._round()
        counts, exact = self._counts, self._exact
        for duration_ns, times in other._counts.items():
            counts[duration_ns if exact else _rounded(duration_ns)] += times
        self.count += other.count
        self.total_ns += other.total_ns
        self.max_ns = max(self.max_ns, other.max_ns)
        if self._exact and len(counts) > EXACT_VALUES:
            self._round()

    def state(self) -> tuple[dict[int, int], bool, int, int]:
        """Return everything needed to restore it: the counts, whether they are exact, the sum and the maximum."""
        return self._counts, self._exact, self.total_ns, self.max_ns

    @classmethod
    def restored(cls, counts: dict[int, int], exact: bool, total_ns: int, max_ns: int) -> Self:  # noqa: FBT001 # a state
        """Return the distribution with that state."""
        distribution = cls()
        distribution._counts = Counter(counts)
        distribution._exact = exact
        distribution.count = sum(counts.values())
        distribution.total_ns, distribution.max_ns = total_ns, max_ns
        return distribution

    def quantiles_ns(self, *shares: float) -> list[int]:
        """Return for each share in (0, 1] the smallest duration that at least this share does not exceed."""
        found: dict[float, int] = {}
        ranks = sorted((math.ceil(share * self.count), share) for share in shares)
        seen, values = 0, iter(sorted(self._counts.items()))
        duration_ns = 0
        for rank, share in ranks:
            while seen < rank:
                duration_ns, times = next(values)
                seen += times
            found[share] = duration_ns
        return [found[share] for share in shares]

    @property
    def mean_ns(self) -> float:
        """Return the mean, or 0 if nothing was counted."""
        return self.total_ns / self.count if self.count else 0.0


def _rounded(duration_ns: int) -> int:
    shift = max(0, duration_ns.bit_length() - SIGNIFICANT_BITS)
    return duration_ns >> shift << shift


_STEPS_NS = [step * 10**power for power in range(5, 11) for step in (1, 2, 5)]
AGE_EDGES_NS = (*_STEPS_NS, 10**11)
"""Where a bucket of ages ends and the next one begins: 1, 2 and 5 times powers of ten, from 0.1 ms to 100 s."""

FRESH_PERCENTAGES = {"99": 0.01, "99.9": 0.001}
"""Percentages of fresh reads to look for, and the share of stale reads that each leaves room for."""


class AgeBucket(NamedTuple):
    """The reads whose age is at least `from_ns` and less than `to_ns`; the last bucket has no end."""

    from_ns: int
    to_ns: int | None
    checked: int
    stale: int


class Freshness:
    """Reads by age, which is their start minus the end of the write that set their floor, and how many were stale.

    A read of age `a` is in bucket ``bisect_right(AGE_EDGES_NS, a)``. This is the client's view of the t-visibility of
    Bailis et al. 2012. Unlike staleness, it does not depend on how soon the load reads again after a write.
    """

    __slots__ = ("checked", "stale")

    def __init__(self) -> None:
        self.checked = [0] * (len(AGE_EDGES_NS) + 1)
        self.stale = [0] * (len(AGE_EDGES_NS) + 1)

    def merge(self, other: Self) -> None:
        """Add the counts of other reads."""
        for ours, theirs in ((self.checked, other.checked), (self.stale, other.stale)):
            ours[:] = [one + another for one, another in zip(ours, theirs, strict=True)]

    def state(self) -> dict[int, tuple[int, int]]:
        """Return everything needed to restore it: the number of each bucket that is not empty, and its two counts."""
        pairs = enumerate(zip(self.checked, self.stale, strict=True))
        return {number: counts for number, counts in pairs if any(counts)}

    @classmethod
    def restored(cls, state: Mapping[int, Sequence[int]]) -> Self:
        """Return the freshness with that state."""
        freshness = cls()
        for number, (checked, stale) in state.items():
            freshness.checked[number], freshness.stale[number] = checked, stale
        return freshness

    def buckets(self) -> Iterator[AgeBucket]:
        """Yield every bucket, the empty ones too, in the order of age."""
        yield from map(AgeBucket, (0, *AGE_EDGES_NS), (*AGE_EDGES_NS, None), self.checked, self.stale)

    def fresh_after_ns(self, stale_share: float) -> int | None:
        """Return the least age from which on, with 95 % confidence, at most that share of the reads is stale.

        None if there is no such edge: too many reads are stale, or too few were checked to tell.
        """
        checked, stale = sum(self.checked), sum(self.stale)
        for bucket in self.buckets():
            if checked and wilson(stale, checked)[1] <= stale_share:
                return bucket.from_ns
            checked, stale = checked - bucket.checked, stale - bucket.stale
        return None


GuaranteeVerdict = Literal["holds", "violated", "no_evidence", "not_applicable"]
RunVerdict = Literal["valid", "invalid", "unknown"]

Z_95 = 1.959963984540054
WITNESSES = 5


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
    freshness: Freshness = field(default_factory=Freshness)
    """Of `stale_reads`: the checked and the stale reads by age."""
    corrected: list[Violation] = field(default_factory=list)
    """Violations reported earlier, as witnesses of a drained verdict, that have another cause now."""

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
        if violation.age_ns is not None:
            self.freshness.stale[bisect_right(AGE_EDGES_NS, violation.age_ns)] += 1
        if len(self.witnesses) < WITNESSES:
            self.witnesses.append(violation)
        return violation

    def correct_cause(self, before: str, after: str, times: int, witnesses: Sequence[Violation]) -> None:
        """Move violations that were counted before, here or in a verdict drained earlier, from one cause to another.

        `witnesses` are those among the earlier ones that have the new cause now, the first ones first. The correction
        is made of counts that may be negative here; they add up to the right ones wherever the earlier verdicts are
        added up.
        """
        self._add_causes({before: -times, after: times})
        self._add_witnesses(witnesses)
        self.corrected += witnesses

    def _add_causes(self, causes: Mapping[str, int]) -> None:
        for cause, times in causes.items():
            self.causes[cause] += times  # a Counter's own addition would drop what is negative
            if not self.causes[cause]:
                del self.causes[cause]

    def _add_witnesses(self, witnesses: Sequence[Violation]) -> None:
        """Keep the first ones; the same operations with another cause are a correction, and take their place."""
        for witness in witnesses:
            for index, known in enumerate(self.witnesses):
                if known.cause != witness.cause and known.operations == witness.operations:
                    self.witnesses[index] = witness
                    break
            else:
                self.witnesses = [*self.witnesses, witness][:WITNESSES]

    def merge(self, other: "Verdict") -> None:
        """Add the verdict of another worker on the same guarantee."""
        self.checked += other.checked
        self.violated += other.violated
        self._add_causes(other.causes)
        self.staleness.merge(other.staleness)
        self.behind += other.behind
        self.at_least += other.at_least
        self._add_witnesses(other.witnesses)
        self.corrected += other.corrected
        self.applicable = self.applicable and other.applicable
        self.freshness.merge(other.freshness)


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
