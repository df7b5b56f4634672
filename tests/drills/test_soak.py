"""Guarantees that must hold in each of twenty repeats; prints how often permitted anomalies occurred."""

from pathlib import Path

import pytest

from stalewatch.clusters.lab.clusters import MongoLab
from stalewatch.clusters.local.mongo import MongoCluster
from tests.conftest import leading
from tests.drills.conftest import BRIEF, Done, drill

pytestmark = [pytest.mark.server, pytest.mark.soak, pytest.mark.timeout(3600)]

REPEATS = 20


def repeated(fault: str, *options: str, cluster: MongoCluster, folder: Path) -> Done:
    again = ("--repeat", str(REPEATS))
    done = drill("mongo", fault, *BRIEF, *again, *options, home=cluster.home, folder=folder, timeout_s=3500)
    assert done.code == 0, done.err
    assert len(done.results) == REPEATS
    print(done.out.rpartition("median (least - most)")[2])
    return done


def violated(done: Done, guarantee: str) -> list[int]:
    return [result["guarantees"][guarantee]["violated"] for result in done.results]


@pytest.mark.parametrize("fault", ["kill-primary", "isolate-primary"])
def test_no_majority_write_is_ever_lost_and_no_id_repeats(lab: MongoLab, tmp_path: Path, fault: str) -> None:
    done = repeated(fault, "--write-concern", "majority", cluster=lab, folder=tmp_path)
    assert not any(violated(done, "lost_writes"))
    assert not any(violated(done, "unique_ids"))
    assert all(result["guarantees"]["lost_writes"]["checked"] > 100 for result in done.results)
    assert all(result["recovery"]["write"]["sustained_rto_s"] is not None for result in done.results)


def test_a_split_brain_loses_w1_writes_every_time(lab: MongoLab, tmp_path: Path) -> None:
    done = repeated("isolate-primary", "--write-concern", "1", cluster=lab, folder=tmp_path)
    assert all(violated(done, "lost_writes"))
    assert all(violated(done, "unique_ids"))


def test_causal_sessions_survive_a_split_brain_only_at_majority_levels(lab: MongoLab, tmp_path: Path) -> None:
    """At local and w=1, sessions read their own writes at the old primary, and then lose them in the rollback."""
    levels = ("--vary", "write-concern=1,majority", "--vary", "read-concern=local,majority")
    load = ("--workload", "register,causal", "--reread", "0.8", "--read-from", "nearest", "--read-strategy", "token")
    options = (*BRIEF, *load, *levels)
    done = drill("mongo", "isolate-primary", *options, home=lab.home, folder=tmp_path, timeout_s=900)
    assert done.code == 0, done.err
    weak, strong = (result["guarantees"] for result in done.results)
    for guarantee in ("read_your_writes", "monotonic_reads"):
        print(f"{guarantee}: {weak[guarantee]['violated']} of {weak[guarantee]['checked']} at local and w=1")
        assert weak[guarantee]["violated"] > 0
    for guarantee in ("read_your_writes", "monotonic_reads", "consistent_prefix"):
        assert strong[guarantee]["checked"] > 0
        assert strong[guarantee]["violated"] == 0


def test_a_resumed_primary_may_answer_local_reads_with_old_data(whole: MongoCluster, tmp_path: Path) -> None:
    levels = ("--write-concern", "majority", "--read-concern", "local")
    done = repeated("pause-primary", *levels, cluster=whole, folder=tmp_path)
    assert not any(violated(done, "lost_writes"))
    stale = violated(done, "stale_reads")
    print(f"stale reads in {sum(map(bool, stale))} of {REPEATS} repeats: {stale}")


def test_a_resumed_primary_never_answers_linearizable_reads_with_old_data(whole: MongoCluster, tmp_path: Path) -> None:
    levels = ("--write-concern", "majority", "--read-concern", "linearizable")
    done = repeated("pause-primary", *levels, cluster=whole, folder=tmp_path)
    for guarantee in ("stale_reads", "read_regressions", "monotonic_reads", "read_your_writes", "lost_writes"):
        assert not any(violated(done, guarantee)), guarantee


def test_a_resumed_member_that_is_read_directly_may_return_old_data(whole: MongoCluster, tmp_path: Path) -> None:
    """All reads go to the paused member; a driver that looks for the primary would have left it by then."""
    counts = []
    for number in range(REPEATS):
        whole.start(print)
        folder = tmp_path / str(number)
        folder.mkdir()
        primary = leading(whole)
        levels = ("--write-concern", "majority", "--read-concern", "local", "--read-from", primary)
        load = ("--workload", "register", "--keys", "20")
        done = drill("mongo", "pause-primary", *BRIEF, *levels, *load, home=whole.home, folder=folder)
        assert done.code == 0, done.err
        assert done.result["guarantees"]["lost_writes"]["violated"] == 0
        counts.append(done.result["guarantees"]["stale_reads"]["violated"])
    print(f"stale reads in {sum(map(bool, counts))} of {REPEATS} repeats: {counts}")
