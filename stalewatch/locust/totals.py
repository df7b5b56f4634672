"""What was found and counted, by one worker or by all."""

from dataclasses import dataclass, field

from stalewatch.checkers.judge import Judge
from stalewatch.checkers.verdict import Findings
from stalewatch.recording.evidence import Evidence
from stalewatch.recording.statistics import Statistics


@dataclass
class Totals:
    """Findings and statistics; workers share no key, so theirs add up."""

    findings: Findings = field(default_factory=Findings)
    statistics: Statistics = field(default_factory=Statistics)
    evidence: Evidence | None = None
    """What a drill's figures are made of, where there is one."""

    def merge(self, other: "Totals") -> None:
        """Add what another worker found and counted, or the same one later."""
        self.findings.merge(other.findings)
        self.statistics.merge(other.statistics)
        if other.evidence is not None:
            self.evidence = self.evidence or Evidence()
            self.evidence.merge(other.evidence)

    @property
    def operations(self) -> int:
        """How many operations were counted."""
        return sum(outcomes.total() for outcomes in self.statistics.outcomes.values())


def nothing_yet() -> Totals:
    """Return the totals of a run that has not begun: a row for each guarantee, without evidence."""
    return Totals(Judge().findings())
