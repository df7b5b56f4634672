"""The order of operations under real threads: judge and file receive them by `end`, and versions rise with `start`."""

import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stalewatch.clients.protocol import Answer
from stalewatch.history.clock import RealClock
from stalewatch.history.operation import Read, Write
from stalewatch.history.reader import BadHistory, History
from stalewatch.recording.recorder import Recorder
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.options import MemoryOptions
from stalewatch.workloads.options import LoadOptions
from tests.engine.running import PATIENCE_S, Played, broken_laws, play, recorder_of

THREADS = 16
LOAD = LoadOptions(users=THREADS, operations=3000, keys=5, write_ratio=0.5)


@pytest.fixture(autouse=True)
def _restless_scheduler() -> Iterator[None]:
    """Switch threads as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class DelayingGate:
    """A gate that delays the first thread until another one has passed."""

    def __init__(self) -> None:
        self._first = threading.Lock()
        self._passed = threading.Event()

    def delay_the_first(self) -> bool:
        """Return whether this thread was not the first."""
        if not self._first.acquire(blocking=False):
            return True
        assert self._passed.wait(PATIENCE_S), "no other thread passed"
        return False

    def passed(self) -> None:
        self._passed.set()


class EndsOutsideTheLock(Recorder):
    """A faulty recorder: takes the end of a read and records it in two steps."""

    gate: DelayingGate

    def end_read(self, session: str, key: str, start: int, answer: Answer, due: int | None = None) -> None:
        end = self.clock.now()
        overtakes = self.gate.delay_the_first()
        with self._lock:
            self._hand_on(
                Read(session=session, key=key, version=answer.version, start=start, end=end, outcome=answer.outcome)
            )
        if overtakes:
            self.gate.passed()


class StartsOutsideTheLock(Recorder):
    """A faulty recorder: takes the version and the start of a write in two steps."""

    gate: DelayingGate

    def begin_write(self, session: str, key: str, due: int | None = None) -> Write:
        write = super().begin_write(session, key, due)
        overtakes = self.gate.delay_the_first()
        write.start = self.clock.now()
        if overtakes:
            self.gate.passed()
        return write


def played(history: Path, kind: type[Recorder] = Recorder, load: LoadOptions = LOAD) -> Played:
    clock = RealClock()
    client = MemoryClient(MemoryOptions("linearizable", service_s=0.0003, timeouts=0.002, timeout_s=0.01), clock)
    return play(client, load, recorder_of(clock, history, kind))


def operations_of(history: Path) -> list[object]:
    return [operation for operation, _ in History([history]).operations()]


def test_operations_are_recorded_in_the_order_of_their_end_and_versions_rise_with_starts(
    tmp_path: Path,
) -> None:
    history = tmp_path / "h.jsonl"
    run = played(history)
    assert len(run.loaded) == LOAD.operations
    assert len({operation.session for operation in run.loaded}) == THREADS
    assert broken_laws(run.given) == set()
    assert operations_of(history) == run.given
    assert run.violated() == {}


def test_a_recorder_that_takes_ends_outside_its_lock_breaks_the_order(tmp_path: Path) -> None:
    history = tmp_path / "h.jsonl"
    EndsOutsideTheLock.gate = DelayingGate()
    assert "operations do not come in the order of their end" in broken_laws(played(history, EndsOutsideTheLock).given)
    with pytest.raises(BadHistory, match="on an earlier line"):
        operations_of(history)


def test_a_recorder_that_takes_starts_outside_its_lock_breaks_the_order(tmp_path: Path) -> None:
    StartsOutsideTheLock.gate = DelayingGate()
    run = played(tmp_path / "h.jsonl", StartsOutsideTheLock, replace(LOAD, keys=1))
    assert "starts do not rise with versions" in broken_laws(run.given)
