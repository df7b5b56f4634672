"""Clusters that were never started, each in a folder and on ports of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from replication.lab.clusters import MongoLab
from replication.lab.network import Lab
from replication.local import home
from replication.local.mongo import MongoCluster
from replication.protocol import MissingProgram, NotAllowed


@pytest.fixture
def new_cluster(
    mongod_program: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    away_from_the_usual_ports: Callable[[MongoCluster], MongoCluster],
) -> Iterator[MongoCluster]:
    """A cluster that was never started, in the folder that commands of this test use too."""
    assert mongod_program
    monkeypatch.setenv(home.VARIABLE, str(tmp_path))
    cluster = away_from_the_usual_ports(MongoCluster())
    try:
        yield cluster
    finally:
        cluster.stop(print, wipe=True)


@pytest.fixture(scope="session")
def lab_rights(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Skip where this machine lets nobody make a network."""
    network = Lab(tmp_path_factory.mktemp("rights"), ["node"])
    try:
        network.prepare(print, lambda: None)
    except (NotAllowed, MissingProgram) as error:
        pytest.skip(str(error))
    finally:
        network.remove(print)
    return network


@pytest.fixture(scope="session")
def shared_lab(lab_rights: Lab, mongod_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoLab]:
    assert lab_rights
    assert mongod_program
    cluster = MongoLab(tmp_path_factory.mktemp("lab"))
    try:
        yield cluster
    finally:
        cluster.stop(print, wipe=True)


@pytest.fixture
def lab(shared_lab: MongoLab) -> MongoLab:
    """A replica set in a lab that is whole when the test begins, whatever the test before did to it."""
    shared_lab.start(print)
    return shared_lab
