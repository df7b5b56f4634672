"""The states that a real replica set reports during writes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pymongo
import pytest

from stalewatch.clients.mongodb.options import MongoOptions
from stalewatch.clients.mongodb.servers import MongoPrimaryClaims, MongoServers
from stalewatch.clients.protocol import NodeState, NoServerAnswers
from stalewatch.clusters.local.mongo import MongoCluster
from tests.conftest import leading

pytestmark = pytest.mark.server

DELAY_S = 2


@pytest.fixture
def servers(whole: MongoCluster) -> Iterator[MongoServers]:
    with closing(MongoServers(MongoOptions(uri=whole.uri()))) as servers:
        yield servers


@pytest.fixture
def written(whole: MongoCluster) -> Iterator[None]:
    """Write during the test."""
    stop = threading.Event()

    def write() -> None:
        with pymongo.MongoClient(whole.uri()) as client:
            while not stop.wait(0.01):
                client.lag.kv.update_one({"_id": 1}, {"$inc": {"n": 1}}, upsert=True)
            client.drop_database("lag")

    writer = threading.Thread(target=write)
    writer.start()
    yield
    stop.set()
    writer.join()


def test_every_member_is_listed_with_one_primary(whole: MongoCluster, servers: MongoServers) -> None:
    leading(whole)
    states = servers.look()
    assert {state.node for state in states} == set(whole.nodes())
    assert [state.node for state in states if state.primary] == [whole.primary()]
    assert all(state.healthy for state in states)


@pytest.fixture
def delayed(shared_cluster: MongoCluster) -> Iterator[str]:
    """Delay the third member."""
    MongoCluster(shared_cluster.home, delay_secondary_s=DELAY_S).start(print)
    yield shared_cluster.nodes()[2]
    MongoCluster(shared_cluster.home, delay_secondary_s=0).start(print)


@pytest.mark.usefixtures("written")
def test_the_lag_of_a_delayed_member_is_its_delay(
    servers: MongoServers, delayed: str, eventually: Callable[..., None]
) -> None:
    def lag() -> float:
        return next(state.lag_s or 0.0 for state in servers.look() if state.node == delayed)

    eventually(lambda: lag() > DELAY_S - 1)
    assert min(lag() for _ in range(20)) > DELAY_S - 1
    others = [state.lag_s for state in servers.look() if state.node != delayed]
    assert all(one is not None and one < DELAY_S - 1 for one in others)


def test_a_killed_member_is_out_of_service_with_unknown_lag(
    whole: MongoCluster, servers: MongoServers, eventually: Callable[..., Any]
) -> None:
    victim = leading(whole)

    def states() -> dict[str, NodeState]:
        try:
            return {state.node: state for state in servers.look()}
        except NoServerAnswers:
            return {}

    eventually(lambda: victim in states())
    whole.kill(victim)

    def replaced() -> NodeState | None:
        found = states()
        return found[victim] if any(state.primary and node != victim for node, state in found.items()) else None

    eventually(lambda: victim in (found := states()) and not found[victim].healthy)
    killed = eventually(replaced)
    assert (killed.primary, killed.lag_s) == (False, None)


def test_an_unreachable_set_raises_no_server_answers() -> None:
    options = MongoOptions(uri="mongodb://127.0.0.1:1/?replicaSet=rs0", timeout_s=0.5)
    with closing(MongoServers(options)) as servers, pytest.raises(NoServerAnswers):
        servers.look()


def test_only_the_primary_claims_to_lead_and_a_killed_member_does_not(
    whole: MongoCluster, eventually: Callable[..., None]
) -> None:
    with closing(MongoPrimaryClaims(MongoOptions(uri=whole.uri()))) as claims:
        assert set(claims.nodes) == set(whole.nodes())
        primary = leading(whole)
        terms = {node: claims.ask(node) for node in claims.nodes}
        term = terms.pop(primary)
        assert term is not None
        assert set(terms.values()) == {None}
        whole.kill(primary)
        assert claims.ask(primary) is None
        eventually(lambda: any((claims.ask(node) or 0) > term for node in terms))
