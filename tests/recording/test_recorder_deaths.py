"""A write that was sent is recorded exactly once, whatever happens to its session."""

import io
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stalewatch.checkers.judge import Judge
from stalewatch.clients.protocol import Answer
from stalewatch.commands.check import judge_files
from stalewatch.engine import threads
from stalewatch.engine.result import check_result
from stalewatch.history.clock import RealClock
from stalewatch.history.operation import FORMAT, FORMAT_VERSION, Final, Header, Operation, Write
from stalewatch.history.reader import History
from stalewatch.history.writer import HistoryWriter
from stalewatch.recording.recorder import NEVER_ENDED, Recorder
from stalewatch.simulator.options import MemoryOptions
from stalewatch.simulator.simulated_time import SimulatedClock
from stalewatch.workloads.options import LoadOptions
from stalewatch.workloads.register import RegisterSession, Uniform
from tests.engine.running import PATIENCE_S, HookedClient, given_to, play, recorder_of, threaded, unheard

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

WRITES = LoadOptions(users=1, operations=1, keys=1, write_ratio=1)


def writing(recorder: Recorder, error: BaseException) -> RegisterSession:
    def die(_session: str, _kind: str) -> None:
        raise error

    client = HookedClient(MemoryOptions(), recorder.clock, die)
    return RegisterSession("s0", client, recorder, Uniform(["k"]), WRITES)


def outcomes(operations: list[Operation]) -> list[tuple[str, str | None, bool]]:
    return [(one.outcome, one.error, one.end is None) for one in operations if isinstance(one, Write)]


def assert_same_verdicts(recorder: Recorder, history: Path) -> None:
    assert check_result(judge_files([history]).findings()) == check_result(recorder.judge.findings())


def test_a_write_that_raises_an_unexpected_error_is_unknown_and_the_session_continues(tmp_path: Path) -> None:
    recorder = recorder_of(SimulatedClock(), tmp_path / "h.jsonl")
    session = writing(recorder, ZeroDivisionError("a bug in a driver"))
    session.write("k")
    session.write("k")
    recorder.finish()
    assert outcomes(given_to(recorder)) == [("unknown", "ZeroDivisionError", False)] * 2
    assert_same_verdicts(recorder, tmp_path / "h.jsonl")


