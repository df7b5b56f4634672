"""The Cassandra client on a real ring: writes, reads, schema, coordinators and error messages."""

import itertools
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from cassandra import ConsistencyLevel, OperationTimedOut
from cassandra.cluster import ResponseFuture
from cassandra.pool import Host

from stalewatch.clients.cassandra.client import CassandraDatabaseClient
from stalewatch.clients.cassandra.diagnosis import explained
from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clients.errors import BadAddress, ClientError, Unreachable
from stalewatch.clients.protocol import Answer, Value
from stalewatch.clients.read_strategies import TOO_OLD
from stalewatch.clusters.local.cassandra import CassandraCluster
from stalewatch.history.clock import RealClock
from stalewatch.history.operation import Depends
from tests.clients.answers import shown
from tests.conftest import eventually

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


def test_the_newer_of_two_writes_in_the_same_microsecond_wins(connect: Opener, key: str) -> None:
    session = connect(**STRONG).session("a")
    pairs = [(1, 2), (9, 10), (255, 256), (2**31 - 1, 2**31), (2**40, 2**40 + 1)]
    for number, (older, newer) in enumerate(pairs):
        for order, turn in enumerate([(older, newer), (newer, older)]):
            for version in turn:
                session.write(f"{key}-{number}-{order}", value(version, NOW_NS, payload=str(2**64 - version)))
            assert session.read(f"{key}-{number}-{order}").version == newer


def test_the_newest_version_remains_after_concurrent_writes_in_random_order(connect: Opener, key: str) -> None:
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


def test_a_missing_or_preloaded_key_reads_as_version_0(connect: Opener, key: str) -> None:
    client = connect(**STRONG)
    assert client.session("a").read(key).version == 0
    client.preload([key], "padding")
    assert client.session("a").read(key).version == 0
    assert shown(client.final(key)) == ("ok", 0)
    with pytest.raises(ClientError, match=f"{key}.*already exists in bench.kv"):
        client.preload([f"{key}-other", key], "")
    assert client.session("a").read(f"{key}-other").version == 0


@pytest.mark.parametrize("chosen", [{}, {"timestamps": "server"}, {"timestamps": "skewed:500"}, {"lwt": True}])
def test_every_write_path_creates_updates_and_deletes_keys(
    connect: Opener, key: str, chosen: dict[str, object]
) -> None:
    client = connect(**STRONG, **chosen)
    clock = client.clock
    client.preload([key], "padding")
    sessions = [client.session("a"), client.session("b")]
    # The session with the slow clock writes first: after the other write, its own would lose (that is what skew does).
    for version, session in enumerate(reversed(sessions), 1):
        assert session.write(key, value(version, clock.now(), payload="padding")).outcome == "ok"
        assert session.read(key).version == version
    assert client.final(key).version == 2
    client.remove([key])
    assert client.final(key).version == 0
    client.preload([key], "")


@pytest.mark.parametrize("chosen", [{}, {"timestamps": "server"}, {"timestamps": "skewed:500"}, {"lwt": True}])
def test_every_write_path_keeps_all_items_of_a_list(connect: Opener, key: str, chosen: dict[str, object]) -> None:
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
    with pytest.raises(ClientError, match=f"{key}-1' already exists in bench.kv_lists"):
        client.create_lists(lists)
    client.remove_lists(lists[:1])
    assert (client.final_items(lists[0]).items, client.final_items(lists[1]).items) == ([], ["a-9"])
    client.remove_lists(lists)
    client.create_lists(lists)


def test_concurrent_draws_never_return_the_same_id(connect: Opener, key: str) -> None:
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
    late = client.session("late").draw(key)  # its session has seen no id yet
    assert late.outcome == "unknown" or (late.version or 0) > max(ids, default=0)  # type: ignore[type-var] # none of them is None


def test_a_draw_from_a_deleted_counter_fails(connect: Opener, key: str) -> None:
    client = connect()
    session = client.session("a")
    client.create_counters([key])
    with pytest.raises(ClientError, match=f"{key}' already exists in bench.kv_counters"):
        client.create_counters([key])
    assert [session.draw(key).version for _ in range(3)] == [1, 2, 3]
    client.remove_counters([key])
    assert shown(session.draw(key)) == ("fail", None)
    client.create_counters([key])
    assert client.session("b").draw(key).version == 1


