"""A ring in a network of its own: the side of a split that is smaller goes without the larger, and comes back."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stalewatch.clusters.lab.clusters import CassandraLab
from stalewatch.clusters.lab.network import Lab
from stalewatch.clusters.local import cql, jars, java
from stalewatch.clusters.local.cassandra import LOCK
from stalewatch.clusters.protocol import MissingProgram
from stalewatch.faults.kinds import FAULTS

pytestmark = [
    pytest.mark.server,
    pytest.mark.soak,
]  # a second ring takes a minute


@pytest.fixture
def apart(lab_rights: Lab, tmp_path: Path) -> Iterator[CassandraLab]:
    assert lab_rights
    try:
        java.find()
        jars.fetch(LOCK, print)
    except MissingProgram as error:
        pytest.skip(str(error))
    ring = CassandraLab(tmp_path)
    try:
        ring.start(print)
        yield ring
    finally:
        ring.stop(print, wipe=True)


def test_a_node_cut_from_the_ring_serves_alone_and_is_missed_by_the_others(
    apart: CassandraLab, eventually: Callable[..., None]
) -> None:
    first, *others = apart.nodes()
    eventually(lambda: cql.reaches_all(first))
    fault = FAULTS["isolate"].make(apart, [first], {})
    fault.begin()
    eventually(lambda: cql.serves(first))
    assert not cql.reaches_all(first)
    eventually(lambda: [node.role for node in apart.status()] == ["DN", "UN", "UN"])
    eventually(lambda: all(map(cql.serves, others)))
    fault.end()
    eventually(lambda: all(node.healthy for node in apart.status()))
    eventually(lambda: cql.reaches_all(first))
    assert {node.note.count("cut") for node in apart.status()} == {0}
