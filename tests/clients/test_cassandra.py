"""The Cassandra client on a real ring: what it writes, reads, names and refuses."""

import itertools
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random

import pytest

from stalewatch.clients.cassandra.client import CassandraDatabaseClient
from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clients.errors import BadAddress, ClientError, Unreachable
from stalewatch.clients.protocol import Answer, Value
from stalewatch.clusters.local.cassandra import CassandraCluster
from stalewatch.history.clock import RealClock
from stalewatch.history.operation import Depends
from tests.clients.answers import shown

pytestmark = pytest.mark.server

Opener = Callable[..., CassandraDatabaseClient]

NOW_NS = RealClock().now()


@pytest.fixture
def connect(ring: CassandraCluster) -> Iterator[Opener]:
    opened: list[CassandraDatabaseClient] = []

    def open_client(**chosen: object) -> CassandraDatabaseClient:
        opened.append(CassandraDatabaseClient(CassandraClientOptions(**{"hosts": ring.uri(), **chosen}), RealClock()))
        opened[-1].prepare()
        return opened[-1]

    yield open_client
    for client in opened:
        client.close()


@pytest.fixture
def key() -> str:
    return f"test-{secrets.token_hex(4)}"


def value(version: int, start_ns: int | None = None, **more: object) -> Value:
    return Value(version, "author", start_ns=NOW_NS + version * 1000 if start_ns is None else start_ns, **more)


STRONG = {"write_cl": "QUORUM", "read_cl": "QUORUM"}


def test_a_write_never_undoes_a_newer_one(connect: Opener, key: str) -> None:
    session = connect(**STRONG).session("a")
    versions = [3, 2, 5, 4, 5, 2**31 - 1, 2**31, 7, 2**40, 2**32]
    for version, newest in zip(versions, itertools.accumulate(versions, max), strict=True):
        assert session.write(key, value(version)).outcome == "ok"
        assert session.read(key).version == newest


def test_of_writes_in_the_same_microsecond_the_newer_version_wins(connect: Opener, key: str) -> None:
    session = connect(**STRONG).session("a")
    pairs = [(1, 2), (9, 10), (255, 256), (2**31 - 1, 2**31), (2**40, 2**40 + 1)]
    for number, (older, newer) in enumerate(pairs):
        for order, turn in enumerate([(older, newer), (newer, older)]):
            for version in turn:
                session.write(f"{key}-{number}-{order}", value(version, NOW_NS, payload=str(2**64 - version)))
            assert session.read(f"{key}-{number}-{order}").version == newer


def test_versions_in_any_order_from_many_sessions_leave_the_newest(connect: Opener, key: str) -> None:
    client = connect(coordinator="pinned", **STRONG)
    versions = list(range(1, 61))
    Random(1).shuffle(versions)
    sessions = [client.session(f"s{number}") for number in range(6)]

    def work(number: int) -> None:
        for version in versions[number::6]:
            assert sessions[number].write(key, value(version)).outcome == "ok"

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.final(key).version == 60


def test_a_key_that_was_never_written_or_only_preloaded_shows_version_0(connect: Opener, key: str) -> None:
    client = connect(**STRONG)
    assert client.session("a").read(key).version == 0
    client.preload([key], "padding")
    assert client.session("a").read(key).version == 0
    assert shown(client.final(key)) == ("ok", 0)
    with pytest.raises(ClientError, match=f"{key}.*exists already in bench.kv"):
        client.preload([f"{key}-other", key], "")
    assert client.session("a").read(f"{key}-other").version == 0


@pytest.mark.parametrize("chosen", [{}, {"timestamps": "server"}, {"timestamps": "skewed:500"}, {"lwt": True}])
def test_every_way_of_writing_creates_raises_and_deletes(connect: Opener, key: str, chosen: dict[str, object]) -> None:
    client = connect(**STRONG, **chosen)
    clock = client.clock
    client.preload([key], "padding")
    sessions = [client.session("a"), client.session("b")]
    # A clock that is behind writes first, or it would lose: which is what such clocks are for.
    for version, session in enumerate(reversed(sessions), 1):
        assert session.write(key, value(version, clock.now(), payload="padding")).outcome == "ok"
        assert session.read(key).version == version
    assert client.final(key).version == 2
    client.remove([key])
    assert client.final(key).version == 0
    client.preload([key], "")


