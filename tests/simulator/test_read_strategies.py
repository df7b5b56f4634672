"""Read strategies on simulated stores: what each keeps, what it does not, and what it costs."""

from collections import Counter
from dataclasses import replace

import pytest

from stalewatch.clients.protocol import Answer, ClientSession, Value
from stalewatch.clients.read_strategies import TOO_OLD, StickyKeys
from stalewatch.engine.result import run_result
from stalewatch.history.clock import Clock
from stalewatch.history.operation import Append, Draw, Write
from stalewatch.recording.recorder import Recorder
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.options import MemoryOptions, Outage
from stalewatch.simulator.simulated_time import SimulatedClock
from stalewatch.workloads.options import LoadOptions
from tests.engine.running import HookedClient, NotingJudge, Played, play, simulated
from tests.simulator.stores import opened

LOAD = LoadOptions(operations=1500, users=10, keys=20)

LAGGING = {
    "leader": {"topology": "leader", "read_from": "follower", "lag_s": 0.05},
    # W + R > N, or a majority may miss the write that one replica has acknowledged.
    "quorum": {"topology": "quorum", "write_acks": "majority", "lag_s": 0.05, "read_repair": False},
    # Every key has its own leader: concurrent edits at both would leave siblings, and the older may win.
    "multi-leader": {"topology": "multi-leader", "write_to": "home", "lag_s": 0.05},
}

KEPT = {
    "plain": set[str](),
    "sticky": {"read_your_writes"},
    "token": {"read_your_writes", "monotonic_reads"},
    "pinned": {"monotonic_reads"},
}
"""What each strategy promises."""


def played(strategy: str, **options: object) -> Played:
    return play(simulated(read_strategy=strategy, **options), LOAD)


def strategy_result(run: Played, strategy: str) -> dict[str, object]:
    made = run_result(
        run.run.run.drain(),
        database="memory",
        run="r",
        options={"read_strategy": strategy},
        duration_s=1,
        workload_results={"workloads": ["register"]},
        extra={},
    )
    return dict(made["read_strategy"])


@pytest.mark.parametrize("topology", LAGGING)
@pytest.mark.parametrize("strategy", KEPT)
def test_a_strategy_keeps_what_it_promises_and_no_more(topology: str, strategy: str) -> None:
    violated = Counter(played(strategy, **LAGGING[topology]).violated())
    broken = {name for name in ("read_your_writes", "monotonic_reads") if violated[name]}
    assert not broken & KEPT[strategy]
    if strategy != "sticky":  # sessions that write all the time read nowhere else
        assert violated["stale_reads"]
    if strategy in {"plain", "pinned"}:
        assert broken == {"read_your_writes", "monotonic_reads"} - KEPT[strategy]


def test_a_short_window_keeps_nothing_once_it_is_over() -> None:
    run = play(simulated(**LAGGING["leader"], read_strategy="sticky", sticky_seconds=0.005), replace(LOAD, reread=0.9))
    late = [
        read.start - own.end
        for own, read in (
            violation.operations for violation in run.recorder.judge.verdicts()["read_your_writes"].witnesses
        )
    ]
    assert late
    assert min(late) > 5_000_000