@pytest.mark.parametrize("death", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_the_write_of_a_killed_session_is_recorded_once_as_unknown(tmp_path: Path, death: type[BaseException]) -> None:
    recorder = recorder_of(SimulatedClock(), tmp_path / "h.jsonl")
    session = writing(recorder, death())
    with pytest.raises(death):
        session.write("k")
    recorder.finish()
    assert outcomes(given_to(recorder)) == [("unknown", "interrupted", False)]
    assert_same_verdicts(recorder, tmp_path / "h.jsonl")


def test_the_read_of_a_killed_session_is_recorded_once_as_unknown() -> None:
    recorder = recorder_of(SimulatedClock())
    with pytest.raises(SystemExit):
        writing(recorder, SystemExit()).read("k")
    assert [(one.outcome, one.error) for one in given_to(recorder)] == [("unknown", "interrupted")]  # type: ignore[union-attr] # reads


def test_writes_in_flight_at_the_end_are_recorded_once_without_an_end(tmp_path: Path) -> None:
    recorder = recorder_of(SimulatedClock(), tmp_path / "h.jsonl")
    for key in ("k", "k", "l"):
        recorder.begin_write("s0", key)
    recorder.end_write(recorder.begin_write("s1", "k"), Answer())
    recorder.finish()
    recorder.finish()
    assert outcomes(given_to(recorder)) == [("ok", None, False)] + [("unknown", NEVER_ENDED, True)] * 3
    assert recorder.statistics.outcomes["write"] == {"ok": 1, "unknown": 3}
    assert_same_verdicts(recorder, tmp_path / "h.jsonl")


def test_answers_after_the_end_are_ignored(tmp_path: Path) -> None:
    recorder = recorder_of(SimulatedClock(), tmp_path / "h.jsonl")
    write = recorder.begin_write("s0", "k")
    recorder.finish()
    before = (len(given_to(recorder)), check_result(recorder.judge.findings()))
    recorder.end_write(write, Answer("ok", node="m1"))
    recorder.end_read("s1", "k", write.start, Answer("ok", 1))
    recorder.end_final("k", write.start, Answer("ok", 1))
    assert (len(given_to(recorder)), check_result(recorder.judge.findings())) == before
    assert outcomes(given_to(recorder)) == [("unknown", NEVER_ENDED, True)]
    assert_same_verdicts(recorder, tmp_path / "h.jsonl")


def test_warm_up_writes_in_flight_at_the_end_are_judged_but_not_counted() -> None:
    recorder = recorder_of(SimulatedClock())
    write = recorder.begin_write("s0", "k")
    recorder.counting_from_ns = write.start + 1
    recorder.finish()
    assert given_to(recorder) == [write]
    assert not recorder.statistics.outcomes["write"]


def test_a_hanging_session_delays_an_interrupted_run_only_briefly_and_its_write_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "JOIN_S", 0.05)
    stuck, freed = threading.Event(), threading.Event()

    def hang(session: str, kind: str) -> None:
        if session == "s1" and kind == "write":
            stuck.set()
            freed.wait(PATIENCE_S)

    clock, history = RealClock(), tmp_path / "h.jsonl"
    client = HookedClient(MemoryOptions("linearizable", service_s=0.001), clock, hang)
    recorder = recorder_of(clock, history)
    run = threaded(client, recorder, LoadOptions(users=4, operations=None, duration_s=3600, keys=3))
    run.run.create_keys()

    def interrupt_once_stuck() -> None:
        stuck.wait(PATIENCE_S)
        run.interrupt()

    interrupter = threading.Thread(target=interrupt_once_stuck)
    interrupter.start()
    run.perform(unheard)
    recorder.finish()
    interrupter.join()
    never_ended = [one for one in given_to(recorder) if isinstance(one, Write) and one.end is None]
    assert [(one.session, one.outcome) for one in never_ended] == [("s1", "unknown")]
    before = check_result(recorder.judge.findings())
    hung = next(thread for thread in threading.enumerate() if thread.name == "s1")
    freed.set()
    hung.join(PATIENCE_S)
    assert (never_ended[0].outcome, never_ended[0].end) == ("unknown", None)
    assert check_result(recorder.judge.findings()) == before
    assert_same_verdicts(recorder, history)
    assert [one for one, _ in History([history]).operations()] == given_to(recorder)


def test_a_bug_in_one_session_ends_the_run_and_is_raised_by_it(tmp_path: Path) -> None:
    calls = threading.Semaphore(50)

    def die_after_some_calls(_session: str, _kind: str) -> None:
        if not calls.acquire(blocking=False):
            raise SystemExit("a bug of ours")

    history = tmp_path / "h.jsonl"
    client = HookedClient(MemoryOptions(), SimulatedClock(), die_after_some_calls)
    recorder = recorder_of(client.clock, history)
    with pytest.raises(SystemExit, match="a bug of ours"):
        play(client, LoadOptions(users=5, operations=10_000, keys=3), recorder)
    assert not any(isinstance(one, Final) for one in given_to(recorder))
    assert_same_verdicts(recorder, history)


def test_a_bug_in_one_session_ends_the_run_even_if_another_session_hangs() -> None:
    hung, freed = threading.Event(), threading.Event()

    def hang_or_die(session: str, _kind: str) -> None:
        if session == "s0":
            hung.set()
            freed.wait(PATIENCE_S)
        else:
            hung.wait(PATIENCE_S)
            raise SystemExit("a bug of ours")

    client = HookedClient(MemoryOptions(), RealClock(), hang_or_die)
    with pytest.raises(SystemExit, match="a bug of ours"):
        play(client, LoadOptions(users=2, operations=10, keys=3))
    sessions = [thread for thread in threading.enumerate() if thread.name == "s0"]
    assert [thread.is_alive() for thread in sessions] == [True]
    freed.set()
    sessions[0].join(PATIENCE_S)