@pytest.mark.parametrize("chosen", [{}, {"timestamps": "server"}, {"timestamps": "skewed:500"}, {"lwt": True}])
def test_every_way_of_writing_keeps_all_items_of_a_list(connect: Opener, key: str, chosen: dict[str, object]) -> None:
    client = connect(**STRONG, **chosen)
    lists = [f"{key}-1", f"{key}-10"]
    client.create_lists(lists)
    sessions = [client.session("a"), client.session("b")]
    for number, session in itertools.product(range(3), sessions):
        assert shown(session.append(lists[0], f"{session.name}-{number}")) == ("ok", None)
    sessions[0].append(lists[1], "a-9")
    final = client.final_items(lists[0])
    assert final.items == ["a-0", "a-1", "a-2", "b-0", "b-1", "b-2"]
    assert final.node in map(client._access.nodes.name, client._access.nodes.all())
    with pytest.raises(ClientError, match=f"{key}-1' exists already in bench.kv_lists"):
        client.create_lists(lists)
    client.remove_lists(lists[:1])
    assert (client.final_items(lists[0]).items, client.final_items(lists[1]).items) == ([], ["a-9"])
    client.remove_lists(lists)
    client.create_lists(lists)


def test_no_id_is_drawn_twice_by_sessions_that_draw_at_once(connect: Opener, key: str) -> None:
    client = connect(coordinator="pinned")
    client.create_counters([key])
    sessions = [client.session(f"s{number}") for number in range(4)]
    answers: list[Answer] = []

    def draw(number: int) -> None:
        answers.extend(sessions[number].draw(key) for _ in range(10))

    threads = [threading.Thread(target=draw, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [answer.version for answer in answers if answer.outcome == "ok"]
    assert len(ids) > 10
    assert len(set(ids)) == len(ids)
    assert all(answer.version is None for answer in answers if answer.outcome != "ok")
    late = client.session("late").draw(key)  # it has seen none of them
    assert late.outcome == "unknown" or (late.version or 0) > max(ids, default=0)  # type: ignore[type-var] # they are numbers


def test_a_counter_that_is_gone_is_not_begun_anew(connect: Opener, key: str) -> None:
    client = connect()
    session = client.session("a")
    client.create_counters([key])
    with pytest.raises(ClientError, match=f"{key}' exists already in bench.kv_counters"):
        client.create_counters([key])
    assert [session.draw(key).version for _ in range(3)] == [1, 2, 3]
    client.remove_counters([key])
    assert shown(session.draw(key)) == ("fail", None)
    client.create_counters([key])
    assert client.session("b").draw(key).version == 1


def test_a_clock_that_is_behind_loses_silently(connect: Opener, key: str) -> None:
    client = connect(timestamps="skewed:500", **STRONG)
    ahead, behind = client.session("a"), client.session("b")
    start_ns = client.clock.now()
    assert ahead.write(key, value(1, start_ns)).outcome == "ok"
    assert behind.write(key, value(2, start_ns + 499_000_000)).outcome == "ok"
    assert ahead.read(key).version == 1
    assert behind.write(key, value(3, start_ns + 501_000_000)).outcome == "ok"
    assert ahead.read(key).version == 3


def test_a_conditional_write_says_that_it_came_too_late_or_found_no_row(connect: Opener, key: str) -> None:
    client = connect(lwt=True, write_cl="QUORUM", read_cl="SERIAL")
    session = client.session("a")
    assert session.write(key, value(1)).outcome == "fail"
    assert session.write(key, value(1)).error == "missing"
    assert session.read(key).version == 0
    client.preload([key], "")
    answers = [session.write(key, value(version)) for version in (2, 1, 3, 3)]
    assert [(answer.outcome, answer.superseded) for answer in answers] == [
        ("ok", False),
        ("ok", True),
        ("ok", False),
        ("ok", True),
    ]
    assert session.read(key).version == 3
    assert client.final(key).version == 3


def test_a_read_says_what_the_value_depends_on(connect: Opener, key: str) -> None:
    session = connect(**STRONG).session("a")
    causes = [None, Depends(key="b", version=7), Depends(key="b", version=8, cause="monotonic_writes")]
    for version, depends in enumerate(causes, 1):
        session.write(key, value(version, depends=depends, payload="padding"))
        assert session.read(key).depends == depends


def nodes_of(answers: list[Answer]) -> set[str | None]:
    return {answer.node for answer in answers}


def test_every_answer_names_its_coordinator(connect: Opener, ring: CassandraCluster, key: str) -> None:
    nodes = list(ring.nodes())

    def asked(client: CassandraDatabaseClient) -> tuple[set[str | None], set[str | None]]:
        session = client.session("a")
        writes = [session.write(key, value(number)) for number in range(1, 13)]
        return nodes_of(writes), nodes_of([session.read(key) for _ in range(12)])

    assert asked(connect()) == (set(nodes), set(nodes))
    pinned, split = connect(coordinator="pinned"), connect(coordinator="split")
    for number in range(4):
        first, second = nodes[number % 3], nodes[(number + 1) % 3]
        assert asked(pinned) == ({first}, {first})
        assert asked(split) == ({first}, {second})
    assert asked(connect(coordinator=nodes[1])) == ({nodes[1]}, {nodes[1]})
    assert asked(connect(coordinator="pinned", read_from=nodes[2])) == ({nodes[0]}, {nodes[2]})
    assert connect().final(key).node in nodes


def test_with_a_replica_as_coordinator_each_key_has_its_own(connect: Opener, ring: CassandraCluster) -> None:
    keyspace = f"one_{secrets.token_hex(4)}"
    client = connect(coordinator="token", keyspace=keyspace, rf=1)
    session = client.session("a")
    found = {name: nodes_of([session.read(name) for _ in range(4)]) for name in map(str, range(30))}
    assert all(len(nodes) == 1 for nodes in found.values())
    assert Counter(*[[node for nodes in found.values() for node in nodes]]).keys() == set(ring.nodes())
    drop(client, keyspace)


def drop(client: CassandraDatabaseClient, keyspace: str) -> None:
    client._access.session.execute(f"DROP KEYSPACE {keyspace}", timeout=30)


def test_the_keyspace_and_table_are_made_as_asked_and_else_left_alone(connect: Opener) -> None:
    keyspace = f"made_{secrets.token_hex(4)}"
    client = connect(keyspace=keyspace, rf=2)
    assert client.settings()["replicas"] == "dc1 2"
    assert client.settings()["read_repair"] == "BLOCKING"
    assert client.settings()["speculative_retry"] == "NEVER"
    changed = connect(keyspace=keyspace, read_repair="none", speculative_retry="99p").settings()
    left = connect(keyspace=keyspace, rf=2).settings()
    for settings in (changed, left):
        assert (settings["replicas"], settings["read_repair"], settings["speculative_retry"]) == (
            "dc1 2",
            "NONE",
            "99p",
        )
    with pytest.raises(BadAddress, match=r"--rf 3: .* exists with another number of replicas \(dc1 2\)"):
        connect(keyspace=keyspace, rf=3)
    client._access.session.execute(f"CREATE TABLE {keyspace}.other (k text PRIMARY KEY)", timeout=30)
    with pytest.raises(ClientError, match=r"other exists with other columns"):
        connect(keyspace=keyspace, table="other")
    drop(client, keyspace)


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"rf": 4, "keyspace": "too_many"}, "--rf 4: the data center dc1 has 3 nodes"),
        ({"coordinator": "127.0.0.1:9"}, "127.0.0.1:9 is no node of the ring"),
        ({"read_from": "nowhere.invalid:9"}, "nowhere.invalid:9"),
    ],
)
def test_what_the_ring_has_not_is_a_bad_address(connect: Opener, chosen: dict[str, object], words: str) -> None:
    with pytest.raises(BadAddress, match=words):
        connect(**chosen)


