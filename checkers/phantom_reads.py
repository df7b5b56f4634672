"""phantom_reads: a read shows only versions that were written, by a write that had started and did not fail."""

from collections.abc import Iterable

from stalewatch.checkers.guarantee import Guarantee, JudgeContext, Register
from stalewatch.checkers.verdict import Violation
from stalewatch.history.operation import Read, Write

FAILURES = 256
"""How many failed writes of a key are kept as witnesses; the fact that a version failed is never forgotten."""


class PhantomReads(Guarantee):
    """Matches every version shown with its write.

    A write that ended is recorded before any read that ended later, so its start precedes that read's end and need not
    be kept. A read that ended first waits for its write, which is often still in flight while its value is visible.
    A write that never ended may be on any line of the file, even before a read that ended before the write started.
    """

    name = "phantom_reads"

    def __init__(self, context: JudgeContext) -> None:
        super().__init__(context)
        self._waited: dict[Register, None] = {}

    def on_write(self, write: Write, version: int, register: Register, source: int) -> tuple[Violation, ...]:
        """Record the version, and judge the reads that waited for it."""
        if write.outcome == "fail":
            register.failed.add(version)
            register.failures[version] = (write, source)
            if len(register.failures) > FAILURES:
                del register.failures[next(iter(register.failures))]
        else:
            register.applied.add(version)
            if write.end is None:
                register.never_ended[version] = (write, source)
        if not register.waiting:
            return ()
        found = [self._judge(read, at, write, source) for read, at in register.waiting.pop(version, ())]
        return tuple(violation for violation in found if violation is not None)

    def on_read(self, read: Read, version: int, register: Register, source: int) -> Violation | None:
        """Judge the read if its write is recorded, else let it wait."""
        if version <= 0:
            return None
        if version in register.applied:
            if register.never_ended and version in register.never_ended:
                return self._judge(read, source, *register.never_ended[version])
            self.verdict.checked += 1
            return None
        if version in register.failed:
            return self._failed(read, register.failures.get(version))
        register.waiting.setdefault(version, []).append((read, source))
        self._waited[register] = None
        return None

    def _failed(self, read: Read, failure: tuple[Write, int] | None) -> Violation:
        self.verdict.checked += 1
        return self.verdict.add(Violation(self.name, (read, failure[0]) if failure else (read,), cause="failed"))

    def _judge(self, read: Read, source: int, write: Write, write_source: int) -> Violation | None:
        """Judge a read whose write is recorded, possibly after the read."""
        if write.outcome == "fail":
            return self._failed(read, (write, write_source))
        self.verdict.checked += 1
        margin = self.context.margin(source, write_source)
        if margin is not None and write.start > read.end + margin:
            return self.verdict.add(Violation(self.name, (read, write), cause="not_started"))
        return None

    def finish(self) -> Iterable[Violation]:
        """Judge the reads whose write never came; in an incomplete file its line may be missing."""
        for register in self._waited:
            for reads in register.waiting.values():
                yield from filter(None, (self._never_written(read) for read, _ in reads))
            register.waiting.clear()

    def _never_written(self, read: Read) -> Violation | None:
        if read.key in self.context.incomplete_keys:
            return None
        self.verdict.checked += 1
        return self.verdict.add(Violation(self.name, (read,), cause="never_written"))
