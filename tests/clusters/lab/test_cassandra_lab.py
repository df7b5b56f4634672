"""A ring in a lab: the smaller side of a partition serves alone, and rejoins."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stalewatch.clusters.lab.clusters import CassandraLab
from stalewatch.clusters.lab.network import Lab
from stalewatch.clusters.local import java
from stalewatch.clusters.local.cassandra import LOCK
from stalewatch.clusters.local.cassandra_members import reaches_all, serves
from stalewatch.clusters.protocol import MissingProgram
from stalewatch.faults.catalogue import FAULTS

pytestmark = [
    pytest.mark.server,
    pytest.mark.soak,
]  # starting a second ring takes a minute


@pytest.fixture
def apart(lab_rights: Lab, tmp_path: Path) -> Iterator[CassandraLab]:
    assert lab_rights
    try:
        java.find()
        java.fetch_jars(LOCK, print)
    except MissingProgram as error:
        pytest.skip(str(error))
    ring = CassandraLab(tmp_path)
    try:
        ring.start(print)
        yield ring
    finally:
        ring.stop(print, wipe=True)


def test_a_node_cut_from_the_ring_serves_alone_and_is_seen_down(
    apart: CassandraLab, eventually: Callable[..., None]
) -> None:
    first, *others = apart.nodes()
    eventually(lambda: reaches_all(first))
    fault = FAULTS["isolate"].make(apart, [first], {})
    fault.begin()
    eventually(lambda: serves(first))
    assert not reaches_all(first)
    eventually(lambda: [node.role for node in apart.status()] == ["DN", "UN", "UN"])
    eventually(lambda: all(map(serves, others)))
    fault.end()
    eventually(lambda: all(node.healthy for node in apart.status()))
    eventually(lambda: reaches_all(first))
    assert {node.note.count("cut") for node in apart.status()} == {0}