def test_a_data_center_that_is_not_there_is_named(connect: Opener) -> None:
    assert connect(data_center="dc1").session("a").read("none").outcome == "ok"
    with pytest.raises(Unreachable, match=r"no Cassandra node in the data center dc9 answers"):
        connect(data_center="dc9")


def test_a_final_read_proves_nothing_while_a_write_may_rest_on_a_hint_alone(connect: Opener, key: str) -> None:
    client = connect(write_cl="ANY")
    assert client.final(key).outcome == "ok"
    assert client.session("a").write(key, value(1)).outcome == "ok"
    assert client.final(key).outcome == "unknown"
    assert client.final(key).error == "hints_unflushed"


def test_settings_hold_no_password(connect: Opener) -> None:
    # A ring that lets everyone in takes any name and password.
    settings = connect(username="me", password="hunter2").settings()  # noqa: S106 # of nobody
    assert "hunter2" not in str(settings)


def test_keys_go_with_the_run(connect: Opener, key: str) -> None:
    client = connect(**STRONG)
    keys = [f"{key}-{number}" for number in range(50)]
    client.preload(keys, "")
    session = client.session("a")
    session.write(keys[0], value(1, client.clock.now()))
    client.remove(keys)
    assert [session.read(name).version for name in keys] == [0] * 50
    client.preload(keys, "")  # which it would refuse if any were there
