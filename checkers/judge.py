"""The judge: hands every operation, in the order of its end, to the guarantees asked for."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from stalewatch.checkers.conflicts import Conflicts
from stalewatch.checkers.consistent_prefix import ConsistentPrefix
from stalewatch.checkers.findings import Findings
from stalewatch.checkers.lost_writes import LostWrites
from stalewatch.checkers.monotonic_reads import MonotonicReads
from stalewatch.checkers.phantom_reads import PhantomReads
from stalewatch.checkers.protocol import FloorGuarantee, Guarantee
from stalewatch.checkers.read_regressions import ReadRegressions
from stalewatch.checkers.read_your_writes import ReadYourWrites
from stalewatch.checkers.register import Register, View
from stalewatch.checkers.scene import Scene
from stalewatch.checkers.stale_reads import StaleReads
from stalewatch.checkers.unique_ids import UniqueIds
from stalewatch.checkers.verdict import RunVerdict, Verdict, Violation
from stalewatch.history.operation import Append, Draw, Fault, Final, Operation, Read, Write

GUARANTEES: dict[str, type[Guarantee]] = {
    kind.name: kind
    for kind in (
        StaleReads,
        ReadYourWrites,
        MonotonicReads,
        ReadRegressions,
        ConsistentPrefix,
        PhantomReads,
        LostWrites,
        Conflicts,
        UniqueIds,
    )
}

_NOTHING: tuple[Violation, ...] = ()


class Judge:
    """Judges operations as they come: live, or from files; the counts are the same.

    Operations of one source must come in the order of their end (never-ended ones at any time). Of two operations of
    one session that end together, the one that started first comes first.
    """

    def __init__(self, scene: Scene | None = None, guarantees: Iterable[str] = GUARANTEES) -> None:
        self.scene = scene or Scene()
        self.duplicate_items = 0
        """Items of lists that stand more than once, known after `finish`."""
        self.phantom_items = 0
        """Items that were never appended, or whose append failed, known after `finish`."""
        self._registers: dict[str, Register] = {}
        self._cut = frozenset(index for index, source in enumerate(self.scene.sources) if not source.complete)
        self._one_worker = len({source.worker for source in self.scene.sources}) == 1
        self._guarantees = {name: GUARANTEES[name](self.scene) for name in guarantees}
        self._floors = [one for one in self._guarantees.values() if isinstance(one, FloorGuarantee)]
        self._monotonic = [one for one in self._floors if isinstance(one, MonotonicReads)]
        self._readers = self._doing("on_read")
        self._writers = self._doing("on_write")
        self._acknowledgers = self._doing("on_acknowledged")
        self._appenders = self._doing("on_append")
        self._drawers = self._doing("on_draw")
        self._finals = self._doing("on_final")
        self._observe: dict[type[Operation], Callable[..., Sequence[Violation]]] = {
            Read: self._read,
            Write: self._write,
            Append: self._append,
            Draw: self._draw,
            Final: self._final,
            Fault: lambda _fault, _source: _NOTHING,
        }

    def _doing(self, method: str) -> list[Any]:
        """Return the bound methods of the guarantees that do something there; the others cost nothing."""
        nothing = getattr(Guarantee, method)
        return [getattr(one, method) for one in self._guarantees.values() if getattr(type(one), method) is not nothing]

    def observe(self, operation: Operation, source: int = 0) -> Sequence[Violation]:
        """Judge an operation of the source with that index; return the violations that it shows."""
        if source in self._cut:
            self.scene.note(operation, source)
        return self._observe[type(operation)](operation, source)

    def _register(self, key: str) -> Register:
        register = self._registers.get(key)
        if register is None:
            register = self._registers[key] = Register(self.scene)
        return register

    def _session(self, name: str, source: int) -> object:
        """Return what identifies a session: its worker and its name, or the name where there is one worker."""
        return name if self._one_worker else (self.scene.sources[source].worker, name)

    def _read(self, read: Read, source: int) -> Sequence[Violation]:
        version = read.version
        if read.outcome != "ok" or version is None:
            return _NOTHING
        register = self._registers.get(read.key) or self._register(read.key)
        session = read.session if self._one_worker else self._session(read.session, source)
        view = register.views.get(session) or register.view(session)
        judged = read.owner is None or self._judgeable(read.owner, source)
        found = _NOTHING
        for guarantee in self._floors if judged else self._monotonic:
            floor = guarantee.floor(read, register, view, source)
            if floor > 0:
                verdict = guarantee.verdict
                verdict.checked += 1
                if version < floor:
                    found = (*found, verdict.add(guarantee.prove(read, version, register, view, source)))
        if judged:
            for check in self._readers:
                violation = check(read, version, register, source)
                if violation is not None:
                    found = (*found, violation)
        self._learn_read(read, version, register, view, source)
        return found

    def _learn_read(self, read: Read, version: int, register: Register, view: View, source: int) -> None:
        """Take an ok read as evidence for later ones, also one that is not judged."""
        register.shown.add(version, read.end, read, source)
        if version > view.read:
            view.read, view.read_by = version, read
        depends = read.depends
        if depends is not None:
            cause = self._register(depends.key).view(self._session(read.session, source))
            if depends.version > cause.needs:
                cause.needs, cause.effect = depends.version, read

    def _judgeable(self, owner: int, source: int) -> bool:
        """Tell whether the key's owner is this worker, or one whose operations are all here to judge by."""
        return owner == self.scene.sources[source].worker or self.scene.complete(owner)

    def _write(self, write: Write, source: int) -> Sequence[Violation]:
        version, end = write.version, write.end
        if version is None:
            return _NOTHING
        register = self._registers.get(write.key) or self._register(write.key)
        if write.outcome == "ok" and end is not None:
            self._acknowledge(write, version, end, register, source)
        found = _NOTHING
        for check in self._writers:
            found = check(write, version, register, source) or found
        return found

    def _acknowledge(self, write: Write, version: int, end: int, register: Register, source: int) -> None:
        register.acknowledged.add(version, end, write, source)
        view = register.view(self._session(write.session, source))
        if version > view.written:
            view.written, view.written_by = version, write
        for acknowledge in self._acknowledgers:
            acknowledge(write, version, end, register, source)

    def _append(self, append: Append, source: int) -> Sequence[Violation]:
        for check in self._appenders:
            check(append, source)
        return _NOTHING

    def _draw(self, draw: Draw, source: int) -> Sequence[Violation]:
        if draw.outcome != "ok" or draw.value is None or draw.end is None:
            return _NOTHING
        return _some(check(draw, draw.value, draw.end, source) for check in self._drawers)

    def _final(self, final: Final, source: int) -> Sequence[Violation]:
        if final.outcome != "ok":
            return _NOTHING
        return _some(check(final, self._register(final.key), source) for check in self._finals)

    def finish(self) -> list[Violation]:
        """Decide what had to wait for the end, once: lost writes, and reads whose write never came."""
        found = [violation for guarantee in self._guarantees.values() for violation in guarantee.finish()]
        lost = self._guarantees.get(LostWrites.name)
        if isinstance(lost, LostWrites):
            self.duplicate_items, self.phantom_items = lost.duplicate_items, lost.phantom_items
        return found

    def verdicts(self) -> dict[str, Verdict]:
        """Return what was found so far, a row a guarantee; also those that nobody asked for, without evidence."""
        return {
            name: self._guarantees[name].verdict if name in self._guarantees else Verdict(name) for name in GUARANTEES
        }

    def findings(self) -> Findings:
        """Return what was found so far; the verdicts in it go on counting."""
        complete = all(source.complete for source in self.scene.sources)
        return Findings(self.verdicts(), complete, self.duplicate_items, self.phantom_items)

    def take(self) -> Findings:
        """Hand over what was found since the last time, and count anew; what is known of keys and sessions stays."""
        taken = self.findings()
        for guarantee in self._guarantees.values():
            guarantee.verdict = Verdict(guarantee.name)
        self.duplicate_items = self.phantom_items = 0
        return taken

    def verdict(self) -> RunVerdict:
        """Return the verdict of all that was observed."""
        return self.findings().verdict()

    def merge(self, other: "Judge") -> None:
        """Add what another judge found of other keys."""
        for name, guarantee in self._guarantees.items():
            guarantee.verdict.merge(other.verdicts()[name])
        self.duplicate_items += other.duplicate_items
        self.phantom_items += other.phantom_items


def _some(found: Iterable[Violation | None]) -> list[Violation]:
    return [violation for violation in found if violation is not None]
