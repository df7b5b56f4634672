"""Lists, counters and mixes on a store with a known truth: exactly the items that it lost are found."""

import pkgutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from stalewatch.checkers.verdict import Findings
from stalewatch.clients.errors import BadAddress, ClientError
from stalewatch.clients.protocol import Answer
from stalewatch.commands.check import judge_files
from stalewatch.engine.database_run import DatabaseRun
from stalewatch.history.operation import Append, Draw, Final, Read, Write
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.options import MemoryOptions, Outage
from stalewatch.simulator.simulated_time import SimulatedClock
from stalewatch.workloads import WORKLOADS, WorkloadSpec, lost_writes_exact, workload_names
from stalewatch.workloads.mix import make_workload
from stalewatch.workloads.options import LoadOptions
from tests.engine.running import Played, assert_share, play, recorder_of, simulated

LOAD = LoadOptions(users=5, operations=3000, keys=300, seed=5, workload="ledger,sequence")
FAILOVER = Outage(at_s=0.2, for_s=60, takeover_s=0.3, writes="loses")


def findings(played: Played) -> Findings:
    return played.recorder.judge.findings()


def appends(played: Played) -> list[Append]:
    return [one for one in played.given if isinstance(one, Append)]


def draws(played: Played) -> list[Draw]:
    return [one for one in played.given if isinstance(one, Draw)]


def test_every_item_is_appended_once_by_the_session_it_is_named_after() -> None:
    played = play(simulated(topology="linearizable"), replace(LOAD, workload="ledger"))
    items = [append.item for append in appends(played)]
    assert len(items) == len(set(items)) == LOAD.operations
    assert all(str(append.item).startswith(f"{append.session}-") for append in appends(played))
    assert {append.key for append in appends(played)} == {"r-w0-0.list", "r-w0-1.list", "r-w0-2.list"}


@pytest.mark.parametrize("topology", ["linearizable", "leader", "quorum", "multi-leader"])
def test_timeouts_and_refusals_lose_no_acknowledged_item(topology: str) -> None:
    played = play(simulated(topology=topology, timeouts=0.1, refusals=0.1), replace(LOAD, workload="ledger"))
    verdict = findings(played).verdicts["lost_writes"]
    ok = [append for append in appends(played) if append.outcome == "ok"]
    assert (verdict.checked, verdict.violated) == (len(ok), 0)
    assert Counter(append.outcome for append in appends(played)).keys() == {"ok", "fail", "unknown"}
    assert (findings(played).duplicate_items, findings(played).phantom_items) == (0, 0)


def test_a_linearizable_store_draws_unique_ids_in_spite_of_timeouts() -> None:
    played = play(simulated(topology="linearizable", timeouts=0.1, refusals=0.1), replace(LOAD, workload="sequence"))
    verdict = findings(played).verdicts["unique_ids"]
    values = [(draw.key, draw.value) for draw in draws(played) if draw.outcome == "ok"]
    assert (verdict.checked, verdict.violated) == (len(values), 0)
    assert len(set(values)) == len(values)
    assert all(draw.value is None for draw in draws(played) if draw.outcome != "ok")
    assert not [one for one in played.given if isinstance(one, Final)]


@pytest.mark.parametrize("seed", range(5))
def test_a_failover_loses_exactly_the_items_in_the_truth_and_repeats_ids(seed: int) -> None:
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
def test_a_failover_loses_nothing_if_all_nodes_acknowledge_writes(seed: int) -> None:
    client = simulated(outages=(FAILOVER,), write_acks="all", replicas=2, seed=seed)
    played = play(client, replace(LOAD, seed=seed, rate=1000))
    verdicts = findings(played).verdicts
    assert verdicts["lost_writes"].checked > 50
    assert verdicts["lost_writes"].violated == verdicts["unique_ids"].violated == 0


class LyingClient(MemoryClient):
    """A store whose final reads return other items than it holds."""

    def final_items(self, key: str) -> Answer:
        answer = self.final(key)
        items = answer.items or []
        return Answer(items=[*items[1:], items[1], "s0-refused", "nobody's"], node=answer.node)


def test_duplicate_and_phantom_items_are_counted_separately_from_lost_ones() -> None:
    client = LyingClient(MemoryOptions(topology="linearizable"), SimulatedClock())
    recorder = recorder_of(client.clock)
    refused = recorder.begin_append("s0", "r-w0-0.list", "s0-refused")
    recorder.end_write(refused, Answer("fail", error="why"))
    played = play(client, replace(LOAD, workload="ledger", keys=1, operations=50), recorder)
    found = findings(played)
    assert (found.verdicts["lost_writes"].violated, found.duplicate_items, found.phantom_items) == (1, 1, 2)


