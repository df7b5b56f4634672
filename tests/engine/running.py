"""Runs against a simulated store, with every operation in the order in which the judge received it."""

from collections.abc import Callable, Iterable, Sequence
from math import sqrt
from pathlib import Path
from typing import NamedTuple

from stalewatch.checkers.guarantee import JudgeContext
from stalewatch.checkers.judge import Judge
from stalewatch.checkers.verdict import Violation
from stalewatch.clients.protocol import Answer, ClientSession, Timed, Value
from stalewatch.engine.database_run import DatabaseRun
from stalewatch.engine.process_run import ThreadedLoad
from stalewatch.engine.threads import Progress
from stalewatch.history.clock import Clock
from stalewatch.history.operation import FORMAT, FORMAT_VERSION, Header, Operation, Read, Write
from stalewatch.history.writer import HistoryWriter
from stalewatch.recording.recorder import Recorder
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.options import MemoryOptions
from stalewatch.simulator.simulated_time import SimulatedClock
from stalewatch.workloads.options import LoadOptions

PATIENCE_S = 120.0


class NotingJudge(Judge):
    """A judge that keeps the operations that it receives."""

    def __init__(self, context: JudgeContext | None = None) -> None:
        super().__init__(context)
        self.given: list[Operation] = []

    def observe(self, operation: Operation, source: int = 0) -> Sequence[Violation]:
        self.given.append(operation)
        return super().observe(operation, source)


class Hooked:
    """A session that calls a function before every operation."""

    def __init__(self, name: str, session: ClientSession, before: Callable[[str, str], None]) -> None:
        self._name, self._session, self._before = name, session, before
        self.times = session.times if isinstance(session, Timed) else None

    def read(self, key: str) -> Answer:
        self._before(self._name, "read")
        return self._session.read(key)

    def write(self, key: str, value: Value) -> Answer:
        self._before(self._name, "write")
        return self._session.write(key, value)


class HookedClient(MemoryClient):
    """A store that calls a function with the session's name and ``read`` or ``write`` before every operation."""

    def __init__(self, options: MemoryOptions, clock: Clock, before: Callable[[str, str], None]) -> None:
        super().__init__(options, clock)
        self._before = before

    def session(self, name: str) -> Hooked:  # type: ignore[override] # it has the methods of a session
        return Hooked(name, super().session(name), self._before)


class Played(NamedTuple):
    """A finished run."""

    run: ThreadedLoad
    client: MemoryClient
    recorder: Recorder
    given: list[Operation]
    """The operations in the order in which the judge received them."""

    @property
    def reads(self) -> list[Read]:
        return [one for one in self.given if isinstance(one, Read)]

    @property
    def writes(self) -> list[Write]:
        return [one for one in self.given if isinstance(one, Write)]

    @property
    def loaded(self) -> list[Read | Write]:
        return [one for one in self.given if isinstance(one, Read | Write)]

    def violated(self) -> dict[str, int]:
        verdicts = self.recorder.judge.verdicts()
        return {name: verdict.violated for name, verdict in verdicts.items() if verdict.violated}


def simulated(**options: object) -> MemoryClient:
    return MemoryClient(MemoryOptions(**options), SimulatedClock())  # type: ignore[arg-type] # as given


def recorder_of(clock: Clock, history: Path | None = None, kind: type[Recorder] = Recorder) -> Recorder:
    return kind(clock, NotingJudge(), None if history is None else HistoryWriter(history, header()))


def header(run: str = "r") -> Header:
    return Header(format=FORMAT, version=FORMAT_VERSION, run=run, database="memory", clock_error_ns=0, closes=True)


def given_to(recorder: Recorder) -> list[Operation]:
    assert isinstance(recorder.judge, NotingJudge)
    recorder.settle()
    return recorder.judge.given


def unheard(_state: Progress) -> None:
    """Ignore the progress."""


def threaded(client: MemoryClient, recorder: Recorder, load: LoadOptions, name: str = "r") -> ThreadedLoad:
    return ThreadedLoad(DatabaseRun(client, recorder, load, name))


def play(client: MemoryClient, load: LoadOptions, recorder: Recorder | None = None) -> Played:
    """Create the keys, run the load, make the final reads, and finish."""
    recorder = recorder or recorder_of(client.clock)
    client.prepare()
    run = threaded(client, recorder, load)
    run.run.create_keys()
    try:
        run.perform(unheard)
        if not run.interrupted:
            run.final_reads(unheard)
    finally:
        recorder.finish()
    return Played(run, client, recorder, given_to(recorder))


def assert_share(hits: int, trials: int, share: float, sigmas: float = 4.0) -> None:
    """Fail if there are too few or too many hits for a binomial share."""
    assert abs(hits - trials * share) <= sigmas * sqrt(trials * share * (1 - share)) + 0.5, (hits, trials, share)


def broken_laws(operations: Iterable[Operation]) -> set[str]:
    """Return the laws on which the proofs rest and that the operations break: those of ends, versions and starts."""
    broken, last_end, starts = set(), 0, dict[str, dict[int, int]]()
    for operation in operations:
        if operation.end is not None:
            if operation.end < last_end:
                broken.add("operations do not come in the order of their end")
            last_end = operation.end
        if isinstance(operation, Write):
            assert operation.version is not None
            if starts.setdefault(operation.key, {}).setdefault(operation.version, operation.start) != operation.start:
                broken.add("two writes have one version")
    for of_key in starts.values():
        in_order = [start for _, start in sorted(of_key.items())]
        if in_order != sorted(in_order):
            broken.add("starts do not rise with versions")
        if set(of_key) != set(range(1, len(of_key) + 1)):
            broken.add("a version is missing")
    return broken
