"""The causal workload on stores with a known truth, and on a real replica set with a member that stands still."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymongo
import pytest

from stalewatch.checkers.verdict import GuaranteeVerdict
from stalewatch.clients.cassandra.client import CassandraDatabaseClient
from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clients.errors import BadAddress
from stalewatch.clusters.local.mongo import MongoCluster
from stalewatch.history.clock import RealClock
from stalewatch.history.operation import Depends, Final, Read, Write
from stalewatch.workloads.mix import make_workload
from stalewatch.workloads.options import LoadOptions
from tests.checkers import oracle
from tests.commands.benching import ROOT, TIMEOUT_S, result_of
from tests.conftest import leading
from tests.engine.running import Played, play, recorder_of, simulated

LOAD = LoadOptions(users=10, operations=5000, keys=200, seed=3, workload="causal")
LAGGING = {"topology": "leader", "read_from": "follower", "remember": True, "seed": 3}
CAUSES = {"monotonic_writes", "writes_follow_reads"}


def prefix_of(played: Played) -> GuaranteeVerdict:
    return played.recorder.judge.verdicts()["consistent_prefix"]


def load(**options: Any) -> LoadOptions:
    return LoadOptions(**{**vars(LOAD), **options})


@pytest.mark.parametrize(
    "options", [{"read_from": "leader"}, {"topology": "linearizable"}, {"topology": "quorum", "read_acks": 3}]
)
def test_stores_that_show_the_newest_version_show_no_effect_without_its_cause(options: dict[str, Any]) -> None:
    played = play(simulated(**options, timeouts=0.02, refusals=0.02, timeout_s=0.05), LOAD)
    assert played.violated() == {}
    assert prefix_of(played).checked > 1000
    assert {read.depends.cause for read in played.reads if read.depends} == CAUSES
    assert len(played.loaded) == LOAD.operations


@pytest.mark.parametrize("seed", range(2))
def test_a_follower_without_the_cause_is_one_according_to_the_truth(seed: int) -> None:
    client = simulated(**{**LAGGING, "seed": seed})
    played = play(client, load(seed=seed))
    verdict = prefix_of(played)
    assert verdict.violated > 10
    assert set(verdict.causes) == CAUSES
    effects: dict[str, dict[str, int]] = {}
    violated = 0
    for read in played.reads:  # a session's reads come in its own order
        required, applied = effects.setdefault(read.session, {}), read.depends
        if required.get(read.key, 0) > (read.version or 0):
            violated += 1
            arrived = client.truth.applied(read.key, required[read.key])
            assert arrived[str(read.node)] > read.start
            assert min(arrived.values()) <= read.start  # some node had it, or nobody could have seen its effect
        if applied is not None:
            required[applied.key] = max(required.get(applied.key, 0), applied.version)
    assert violated == verdict.violated


@pytest.mark.parametrize("topology", ["leader", "quorum", "multi-leader"])
def test_a_value_depends_only_on_what_its_author_knew(topology: str) -> None:
    client = simulated(topology=topology, timeouts=0.1, refusals=0.05, timeout_s=0.02, seed=1)
    played = play(client, load(write_ratio=0.5))
    known: dict[tuple[str, str], dict[int, str]] = {}
    causes = []
    for one in sorted(played.loaded, key=lambda one: one.start):  # a session performs one operation at a time
        if isinstance(one, Write) and one.depends is not None:
            assert known[one.session, one.depends.key][one.depends.version] == one.depends.cause
            causes.append(one.depends.cause)
        if one.outcome == "ok" and one.version and one.key.endswith(".post"):
            cause = "monotonic_writes" if isinstance(one, Write) else "writes_follow_reads"
            known.setdefault((one.session, one.key), {}).setdefault(one.version, cause)
    assert set(causes) == CAUSES
    assert any(one.outcome == "unknown" for one in played.writes)
    stored = {(one.key, one.version): one.depends for one in played.writes}
    assert all(read.depends == stored[read.key, read.version] for read in played.reads if read.version)


def test_each_of_two_steps_writes_with_the_probability_asked_for() -> None:
    played = play(simulated(topology="linearizable"), load(write_ratio=0.4))
    assert abs(len(played.writes) / len(played.loaded) - 0.4) < 0.04
    only_writes = play(simulated(topology="linearizable"), load(write_ratio=1.0, operations=500))
    assert {write.key.rpartition(".")[2] for write in only_writes.loaded} == {"post", "followup"}
    only_reads = play(simulated(topology="linearizable"), load(write_ratio=0.0, operations=500))
    assert {one.version for one in only_reads.reads} == {0}


@pytest.mark.parametrize(
    "options",
    [
        {"topology": "leader", "read_from": "follower"},
        {"topology": "leader", "read_from": "any", "timeouts": 0.05, "timeout_s": 0.02},
        {"topology": "quorum", "lag_s": 0.03},
        {"topology": "multi-leader", "write_to": "home"},
        {"topology": "leader", "read_from": "follower", "co_locate": True},
    ],
)
def test_the_oracle_agrees(options: dict[str, Any]) -> None:
    store = {name: value for name, value in options.items() if name != "co_locate"}
    co_locate = len(store) < len(options)
    played = play(simulated(**store), load(operations=600, keys=10, co_locate=co_locate))
    results = oracle.judge([oracle.File(tuple(played.given))])
    for name, verdict in played.recorder.judge.verdicts().items():
        assert (name, verdict.checked, verdict.violated) == (name, results[name].checked, results[name].violated)
    assert dict(prefix_of(played).causes) == dict(results["consistent_prefix"].causes)
    assert prefix_of(played).checked
    assert bool(prefix_of(played).violated) is not co_locate


def test_one_document_has_the_cause_with_the_effect_and_is_as_stale_as_ever() -> None:
    apart, together = (play(simulated(**LAGGING), load(co_locate=co_locate)) for co_locate in (False, True))
    assert prefix_of(apart).violated > 10
    assert (prefix_of(together).violated, prefix_of(together).verdict) == (0, "holds")
    assert prefix_of(together).checked > 500
    stale = [played.recorder.judge.verdicts()["stale_reads"].rate or 0 for played in (apart, together)]
    assert stale[1] > stale[0] / 2
    finals = [one.key.partition("#")[2] for one in together.given if isinstance(one, Final)]
    assert set(finals) == {"post", "followup", "comment"}
    together.run.run.remove_keys()
    assert not together.client.store.logs


def test_where_no_order_is_promised_there_is_nothing_to_co_locate() -> None:
    with pytest.raises(BadAddress, match="--topology quorum no order of writes is promised"):
        play(simulated(topology="quorum"), load(co_locate=True))
    cassandra = CassandraDatabaseClient(CassandraClientOptions(), RealClock())
    with pytest.raises(BadAddress, match="--co-locate: cassandra"):
        make_workload("causal", cassandra, recorder_of(RealClock()), ["k"], load(co_locate=True))
    with pytest.raises(BadAddress, match="--co-locate needs --workload causal"):
        LoadOptions(co_locate=True).resolved()


def test_users_who_choose_their_operations_visit_threads_too() -> None:
    client = simulated(topology="linearizable")
    recorder = recorder_of(client.clock)
    workload = make_workload("causal", client, recorder, ["a", "b"], LOAD)
    workload.preload()
    perform = workload.session("alice").operations()
    perform["write"]("a.post", None)
    perform["write"](None, None)
    perform["read"]("a.followup", None)
    perform["read"](None, None)
    other = workload.session("bob").operations()
    other["read"]("a.post", None)
    other["write"](None, None)
    recorder.settle()
    given = [one for one in recorder.judge.given if isinstance(one, Read | Write)]  # type: ignore[attr-defined] # it notes
    assert [(one.session, type(one), one.key) for one in given] == [
        ("alice", Write, "a.post"),
        ("alice", Write, "a.followup"),
        ("alice", Read, "a.followup"),
        ("alice", Read, "a.post"),
        ("bob", Read, "a.post"),
        ("bob", Write, "a.comment"),
    ]
    assert given[1].depends == given[2].depends == Depends(key="a.post", version=1, cause="monotonic_writes")
    assert given[5].depends == Depends(key="a.post", version=1, cause="writes_follow_reads")


def test_a_mix_keeps_its_threads_and_its_registers_apart() -> None:
    played = play(simulated(**LAGGING), load(workload="register,causal,ledger"))
    verdicts = played.recorder.judge.verdicts()
    assert all(verdicts[name].checked for name in ("consistent_prefix", "lost_writes", "unexpected_items"))
    assert verdicts["consistent_prefix"].violated
    assert verdicts["phantom_reads"].violated == 0


@pytest.mark.server
@pytest.mark.parametrize("co_locate", ["off", "on"])
def test_secondaries_of_which_one_stands_still(
    whole: MongoCluster, tmp_path: Path, eventually: Callable[..., None], co_locate: str
) -> None:
    """Lock one of two secondaries: it serves reads and applies nothing."""
    report, history = tmp_path / "result.json", tmp_path / "history.jsonl"
    # Reads go to any secondary, however slow this machine makes one of them seem.
    uri = f"{whole.uri()}&localThresholdMS=60000"
    levels = ("--workload", "causal", "--co-locate", co_locate, "--write-concern", "1", "--read-from", "secondary")
    command = [sys.executable, "bench.py", "mongo", "--mongo-uri", uri, *levels, "--ops", "4000", "--keys", "40"]
    still = next(node for node in whole.nodes() if node != leading(whole))
    with pymongo.MongoClient(f"mongodb://{still}/", directConnection=True) as member:
        running = subprocess.Popen(
            [*command, "--json", report, "--history", history], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        try:
            eventually(lambda: history.exists() and history.stat().st_size > 5000)
            member.admin.command("fsync", lock=True)
            out, _ = running.communicate(timeout=TIMEOUT_S)
        finally:
            member.admin.command("fsyncUnlock")
            running.kill()
            running.wait()
    assert running.returncode == 0
    result = result_of(subprocess.CompletedProcess(command, 0, out, ""), report)
    row = result["guarantees"]["consistent_prefix"]
    assert result["guarantees"]["stale_reads"]["violated"] > 20
    assert row["checked"] > 50
    assert bool(row["violated"]) is (co_locate == "off")
