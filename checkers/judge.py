"""The judge: passes every operation, in the order of its end, to the guarantees."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from sys import intern

from stalewatch.checkers.compiled import mypyc_attr
from stalewatch.checkers.guarantee import FloorGuarantee, Guarantee, JudgeContext, Register, SessionView
from stalewatch.checkers.lost_writes import LostWrites
from stalewatch.checkers.read_guarantees import (
    Conflicts,
    ConsistentPrefix,
    MonotonicReads,
    PhantomReads,
    ReadRegressions,
    ReadYourWrites,
)
from stalewatch.checkers.session_files import SessionFiles
from stalewatch.checkers.stale_reads import StaleReads
from stalewatch.checkers.unexpected_items import UnexpectedItems
from stalewatch.checkers.unique_ids import UniqueIds
from stalewatch.checkers.verdict import AGE_EDGES_NS, Findings, RunVerdict, Verdict, Violation
from stalewatch.history.operation import Append, Depends, Draw, Final, Operation, Read, Write, replace

_OF_READS_AND_WRITES: tuple[type[Guarantee], ...] = (
    StaleReads,
    ReadYourWrites,
    MonotonicReads,
    ReadRegressions,
    ConsistentPrefix,
    PhantomReads,
    LostWrites,
    Conflicts,
)

_ALL: tuple[type[Guarantee], ...] = (*_OF_READS_AND_WRITES, UnexpectedItems, UniqueIds)

GUARANTEES: dict[str, type[Guarantee]] = {guarantee.name: guarantee for guarantee in _ALL}

_NONE: tuple[Violation, ...] = ()


class _Usual:
    """Judges the operations that most histories consist of: ok writes, and ok reads that violate nothing.

    It does in one step, without a call per guarantee, what the guarantees would do one after the other. It is not a
    second definition of them: a read that any of them might object to is left to them.
    """

    def __init__(self, guarantees: Iterable[Guarantee], *, overwriting: bool) -> None:
        by_type = {type(guarantee): guarantee for guarantee in guarantees}
        self._stale, self._own = by_type[StaleReads], by_type[ReadYourWrites]
        self._monotonic, self._regressions = by_type[MonotonicReads], by_type[ReadRegressions]
        self._prefix, self._phantoms = by_type[ConsistentPrefix], by_type[PhantomReads]
        self._conflicts, self._lost = by_type[Conflicts], by_type[LostWrites]
        self._overwriting = overwriting

    def passes(self, read: Read, version: int, register: Register, view: SessionView) -> bool:
        """Count a read and return True if it certainly violates nothing; else do nothing and return False.

        It certainly violates nothing if its version is known to be written, and is not below the newest version that
        any floor can have. If it also started after the operations that set those versions had ended, they are its
        floors, and which guarantees check it is known as well.
        """
        acknowledged, shown, start = register.acknowledged, register.shown, read.start
        newest = acknowledged.top
        if (
            version < newest
            or version < shown.top
            or version < view.read
            or version < view.written
            or version < view.required
            or start <= acknowledged.top_end
            or start <= shown.top_end
            or read.siblings
            or (version != newest and version > 0 and (self._overwriting or version not in register.applied))
            or (register.never_ended and version in register.never_ended)
        ):
            return False
        if newest > 0:
            verdict = self._stale.verdict
            verdict.checked += 1
            verdict.freshness.checked[bisect_right(AGE_EDGES_NS, start - acknowledged.top_end)] += 1
        if version > 0:
            self._phantoms.verdict.checked += 1
            self._count_floors(shown.top, view)
        if read.siblings is not None:
            self._conflicts.verdict.checked += 1
        elif self._conflicts.verdict.applicable:
            self._conflicts.verdict.applicable = False
        return True

    def _count_floors(self, shown: int, view: SessionView) -> None:
        if shown > 0:
            self._regressions.verdict.checked += 1
        if view.read > 0:
            self._monotonic.verdict.checked += 1
        if view.written > 0:
            self._own.verdict.checked += 1
        if view.required > 0:
            self._prefix.verdict.checked += 1

    def acknowledge(self, write: Write, version: int, end: int, register: Register, view: SessionView) -> None:
        """Process an ok write that no read waits for."""
        if version > register.acknowledged.top:
            register.acknowledged.add(version, end, write)
        if version > view.written:
            view.written, view.written_by = version, write
        known = register.acknowledged_writes
        if known:
            known[0].add(write, version, end)
        else:
            self._lost.on_acknowledged(write, version, end, register, 0)
        register.applied.add(version)


@mypyc_attr(allow_interpreted_subclasses=True)
class Judge:
    """Judges operations one by one, live or from files; the counts are the same.

    Operations of one source must come in the order of their end (those that never ended at any time). Of two operations
    of a session that end together, the one that started first comes first.
    """

    def __init__(self, context: JudgeContext | None = None) -> None:
        self.context = context or JudgeContext()
        self.duplicate_items = 0
        """Items that a list contains more than once, known after `finish`."""
        self.phantom_items = 0
        """Items that were never appended, or whose append failed, known after `finish`."""
        sources = self.context.sources
        self._incomplete = frozenset(index for index, source in enumerate(sources) if not source.complete)
        self._one_file = len(sources) == 1
        self._session_files = SessionFiles(self.context) if SessionFiles.are_needed(sources) else None
        self._registers: dict[str, Register] = {}
        self._guarantees = {name: guarantee(self.context) for name, guarantee in GUARANTEES.items()}
        self._floors = [one for one in self._guarantees.values() if isinstance(one, FloorGuarantee)]
        self._monotonic = [one for one in self._floors if isinstance(one, MonotonicReads)]
        self._on_read = self._overrides("on_read")
        self._on_write = self._overrides("on_write")
        self._on_acknowledged = self._overrides("on_acknowledged")
        self._on_append = self._overrides("on_append")
        self._on_draw = self._overrides("on_draw")
        self._on_final = self._overrides("on_final")
        self._overwriting = frozenset(index for index, source in enumerate(sources) if source.overwriting)
        self._usual = self._usual_operations()

    def _usual_operations(self) -> _Usual | None:
        """Return the judge of usual operations; None if there are several files or guarantees unknown to it."""
        asked = {*self._floors, *self._on_read, *self._on_write, *self._on_acknowledged}
        if not self._one_file or any(type(one) not in _OF_READS_AND_WRITES for one in asked):
            return None
        return _Usual(self._guarantees.values(), overwriting=bool(self._overwriting))

    def _overrides(self, method: str) -> list[Guarantee]:
        """Return the guarantees that override that method; the others cost nothing."""
        default = getattr(Guarantee, method)
        return [one for one in self._guarantees.values() if getattr(type(one), method) is not default]

    def observe(self, operation: Operation, source: int = 0) -> Sequence[Violation]:
        """Judge an operation of the source with that index; return the violations that it reveals."""
        if self._incomplete and source in self._incomplete:
            self.context.add_incomplete_key(operation, source)
        if type(operation) is Read:
            return self._read(operation, source)
        if type(operation) is Write:
            return self._write(operation, source)
        return self._observe_rare(operation, source)

    def pass_usual(self, key: str, operations: Sequence[Operation]) -> int:
        """Judge operations of one key in order, up to the first that is unusual; return how many.

        This is faster than `observe` for operations of many keys in turn, which find little in the processor's caches.
        None of them violates anything or affects another key, so the caller may judge the keys in any order.
        """
        usual = self._usual
        if usual is None or self._incomplete:
            return 0
        register = self._registers.get(key) or self._register(key)
        views = register.views
        for number, operation in enumerate(operations):
            if type(operation) is Read:
                version = operation.version
                if operation.outcome != "ok" or version is None or operation.depends is not None:
                    return number
                view = views.get(operation.session) or register.view(operation.session)
                if operation.owner is not None or not usual.passes(operation, version, register, view):
                    return number
                if version > register.shown.top:
                    _share_strings(operation, key)
                    register.shown.add(version, operation.end, operation)
                if version > view.read:
                    view.read, view.read_by = version, operation
            elif type(operation) is Write:
                version, end = operation.version, operation.end
                if operation.outcome != "ok" or version is None or end is None or register.waiting:
                    return number
                view = views.get(operation.session) or register.view(operation.session)
                _share_strings(operation, key)
                usual.acknowledge(operation, version, end, register, view)
            else:
                return number
        return len(operations)

    def _observe_rare(self, operation: Operation, source: int) -> Sequence[Violation]:
        if isinstance(operation, Append):
            return self._append(operation, source)
        if isinstance(operation, Draw):
            return self._draw(operation, source)
        if isinstance(operation, Final):
            judge = self._overwriting_final if source in self._overwriting else self._final
            return judge(operation, source)
        return _NONE

    def _register(self, key: str) -> Register:
        register = self._registers.get(key)
        if register is None:
            register = self._registers[key] = Register(self.context)
        return register

    def _session(self, name: str, source: int) -> object:
        """Return the identity of a session in its file: the file and its name, or just the name if there is one file.

        Workers differ, and so do their sessions of the same name. If a worker has several files, `SessionFiles` adds
        what a session did in the others.
        """
        return name if self._one_file else (source, name)

    def _read(self, read: Read, source: int) -> Sequence[Violation]:
        version = read.version
        if read.outcome != "ok" or version is None:
            return _NONE
        register = self._registers.get(read.key) or self._register(read.key)
        session = read.session if self._one_file else self._session(read.session, source)
        view = register.views.get(session) or register.view(session)
        usual = self._usual
        if usual is None or read.owner is not None or not usual.passes(read, version, register, view):
            found = self._judge_read(read, version, register, view, source)
        else:
            found = _NONE
        if version > register.shown.top:
            register.shown.add(version, read.end, read, source)
        if version > view.read:
            view.read, view.read_by = version, read
        if self._session_files is not None:
            self._session_files.add_read(read, version, source)
        if read.depends is not None:
            self.learn_dependency(read, read.depends, source)
        return found

    def _judge_read(
        self, read: Read, version: int, register: Register, view: SessionView, source: int
    ) -> tuple[Violation, ...]:
        """Ask the guarantees; the read then updates the state that later ones are judged by, whether judged or not."""
        owner = read.owner
        judged = owner is None or self._is_judged(owner, source)
        found: tuple[Violation, ...] = _NONE
        if not self._may_be_late(version, register, source):
            if self._session_files is not None:
                view = self._session_files.view(view, read, source)
            for guarantee in self._floors if judged else self._monotonic:
                floor = guarantee.floor(read, register, view, source)
                if floor > 0:
                    verdict = guarantee.verdict
                    verdict.checked += 1
                    if version < floor:
                        found = (*found, verdict.add(guarantee.violation(read, version, register, view, source)))
        if judged:
            for other in self._on_read:
                violation = other.on_read(read, version, register, source)
                if violation is not None:
                    found = (*found, violation)
        return found

    def _may_be_late(self, version: int, register: Register, source: int) -> bool:
        """Return whether a read of that version of an overwriting register is judged by no floor.

        No floor judges a version above 0 whose write was not acknowledged before. A write of unknown outcome may take
        effect at any later moment, and then an older version wins. Example: w(1) ok, w(2) unknown, w(3) ok; a read of 2
        proves nothing, since w(2) may have come last; a read of 1 is stale. A version whose write is under way is the
        newest there is, so nothing is missed.

        All others are judged exactly. Let the read show v, and let its floor be f > v. Writes wait for each other, so
        w(f) started after w(v) had ended, and took effect after it, whatever its own outcome. The floor was set by an
        operation that proves that it did so before the read started. Then nothing can have brought v back. That holds
        for a floor from a read that is not judged itself, too: it still shows that its version was there.
        """
        return version > 0 and source in self._overwriting and not register.is_acknowledged(version)

    def _overwriting_final(self, final: Final, source: int) -> Sequence[Violation]:
        """Judge a final read; if it shows what may be late, then to the guarantees of floors it shows no version."""
        version, register = final.version, self._register(final.key)
        if final.outcome != "ok" or version is None or not self._may_be_late(version, register, source):
            return self._final(final, source)
        unproven = replace(final, version=None)
        return _found(
            one.on_final(unproven if isinstance(one, FloorGuarantee | LostWrites) else final, register, source)
            for one in self._on_final
        )

    def learn_dependency(self, read: Read, depends: Depends, source: int) -> None:
        """Remember what the session of an ok read must find under another key."""
        if self._session_files is not None:
            self._session_files.add_dependency(read, depends, source)
        cause = self._register(depends.key).view(self._session(read.session, source))
        if depends.version > cause.required:
            cause.required, cause.required_by = depends.version, read

    def _is_judged(self, owner: int, source: int) -> bool:
        """Return whether a read of that worker's key is judged: its own, or all of the owner's operations are known."""
        return owner == self.context.sources[source].worker or self.context.has_complete_files(owner)

    def _write(self, write: Write, source: int) -> Sequence[Violation]:
        version, end = write.version, write.end
        if version is None:
            return _NONE
        register = self._registers.get(write.key) or self._register(write.key)
        if write.outcome == "ok" and end is not None:
            usual = self._usual
            if usual is not None and not register.waiting:
                view = register.views.get(write.session) or register.view(write.session)
                usual.acknowledge(write, version, end, register, view)
                return _NONE
            self._acknowledge(write, version, end, register, source)
        found: Sequence[Violation] = _NONE
        for one in self._on_write:
            found = one.on_write(write, version, register, source) or found
        return found

    def _acknowledge(self, write: Write, version: int, end: int, register: Register, source: int) -> None:
        if version > register.acknowledged.top:
            register.acknowledged.add(version, end, write, source)
        session = write.session if self._one_file else self._session(write.session, source)
        view = register.views.get(session) or register.view(session)
        if version > view.written:
            view.written, view.written_by = version, write
        if self._session_files is not None:
            self._session_files.add_write(write, version, end, source)
        for one in self._on_acknowledged:
            one.on_acknowledged(write, version, end, register, source)

    def _append(self, append: Append, source: int) -> Sequence[Violation]:
        register = self._registers.get(append.key) or self._register(append.key)
        for one in self._on_append:
            one.on_append(append, register, source)
        return _NONE

    def _draw(self, draw: Draw, source: int) -> Sequence[Violation]:
        value, end = draw.value, draw.end
        if draw.outcome != "ok" or value is None or end is None:
            return _NONE
        return _found(one.on_draw(draw, value, end, source) for one in self._on_draw)

    def _final(self, final: Final, source: int) -> Sequence[Violation]:
        if final.outcome != "ok":
            return _NONE
        return _found(one.on_final(final, self._register(final.key), source) for one in self._on_final)

    def finish(self) -> list[Violation]:
        """Decide, once, what had to wait for the end: lost writes, and reads whose write never came."""
        return list(self.conclude())

    def conclude(self) -> Iterator[Violation]:
        """Yield what `finish` returns, one violation at a time."""
        for guarantee in self._guarantees.values():
            yield from guarantee.finish()
        items = self._guarantees[UnexpectedItems.name]
        if isinstance(items, UnexpectedItems):
            self.duplicate_items, self.phantom_items = items.duplicate_items, items.phantom_items

    def adopt(self, findings: Findings) -> None:
        """Take findings for its own: those of all shards, of which this judge saw one."""
        for name, verdict in findings.verdicts.items():
            self._guarantees[name].verdict = verdict
        self.duplicate_items, self.phantom_items = findings.duplicate_items, findings.phantom_items

    def verdicts(self) -> dict[str, Verdict]:
        """Return the verdicts so far, by guarantee."""
        return {name: guarantee.verdict for name, guarantee in self._guarantees.items()}

    def findings(self) -> Findings:
        """Return the findings so far; the verdicts in them keep counting."""
        complete = all(source.complete for source in self.context.sources)
        return Findings(self.verdicts(), complete, self.duplicate_items, self.phantom_items)

    def drain(self) -> Findings:
        """Return the findings since the last call and count anew; the state of keys and sessions remains."""
        findings = self.findings()
        for guarantee in self._guarantees.values():
            guarantee.verdict = Verdict(guarantee.name)
        self.duplicate_items = self.phantom_items = 0
        return findings

    def verdict(self) -> RunVerdict:
        """Return the verdict of the run so far."""
        return self.findings().verdict()


def _share_strings(operation: Read | Write, key: str) -> None:
    """Let an operation that is kept share its strings with others: they are half of its memory."""
    operation.key, operation.session = key, intern(operation.session)
    if operation.node is not None:
        operation.node = intern(operation.node)


def _found(violations: Iterable[Violation | None]) -> list[Violation]:
    return [violation for violation in violations if violation is not None]
