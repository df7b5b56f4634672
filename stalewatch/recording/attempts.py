"""The attempt log, from which drills measure: every attempt's start and end, violations by time, and lost writes.

Histories hold the same; this is the compact form in which workers report it to a master on another machine, at 17 bytes
an attempt. Times are nanoseconds of the run's clock. Logs of several workers add up.
"""

from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypedDict

from stalewatch.checkers.lost_writes import LostWrites
from stalewatch.checkers.unexpected_items import UnexpectedItems
from stalewatch.checkers.verdict import Violation
from stalewatch.history.operation import Append, Draw, Fault, Final, Operation, Outcome, Read, Write
from stalewatch.recording.statistics import KIND


class Attempts(NamedTuple):
    """Start and end (`NEVER` if there was none) of each attempt of one kind and outcome, in no order."""

    kind: str
    outcome: Outcome
    starts: "array[int]"
    ends: "array[int]"


class LostWrite(NamedTuple):
    """One acknowledged write, or appended item, that is lost; a superseded one had no state of its own to lose.

    If it is older than the judge's horizon, only its key is known.
    """

    key: str
    what: int | str | None = None
    start: int | None = None
    end: int | None = None
    superseded: bool = False
    item: bool = False
    """Whether it was an item of a list: those losses are all found."""


class PackedAttempts(TypedDict):
    """A packed log; times are bytes of 64-bit numbers."""

    attempts: list[tuple[str, Outcome, bytes, bytes]]
    violations: dict[str, bytes]
    losses: list[LostWrite]
    registers: bool
    appended: int
    finals: dict[Outcome, int]


NEVER = (1 << 63) - 1
"""The end of an attempt that never ended."""


class AttemptLog:
    """A subscriber of a recorder; `drain` returns the log since the last call, `merge` adds another log."""

    def __init__(self) -> None:
        self.attempts: dict[tuple[str, Outcome], Attempts] = {}
        self.violations: dict[str, array[int]] = {}
        """By guarantee, when each operation that violated it started."""
        self.losses: list[LostWrite] = []
        self.registers = False
        """Whether registers were written; newer writes may cover their losses."""
        self.appended = 0
        """Acknowledged appends; their losses are all found."""
        self.finals: dict[Outcome, int] = {"ok": 0, "fail": 0, "unknown": 0}
        """Final reads by outcome."""

    def on_operation(self, operation: Operation, violations: Sequence[Violation]) -> None:
        """Add an operation and what it violated."""
        for violation in violations:
            self._starts(violation.guarantee).append(_culprit(violation).start)
        if isinstance(operation, Final):
            self.finals[operation.outcome] += 1
        if isinstance(operation, Fault | Final):
            return
        self.registers = self.registers or type(operation) is Write
        self.appended += type(operation) is Append and operation.outcome == "ok"
        attempts = self._of(KIND[operation.__class__], operation.outcome)
        attempts.starts.append(operation.start)
        attempts.ends.append(NEVER if operation.end is None else operation.end)

    def on_end(self, violations: Iterable[Violation]) -> None:
        """Add violations that only the end of the run could decide: lost writes, and reads whose write never came."""
        for violation in violations:
            culprit, is_loss = _culprit(violation), violation.guarantee == LostWrites.name
            if not (is_loss and isinstance(culprit, Final)):  # one older than the judge's horizon has no known time
                self._starts(violation.guarantee).append(culprit.start)
            if is_loss:
                self.losses.append(_lost(culprit))

    def drain(self) -> "AttemptLog":
        """Return the log since the last call."""
        drained = AttemptLog()
        for name, value in vars(self).items():
            setattr(self, name, vars(drained)[name])
            setattr(drained, name, value)
        return drained

    def merge(self, other: "AttemptLog") -> None:
        """Add the log of another worker, or a later one of the same worker."""
        for attempts in other.attempts.values():
            mine = self._of(attempts.kind, attempts.outcome)
            mine.starts.extend(attempts.starts)
            mine.ends.extend(attempts.ends)
        for guarantee, starts in other.violations.items():
            self._starts(guarantee).extend(starts)
        self.losses.extend(other.losses)
        self.registers = self.registers or other.registers
        self.appended += other.appended
        for outcome, count in other.finals.items():
            self.finals[outcome] += count

    def packed(self) -> PackedAttempts:
        """Return the log in the form in which it is sent, with times as bytes."""
        return {
            "attempts": [
                (one.kind, one.outcome, one.starts.tobytes(), one.ends.tobytes()) for one in self.attempts.values()
            ],
            "violations": {guarantee: starts.tobytes() for guarantee, starts in self.violations.items()},
            "losses": self.losses,
            "registers": self.registers,
            "appended": self.appended,
            "finals": self.finals,
        }

    @classmethod
    def unpacked(cls, packed: PackedAttempts) -> "AttemptLog":
        """Return the log that was packed on a machine with the same byte order."""
        log = cls()
        for kind, outcome, starts, ends in packed["attempts"]:
            log.attempts[kind, outcome] = Attempts(kind, outcome, array("q", starts), array("q", ends))
        log.violations = {guarantee: array("q", starts) for guarantee, starts in packed["violations"].items()}
        log.losses = [LostWrite(*loss) for loss in packed["losses"]]
        log.registers, log.appended = packed["registers"], packed["appended"]
        log.finals = dict(packed["finals"])
        return log

    @property
    def read_finally(self) -> bool:
        """Whether the final read of every written key succeeded."""
        return self.finals["ok"] > 0 and not self.finals["fail"] and not self.finals["unknown"]

    def _of(self, kind: str, outcome: Outcome) -> Attempts:
        attempts = self.attempts.get((kind, outcome))
        if attempts is None:
            attempts = self.attempts[kind, outcome] = Attempts(kind, outcome, array("q"), array("q"))
        return attempts

    def _starts(self, guarantee: str) -> "array[int]":
        starts = self.violations.get(guarantee)
        if starts is None:
            starts = self.violations[guarantee] = array("q")
        return starts


def _culprit(violation: Violation) -> Operation:
    """Return the operation that went wrong: a write or an append whose effect did, else the last read or draw."""
    operations = violation.operations
    if violation.guarantee in {LostWrites.name, UnexpectedItems.name}:
        return operations[0]
    return next((one for one in reversed(operations) if isinstance(one, Read | Draw | Final)), operations[-1])


def _lost(lost: Operation) -> LostWrite:
    if isinstance(lost, Write):
        return LostWrite(lost.key, lost.version, lost.start, lost.end, bool(lost.superseded))
    if isinstance(lost, Append):
        return LostWrite(lost.key, lost.item, lost.start, lost.end, item=True)
    return LostWrite(lost.key if isinstance(lost, Final) else "")