class SlowRecorder(Recorder):
    """Takes the end of a write 3 ms after the client has returned, as on a busy machine."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, NotingJudge())
        self.ages: dict[bool | None, list[int]] = {True: [], False: []}
        """By whether the read fell back, the time between the end of the session's last write and the read's start."""
        self.same_key = False
        self._ends: dict[tuple[str, str], int] = {}

    def _of(self, session: str, key: str) -> tuple[str, str]:
        return session, key if self.same_key else ""

    def end_write(self, write: Write | Append | Draw, answer: Answer) -> None:
        self.clock.sleep(0.003)
        super().end_write(write, answer)
        self._ends[self._of(write.session, write.key)] = write.end or 0

    def end_read(self, session: str, key: str, start: int, answer: Answer, due: int | None = None) -> None:
        super().end_read(session, key, start, answer, due)
        self.ages[answer.fell_back].append(start - self._ends.get(self._of(session, key), 0))


@pytest.mark.parametrize("topology", LAGGING)
def test_the_window_is_measured_by_recorded_times(topology: str) -> None:
    """At each end of the window, 3 ms pass between the time that the client sees and the one in the history."""
    options = MemoryOptions(**LAGGING[topology], read_strategy="sticky", sticky_seconds=0.02)  # type: ignore[arg-type]
    clock = SimulatedClock()
    recorder = SlowRecorder(clock)
    recorder.same_key = topology == "multi-leader"
    play(HookedClient(options, clock, lambda _, kind: clock.sleep(0.003 * (kind == "read"))), LOAD, recorder)
    assert max(recorder.ages[True]) < 20_000_000 <= min(recorder.ages[False])


def test_only_an_acknowledged_write_moves_a_sticky_key_to_another_leader() -> None:
    asked: list[str] = []

    def from_node(_key: str, node: str) -> Answer:
        asked.append(node)
        return Answer(version=1, node=node)

    reads = StickyKeys(lambda _key: Answer(version=0, node="b"), from_node, lambda: 0, 1)
    reads.wrote("k", 1, Answer(node="a"))
    for version, ended in enumerate([Answer("unknown", node="b", error="Timeout"), Answer("fail", node="b"), None], 2):
        reads.wrote("k", version, ended)
        reads.write_ended("k", 0)
        reads.read("k")
    reads.wrote("k", 5, Answer(node="b"))
    reads.read("k")
    assert asked == ["a", "a", "a", "b"]


def test_token_shows_a_sibling_that_the_session_has_seen_where_the_winner_is_older() -> None:
    options = {"topology": "multi-leader", "write_to": "any", "lag_s": 0.05}
    assert played("plain", **options).violated()["monotonic_reads"]
    run = played("token", **options)
    assert run.violated()["conflicts"]
    assert not {"read_your_writes", "monotonic_reads"} & run.violated().keys()


@pytest.mark.parametrize("strategy", ["sticky", "token", "pinned"])
def test_the_result_counts_each_read_once_and_keeps_latencies_apart(strategy: str) -> None:
    run = played(strategy, **LAGGING["leader"])
    found = strategy_result(run, strategy)
    ok = sum(read.outcome == "ok" for read in run.reads)
    assert found["reads"] == ok
    assert bool(found["fallbacks"]) == (strategy != "pinned")
    if strategy == "token":  # a read that is repeated takes as long as both attempts
        assert found["fallback_ms"]["avg"] > 1.5 * found["other_ms"]["avg"]  # type: ignore[index]


def test_plain_reads_have_no_fallbacks() -> None:
    found = strategy_result(played("plain", **LAGGING["leader"]), "plain")
    assert (found["strategy"], found["fallbacks"], found["reads"] > 0) == ("plain", 0, True)  # type: ignore[operator]


def lagging(strategy: str, lag_s: float = 1.0, **options: object) -> tuple[MemoryClient, ClientSession]:
    client = opened(MemoryOptions(read_from="m2", lag="constant", lag_s=lag_s, read_strategy=strategy, **options))  # type: ignore[arg-type]
    return client, client.session("s")


def seen(answer: Answer) -> tuple[int | None, str | None, bool | None]:
    return answer.version, answer.node, answer.fell_back


def test_sticky_reads_from_the_leader_until_the_time_is_over() -> None:
    client, session = lagging("sticky", lag_s=10, sticky_seconds=2)
    assert seen(session.read("k")) == (0, "m2", False)
    session.write("k", Value(1, "s"))
    assert seen(session.read("k")) == seen(session.read("k")) == (1, "m1", True)
    client.clock.sleep(2)
    assert seen(session.read("k")) == (0, "m2", False)


def test_token_asks_the_leader_only_for_what_a_follower_lacks() -> None:
    client, session = lagging("token")
    session.write("k", Value(1, "s"))
    assert seen(session.read("k")) == (1, "m1", True)
    assert seen(session.read("other")) == (0, "m2", False)
    client.clock.sleep(1)
    assert seen(session.read("k")) == (1, "m2", False)


def test_token_fails_rather_than_show_what_is_known_to_be_too_old() -> None:
    client, session = lagging("token", lag_s=10, topology="quorum", write_to="m1")
    session.write("k", Value(1, "s"))
    with client.store.lock:
        for node in (0, 2):
            client.store.take_down(node, client.clock.now())
    answer = session.read("k")
    assert (answer.outcome, answer.error, answer.fell_back) == ("fail", "Refused", True)


def test_token_waits_for_a_majority_that_lacks_a_write_under_way_and_fails_in_the_end() -> None:
    for lag_s, expected in ((0.5, ("ok", 1, None)), (10, ("fail", None, TOO_OLD))):
        _, session = lagging("token", lag_s=lag_s, topology="quorum", write_to="m1", read_repair=False)
        session.write("k", Value(1, "s"))
        answer = session.read("k")  # m2 and m3 are the majority
        assert (answer.outcome, answer.version, answer.error) == expected
        assert answer.fell_back


def test_pinned_moves_only_when_its_node_is_down_and_says_so_once() -> None:
    options = MemoryOptions(read_from="any", read_strategy="pinned")
    home = opened(options).session("s").read("k").node
    assert home is not None
    client = opened(replace(options, outages=(Outage(0.5, 1, home),)))
    session = client.session("s")
    assert {seen(session.read("k"))[1:] for _ in range(20)} == {(home, False)}
    client.clock.sleep(0.5)
    first, *later = (seen(session.read("k")) for _ in range(20))
    assert first[1] != home
    assert first[2]
    client.clock.sleep(1)  # its first node is back, and would show older versions again
    assert {one[1:] for one in (*later, seen(session.read("k")))} == {(first[1], False)}
