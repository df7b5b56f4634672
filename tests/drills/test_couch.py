"""Drills on two real leaders: one dies and the other continues; the link breaks and conflicts appear."""

from pathlib import Path

import pytest

from stalewatch.clusters.local.couch import CouchCluster
from tests.drills.conftest import BRIEF, drill

pytestmark = pytest.mark.server


def test_the_other_leader_continues(leaders: CouchCluster, tmp_path: Path) -> None:
    leader_b = ("--write-to", "b", "--read-from", "b", "--rate", "200")
    done = drill("couch", "kill-leader", *BRIEF, *leader_b, home=leaders.home, folder=tmp_path)
    assert done.code == 0, done.err
    (fault,) = done.result["faults"]
    dead_s = fault["end_s"] - fault["start_s"]
    for kind in ("read", "write"):
        assert done.result["recovery"][kind]["rto_s"] < dead_s / 2
        assert done.result["operations"][kind]["fail"] == done.result["operations"][kind]["unknown"] == 0
    assert done.result["guarantees"]["lost_writes"]["verdict"] == "holds"
    assert done.result["converged_s"] is not None


def test_separated_leaders_have_conflicts_and_lose_nothing(leaders: CouchCluster, tmp_path: Path) -> None:
    both = ("--write-to", "both", "--read-from", "same", "--rate", "200")
    done = drill("couch", "link-down", *BRIEF, *both, home=leaders.home, folder=tmp_path)
    assert done.code == 0, done.err
    assert done.result["guarantees"]["conflicts"]["violated"] > 0
    assert done.result["guarantees"]["lost_writes"]["verdict"] == "holds"
    assert done.result["recovery"]["write"]["degraded_s"] == 0
    assert done.result["converged_s"] is not None
