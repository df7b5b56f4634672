"""Lists, counters and mixes against a store whose truth is known: what it lost is what is found, item by item."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from stalewatch.checkers.verdict import Findings
from stalewatch.clients.errors import BadAddress, ClientError
from stalewatch.clients.protocol import Answer
from stalewatch.commands.check import judge_files
from stalewatch.engine.runner import Run
from stalewatch.history.operation import Append, Draw, Final, Read, Write
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.options import MemoryOptions, Outage
from stalewatch.simulator.simulated_time import SimulatedClock
from stalewatch.workloads import kinds
from stalewatch.workloads.options import LoadOptions
from tests.workloads.running import Played, assert_share, play, recorder_of, simulated

LOAD = LoadOptions(users=5, operations=3000, keys=300, seed=5, workload="ledger,sequence")
FAILOVER = Outage(at_s=0.2, for_s=60, takeover_s=0.3, writes="loses")


def findings(played: Played) -> Findings:
    return played.recorder.judge.findings()


def appends(played: Played) -> list[Append]:
    return [one for one in played.given if isinstance(one, Append)]


def draws(played: Played) -> list[Draw]:
    return [one for one in played.given if isinstance(one, Draw)]


def test_every_item_is_appended_once_by_the_session_whose_name_it_bears() -> None:
    played = play(simulated(topology="linearizable"), replace(LOAD, workload="ledger"))
    items = [append.item for append in appends(played)]
    assert len(items) == len(set(items)) == LOAD.operations
    assert all(str(append.item).startswith(f"{append.session}-") for append in appends(played))
    assert {append.key for append in appends(played)} == {"r-w0-0.list", "r-w0-1.list", "r-w0-2.list"}


@pytest.mark.parametrize("topology", ["linearizable", "leader", "quorum", "multi-leader"])
def test_a_store_that_keeps_its_word_loses_no_item(topology: str) -> None:
    played = play(simulated(topology=topology, timeouts=0.1, refusals=0.1), replace(LOAD, workload="ledger"))
    verdict = findings(played).verdicts["lost_writes"]
    ok = [append for append in appends(played) if append.outcome == "ok"]
    assert (verdict.checked, verdict.violated) == (len(ok), 0)
    assert Counter(append.outcome for append in appends(played)).keys() == {"ok", "fail", "unknown"}
    assert (findings(played).duplicate_items, findings(played).phantom_items) == (0, 0)


def test_a_linearizable_store_gives_ids_that_rise_whatever_times_out() -> None:
    played = play(simulated(topology="linearizable", timeouts=0.1, refusals=0.1), replace(LOAD, workload="sequence"))
    verdict = findings(played).verdicts["unique_ids"]
    values = [(draw.key, draw.value) for draw in draws(played) if draw.outcome == "ok"]
    assert (verdict.checked, verdict.violated) == (len(values), 0)
    assert len(set(values)) == len(values)
    assert all(draw.value is None for draw in draws(played) if draw.outcome != "ok")
    assert not [one for one in played.given if isinstance(one, Final)]


@pytest.mark.parametrize("seed", range(5))
def test_a_failover_costs_just_the_items_that_the_store_lost_and_gives_ids_again(seed: int) -> None:
    client = simulated(outages=(FAILOVER,), lag_s=0.05, seed=seed)
    played = play(client, replace(LOAD, seed=seed, rate=2000))
    lost = {lost.item for lost in client.truth.lost() if lost.item is not None}
    found = played.recorder.found_at_the_end
    missing = [one.operations[0].item for one in found if isinstance(one.operations[0], Append)]
    assert len(missing) == len(lost) > 0
    assert set(missing) == lost
    ids = findings(played).verdicts["unique_ids"]
    values = Counter((draw.key, draw.value) for draw in draws(played) if draw.outcome == "ok")
    assert ids.causes["duplicate"] == sum(times - 1 for times in values.values()) > 0


@pytest.mark.parametrize("seed", range(5))
def test_a_failover_after_all_have_confirmed_costs_nothing(seed: int) -> None:
    client = simulated(outages=(FAILOVER,), write_acks="all", replicas=2, seed=seed)
    played = play(client, replace(LOAD, seed=seed, rate=1000))
    verdicts = findings(played).verdicts
    assert verdicts["lost_writes"].checked > 50
    assert verdicts["lost_writes"].violated == verdicts["unique_ids"].violated == 0


class Telling(MemoryClient):
    """A store that says other items in the end than it holds."""

    def final_items(self, key: str) -> Answer:
        answer = self.final(key)
        items = answer.items or []
        return Answer(items=[*items[1:], items[1], "s0-refused", "nobody's"], node=answer.node)


def test_what_stands_twice_and_what_nobody_appended_is_counted_beside_what_is_lost() -> None:
    client = Telling(MemoryOptions(topology="linearizable"), SimulatedClock())
    recorder = recorder_of(client.clock)
    refused = recorder.begin_append("s0", "r-w0-0.list", "s0-refused")
    recorder.end_write(refused, Answer("fail", error="why"))
    played = play(client, replace(LOAD, workload="ledger", keys=1, operations=50), recorder)
    found = findings(played)
    assert (found.verdicts["lost_writes"].violated, found.duplicate_items, found.phantom_items) == (1, 1, 2)


def test_a_mix_does_each_in_turn_and_reads_all_of_it_in_the_end() -> None:
    load = replace(LOAD, workload="register,ledger,sequence", write_ratio=1.0, rate=None, operations=6000)
    played = play(simulated(topology="linearizable"), load)
    counts = Counter(type(one) for one in played.given)
    for kind in (Write, Append, Draw):
        assert_share(counts[kind], 6000, 1 / 3)
    finals = {one.key: one for one in played.given if isinstance(one, Final)}
    assert {key for key, one in finals.items() if one.items is not None} == {
        f"r-w0-{number}.list" for number in range(3)
    }
    assert {key for key, one in finals.items() if one.items is None} == {write.key for write in played.writes}
    assert findings(played).verdict() == "valid"
    assert played.recorder.statistics.outcomes["write"]["ok"] == 6000


def test_a_session_of_a_mix_does_one_thing_at_a_time() -> None:
    played = play(simulated(topology="leader"), replace(LOAD, workload="register,ledger,sequence"))
    ended: dict[str, int] = {}
    for one in played.given:
        if isinstance(one, Read | Write | Append | Draw):
            assert one.start >= ended.get(one.session, 0)
            assert one.end is not None
            ended[one.session] = one.end
    assert len(ended) == LOAD.users


def test_the_same_seed_makes_the_same_mix() -> None:
    load = replace(LOAD, workload="register,ledger,sequence")
    assert play(simulated(), load).given == play(simulated(), load).given


@pytest.mark.parametrize("outages", [(), (FAILOVER,)])
def test_the_history_file_says_the_same(outages: tuple[Outage, ...], tmp_path: Path) -> None:
    client = simulated(outages=outages, lag_s=0.05, timeouts=0.05)
    recorder = recorder_of(client.clock, tmp_path / "h.jsonl")
    played = play(client, replace(LOAD, workload="register,ledger,sequence", rate=2000), recorder)
    live, read = findings(played), judge_files([tmp_path / "h.jsonl"]).findings()
    assert {name: (one.checked, one.violated, one.causes) for name, one in live.verdicts.items()} == {
        name: (one.checked, one.violated, one.causes) for name, one in read.verdicts.items()
    }
    assert (live.duplicate_items, live.phantom_items) == (read.duplicate_items, read.phantom_items)


def test_a_mix_whose_counters_cannot_be_created_leaves_no_key_behind() -> None:
    client = simulated()
    client.create_counters(["r-w0-1.counter"])
    run = Run(client, recorder_of(client.clock), replace(LOAD, workload="register,ledger,sequence"), "r")
    with pytest.raises(ClientError, match=r"r-w0-1\.counter"):
        run.preload()
    client.remove_counters(["r-w0-1.counter"])
    run.preload()
    run.clean()
    run.preload()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no workload ''"),
        ("register,", "no workload ''"),
        ("orders", "no workload 'orders'"),
        ("ledger,ledger", "twice"),
        ("conflict,ledger", "cannot be mixed"),
    ],
)
def test_workloads_that_are_none_are_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        kinds.names(text)


@pytest.mark.parametrize(
    ("workloads", "exact"),
    [("register", False), ("ledger", True), ("sequence", None), ("ledger,sequence", True), ("ledger,register", False)],
)
def test_lost_writes_are_exact_where_only_items_can_be_lost(workloads: str, *, exact: bool | None) -> None:
    assert kinds.exact(kinds.names(workloads)) is exact


@pytest.mark.parametrize("workload", ["ledger", "sequence"])
def test_a_database_without_lists_or_counters_is_refused(workload: str) -> None:
    class Plain:
        database = "plain"

    with pytest.raises(BadAddress, match="which plain does not"):
        kinds.make(workload, Plain(), recorder_of(SimulatedClock()), ["k"], LOAD)  # type: ignore[arg-type] # not even a client
