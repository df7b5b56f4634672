"""Leaders in a lab: writes on both sides of a partition reach the other side after it ends."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from stalewatch.clusters.lab.clusters import CouchLab
from stalewatch.clusters.lab.network import Lab
from stalewatch.clusters.local.couch import DATABASE
from stalewatch.clusters.local.couch_leaders import url
from stalewatch.clusters.protocol import NotReady
from stalewatch.faults.catalogue import FAULTS

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


def test_leaders_cut_from_each_other_both_serve_and_then_converge(
    apart: CouchLab, eventually: Callable[..., None]
) -> None:
    first, second = apart.nodes()
    assert first.startswith("198.1")
    fault = FAULTS["isolate"].make(apart, [second], {})
    fault.begin()
    assert [node.healthy for node in apart.status()] == [True, True]
    for address in (first, second):
        requests.put(url(address, f"{DATABASE}/{address}"), json={}, timeout=5).raise_for_status()
    with pytest.raises(NotReady, match="did not arrive at"):
        apart.prove(1.0)
    fault.end()
    for here, there in ((first, second), (second, first)):
        eventually(lambda here=here, there=there: requests.get(url(here, f"{DATABASE}/{there}"), timeout=5).ok)
