"""The smallest history around one violation: what proves it, and no more."""

from collections.abc import Iterable, Iterator, Sequence

from stalewatch.checkers.guarantee import JudgeContext
from stalewatch.checkers.judge import Judge
from stalewatch.checkers.verdict import Violation
from stalewatch.history.operation import Append, Depends, Fault, Final, Operation, Read, Write
from stalewatch.history.reader import History


class NoSuchViolation(Exception):
    """A number or guarantee without a violation; the message says how many there are."""


def violations(history: History, guarantee: str | None = None) -> Iterator[Violation]:
    """Yield the violations in the order in which they are found; those known only at the end come last."""
    judge = Judge(JudgeContext(tuple(history.sources), history.horizon_ns))
    for operation, source in history.operations():
        yield from _of(guarantee, judge.observe(operation, source))
    yield from _of(guarantee, judge.finish())


def _of(guarantee: str | None, found: Iterable[Violation]) -> Iterator[Violation]:
    return (violation for violation in found if guarantee is None or violation.guarantee == guarantee)


def nth_violation(history: History, number: int, guarantee: str | None = None) -> Violation:
    """Return the violation with that number, from 1; raise `NoSuchViolation`."""
    count = 0
    for count, violation in enumerate(violations(history, guarantee), 1):
        if count == number:
            return violation
    raise NoSuchViolation(f"there is no violation {number}: {count:,} of {guarantee or 'all guarantees'} were found")


MOST_SHRUNK = 2000
"""The longest history that is shrunk: every step judges what is left."""

_ACCUSED_FIRST = {"phantom_reads", "lost_writes", "unexpected_items"}
"""The guarantees whose witness begins with the operation that is at fault; those of the others end with it."""


def smallest_history(history: History, violation: Violation) -> list[Operation]:
    """Return the fewest operations, in their order, that still show the violation when they are judged.

    It begins with the witness and the writes and appends of everything that its operations show, so that no read
    becomes a phantom. If that does not show it, all operations of the keys are taken instead. Then every operation goes
    that can go without hiding the violation, or violating a guarantee that is not violated now.
    """
    trial = _Trial(history, violation)
    wanted = _Wanted(violation)
    found = [operation for operation, _ in history.operations() if wanted.has(operation)]
    if not trial.shows(found):
        keys = {operation.key for operation in violation.operations if not isinstance(operation, Fault)}
        found = [one for one, _ in history.operations() if not isinstance(one, Fault) and one.key in keys]
    return trial.shrunk(found) if len(found) <= MOST_SHRUNK else found


class _Trial:
    """Judging of parts of a history, for one violation."""

    def __init__(self, history: History, violation: Violation) -> None:
        self._context = JudgeContext((history.sources[0],), history.horizon_ns)
        self._violation = violation
        self._accused = _accused(violation)

    def _violations(self, operations: Sequence[Operation]) -> list[Violation]:
        judge = Judge(JudgeContext(self._context.sources, self._context.horizon_ns))
        found = [violation for operation in operations for violation in judge.observe(operation)]
        return [*found, *judge.finish()]

    def _is_it(self, other: Violation) -> bool:
        same_cause = other.cause == self._violation.cause or other.guarantee == "stale_reads"  # whose cause may change
        return other.guarantee == self._violation.guarantee and same_cause and _accused(other) == self._accused

    def shows(self, operations: Sequence[Operation]) -> bool:
        """Return whether the violation is found in these operations."""
        return any(map(self._is_it, self._violations(operations)))

    def shrunk(self, operations: list[Operation]) -> list[Operation]:
        """Remove runs of operations, half of them at first, then fewer, down to one."""
        allowed = {violation.guarantee for violation in self._violations(operations)}
        size = len(operations)
        while size:
            at = 0
            while at < len(operations):
                fewer = operations[:at] + operations[at + size :]
                left = self._violations(fewer)
                if any(map(self._is_it, left)) and {violation.guarantee for violation in left} <= allowed:
                    operations, allowed = fewer, {violation.guarantee for violation in left}
                else:
                    at += size
            size //= 2
        return operations


def _accused(violation: Violation) -> Operation:
    return violation.operations[0 if violation.guarantee in _ACCUSED_FIRST else -1]


def violated_keys(history: History, guarantee: str) -> frozenset[str]:
    """Return the keys on which a guarantee is violated."""
    accused = map(_accused, violations(history, guarantee))
    return frozenset(operation.key for operation in accused if not isinstance(operation, Fault))


class _Wanted:
    """The operations of a witness, and those that wrote what they show."""

    def __init__(self, violation: Violation) -> None:
        self._witness = list(violation.operations)
        self._versions: set[tuple[str, int]] = set()
        self._items: set[tuple[str, object]] = set()
        for operation in violation.operations:
            self._add(operation)

    def _add(self, operation: Operation) -> None:
        if isinstance(operation, Read | Write | Final):
            siblings = [] if isinstance(operation, Write) else operation.siblings or []
            self._versions |= {(operation.key, version) for version in (operation.version, *siblings) if version}
        depends: Depends | None = getattr(operation, "depends", None)
        if depends is not None:
            self._versions.add((depends.key, depends.version))
        if isinstance(operation, Final):
            self._items |= {(operation.key, item) for item in operation.items or ()}

    def has(self, operation: Operation) -> bool:
        """Return whether the operation belongs to the history around the violation."""
        if operation in self._witness:
            return True
        if isinstance(operation, Write):
            return (operation.key, operation.version) in self._versions
        if isinstance(operation, Append):
            return (operation.key, operation.item) in self._items
        return False
