"""A real replica set's word on itself, while it is written to."""

import threading
from argparse import Namespace
from collections.abc import Callable, Iterator

import pymongo
import pytest

from stalewatch.clients.mongodb.servers import MongoServers
from stalewatch.clients.protocol import NodeState, NoServerAnswers
from stalewatch.clusters.local.mongo import MongoCluster

pytestmark = pytest.mark.server

DELAY_S = 2


@pytest.fixture
def servers(whole: MongoCluster) -> Iterator[MongoServers]:
    one = MongoServers(Namespace(mongo_uri=whole.uri()))
    yield one
    one.close()


@pytest.fixture
def written(whole: MongoCluster) -> Iterator[None]:
    """Write all the time."""
    over = threading.Event()

    def write() -> None:
        with pymongo.MongoClient(whole.uri()) as client:
            while not over.wait(0.01):
                client.lag.kv.update_one({"_id": 1}, {"$inc": {"n": 1}}, upsert=True)
            client.drop_database("lag")

    writer = threading.Thread(target=write)
    writer.start()
    yield
    over.set()
    writer.join()


def test_every_member_is_seen_with_one_primary(whole: MongoCluster, servers: MongoServers) -> None:
    states = servers.look()
    assert {state.node for state in states} == set(whole.nodes())
    assert [state.node for state in states if state.primary] == [whole.primary()]
    assert all(state.healthy for state in states)


@pytest.fixture
def delayed(shared_cluster: MongoCluster) -> Iterator[str]:
    """Let the third member apply everything late."""
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


def test_a_killed_member_is_not_in_service_and_its_lag_unknown(
    whole: MongoCluster, servers: MongoServers, eventually: Callable[..., None]
) -> None:
    victim = whole.primary()
    assert victim is not None

    def seen() -> dict[str, NodeState]:
        try:
            return {state.node: state for state in servers.look()}
        except NoServerAnswers:
            return {}

    eventually(lambda: victim in seen())
    whole.kill(victim)
    eventually(lambda: victim in seen() and not seen()[victim].healthy)
    eventually(lambda: any(state.primary for state in seen().values()))
    gone = seen()[victim]
    assert (gone.primary, gone.lag_s) == (False, None)


def test_where_nobody_answers_it_says_so() -> None:
    one = MongoServers(Namespace(mongo_uri="mongodb://127.0.0.1:1/?replicaSet=rs0", timeout="0.5"))
    with pytest.raises(NoServerAnswers):
        one.look()
    one.close()
