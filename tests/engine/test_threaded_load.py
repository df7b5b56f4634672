"""A load of threaded sessions: when it ends, its warm-up, its final reads, interruptions, progress and statistics."""

import re
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from stalewatch.clients.errors import ClientError
from stalewatch.clients.protocol import Answer, PausedReplication
from stalewatch.engine.database_run import DatabaseRun
from stalewatch.engine.final_reads import RECOVERY_S
from stalewatch.engine.threads import Progress
from stalewatch.history.operation import Final, Read, Write
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.options import MemoryOptions, Outage
from stalewatch.simulator.simulated_time import EPOCH_NS, SimulatedClock
from stalewatch.workloads.options import LoadOptions
from tests.engine.running import HookedClient, Played, given_to, play, recorder_of, simulated, threaded

FAILURES = {"refusals": 0.3, "timeouts": 0.1, "timeout_s": 0.02}


def counted(run: Played) -> int:
    return sum(outcomes.total() for outcomes in run.recorder.statistics.outcomes.values())


@pytest.mark.parametrize("users", [1, 7, 40])
def test_failed_attempts_count_towards_the_number_of_operations(users: int) -> None:
    run = play(simulated(**FAILURES), LoadOptions(users=users, operations=1001))
    assert len(run.loaded) == counted(run) == 1001
    assert sum(one.outcome == "fail" for one in run.loaded) > 100
    assert sum(one.outcome == "unknown" for one in run.loaded) > 50


def test_a_run_with_a_duration_ends_after_it() -> None:
    run = play(simulated(), LoadOptions(users=5, operations=None, duration_s=2))
    assert run.run.duration_s == pytest.approx(2, abs=0.05)
    assert all(one.start < EPOCH_NS + 2 * 10**9 for one in run.loaded)
    assert 5000 < len(run.loaded) < 15_000


def test_a_run_ends_at_its_duration_or_operations_whichever_comes_first() -> None:
    assert play(simulated(), LoadOptions(operations=100, duration_s=60)).run.duration_s < 1
    assert counted(play(simulated(), LoadOptions(operations=10**6, duration_s=0.1))) < 10_000


@pytest.mark.parametrize("rate", [None, 500.0])
def test_warm_up_operations_are_judged_and_recorded_but_not_counted(rate: float | None, tmp_path: Path) -> None:
    client, history = simulated(read_from="follower", lag_s=0.05), tmp_path / "h.jsonl"
    load = LoadOptions(users=5, operations=500, keys=5, warmup_s=1, rate=rate)
    run = play(client, load, recorder_of(client.clock, history))
    early = [one for one in run.loaded if one.start < EPOCH_NS + 10**9]
    assert len(run.loaded) - len(early) == counted(run) == 500
    assert len(early) > 400
    stale = run.recorder.judge.verdicts()["stale_reads"]
    assert min(violation.operations[-1].start for violation in stale.witnesses) < EPOCH_NS + 10**9
    assert stale.checked > run.recorder.statistics.outcomes["read"]["ok"]
    assert len(history.read_bytes().splitlines()) == len(run.given) + 2


def test_the_duration_starts_after_the_warm_up() -> None:
    run = play(simulated(), LoadOptions(users=5, operations=None, duration_s=0.5, warmup_s=1))
    assert run.run.duration_s == pytest.approx(0.5, abs=0.05)
    assert run.run.ended_early is None
    assert max(one.start for one in run.loaded) >= EPOCH_NS + 1.4e9


def test_the_final_reads_cover_exactly_the_keys_with_an_acknowledged_write() -> None:
    run = play(simulated(refusals=0.5), LoadOptions(operations=300, keys=1000))
    finals = [one for one in run.given if isinstance(one, Final)]
    acknowledged = {write.key for write in run.writes if write.outcome == "ok"}
    assert sorted(final.key for final in finals) == sorted(acknowledged)
    assert {final.outcome for final in finals} == {"ok"}
    assert min(final.start for final in finals) >= max(one.end or 0 for one in run.loaded)


def test_a_run_without_an_acknowledged_write_has_no_final_reads() -> None:
    assert not [one for one in play(simulated(), LoadOptions(operations=50, write_ratio=0)).given if type(one) is Final]