def test_writes_with_a_slow_clock_are_silently_lost(connect: Opener, key: str) -> None:
    client = connect(timestamps="skewed:500", **STRONG)
    exact, slow = client.session("a"), client.session("b")
    start_ns = client.clock.now()
    assert exact.write(key, value(1, start_ns)).outcome == "ok"
    assert slow.write(key, value(2, start_ns + 499_000_000)).outcome == "ok"
    assert exact.read(key).version == 1
    assert slow.write(key, value(3, start_ns + 501_000_000)).outcome == "ok"
    assert exact.read(key).version == 3


def test_a_conditional_write_reports_a_newer_value_or_a_missing_row(connect: Opener, key: str) -> None:
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


def test_a_read_returns_the_dependency_of_the_value(connect: Opener, key: str) -> None:
    session = connect(**STRONG).session("a")
    causes = [None, Depends(key="b", version=7), Depends(key="b", version=8, cause="monotonic_writes")]
    for version, depends in enumerate(causes, 1):
        session.write(key, value(version, depends=depends, payload="padding"))
        assert session.read(key).depends == depends


def nodes_of(answers: list[Answer]) -> set[str | None]:
    return {answer.node for answer in answers}


def test_every_answer_names_its_coordinator(connect: Opener, ring: CassandraCluster, key: str) -> None:
    nodes = list(ring.nodes())

    def coordinators(client: CassandraDatabaseClient) -> tuple[set[str | None], set[str | None]]:
        session = client.session("a")
        writes = [session.write(key, value(number)) for number in range(1, 13)]
        return nodes_of(writes), nodes_of([session.read(key) for _ in range(12)])

    assert coordinators(connect()) == (set(nodes), set(nodes))
    pinned, split = connect(coordinator="pinned"), connect(coordinator="split")
    for number in range(4):
        first, second = nodes[number % 3], nodes[(number + 1) % 3]
        assert coordinators(pinned) == ({first}, {first})
        assert coordinators(split) == ({first}, {second})
    assert coordinators(connect(coordinator=nodes[1])) == ({nodes[1]}, {nodes[1]})
    assert coordinators(connect(coordinator="pinned", read_from=nodes[2])) == ({nodes[0]}, {nodes[2]})
    assert connect().final(key).node in nodes


def test_with_token_routing_each_key_has_one_coordinator(connect: Opener, ring: CassandraCluster) -> None:
    keyspace = f"one_{secrets.token_hex(4)}"
    client = connect(coordinator="token", keyspace=keyspace, rf=1)
    session = client.session("a")
    found = {name: nodes_of([session.read(name) for _ in range(4)]) for name in map(str, range(30))}
    assert all(len(nodes) == 1 for nodes in found.values())
    assert Counter(*[[node for nodes in found.values() for node in nodes]]).keys() == set(ring.nodes())
    drop(client, keyspace)


def drop(client: CassandraDatabaseClient, keyspace: str) -> None:
    client._access.session.execute(f"DROP KEYSPACE {keyspace}", timeout=30)


def test_keyspace_and_table_are_created_as_requested_and_otherwise_unchanged(connect: Opener) -> None:
    keyspace = f"created_{secrets.token_hex(4)}"
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
    with pytest.raises(BadAddress, match=r"--rf 3: .* exists with a different number of replicas \(dc1 2\)"):
        connect(keyspace=keyspace, rf=3)
    client._access.session.execute(f"CREATE TABLE {keyspace}.other (k text PRIMARY KEY)", timeout=30)
    drop(client, keyspace)


D = "d frozen<tuple<bigint, text, text, bigint, text, text>>"


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (f"TABLE {{}} (k text PRIMARY KEY, {D}) WITH default_time_to_live = 6", "has default_time_to_live = 6"),
        (f"TABLE {{}} (k text, {D}, PRIMARY KEY (k, d))", r"it has d .* \(clustering\), a run needs d .* \(regular\)"),
        (
            f"TABLE {{}} (k text, c int, {D} STATIC, PRIMARY KEY (k, c))",
            r"it has c int \(clustering\), a run needs no c",
        ),
        (f"TABLE {{}} (k text, {D}, PRIMARY KEY ((k, d)))", r"it has d .* \(partition key\), a run needs"),
        ("TABLE {} (k text PRIMARY KEY)", "it has no d, a run needs d frozen"),
        ("TABLE {} (k text PRIMARY KEY, d counter)", r"it has d counter \(regular\)"),
    ],
)
def test_a_table_that_would_falsify_a_verdict_is_refused(connect: Opener, statement: str, words: str) -> None:
    table = f"found_{secrets.token_hex(4)}"
    session = connect()._access.session
    session.execute(f"CREATE {statement.format(f'bench.{table}')}", timeout=30)
    with pytest.raises(BadAddress, match=rf"the table bench\.{table} .*{words}.*; use another --table"):
        connect(table=table)
    session.execute(f"DROP TABLE bench.{table}", timeout=30)


