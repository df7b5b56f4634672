"""What was found of a run, or of a part of it: a verdict for every guarantee, and whether that is all there was."""

from dataclasses import dataclass, field

from stalewatch.checkers.verdict import RunVerdict, Verdict, overall


@dataclass
class Findings:
    """Findings of different keys add up, whoever made them and in whatever order they come."""

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    complete: bool = True
    """Whether nothing is missing: no history cut short, no worker gone."""
    duplicate_items: int = 0
    """Items of lists that stand more than once."""
    phantom_items: int = 0
    """Items that were never appended, or whose append failed."""

    def verdict(self) -> RunVerdict:
        """Return the word for all of it."""
        return overall(self.verdicts, complete=self.complete)

    def merge(self, other: "Findings") -> None:
        """Add what was found of other keys, or later of the same."""
        for name, verdict in other.verdicts.items():
            self.verdicts.setdefault(name, Verdict(name)).merge(verdict)
        self.complete = self.complete and other.complete
        self.duplicate_items += other.duplicate_items
        self.phantom_items += other.phantom_items
