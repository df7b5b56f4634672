"""What all tests share: a real replica set, leaders and browser; where everything must run, nothing is skipped."""

import gc
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from gevent._hub_local import get_hub_if_exists
from selenium import webdriver
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from stalewatch.clusters.lab.clusters import MongoLab
from stalewatch.clusters.lab.network import Lab
from stalewatch.clusters.local import couch, couch_servers, home, java, mongo, ports, programs
from stalewatch.clusters.local.cassandra import LOCK, CassandraCluster
from stalewatch.clusters.local.cassandra_node import HOSTS
from stalewatch.clusters.local.couch import CouchCluster
from stalewatch.clusters.local.mongo import USUAL_PORTS, MongoCluster
from stalewatch.clusters.protocol import MissingProgram, NotAllowed

if TYPE_CHECKING:
    from tests.locust.conftest import Swarm

REQUIRE_ALL = "STALEWATCH_REQUIRE_ALL"
SECOND_TRY = "STALEWATCH_SECOND_TRY"

# Cassandra's nodes are started some forty times, and none runs for long enough to be worth optimizing: without the
# second compiler a start takes half of the processor's time, and a tenth less without the verification of byte code,
# which is that of jars with known checksums.
os.environ.setdefault(
    "JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote"
)

# A shell starts what it runs in the background (`nohup make test &`) with SIGINT ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a skipped test a failed one where everything must run."""
    report = yield
    if os.environ.get(REQUIRE_ALL) == "1" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but {REQUIRE_ALL}=1: {report.longrepr}"
    return report


SLOW_TO_START = "cassandra"
"""A word in the names of tests whose servers one process alone shall start, where tests run in several."""

LONG = (SLOW_TO_START, "bench_couch", "mongo", "couch", "drill", "locust")
"""Words in the names of tests that take long, the longest first: it is with them that all processes begin."""


class ByServers(LoadScopeScheduling):
    """Gives one process after another a file's tests, or all of those that share servers which are slow to start."""

    def _split_scope(self, nodeid: str) -> str:
        test = nodeid.partition("[")[0]
        if SLOW_TO_START in test:
            return SLOW_TO_START
        # Tests with Locust share nothing, but a browser or servers in some files.
        apart = test.startswith("tests/locust/") and not any(word in test for word in ("web_page", "mongo", "couch"))
        return nodeid if apart else test.partition("::")[0]


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over the thousands of tests and all modules, which live as long as the process."""
    gc.collect()
    gc.freeze()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    """Take over `--dist loadscope`; xdist's own groups need a pytest before 9."""
    config.option.loadscopereorder = False
    return ByServers(config, log) if config.getoption("dist") == "loadscope" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where tests run in several processes, begin with those that take long: servers, then Locust.

    With STALEWATCH_SECOND_TRY=1, those that start servers or Locust get a second try, and the summary names them. The
    others, such as those of checkers, never do: given the same input, they always say the same.
    """
    if hasattr(config, "workerinput"):
        items.sort(key=_rank)
    if os.environ.get(SECOND_TRY) == "1":
        for item in items:
            if item.get_closest_marker("server") is not None or "swarm" in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.flaky(reruns=1))


def _rank(item: pytest.Item) -> tuple[bool, int]:
    found = (number for number, word in enumerate(LONG) if word in item.nodeid)
    return item.get_closest_marker("server") is None, next(found, len(LONG))


T = TypeVar("T")


def eventually(condition: Callable[[], T], timeout_s: float = 120.0) -> T:
    """Wait until the condition holds, and return its value."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.05)
    return value


def leading(cluster: MongoCluster) -> str:
    """Return the primary's address; on a busy machine members may just be electing another one."""
    return str(eventually(cluster.primary))


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., Any]:
    return eventually


@pytest.fixture(autouse=True)
def _gevents_time() -> None:
    """Let gevent look at the clock: it starts timers at its last look, which was perhaps minutes ago, in another test.

    A wait of two minutes would end at once.
    """
    hub = get_hub_if_exists()
    if hub is not None:
        hub.loop.update_now()


