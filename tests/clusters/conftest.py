"""A cluster that was never started, with its own folder and ports."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stalewatch.clusters.local import home
from stalewatch.clusters.local.mongo import MongoCluster


@pytest.fixture
def new_cluster(
    mongod_program: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    away_from_the_usual_ports: Callable[[MongoCluster], MongoCluster],
) -> Iterator[MongoCluster]:
    """A cluster that was never started, in the folder that this test's commands use too."""
    assert mongod_program
    monkeypatch.setenv(home.VARIABLE, str(tmp_path))
    cluster = away_from_the_usual_ports(MongoCluster())
    try:
        yield cluster
    finally:
        cluster.stop(print, wipe=True)