def test_keyspaces_of_cassandra_itself_are_refused(connect: Opener) -> None:
    with pytest.raises(BadAddress, match=r"the keyspace system has LocalStrategy.*another --keyspace"):
        connect(keyspace="system")


@pytest.mark.parametrize("chosen", [{"coordinator": "token"}, {"lwt": True, "read_cl": "SERIAL"}])
def test_names_in_upper_case_and_reserved_words_are_quoted(
    connect: Opener, key: str, chosen: dict[str, object]
) -> None:
    client = connect(keyspace="Select", table="order", rf=1, **chosen)
    client.preload([key], "")
    session = client.session("a")
    assert session.write(key, value(1, client.clock.now())).outcome == "ok"
    assert client.final(key).version == 1
    client.create_lists([key])
    assert session.append(key, "a-1").outcome == "ok"
    assert client.final_items(key).items == ["a-1"]
    client.create_counters([key])
    assert session.draw(key).version == 1
    with pytest.raises(ClientError, match=r"already exists in Select\.order_counters"):
        client.create_counters([key])
    assert connect(keyspace="Select", table="order", read_repair="none", **chosen).settings()["read_repair"] == "NONE"
    client._access.session.execute('DROP KEYSPACE "Select"', timeout=30)


def test_a_statement_that_cassandra_refuses_is_told_in_its_words(connect: Opener) -> None:
    client = connect()
    with pytest.raises(ClientError, match=r"refused a request; it said: .*Syntax error"), explained(client._options):
        client._access.session.execute("SELECT FROM order")


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"rf": 4, "keyspace": "too_many"}, "--rf 4: the data center dc1 has only 3 nodes"),
        ({"coordinator": "127.0.0.1:9"}, "127.0.0.1:9 is not a node of the ring"),
        ({"read_from": "nowhere.invalid:9"}, "nowhere.invalid:9"),
    ],
)
def test_options_that_the_ring_cannot_satisfy_are_refused(
    connect: Opener, chosen: dict[str, object], words: str
) -> None:
    with pytest.raises(BadAddress, match=words):
        connect(**chosen)


def test_an_unknown_data_center_is_named(connect: Opener) -> None:
    assert connect(data_center="dc1").session("a").read("none").outcome == "ok"
    with pytest.raises(Unreachable, match=r"no Cassandra node in the data center dc9 answers"):
        connect(data_center="dc9")


def test_a_final_read_is_unknown_while_a_write_may_depend_on_a_hint_alone(connect: Opener, key: str) -> None:
    client = connect(write_cl="ANY")
    assert client.final(key).outcome == "ok"
    assert client.session("a").write(key, value(1)).outcome == "ok"
    assert client.final(key).outcome == "unknown"
    assert client.final(key).error == "hints_unflushed"


def test_settings_do_not_include_the_password(connect: Opener) -> None:
    # A ring without authentication accepts any name and password.
    settings = connect(username="me", password="hunter2").settings()  # noqa: S106 # nobody's
    assert "hunter2" not in str(settings)


def test_removed_keys_are_gone_and_can_be_created_again(connect: Opener, key: str) -> None:
    client = connect(**STRONG)
    keys = [f"{key}-{number}" for number in range(50)]
    client.preload(keys, "")
    session = client.session("a")
    session.write(keys[0], value(1, client.clock.now()))
    client.remove(keys)
    assert [session.read(name).version for name in keys] == [0] * 50
    client.preload(keys, "")  # refused if any key still existed


