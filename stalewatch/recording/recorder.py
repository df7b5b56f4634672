"""The recorder: gives operations their versions and times, and passes them to the judge in the order of their end."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from stalewatch.checkers.judge import Judge
from stalewatch.checkers.verdict import Findings, Violation
from stalewatch.clients.protocol import Answer
from stalewatch.history.clock import Clock
from stalewatch.history.operation import Append, Draw, Fault, Final, Operation, Read, Write
from stalewatch.history.writer import HistoryWriter
from stalewatch.recording.statistics import NO_STALLS, Stalls, Statistics

UNJUDGED_OPERATIONS = 256
UNJUDGED_NS = 500_000_000
"""How many operations may wait to be judged together, and for how long: 256 take a millisecond or two."""

NEVER_ENDED = "never ended"
"""The error of a write that was still in flight when the run ended."""


class Subscriber(Protocol):
    """Receives every operation, in the order of their end: statistics, metrics, Locust's requests, an attempt log."""

    def on_operation(self, operation: Operation, violations: Sequence[Violation]) -> None:
        """Receive an operation and its violations."""
        ...

    def on_end(self, violations: Sequence[Violation]) -> None:
        """Receive the violations that only the end of the run could decide, such as lost writes; called once."""
        ...


class Recorder:
    """Records the operations of one worker's sessions.

    Two pairs of actions must be one step each, under the lock, or verdicts would blame the database for our own delays:

    * Taking a write's version and its start. Otherwise a thread that is delayed in between would start version 5 after
      version 6, and write starts would not rise with versions, on which the proof of linearizability rests.
    * Taking an operation's end and passing it to the judge. Otherwise a write that ended first could reach the judge
      after a read that it makes stale.

    Operations are judged in batches, in their order: right after a driver's call the judge's code and data are in no
    CPU cache, and judging one operation then costs several times what it costs in a row.
    """

    def __init__(
        self,
        clock: Clock,
        judge: Judge,
        history: HistoryWriter | None = None,
        stalls: Stalls = NO_STALLS,
        on_history_error: Callable[[str], None] | None = None,
    ) -> None:
        """If the history can no longer be written, `on_history_error` is called once; without it OSError is raised."""
        self.clock = clock
        self.judge = judge
        self.statistics = Statistics(stalls)
        self.stalls = stalls
        self.judged = 0
        """How many operations the judge has seen and the history file has been given."""
        self._subscribers: list[Subscriber] = [self.statistics]
        self._history = history
        self._on_history_error = on_history_error
        self.history_error: str | None = None
        """Why the history is incomplete, with its name."""
        self._lock = threading.Lock()
        self._versions: dict[str, int] = {}
        self._written: set[str] = set()
        self._in_flight: dict[int, Write | Append | Draw] = {}
        self._faults: dict[int, Fault] = {}
        self._unjudged: list[Operation] = []
        self._finished = False
        self.found_at_the_end: Sequence[Violation] = ()
        """What only `finish` could decide, such as lost writes."""

    @property
    def counting_from_ns(self) -> int:
        """Operations that started earlier (warm-up) are judged but not counted."""
        return self.statistics.counting_from_ns

    @counting_from_ns.setter
    def counting_from_ns(self, moment: int) -> None:
        self.statistics.counting_from_ns = moment

    def subscribe(self, subscriber: Subscriber) -> None:
        """Pass every operation to this subscriber from now on."""
        self._subscribers.append(subscriber)

    def begin_write(self, session: str, key: str, due: int | None = None) -> Write:
        """Return a new write of the key's next version that starts now; its outcome is unknown until `end_write`."""
        with self._lock:
            version = self._versions[key] = self._versions.get(key, 0) + 1
            write = Write(
                session=session, key=key, version=version, start=self.clock.now(), end=None, outcome="unknown", due=due
            )
            self._in_flight[id(write)] = write
        return write

    def begin_append(self, session: str, key: str, item: str, due: int | None = None) -> Append:
        """Return a new append of an item that starts now; its outcome is unknown until `end_write`."""
        with self._lock:
            start = self.clock.now()
            append = Append(session=session, key=key, item=item, start=start, end=None, outcome="unknown", due=due)
            self._in_flight[id(append)] = append
        return append

    def begin_draw(self, session: str, key: str, due: int | None = None) -> Draw:
        """Return a new draw of an id that starts now; its outcome is unknown until `end_write`."""
        with self._lock:
            draw = Draw(session=session, key=key, start=self.clock.now(), end=None, outcome="unknown", due=due)
            self._in_flight[id(draw)] = draw
        return draw

    def end_write(self, write: Write | Append | Draw, answer: Answer) -> None:
        """End a write, append or draw with the database's answer; an answer after `finish` is ignored."""
        with self._lock:
            if self._in_flight.pop(id(write), None) is None:
                return
            write.outcome, write.error, write.node = answer.outcome, answer.error, answer.node
            if isinstance(write, Draw):
                write.value = answer.version if write.outcome == "ok" else None
            else:
                if isinstance(write, Write):
                    write.superseded = answer.superseded
                if write.outcome == "ok":
                    self._written.add(write.key)
            write.end = self.clock.now()
            self._hand_on(write)

    def end_read(self, session: str, key: str, start: int, answer: Answer, due: int | None = None) -> None:
        """Record a read that ends now; one that ends after `finish` is ignored."""
        read = Read(
            session=session,
            key=key,
            version=answer.version if answer.outcome == "ok" else None,
            start=start,
            end=start,
            outcome=answer.outcome,
            siblings=answer.siblings,
            node=answer.node,
            error=answer.error,
            due=due,
            depends=answer.depends,
        )
        with self._lock:
            if not self._finished:
                read.end = self.clock.now()
                if answer.fell_back is not None:
                    self.statistics.note_source(read, fell_back=answer.fell_back)
                self._hand_on(read)

    def end_final(self, key: str, start: int, answer: Answer) -> None:
        """Record a final read that ends now; one that ends after `finish` is ignored."""
        final = Final(
            key=key,
            version=answer.version if answer.outcome == "ok" else None,
            siblings=answer.siblings,
            items=answer.items,
            start=start,
            end=start,
            outcome=answer.outcome,
            node=answer.node,
            error=answer.error,
        )
        with self._lock:
            if not self._finished:
                final.end = self.clock.now()
                self._hand_on(final)

    def begin_fault(self, fault: str, node: str) -> Fault:
        """Return a fault that is active at a node from now until `end_fault`."""
        with self._lock:
            record = Fault(fault=fault, node=node, start=self.clock.now(), end=None)
            self._faults[id(record)] = record
        return record

    def end_fault(self, noted: Fault) -> None:
        """Record a fault that ends now; `finish` records those that never ended."""
        with self._lock:
            if self._faults.pop(id(noted), None) is not None:
                noted.end = self.clock.now()
                self._hand_on(noted)

    @property
    def finished(self) -> bool:
        """Whether recording has ended and the judge has made its last decisions."""
        return self._finished

    def settle(self) -> None:
        """Judge what was recorded so far, so that verdicts and statistics are up to date."""
        with self._lock:
            self._judge()

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Judge what was recorded so far, and hold recording while the block reads verdicts and statistics."""
        with self._lock:
            self._judge()
            yield

    def newest_version(self, key: str) -> int:
        """Return the newest version of the key that was handed out; 0 if none was."""
        return self._versions.get(key, 0)

    def written_keys(self) -> list[str]:
        """Return the keys with an acknowledged write, in order."""
        with self._lock:
            return sorted(self._written)

    def drain(self) -> tuple[Findings, Statistics]:
        """Return what was found and counted since the last call; the history file then holds at least as much."""
        with self._lock:
            self._judge()
            if self._history is not None and not self._finished:
                with self._history_errors():
                    self._history.flush(self.clock.now())
            return self.judge.drain(), self.statistics.drain()

    def finish(self, clock_error_ns: int | None = 0) -> Sequence[Violation]:
        """Record operations that never ended, and return what the judge decides at the end; close the history file."""
        with self._lock:
            if self._finished:
                return ()
            self._finished = True
            for fault in self._faults.values():
                self._hand_on(fault)
            self._faults.clear()
            for write in self._in_flight.values():
                write.error = NEVER_ENDED
                self._hand_on(write)
            self._in_flight.clear()
            try:
                self._judge()
            finally:
                self.found_at_the_end = found = self.judge.finish()
                for subscriber in self._subscribers:
                    subscriber.on_end(found)
                if self._history is not None:
                    with self._history_errors():
                        self._history.close(clock_error_ns)
            return found

    @contextmanager
    def _history_errors(self) -> Iterator[None]:
        """Let the run go on without its history file, as on a full disk."""
        try:
            yield
        except OSError as error:
            if self._on_history_error is None:
                raise
            self.history_error = f"{error.filename}: {error.strerror or error}"
            self._on_history_error(self.history_error)

    def _hand_on(self, operation: Operation) -> None:
        unjudged = self._unjudged
        unjudged.append(operation)
        if len(unjudged) >= UNJUDGED_OPERATIONS or (operation.end or 0) - (unjudged[0].end or 0) > UNJUDGED_NS:
            self._judge()

    def _judge(self) -> None:
        """Write the waiting operations to the history file and judge them, each once whatever fails.

        If one were judged again, later operations would already be in the register: a perfect store would seem to go
        back in time.
        """
        unjudged, self._unjudged = self._unjudged, []
        self.stalls.look()
        failure: Exception | None = None
        if self._history is not None:
            try:
                with self._history_errors():
                    self._history.add(*unjudged)
            except Exception as error:  # noqa: BLE001 # a full disk
                failure = error
        for operation in unjudged:
            try:
                self._judge_one(operation)
            except Exception as error:  # noqa: BLE001 # a subscriber may fail
                failure = failure or error
        if failure is not None:
            raise failure

    def _judge_one(self, operation: Operation) -> None:
        violations = self.judge.observe(operation)
        self.judged += 1
        for subscriber in self._subscribers:
            subscriber.on_operation(operation, violations)