def test_a_mix_chooses_workloads_equally_often_and_reads_all_keys_at_the_end() -> None:
    load = replace(LOAD, workload="register,ledger,sequence", write_ratio=1.0, rate=None, operations=6000)
    played = play(simulated(topology="linearizable"), load)
    counts = Counter(type(one) for one in played.given)
    for cls in (Write, Append, Draw):
        assert_share(counts[cls], 6000, 1 / 3)
    finals = {one.key: one for one in played.given if isinstance(one, Final)}
    assert {key for key, one in finals.items() if one.items is not None} == {
        f"r-w0-{number}.list" for number in range(3)
    }
    assert {key for key, one in finals.items() if one.items is None} == {write.key for write in played.writes}
    assert findings(played).verdict() == "valid"
    assert played.recorder.statistics.outcomes["write"]["ok"] == 6000


def test_a_mixed_session_performs_one_operation_at_a_time() -> None:
    played = play(simulated(topology="leader"), replace(LOAD, workload="register,ledger,sequence"))
    ended: dict[str, int] = {}
    for one in played.given:
        if isinstance(one, Read | Write | Append | Draw):
            assert one.start >= ended.get(one.session, 0)
            assert one.end is not None
            ended[one.session] = one.end
    assert len(ended) == LOAD.users


def test_the_same_seed_gives_the_same_mix() -> None:
    load = replace(LOAD, workload="register,ledger,sequence")
    assert play(simulated(), load).given == play(simulated(), load).given


@pytest.mark.parametrize("outages", [(), (FAILOVER,)])
def test_the_history_file_gives_the_same_verdicts(outages: tuple[Outage, ...], tmp_path: Path) -> None:
    client = simulated(outages=outages, lag_s=0.05, timeouts=0.05)
    recorder = recorder_of(client.clock, tmp_path / "h.jsonl")
    played = play(client, replace(LOAD, workload="register,ledger,sequence", rate=2000), recorder)
    live, read = findings(played), judge_files([tmp_path / "h.jsonl"]).findings()
    assert {name: (one.checked, one.violated, one.causes) for name, one in live.verdicts.items()} == {
        name: (one.checked, one.violated, one.causes) for name, one in read.verdicts.items()
    }
    assert (live.duplicate_items, live.phantom_items) == (read.duplicate_items, read.phantom_items)


def test_a_mix_that_cannot_create_its_counters_leaves_no_keys_behind() -> None:
    client = simulated()
    client.create_counters(["r-w0-1.counter"])
    run = DatabaseRun(client, recorder_of(client.clock), replace(LOAD, workload="register,ledger,sequence"), "r")
    with pytest.raises(ClientError, match=r"r-w0-1\.counter"):
        run.create_keys()
    client.remove_counters(["r-w0-1.counter"])
    run.create_keys()
    run.remove_keys()
    run.create_keys()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "unknown workload ''"),
        ("register,", "unknown workload ''"),
        ("orders", "unknown workload 'orders'"),
        ("ledger,ledger", "twice"),
        ("conflict,ledger", "cannot be mixed"),
    ],
)
def test_bad_workload_names_are_rejected(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        workload_names(text)


@pytest.mark.parametrize(
    ("workloads", "exact"),
    [("register", False), ("ledger", True), ("sequence", None), ("ledger,sequence", True), ("ledger,register", False)],
)
def test_lost_writes_are_exact_if_only_items_can_be_lost(workloads: str, *, exact: bool | None) -> None:
    assert lost_writes_exact(workload_names(workloads)) is exact


@pytest.mark.parametrize("spec", WORKLOADS.values(), ids=WORKLOADS)
def test_every_workload_in_the_table_can_be_imported(spec: WorkloadSpec) -> None:
    assert isinstance(pkgutil.resolve_name(spec.workload), type)


@pytest.mark.parametrize("workload", ["ledger", "sequence", "conflict"])
def test_a_database_without_the_required_capability_is_rejected(workload: str) -> None:
    class Plain:
        database = "plain"

    with pytest.raises(BadAddress, match="plain has none"):
        make_workload(workload, Plain(), recorder_of(SimulatedClock()), ["k"], LOAD)  # type: ignore[arg-type] # not even a client