GREENLETS = """
import sys
from gevent import monkey; monkey.patch_all()
import gevent, gevent.event
from pathlib import Path
from stalewatch.simulator.options import MemoryOptions
from stalewatch.history.clock import RealClock
from tests.engine.running import HookedClient, recorder_of
from stalewatch.workloads.register import Uniform
from stalewatch.workloads.options import LoadOptions
from stalewatch.workloads.register import RegisterSession

clock, never = RealClock(), gevent.event.Event()
recorder = recorder_of(clock, Path(sys.argv[1]))
client = HookedClient(MemoryOptions(), clock, lambda session, kind: never.wait())
sessions = [
    RegisterSession(f"s{n}", client, recorder, Uniform(["k"]), LoadOptions(write_ratio=1)) for n in range(6)
]
greenlets = [gevent.spawn(session.step) for session in sessions]
gevent.sleep(0)
gevent.killall(greenlets[:2])  # in the middle of their writes
recorder._lock.acquire()
gevent.killall(greenlets[2:4], block=False)
gevent.sleep(0)
gevent.killall(greenlets[2:4], block=False)  # again, while they wait to record that they were killed
gevent.sleep(0)
recorder._lock.release()
gevent.joinall(greenlets[:4])
recorder.finish()
gevent.killall(greenlets[4:])  # after the end
"""


def test_the_write_of_a_greenlet_that_is_killed_repeatedly_or_after_the_end_is_recorded_once(
    tmp_path: Path,
) -> None:
    pytest.importorskip("gevent")
    history = tmp_path / "h.jsonl"
    subprocess.run([sys.executable, "-c", GREENLETS, history], check=True, timeout=60)
    lines = [json.loads(line) for line in history.read_text().splitlines()]
    found = sorted((one["session"], one["outcome"], one["error"], one["end"] is None) for one in lines[1:-1])
    killed = [(f"s{number}", "unknown", "interrupted", False) for number in range(2)]
    assert found == killed + [(f"s{number}", "unknown", NEVER_ENDED, True) for number in range(2, 6)]
    assert lines[-1]["op"] == "close"
    assert judge_files([history]).verdict() == "unknown"


class FullDisk(io.FileIO):
    """A file on a disk with room for about sixty thousand bytes."""

    def write(self, data: "ReadableBuffer") -> int:
        if self.tell() > 60_000:
            raise OSError(28, "No space left on device")
        return super().write(data)


def test_a_history_on_a_full_disk_ends_early_and_causes_no_violation(tmp_path: Path) -> None:
    clock, path = RealClock(), tmp_path / "full.jsonl"
    history = HistoryWriter(path, Header(format=FORMAT, version=FORMAT_VERSION, clock_error_ns=0))
    history._file.close()
    history._file = FullDisk(path, "ab")
    recorder = Recorder(clock, Judge(), history)
    failures = 0
    for version in range(1, 2000):
        try:
            write = recorder.begin_write("a", "k")
            recorder.end_write(write, Answer())
            recorder.end_read("a", "k", clock.now(), Answer(version=version))
        except OSError:
            failures += 1
    findings, statistics = recorder.drain()
    recorder.finish()
    assert failures == 1
    assert not any(verdict.violated for verdict in findings.verdicts.values())
    assert statistics.outcomes["read"]["ok"] == statistics.outcomes["write"]["ok"] == 1999
    assert recorder.judged == 2 * 1999
    written = [(line["op"], line["version"]) for line in map(json.loads, path.read_text().splitlines()[1:])]
    assert 256 < len(written) < recorder.judged
    assert written == [(op, version) for version in range(1, 2000) for op in ("write", "read")][: len(written)]
