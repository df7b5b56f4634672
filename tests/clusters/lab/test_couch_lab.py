"""Leaders in a network of their own: what is written on one side of a split comes to the other when it has ended."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from stalewatch.clusters.lab.clusters import CouchLab
from stalewatch.clusters.lab.network import Lab
from stalewatch.clusters.local.couch import DATABASE
from stalewatch.clusters.local.leaders import url
from stalewatch.clusters.protocol import NotReady
from stalewatch.faults.kinds import FAULTS

pytestmark = pytest.mark.server


@pytest.fixture
def apart(lab_rights: Lab, pouch: tuple[Path, Path], tmp_path: Path) -> Iterator[CouchLab]:
    assert lab_rights
    assert pouch
    cluster = CouchLab(tmp_path)
    try:
        cluster.start(print)
        yield cluster
    finally:
        cluster.stop(print, wipe=True)


def test_leaders_that_are_cut_from_each_other_both_serve_and_come_together(
    apart: CouchLab, eventually: Callable[..., None]
) -> None:
    first, second = apart.nodes()
    assert first.startswith("198.1")
    fault = FAULTS["isolate"].make(apart, [second], {})
    fault.begin()
    assert [node.healthy for node in apart.status()] == [True, True]
    for address in (first, second):
        requests.put(url(address, f"{DATABASE}/{address}"), json={}, timeout=5).raise_for_status()
    with pytest.raises(NotReady, match="does not arrive at"):
        apart.prove(1.0)
    fault.end()
    for here, there in ((first, second), (second, first)):
        eventually(lambda here=here, there=there: requests.get(url(here, f"{DATABASE}/{there}"), timeout=5).ok)
