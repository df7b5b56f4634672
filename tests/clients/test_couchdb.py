"""The CouchDB client against two real leaders, directly and behind proxies that behave like Apache CouchDB."""

import itertools
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
import requests

from stalewatch.clients.couchdb.client import CouchClient
from stalewatch.clients.couchdb.documents import Documents, LeaderResolver
from stalewatch.clients.couchdb.errors import Unsettled
from stalewatch.clients.couchdb.http import Connection
from stalewatch.clients.couchdb.options import CouchOptions, Leader, leader
from stalewatch.clients.errors import BadAddress, ClientError, Unreachable
from stalewatch.clients.protocol import Answer, Body, Value
from stalewatch.clusters.local.couch import CouchCluster
from stalewatch.clusters.local.couch_leaders import url
from stalewatch.history.clock import RealClock
from stalewatch.history.operation import Depends
from tests.clients.answers import shown
from tests.clients.couchdb_traits import CouchProxy, error_of, options_for, paired

pytestmark = pytest.mark.server

TIMEOUT_S = 60

Opener = Callable[..., CouchClient]


@pytest.fixture(params=["direct", "as CouchDB"])
def servers(leaders: CouchCluster, request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """HOST:PORT of both leaders, or of the proxies in front of them."""
    nodes = list(leaders.nodes())
    if request.param == "direct":
        yield nodes
        return
    proxies = [CouchProxy(f"http://{node}", peer_url=f"http://{other}") for node, other in paired(nodes)]
    try:
        yield [proxy.address for proxy in proxies]
    finally:
        for proxy in proxies:
            proxy.close()


@pytest.fixture
def connect(servers: list[str]) -> Iterator[Opener]:
    opened: list[CouchClient] = []

    def open_client(**chosen: Any) -> CouchClient:
        opened.append(CouchClient(options_for(servers, **chosen), RealClock()))
        opened[-1].prepare()
        return opened[-1]

    yield open_client
    for client in opened:
        client.close()


@pytest.fixture
def key() -> str:
    return f"test-{secrets.token_hex(4)}"


def fork(client: CouchClient, key: str, a: Body, b: Body) -> None:
    """Write to both leaders on the same parent while replication is cut, which leaves two leaves."""
    first, second = client._documents()
    rev = (first.winner(key) or {})["_rev"]
    assert first.put(key, rev, a) in {201, 202}
    assert second.put(key, rev, b) in {201, 202}


@pytest.fixture
def forked(
    connect: Opener, key: str, leaders: CouchCluster, eventually: Callable[..., None]
) -> Callable[[Body, Body], CouchClient]:
    """Create a key with two leaves that both leaders know."""

    def make(a: Body, b: Body) -> CouchClient:
        client = connect()
        client.preload([key], "")
        nodes = leaders.nodes()
        for direction in itertools.permutations(nodes):
            leaders.unlink(*direction)
        fork(client, key, a, b)
        for direction in itertools.permutations(nodes):
            leaders.relink(*direction)
        eventually(lambda: len(client.leaves(key) or ()) == 2)
        return client

    return make


def test_a_document_shows_all_its_registers_in_one_answer(connect: Opener, key: str) -> None:
    client = connect(write_to="a", read_from="a")
    client.create_documents([key], ["post", "comment"], "padding")
    session, depends = client.session("s"), Depends(key=f"{key}#post", version=3, cause="writes_follow_reads")
    assert [session.write(f"{key}#post", Value(version, "s")).superseded for version in (3, 2)] == [False, True]
    session.write(f"{key}#comment", Value(1, "s", depends))
    comment, post = session.read(f"{key}#comment"), session.read(f"{key}#post")
    assert [(one.version, one.depends) for one in (comment, post)] == [(1, depends), (3, None)]
    assert comment.beside == post.beside == {f"{key}#post": 3, f"{key}#comment": 1}
    client.remove_documents([key], ["post", "comment"])
    assert shown(session.read(f"{key}#post")) == ("ok", 0)


def test_a_write_never_undoes_a_newer_one(connect: Opener, key: str) -> None:
    client = connect(write_to="a", read_from="a")
    client.preload([key], "padding")
    session = client.session("s")
    versions = [3, 2, 5, 4, 5, 2**40, 2**31]
    newest = list(itertools.accumulate(versions, max))
    superseded = [version <= before for version, before in zip(versions, [0, *newest], strict=False)]
    answers = [(session.write(key, Value(version, "s")), session.read(key)) for version in versions]
    assert [write.superseded for write, _ in answers] == superseded
    assert [read.version for _, read in answers] == newest
    assert {write.outcome for write, _ in answers} == {"ok"}


def test_an_answer_names_its_leader(connect: Opener, servers: list[str], key: str) -> None:
    client = connect(write_to="b", read_from="a")
    client.preload([key], "")
    session = client.session("s")
    assert session.write(key, Value(1, "s")).node == servers[1]
    assert session.read(key).node == servers[0]


def test_a_deleted_document_reads_as_version_0_and_is_not_recreated(connect: Opener, key: str) -> None:
    client = connect(write_to="a", read_from="a")
    session = client.session("s")
    assert shown(session.read(key)) == ("ok", 0)
    answer = session.write(key, Value(1, "s"))
    assert (answer.outcome, answer.error) == ("fail", "missing")
    client.preload([key], "")
    client.remove([key])
    assert session.write(key, Value(1, "s")).outcome == "fail"
    assert shown(session.read(key)) == ("ok", 0)
    assert client.final(key).version == 0


def test_a_read_returns_what_the_value_depends_on(connect: Opener, key: str) -> None:
    client = connect(write_to="a", read_from="a")
    client.preload([key], "")
    session = client.session("s")
    for version, depends in enumerate((Depends(key="x", version=7), Depends(key="x", version=8, cause="c"), None), 1):
        session.write(key, Value(version, "s", depends, "padding"))
        assert session.read(key).depends == depends


def test_a_read_returns_the_losing_sibling(forked: Callable[[Body, Body], CouchClient], key: str) -> None:
    client = forked({"v": 1, "author": "x"}, {"v": 2, "author": "y"})
    answers = [client.session("s").read(key), client.final(key)]
    for answer in answers:
        assert answer.siblings is not None
        assert {answer.version, *answer.siblings} == {1, 2}
    assert answers[0].version == answers[1].version


def test_a_final_read_is_unknown_until_the_leaders_agree(
    connect: Opener, leaders: CouchCluster, key: str, eventually: Callable[..., None]
) -> None:
    client = connect(write_to="a")
    client.preload([key], "")
    first, second = leaders.nodes()
    leaders.unlink(first, second)
    client.session("s").write(key, Value(1, "s"))
    answer = client.final(key)
    assert (answer.outcome, answer.error) == ("unknown", "leaders differ")
    leaders.relink(first, second)
    eventually(lambda: client.final(key).version == 1)


def newest(leaves: Sequence[Body]) -> Body:
    return max(leaves, key=lambda leaf: int(leaf["v"]))


def test_a_resolver_leaves_one_leaf_at_both_leaders(
    forked: Callable[[Body, Body], CouchClient], key: str, eventually: Callable[..., None]
) -> None:
    client = forked({"v": 1, "author": "x"}, {"v": 2, "author": "y"})
    resolver = client.resolvers()[0]
    assert resolver.resolve(key, newest) == "merged"
    assert resolver.resolve(key, newest) == "single"
    eventually(lambda: client.leaves(key) == [{"v": 2, "author": "y"}])


def test_concurrent_resolvers_make_the_same_edit(
    forked: Callable[[Body, Body], CouchClient], key: str, eventually: Callable[..., None]
) -> None:
    client = forked({"v": 1, "author": "x"}, {"v": 2, "author": "y"})
    meeting = threading.Barrier(2)

    def merge(leaves: Sequence[Body]) -> Body:
        meeting.wait(TIMEOUT_S)  # both have read the leaves, and neither has written
        return newest(leaves)

    threads = [threading.Thread(target=one.resolve, args=(key, merge)) for one in client.resolvers()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    eventually(lambda: client.leaves(key) == [{"v": 2, "author": "y"}])


def test_a_concurrent_write_to_the_winner_is_not_undone(forked: Callable[[Body, Body], CouchClient], key: str) -> None:
    client = forked({"v": 1, "author": "x"}, {"v": 2, "author": "y"})
    resolver = client.resolvers()[0]

    def interrupted(leaves: Sequence[Body]) -> Body:
        assert client._documents()[0].edit(key, lambda body: {**body, "v": 9}).outcome == "ok"
        return newest(leaves)

    assert resolver.resolve(key, interrupted) == "disturbed"
    while resolver.resolve(key, newest) != "single":
        pass
    assert (client._documents()[0].winner(key) or {})["v"] == 9


def test_a_concurrent_write_to_the_loser_is_merged(
    forked: Callable[[Body, Body], CouchClient], key: str, eventually: Callable[..., None]
) -> None:
    """A leader that does not know the winner yet continues with the leaf that loses here."""
    client = forked({"v": 1, "author": "x", "basket": ["x"]}, {"v": 2, "author": "y", "basket": ["y"]})
    documents = client._documents()[0]
    resolver = client.resolvers()[0]

    def union(leaves: Sequence[Body]) -> Body:
        return {**newest(leaves), "basket": sorted({item for leaf in leaves for item in leaf["basket"]})}

    def interrupted(leaves: Sequence[Body]) -> Body:
        held = documents.read(key)
        assert held is not None
        loser, body = next(iter(held.siblings.items()))
        assert documents.put(key, loser, {**body, "basket": [*body["basket"], "late"]}) == 201
        return union(leaves)

    assert resolver.resolve(key, interrupted) == "merged"
    while resolver.resolve(key, union) != "single":
        pass
    eventually(lambda: client.leaves(key) == [{"v": 2, "author": "y", "basket": ["late", "x", "y"]}])


def test_suspects_are_the_keys_with_several_leaves_changed_since_the_last_call(
    forked: Callable[[Body, Body], CouchClient], key: str
) -> None:
    client = forked({"v": 1, "author": "x"}, {"v": 2, "author": "y"})
    resolver = client.resolvers()[0]
    assert isinstance(resolver, LeaderResolver)
    assert key not in resolver.suspects()  # it only sees changes from now on
    client._documents()[0].edit(key, lambda body: {**body, "v": 3})
    assert key in resolver.suspects()
    assert key not in resolver.suspects()


def test_a_list_contains_the_appends_of_both_leaders_once_they_agree(
    connect: Opener, leaders: CouchCluster, key: str, eventually: Callable[..., None]
) -> None:
    clients = [connect(write_to="a"), connect(write_to="b")]
    lists = [f"{key}-1", f"{key}-10"]
    clients[0].create_lists(lists)
    nodes = leaders.nodes()
    leaders.unlink(*nodes)
    for number, client in enumerate(clients):
        answers = [client.session("s").append(lists[0], f"s{number}-{count}") for count in range(2)]
        assert {(answer.outcome, answer.version) for answer in answers} == {("ok", None)}
    assert clients[0].final_items(lists[0]).outcome == "unknown"
    leaders.relink(*nodes)
    eventually(lambda: clients[0].final_items(lists[0]).outcome == "ok")
    assert clients[1].final_items(lists[0]).items == ["s0-0", "s0-1", "s1-0", "s1-1"]
    assert clients[1].final_items(lists[1]).items == []
    with pytest.raises(ClientError, match=f"{key}-1"):
        clients[0].create_lists(lists)
    clients[0].remove_lists(lists)
    clients[0].create_lists(lists)
    assert clients[1].final_items(lists[0]).items == []


def test_two_leaders_issue_duplicate_ids_and_one_leader_does_not(
    connect: Opener, leaders: CouchCluster, key: str
) -> None:
    a, b = (connect(write_to=leader).session("s") for leader in "ab")
    connect().create_counters([key])
    nodes = leaders.nodes()
    for direction in itertools.permutations(nodes):
        leaders.unlink(*direction)
    assert [session.draw(key).version for session in (a, b, a, a, b)] == [1, 1, 2, 3, 2]
    for direction in itertools.permutations(nodes):
        leaders.relink(*direction)
    connect().remove_counters([key])
    answer = a.draw(key)
    assert (answer.outcome, answer.version, answer.error) == ("fail", None, "missing")


def test_concurrent_draws_at_one_leader_get_distinct_ids(connect: Opener, key: str) -> None:
    client = connect(write_to="a")
    client.create_counters([key])
    sessions = [client.session(f"s{number}") for number in range(4)]
    ids: list[int | None] = []

    def draw(number: int) -> None:
        for _ in range(10):
            with suppress(Unsettled):  # the others were always faster
                ids.append(sessions[number].draw(key).version)

    threads = [threading.Thread(target=draw, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    known = [one for one in ids if one is not None]
    assert len(set(known)) == len(known) > 10


def test_preload_rejects_a_key_that_exists_and_removes_the_keys_it_created(connect: Opener, key: str) -> None:
    client = connect()
    client.preload([key], "")
    with pytest.raises(ClientError, match=key):
        client.preload([f"{key}-2", key], "")
    assert client.leaves(f"{key}-2") == []
    assert client.final(key).version == 0


def test_preload_waits_until_both_leaders_have_every_key(connect: Opener, key: str) -> None:
    client = connect()
    keys = [f"{key}-{number}" for number in range(1200)]
    client.preload(keys, "x" * 100)
    for documents in client._documents():
        assert all(documents.winner(one) for one in keys[::100])
    client.remove(keys)
    for documents in client._documents():
        assert not any(documents.winner(one) for one in keys[::100])


def test_remove_deletes_every_leaf(forked: Callable[[Body, Body], CouchClient], key: str) -> None:
    client = forked({"v": 1, "author": "x"}, {"v": 2, "author": "y"})
    client.remove([key])
    assert client.leaves(key) == []


@pytest.fixture
def accepting(leaders: CouchCluster) -> Iterator[list[str]]:
    """Leaders that accept every second write without a quorum."""
    proxies = [
        CouchProxy(f"http://{node}", accepted_every=2, peer_url=f"http://{other}")
        for node, other in paired(leaders.nodes())
    ]
    yield [proxy.address for proxy in proxies]
    for proxy in proxies:
        proxy.close()


def test_a_write_accepted_without_a_quorum_is_unknown(accepting: list[str], key: str) -> None:
    client = CouchClient(options_for(accepting, write_to="a"), RealClock())
    client.prepare()
    client.preload([key], "")
    session = client.session("s")
    answers = [session.write(key, Value(version, "s")) for version in range(1, 5)]
    assert sorted((answer.outcome, answer.error) for answer in answers) == [
        ("ok", None),
        ("ok", None),
        ("unknown", "accepted"),
        ("unknown", "accepted"),
    ]
    client.remove([key])
    client.close()


def test_a_merge_accepted_without_a_quorum_deletes_no_leaf(
    forked: Callable[[Body, Body], CouchClient], key: str, leaders: CouchCluster
) -> None:
    client = forked({"v": 1, "author": "x"}, {"v": 2, "author": "y"})
    proxy = CouchProxy(f"http://{leaders.nodes()[0]}", accepted_every=1)
    connection = Connection(leader(url(proxy.address)), TIMEOUT_S)
    resolver = LeaderResolver(Documents(connection, "h:1", "bench"))
    assert resolver.resolve(key, newest) == "disturbed"
    proxy.accepted_every = 0
    assert resolver.resolve(key, newest) == "merged"
    resolver.close()
    proxy.close()
    client.remove([key])


def test_a_new_database_is_created_and_replicated_by_the_servers_own_addresses(
    servers: list[str], leaders: CouchCluster
) -> None:
    """Behind proxies the servers have other addresses for each other than ours: those in their configuration."""
    name = f"new-{secrets.token_hex(4)}"
    client = CouchClient(options_for(servers, db=name), RealClock())
    client.prepare()
    client.close()
    for node, other in itertools.permutations(leaders.nodes()):
        rows = requests.get(url(node, "_replicator/_all_docs?include_docs=true"), timeout=TIMEOUT_S).json()["rows"]
        mine = [row["doc"] for row in rows if name in row["id"]]
        assert [(one["source"], one["target"]) for one in mine] == [(url(node, name), url(other, name))]
    again = CouchClient(options_for(servers, db=name), RealClock())
    again.prepare()
    again.close()
    for node in leaders.nodes():
        rows = requests.get(url(node, "_replicator/_all_docs"), timeout=TIMEOUT_S).json()["rows"]
        assert sum(name in row["id"] for row in rows) == 1
        for row in rows:
            if name in row["id"]:
                requests.delete(url(node, f"_replicator/{row['id']}?rev={row['value']['rev']}"), timeout=TIMEOUT_S)


def test_a_wrong_password_is_reported_with_its_flag(leaders: CouchCluster) -> None:
    right = options_for(leaders.nodes())
    wrong = right.b._replace(password="wr0ng")  # noqa: S106 # wrong on purpose
    error = error_of(CouchOptions(a=right.a, b=wrong))
    assert isinstance(error, Unreachable)
    assert f"--couch-b {right.b.node} refused the user or the password" in str(error)
    anonymous = error_of(CouchOptions(a=right.a._replace(user=None), b=right.b))
    assert "STALEWATCH_COUCH_USERNAME" in str(anonymous)


def test_a_leader_that_is_down_is_reported_with_its_flag(leaders: CouchCluster) -> None:
    leaders.kill(leaders.nodes()[1])
    error = error_of(options_for(leaders.nodes()))
    assert isinstance(error, Unreachable)
    assert f"no CouchDB answers at --couch-b {leaders.nodes()[1]} (connection refused)" in str(error)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "is not CouchDB"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<br>", "is not CouchDB (it said '<br>' to GET /)"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", "is not CouchDB"),
        (b'HTTP/1.1 500 Oh\r\nContent-Length: 13\r\n\r\n{"error":"x"}', "is not CouchDB"),
        (b"220 smtp\r\n", "is not CouchDB (it said '220 smtp"),
    ],
)
def test_a_server_that_is_not_couchdb_is_reported(answer: bytes, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(65536)
                client.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        a = Leader("http", "127.0.0.1", server.getsockname()[1])
        error = error_of(CouchOptions(a=a, b=a._replace(port=1), timeout_s=2))
        assert isinstance(error, Unreachable)
        assert words in str(error)
        assert a.node in str(error)


def test_replication_that_does_not_work_is_reported(leaders: CouchCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers are given addresses for each other where nothing listens."""
    monkeypatch.setattr("stalewatch.clients.couchdb.setup.READY_S", 2.0)
    nowhere = Leader("http", "127.0.0.1", 1, "admin", "pass")
    name = f"lost-{secrets.token_hex(4)}"
    error = error_of(options_for(leaders.nodes(), db=name, peer_a=nowhere, peer_b=nowhere._replace(port=2)))
    assert isinstance(error, Unreachable)
    assert "--peer-a" in str(error)
    assert leaders.nodes()[0] in str(error)


def test_a_failing_replication_is_reported_early_with_the_servers_own_words(
    leaders: CouchCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stalewatch.clients.couchdb.setup.READY_S", 3600.0)
    monkeypatch.setattr("stalewatch.clients.couchdb.setup.LOOK_S", 0.1)
    nowhere = Leader("http", "127.0.0.1", 1, "admin", "pass")
    failure = "db_not_found: could not open http://admin:wr0ng@127.0.0.1:1/bench/"
    proxies = [CouchProxy(f"http://{node}", failure=failure) for node in leaders.nodes()]
    nodes = [proxy.address for proxy in proxies]
    name, peer_b = f"lost-{secrets.token_hex(4)}", nowhere._replace(port=2)
    error = error_of(options_for(nodes, db=name, peer_a=nowhere, peer_b=peer_b))
    assert "crashing db_not_found: could not open http://***@127.0.0.1:1/bench/" in str(error)
    for proxy in proxies:
        proxy.close()


def test_one_address_for_both_leaders_is_rejected_before_connecting() -> None:
    a = Leader("http", "127.0.0.1", 1)
    assert isinstance(error_of(CouchOptions(a=a, b=a)), BadAddress)


STRATEGIES = ("plain", "sticky", "token", "pinned")


def test_strategies_find_an_own_write_that_replication_has_not_brought(
    connect: Opener, servers: list[str], leaders: CouchCluster, key: str
) -> None:
    clients = {strategy: connect(write_to="a", read_from="b", read_strategy=strategy) for strategy in STRATEGIES}
    next(iter(clients.values())).preload([key], "")
    for direction in itertools.permutations(leaders.nodes()):
        leaders.unlink(*direction)
    found = {}
    for version, (strategy, client) in enumerate(clients.items(), start=1):
        session = client.session("s")
        before = session.read(key)
        session.write(key, Value(version, "s"))
        answer = session.read(key)
        assert (before.version, before.node) == (0, servers[1])
        found[strategy] = answer.version, answer.node, answer.fell_back
    a, b = servers
    assert found == {"plain": (0, b, None), "sticky": (2, a, True), "token": (3, a, True), "pinned": (0, b, False)}


def test_pinned_sessions_read_at_one_leader_each(connect: Opener, servers: list[str], key: str) -> None:
    client = connect(write_to="both", read_from="both", read_strategy="pinned")
    client.preload([key], "")
    homes = set()
    for number in range(20):
        session = client.session(f"s{number}")
        nodes = {session.read(key).node for _ in range(5)}
        assert len(nodes) == 1
        homes |= nodes
    assert homes == set(servers)


def test_token_shows_the_leaf_that_the_session_has_seen_if_another_one_won(
    forked: Callable[[Body, Body], CouchClient], connect: Opener, key: str
) -> None:
    # The same number of edits: the greater revision wins, whichever that is.
    client = forked({"v": 1, "author": "x"}, {"v": 2, "author": "y"})
    winner = client.session("s").read(key).version
    for seen in (1, 2):
        session = connect(read_from="a", read_strategy="token").session("s")
        session._reads.wrote(key, seen, Answer(version=seen))
        answer = session.read(key)
        assert answer.version == max(seen, winner or 0)
        assert answer.siblings == [3 - (answer.version or 0)]
        assert answer.fell_back is False