class Recovering(MemoryClient):
    """A store whose final reads fail until it is ready."""

    def __init__(self, ready_s: float) -> None:
        super().__init__(MemoryOptions(), SimulatedClock())
        self._ready_ns = EPOCH_NS + ready_s * 1e9

    def final(self, key: str) -> Answer:
        if self.clock.now() < self._ready_ns:
            raise ConnectionError("still starting")
        return super().final(key)


def test_final_reads_are_retried_until_the_store_has_recovered() -> None:
    run = play(Recovering(ready_s=12), LoadOptions(operations=200))
    assert {one.outcome for one in run.given if isinstance(one, Final)} == {"ok"}
    assert run.recorder.judge.verdicts()["lost_writes"].verdict == "holds"


def test_keys_whose_final_read_fails_are_not_checked() -> None:
    run = play(Recovering(ready_s=10 * RECOVERY_S), LoadOptions(operations=200))
    assert {(one.outcome, one.error) for one in run.given if isinstance(one, Final)} == {("unknown", "ConnectionError")}
    assert run.recorder.judge.verdicts()["lost_writes"].verdict == "no_evidence"


class Replicating(Recovering):
    """A store that is ready when its replication goes on, which it announces; never if `retry_s` is None."""

    def __init__(self, retry_s: float | None) -> None:
        super().__init__(ready_s=10 * RECOVERY_S if retry_s is None else retry_s + 5)
        self._announced_s = retry_s

    def paused_replication(self) -> PausedReplication | None:
        if self._announced_s is None:
            return PausedReplication("a to b: failed", None)
        left_s = self._announced_s - (self.clock.now() - EPOCH_NS) / 1e9
        return PausedReplication("a to b: crashing", left_s) if left_s > 0 else None


def test_final_reads_wait_as_long_as_the_servers_say() -> None:
    client, shown = Replicating(retry_s=3 * RECOVERY_S), list[Progress]()
    run = threaded(client, recorder := recorder_of(client.clock), LoadOptions(operations=200))
    client.prepare()
    run.run.create_keys()
    run.perform(lambda _: None)
    run.final_reads(shown.append)
    recorder.finish()
    assert run.run.unread == 0
    waiting = {(one.phase, one.unit) for one in shown if "replication" in one.phase}
    assert waiting <= {("final reads: waiting for replication", "s")}


def test_final_reads_do_not_wait_for_replication_that_was_given_up() -> None:
    client = Replicating(retry_s=None)
    run = play(client, LoadOptions(operations=200))
    assert {one.outcome for one in run.given if isinstance(one, Final)} == {"unknown"}
    assert (client.clock.now() - EPOCH_NS) / 1e9 < RECOVERY_S / 2
    assert run.run.run.unread_error == "ConnectionError; a to b: failed"


def test_final_reads_find_the_writes_that_a_failover_lost() -> None:
    losing = (Outage(at_s=1, for_s=2, takeover_s=0.5, writes="loses"),)
    client = simulated(lag_s=0.2, outages=losing)
    run = play(client, LoadOptions(users=10, operations=None, duration_s=3, rate=500, keys=2000))
    held = {one.key: one.version or 0 for one in run.given if isinstance(one, Final)}
    lost = [write for write in client.truth.lost() if write.version > held[write.key]]  # no newer write covers it
    assert run.violated()["lost_writes"] == len(lost) > 10


def test_an_interrupted_run_finishes_its_operations_and_skips_the_final_reads(tmp_path: Path) -> None:
    calls = threading.Semaphore(200)
    client = HookedClient(
        MemoryOptions(), SimulatedClock(), lambda *_: None if calls.acquire(blocking=False) else run.interrupt()
    )
    recorder = recorder_of(client.clock, tmp_path / "h.jsonl")
    run = threaded(client, recorder, LoadOptions(users=5, operations=10**9))
    run.run.create_keys()
    run.perform(lambda _state: None)
    recorder.finish()
    assert run.interrupted
    assert re.fullmatch(r"interrupted after 20\d of 1000000000 operations", run.ended_early or "")
    assert 200 < len(given_to(recorder)) <= 206
    assert all(isinstance(one, Read | Write) and one.end is not None for one in given_to(recorder))