def sources(client: CassandraDatabaseClient, key: str, host: Host) -> set[str]:
    """Return the nodes that took part in a read through a coordinator, according to a trace with a result in it.

    Nodes store the events of a trace one by one and after their answer, on two of the ring's nodes and without waiting
    for either. So a trace whose end is known may lack events at first, or for ever on a busy machine.
    """
    access = client._access

    def traced() -> set[str]:
        future = access.session.execute_async(access.statements.read, (key,), host=host, trace=True)
        future.result()
        events = future.get_query_trace(max_wait=30, query_cl=ConsistencyLevel.ALL).events
        has_result = any(event.description.startswith("Read 1 live rows") for event in events)
        return {str(event.source) for event in events} if has_result else set()

    return eventually(traced)


def test_at_one_a_pinned_session_is_answered_by_one_replica(connect: Opener, caplog: pytest.LogCaptureFixture) -> None:
    client = connect(read_cl="ONE", read_strategy="pinned")
    assert not [
        one for one in caplog.records if one.name == "stalewatch"
    ]  # nothing that could let another replica answer
    keys = [f"test-{secrets.token_hex(4)}" for _ in range(5)]
    client.preload(keys, "")
    hosts = {client._access.nodes.name(host): host for host in client._access.nodes.all()}
    homes = []
    for number in range(3):
        session = client.session(f"s{number}")
        answers = [session.read(key) for key in keys]
        assert {answer.fell_back for answer in answers} == {False}
        (home,) = {str(answer.node) for answer in answers}
        assert all(sources(client, key, hosts[home]) == {home.rpartition(":")[0]} for key in keys)
        homes.append(home)
    assert set(homes) == set(hosts)


def test_with_fewer_replicas_than_nodes_each_key_has_a_coordinator_of_its_own(connect: Opener) -> None:
    client = connect(read_cl="ONE", read_strategy="pinned", keyspace=f"k{secrets.token_hex(4)}", rf=1)
    keys = [f"test-{secrets.token_hex(4)}" for _ in range(30)]
    client.preload(keys, "")
    session = client.session("s")
    nodes = {key: session.read(key).node for key in keys}
    ring = client._access.nodes
    assert nodes == {key: ring.name(host) for key in keys for host in ring.replicas(key)}
    assert len(set(nodes.values())) == 3
    client._access.session.execute(f'DROP KEYSPACE "{client._options.keyspace}"', timeout=30)


@pytest.mark.parametrize("strategy", ["sticky", "token"])
def test_a_stronger_read_asks_a_quorum(connect: Opener, key: str, strategy: str) -> None:
    client = connect(read_cl="ONE", write_cl="QUORUM", read_strategy=strategy)
    client.preload([key], "")
    session = client.session("s")
    assert session.read(key).fell_back is False
    session.write(key, value(2, RealClock().now()))
    assert session.read(key).version == 2
    # The ring acknowledges a write with an older timestamp and ignores it, so no replica has what the session wrote.
    assert session.write(key, value(3, start_ns=NOW_NS)).outcome == "ok"
    answer = session.read(key)
    assert answer.fell_back
    expected = ("ok", 2, None) if strategy == "sticky" else ("fail", None, TOO_OLD)
    assert (answer.outcome, answer.version, answer.error) == expected
    assert client._access.statements.read_quorum.consistency_level == ConsistencyLevel.QUORUM


def test_one_replica_cannot_answer_at_a_level_that_needs_several(ring: CassandraCluster) -> None:
    options = CassandraClientOptions(hosts=ring.uri(), read_cl="QUORUM", read_strategy="pinned")
    with pytest.raises(BadAddress, match="--read-cl QUORUM"):
        options.check()


def test_a_response_that_arrives_while_its_time_out_is_handled_counts_once(
    connect: Opener, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver then calls both callbacks, of the error and of the result, and its own batches count two results."""
    client = connect(**STRONG)
    access, numbers = client._access, itertools.count()
    keys = [f"{key}-{number}" for number in range(50)]
    client.preload(keys[::2], "")
    send = access.session.execute_async

    def send_late(*arguments: Any, **named: Any) -> ResponseFuture:
        future = send(*arguments, **named)
        if next(numbers) in {3, 40}:
            future._set_final_exception(OperationTimedOut())
        return future

    monkeypatch.setattr(access.session, "execute_async", send_late)
    rows = [found.one() for found in access.execute_each(access.statements.read, [(key,) for key in keys])]
    assert [row is not None for row in rows] == [number % 2 == 0 for number in range(50)]
    assert next(numbers) >= len(keys)