@pytest.fixture(scope="session", autouse=True)
def _temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Delete at the end what programs that are killed leave among the temporary files: browsers, pip."""
    tmp_path_factory.getbasetemp()  # stays outside
    with (
        tempfile.TemporaryDirectory(prefix="stalewatch-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        Path(folder).chmod(0o755)  # an image's user may run programs in it
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture(scope="session")
def mongod_program() -> Path:
    try:
        return programs.find(mongo.PROGRAM)
    except MissingProgram as error:
        pytest.skip(str(error))


def settle_members(cluster: MongoCluster) -> MongoCluster:
    """Let a cluster start on ports that whoever works on this machine does not use."""
    cluster.folder.mkdir(parents=True)
    home.remember(cluster._state_file, {"ports": dict(zip(USUAL_PORTS, ports.free(3), strict=True))})
    return cluster


@pytest.fixture(scope="session")
def away_from_the_usual_ports() -> Callable[[MongoCluster], MongoCluster]:
    return settle_members


@pytest.fixture(scope="session")
def shared_cluster(
    mongod_program: Path,
    tmp_path_factory: pytest.TempPathFactory,
    away_from_the_usual_ports: Callable[[MongoCluster], MongoCluster],
) -> Iterator[MongoCluster]:
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


@pytest.fixture(scope="session")
def shared_ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CassandraCluster]:
    """Three nodes, on ports that whoever works on this machine does not use, with a commit log that forgets nothing."""
    try:
        java.find()
        java.fetch_jars(LOCK, print)
    except MissingProgram as error:
        pytest.skip(str(error))
    ring = CassandraCluster(tmp_path_factory.mktemp("ring"), commitlog_sync="batch", hints=True)
    ring._remember(ports={name: ports.free(3, host) for name, host in HOSTS.items()})
    try:
        yield ring
    finally:
        ring.stop(print, wipe=True)


@pytest.fixture
def ring(shared_ring: CassandraCluster) -> CassandraCluster:
    """A ring that is whole when the test begins, whatever the test before did to it."""
    shared_ring.start(print)
    return shared_ring


@pytest.fixture(scope="session")
def pouch() -> tuple[Path, Path]:
    """The program that runs a server of CouchDB's protocol, and the packages that it needs."""
    try:
        program = couch_servers.find_node()
    except MissingProgram as error:
        pytest.skip(str(error))
    return program, couch_servers.install_packages(program, print)


def settle_leaders(cluster: CouchCluster) -> CouchCluster:
    """Let leaders start on ports that whoever works on this machine does not use."""
    cluster.folder.mkdir(parents=True)
    chosen = dict(zip(couch.USUAL_PORTS, ports.free(len(couch.USUAL_PORTS)), strict=True))
    home.remember(cluster._state_file, {"ports": chosen})
    return cluster


@pytest.fixture(scope="session")
def shared_leaders(pouch: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[CouchCluster]:
    assert pouch
    cluster = settle_leaders(CouchCluster(tmp_path_factory.mktemp("leaders")))
    try:
        yield cluster
    finally:
        cluster.stop(print, wipe=True)


@pytest.fixture
def leaders(shared_leaders: CouchCluster) -> CouchCluster:
    """Two leaders that are up and linked when the test begins, whatever the test before did to them."""
    shared_leaders.start(print)
    return shared_leaders


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


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator["Swarm"]:
    """Processes of Locust, which end with the test."""
    from tests.locust.conftest import Swarm  # noqa: PLC0415 # which imports this module

    one = Swarm(tmp_path)
    try:
        yield one
    finally:
        one.end()


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    """A real browser, without a window."""
    driver, program = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or program is None:
        pytest.skip("chromium and chromedriver are not installed (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1600,1000"):
        options.add_argument(flag)
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()
