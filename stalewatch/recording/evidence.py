"""What a drill's figures are made of: when every attempt started and ended, when promises were broken, what was lost.

The histories hold all of it too; this is what a master can be told by workers on other machines, at 17 bytes an
attempt. Times are nanoseconds of the run's clock. What several workers saw adds up.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from stalewatch.checkers.lost_writes import LostWrites
from stalewatch.checkers.verdict import Violation
from stalewatch.history.operation import Append, Draw, Fault, Final, Operation, Outcome, Read, Write

KIND: dict[type, str] = {Read: "read", Write: "write", Append: "write", Draw: "write"}
"""What an operation is to recovery times: appends and draws change the database, as writes do."""


class Attempts(NamedTuple):
    """The start and the end (`NEVER` where there was none) of each attempt of one kind and outcome, in no order."""

    kind: str
    outcome: Outcome
    starts: "array[int]"
    ends: "array[int]"


class Loss(NamedTuple):
    """One acknowledged write, or appended item, that is gone; a superseded one had no state of its own to lose.

    Of one older than the judge's horizon nothing is known but the key.
    """

    key: str
    what: int | str | None = None
    start: int | None = None
    end: int | None = None
    superseded: bool = False
    item: bool = False
    """Whether it was an item of a list: of these every loss is found."""


NEVER = (1 << 63) - 1
"""The end of an attempt that never ended."""


class Evidence:
    """Listens to a recorder; `take` hands over what came since the last time, `merge` adds what others saw."""

    def __init__(self) -> None:
        self.attempts: dict[tuple[str, Outcome], Attempts] = {}
        self.violations: dict[str, array[int]] = {}
        """By guarantee, when each operation that broke it started."""
        self.losses: list[Loss] = []
        self.registers = False
        """Whether registers were written, whose losses newer writes may cover."""
        self.appended = 0
        """Acknowledged appends, whose losses are all found."""
        self.finals: dict[str, int] = {"ok": 0, "fail": 0, "unknown": 0}
        """Final reads by outcome."""

    def __call__(self, operation: Operation, violations: Sequence[Violation]) -> None:
        """Take an operation and what it broke."""
        if isinstance(operation, Final):
            self.finals[operation.outcome] += 1
        if isinstance(operation, Fault | Final):
            return
        self.registers = self.registers or type(operation) is Write
        self.appended += type(operation) is Append and operation.outcome == "ok"
        attempts = self._of(KIND[type(operation)], operation.outcome)
        attempts.starts.append(operation.start)
        attempts.ends.append(NEVER if operation.end is None else operation.end)
        for violation in violations:
            self._starts(violation.guarantee).append(_broke(violation).start)

    def decided(self, violations: Iterable[Violation]) -> None:
        """Take what only the end of the run could decide: lost writes, and reads whose write never came."""
        for violation in violations:
            broke = _broke(violation)
            if not isinstance(
                broke, Final
            ):  # of a loss older than the judge's horizon nobody knows when it was written
                self._starts(violation.guarantee).append(broke.start)
            if violation.guarantee == LostWrites.name:
                self.losses.append(_loss(broke))

    def take(self) -> "Evidence":
        """Hand over what came since the last time."""
        taken = Evidence()
        for name, value in vars(self).items():
            setattr(self, name, vars(taken)[name])
            setattr(taken, name, value)
        return taken

    def merge(self, other: "Evidence") -> None:
        """Add what another worker saw, or the same one later."""
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

    def packed(self) -> dict[str, Any]:
        """Return all of it as it travels, times as bytes."""
        return {
            "attempts": [
                (one.kind, one.outcome, one.starts.tobytes(), one.ends.tobytes()) for one in self.attempts.values()
            ],
            "violations": {guarantee: starts.tobytes() for guarantee, starts in self.violations.items()},
            "losses": [tuple(loss) for loss in self.losses],
            "registers": self.registers,
            "appended": self.appended,
            "finals": self.finals,
        }

    @classmethod
    def unpacked(cls, packed: Mapping[str, Any]) -> "Evidence":
        """Return what was packed by a machine of the same byte order."""
        evidence = cls()
        for kind, outcome, starts, ends in packed["attempts"]:
            evidence.attempts[kind, outcome] = Attempts(kind, outcome, array("q", starts), array("q", ends))
        evidence.violations = {guarantee: array("q", starts) for guarantee, starts in packed["violations"].items()}
        evidence.losses = [Loss(*loss) for loss in packed["losses"]]
        evidence.registers, evidence.appended = packed["registers"], packed["appended"]
        evidence.finals = dict(packed["finals"])
        return evidence

    @property
    def read_finally(self) -> bool:
        """Whether all that was written was read in the end."""
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


def _broke(violation: Violation) -> Operation:
    """Return the operation that broke the promise: the lost write, else the last read or draw that proves it."""
    operations = violation.operations
    if violation.guarantee == LostWrites.name:
        return operations[0]
    return next((one for one in reversed(operations) if isinstance(one, Read | Draw)), operations[-1])


def _loss(lost: Operation) -> Loss:
    if isinstance(lost, Write):
        return Loss(lost.key, lost.version, lost.start, lost.end, bool(lost.superseded))
    if isinstance(lost, Append):
        return Loss(lost.key, lost.item, lost.start, lost.end, item=True)
    return Loss(lost.key if isinstance(lost, Final) else "")
