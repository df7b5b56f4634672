"""Real clusters, each in a folder and on ports of its own, and what waits for them."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from replication.local import home, mongod, ports, programs
from replication.local.mongo import USUAL_PORTS, MongoCluster
from replication.protocol import MissingProgram


def eventually(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.05)


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., None]:
    return eventually


@pytest.fixture(scope="session")
def mongod_program() -> Path:
    try:
        return programs.find(mongod.PROGRAM)
    except MissingProgram as error:
        pytest.skip(str(error))


def away_from_the_usual_ports(cluster: MongoCluster) -> MongoCluster:
    """Let it start on ports that whoever works on this machine does not use."""
    cluster.folder.mkdir(parents=True)
    home.remember(cluster._state_file, {"ports": dict(zip(USUAL_PORTS, ports.free(3), strict=True))})
    return cluster


@pytest.fixture(scope="session")
def shared_cluster(mongod_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoCluster]:
    assert mongod_program
    cluster = away_from_the_usual_ports(MongoCluster(tmp_path_factory.mktemp("shared")))
    try:
        yield cluster
    finally:
        cluster.stop(print, wipe=True)


@pytest.fixture
def whole(shared_cluster: MongoCluster) -> MongoCluster:
    """A cluster that is whole when the test begins, whatever the test before did to it."""
    shared_cluster.start(print)
    return shared_cluster


@pytest.fixture
def new_cluster(mongod_program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MongoCluster]:
    """A cluster that was never started, in the folder that commands of this test use too."""
    assert mongod_program
    monkeypatch.setenv(home.VARIABLE, str(tmp_path))
    cluster = away_from_the_usual_ports(MongoCluster())
    try:
        yield cluster
    finally:
        cluster.stop(print, wipe=True)