def test_interrupted_final_reads_end_early() -> None:
    client = Recovering(ready_s=10**6)
    recorder = recorder_of(client.clock)
    run = threaded(client, recorder, LoadOptions(operations=200, keys=100))
    run.run.create_keys()
    run.perform(lambda _state: None)
    run.interrupted = True
    assert run.ended_early is None  # the load had done all its operations
    run.final_reads(lambda _state: None)
    assert not [one for one in given_to(recorder) if isinstance(one, Final)]


def test_keys_name_the_run_and_the_worker_and_can_be_removed() -> None:
    client = simulated()
    run = DatabaseRun(client, recorder_of(client.clock), LoadOptions(keys=3), "run7", worker=2)
    assert run.keys == ["run7-w2-0", "run7-w2-1", "run7-w2-2"]
    run.create_keys()
    with pytest.raises(ClientError, match="exists already"):
        run.create_keys()
    run.remove_keys()
    run.create_keys()


@pytest.mark.parametrize(
    ("load", "last"),
    [
        (LoadOptions(operations=300), Progress("load", 300, 300, "operations")),
        (LoadOptions(operations=None, duration_s=2, rate=100), Progress("load", 2, 2, "s")),
    ],
)
def test_progress_ends_at_its_total(load: LoadOptions, last: Progress) -> None:
    client = simulated()
    run, states = threaded(client, recorder_of(client.clock), load), list[Progress]()
    run.perform(states.append)
    assert states[-1] == last
    run.final_reads(states.append)
    assert states[-1].phase == "final reads"
    assert states[-1].done == states[-1].total > 0


def test_the_warm_up_is_a_separate_phase() -> None:
    client, seen = simulated(), list[Progress]()
    hooked = HookedClient(client.options, client.clock, lambda *_: seen.append(run.progress()))
    run = threaded(hooked, recorder_of(client.clock), LoadOptions(users=2, operations=500, warmup_s=1))
    run.perform(seen.append)
    phases = list(dict.fromkeys((state.phase, state.total, state.unit) for state in seen))
    assert phases == [("warm-up", 1, "s"), ("load", 500, "operations")]
    assert all(0 <= state.done <= state.total for state in seen)


def test_subscribers_receive_every_operation_and_its_violations() -> None:
    client = simulated(read_from="follower", lag_s=0.05)
    recorder, heard = recorder_of(client.clock), list[object]()
    violated = 0

    class Listener:
        def on_operation(self, operation: object, violations: Sequence[object]) -> None:
            nonlocal violated
            heard.append(operation)
            violated += len(violations)

        def on_end(self, violations: Sequence[object]) -> None:
            nonlocal violated
            violated += len(violations)

    recorder.subscribe(Listener())
    run = play(client, LoadOptions(operations=1000, keys=10), recorder)
    assert heard == run.given
    assert violated == sum(run.violated().values()) > 0


def test_the_timeline_adds_up_to_the_totals() -> None:
    run = play(
        simulated(read_from="follower", lag_s=0.05, **FAILURES),
        LoadOptions(operations=None, duration_s=3, rate=300, keys=20),
    )
    statistics, timeline = run.recorder.statistics, run.recorder.statistics.timeline()
    assert [second["second"] for second in timeline] == list(range(len(timeline)))
    for kind, outcomes in statistics.outcomes.items():
        for outcome, number in outcomes.items():
            assert sum(second.get(f"{kind}_{outcome}", 0) for second in timeline) == number
    assert sum(second.get("stale_reads", 0) for second in timeline) == run.violated()["stale_reads"] > 0


def test_errors_are_counted_by_kind_outcome_and_name() -> None:
    statistics = play(simulated(**FAILURES), LoadOptions(operations=1000)).recorder.statistics
    rows = {(row["operation"], row["outcome"], row["error"]): row["count"] for row in statistics.error_rows()}
    assert set(rows) == {
        (kind, *what) for kind in ("read", "write") for what in (("fail", "Refused"), ("unknown", "Timeout"))
    }
    assert sum(rows.values()) == 1000 - sum(outcomes["ok"] for outcomes in statistics.outcomes.values())  # type: ignore[arg-type] # counts
