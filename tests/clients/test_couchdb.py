"""The CouchDB client against two real leaders, bare and behind a disguise that shows what Apache CouchDB does."""

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
from stalewatch.clients.protocol import Body, Value
from stalewatch.clusters.local.couch import CouchCluster
from stalewatch.clusters.local.leaders import url
from stalewatch.history.clock import RealClock
from stalewatch.history.operation import Depends
from tests.clients.answers import shown
from tests.clients.couchdb_traits import Disguise, apart

pytestmark = pytest.mark.server

TIMEOUT_S = 60

Opener = Callable[..., CouchClient]


@pytest.fixture(params=["bare", "as CouchDB"])
def servers(leaders: CouchCluster, request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """HOST:PORT of both leaders, or of what stands before them."""
    nodes = list(leaders.nodes())
    if request.param == "bare":
        yield nodes
        return
    disguises = [Disguise(f"http://{node}", peer_url=f"http://{other}") for node, other in apart(nodes)]
    try:
        yield [disguise.address for disguise in disguises]
    finally:
        for disguise in disguises:
            disguise.close()


def options_for(nodes: Sequence[str], **chosen: Any) -> CouchOptions:
    a, b = (leader(url(node)) for node in nodes)
    return CouchOptions(a=a, b=b, **chosen)


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
    """Write to one leader and the other on one parent, with replication held up: two leaves."""
    first, second = client._documents()
    rev = (first.winner(key) or {})["_rev"]
    assert first.put(key, rev, a) in {201, 202}
    assert second.put(key, rev, b) in {201, 202}


@pytest.fixture
def forked(
    connect: Opener, key: str, leaders: CouchCluster, eventually: Callable[..., None]
) -> Callable[[Body, Body], CouchClient]:
    """Make a key with two leaves that both leaders know."""

    def make(a: Body, b: Body) -> CouchClient:
        client = connect()
        client.preload([key], "")
        nodes = leaders.nodes()
        for way in itertools.permutations(nodes):
            leaders.unlink(*way)
        fork(client, key, a, b)
        for way in itertools.permutations(nodes):
            leaders.relink(*way)
        eventually(lambda: len(client.leaves(key) or ()) == 2)
        return client

    return make


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


def test_answers_name_the_leader_that_gave_them(connect: Opener, servers: list[str], key: str) -> None:
    client = connect(write_to="b", read_from="a")
    client.preload([key], "")
    session = client.session("s")
    assert session.write(key, Value(1, "s")).node == servers[1]
    assert session.read(key).node == servers[0]


def test_a_document_that_is_gone_reads_as_nothing_and_is_not_brought_back(connect: Opener, key: str) -> None:
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


def test_a_read_says_what_the_value_depends_on(connect: Opener, key: str) -> None:
    client = connect(write_to="a", read_from="a")
    client.preload([key], "")
    session = client.session("s")
    for version, depends in enumerate((Depends(key="x", version=7), Depends(key="x", version=8, cause="c"), None), 1):
        session.write(key, Value(version, "s", depends, "padding"))
        assert session.read(key).depends == depends


def test_a_read_shows_the_sibling_that_lost(forked: Callable[[Body, Body], CouchClient], key: str) -> None:
    client = forked({"v": 1, "author": "x"}, {"v": 2, "author": "y"})
    seen = [client.session("s").read(key), client.final(key)]
    for answer in seen:
        assert answer.siblings is not None
        assert {answer.version, *answer.siblings} == {1, 2}
    assert seen[0].version == seen[1].version


def test_a_final_read_waits_until_the_leaders_agree(
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


def test_two_resolvers_at_once_make_the_same_edit(
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


def test_a_writer_that_comes_between_is_not_undone(forked: Callable[[Body, Body], CouchClient], key: str) -> None:
    client = forked({"v": 1, "author": "x"}, {"v": 2, "author": "y"})
    resolver = client.resolvers()[0]

    def interrupted(leaves: Sequence[Body]) -> Body:
        assert client._documents()[0].edit(key, lambda body: {**body, "v": 9}).outcome == "ok"
        return newest(leaves)

    assert resolver.resolve(key, interrupted) == "disturbed"
    while resolver.resolve(key, newest) != "single":
        pass
    assert (client._documents()[0].winner(key) or {})["v"] == 9


def test_a_writer_on_the_losing_leaf_is_merged_too(
    forked: Callable[[Body, Body], CouchClient], key: str, eventually: Callable[..., None]
) -> None:
    """As at a leader that did not know the winner yet: it goes on with the leaf that loses here."""
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


def test_suspects_are_the_keys_with_several_leaves_since_the_last_look(
    forked: Callable[[Body, Body], CouchClient], key: str
) -> None:
    client = forked({"v": 1, "author": "x"}, {"v": 2, "author": "y"})
    resolver = client.resolvers()[0]
    assert isinstance(resolver, LeaderResolver)
    assert key not in resolver.suspects()  # it looks at what changes from now on
    client._documents()[0].edit(key, lambda body: {**body, "v": 3})
    assert key in resolver.suspects()
    assert key not in resolver.suspects()


def test_a_list_holds_what_was_appended_at_either_leader_once_both_have_it(
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


def test_two_leaders_give_one_id_twice_and_one_leader_does_not(
    connect: Opener, leaders: CouchCluster, key: str
) -> None:
    a, b = (connect(write_to=leader).session("s") for leader in "ab")
    connect().create_counters([key])
    nodes = leaders.nodes()
    for way in itertools.permutations(nodes):
        leaders.unlink(*way)
    assert [session.draw(key).version for session in (a, b, a, a, b)] == [1, 1, 2, 3, 2]
    for way in itertools.permutations(nodes):
        leaders.relink(*way)
    connect().remove_counters([key])
    answer = a.draw(key)
    assert (answer.outcome, answer.version, answer.error) == ("fail", None, "missing")


def test_sessions_that_draw_at_once_at_one_leader_get_ids_of_their_own(connect: Opener, key: str) -> None:
    client = connect(write_to="a")
    client.create_counters([key])
    sessions = [client.session(f"s{number}") for number in range(4)]
    ids: list[int | None] = []

    def draw(number: int) -> None:
        for _ in range(10):
            with suppress(Unsettled):  # the others were faster all the time
                ids.append(sessions[number].draw(key).version)

    threads = [threading.Thread(target=draw, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    known = [one for one in ids if one is not None]
    assert len(set(known)) == len(known) > 10


def test_preloading_a_key_that_exists_is_an_error_and_takes_back_the_others(connect: Opener, key: str) -> None:
    client = connect()
    client.preload([key], "")
    with pytest.raises(ClientError, match=key):
        client.preload([f"{key}-2", key], "")
    assert client.leaves(f"{key}-2") == []
    assert client.final(key).version == 0


def test_every_preloaded_key_is_at_both_leaders_at_once(connect: Opener, key: str) -> None:
    client = connect()
    keys = [f"{key}-{number}" for number in range(1200)]
    client.preload(keys, "x" * 100)
    for documents in client._documents():
        assert all(documents.winner(one) for one in keys[::100])
    client.remove(keys)
    for documents in client._documents():
        assert not any(documents.winner(one) for one in keys[::100])


def test_removing_ends_every_leaf(forked: Callable[[Body, Body], CouchClient], key: str) -> None:
    client = forked({"v": 1, "author": "x"}, {"v": 2, "author": "y"})
    client.remove([key])
    assert client.leaves(key) == []


@pytest.fixture
def accepting(leaders: CouchCluster) -> Iterator[list[str]]:
    """Leaders of which every second write is accepted without a quorum."""
    disguises = [
        Disguise(f"http://{node}", accepted_every=2, peer_url=f"http://{other}")
        for node, other in apart(leaders.nodes())
    ]
    yield [disguise.address for disguise in disguises]
    for disguise in disguises:
        disguise.close()


def test_a_write_without_a_quorum_is_unknown(accepting: list[str], key: str) -> None:
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


def test_a_merge_without_a_quorum_ends_no_leaf(
    forked: Callable[[Body, Body], CouchClient], key: str, leaders: CouchCluster
) -> None:
    client = forked({"v": 1, "author": "x"}, {"v": 2, "author": "y"})
    disguise = Disguise(f"http://{leaders.nodes()[0]}", accepted_every=1)
    seen_as = leader(url(disguise.address))
    resolver = LeaderResolver(Documents(Connection(seen_as, TIMEOUT_S), "h:1", "bench"))
    assert resolver.resolve(key, newest) == "disturbed"
    disguise.accepted_every = 0
    assert resolver.resolve(key, newest) == "merged"
    resolver.close()
    disguise.close()
    client.remove([key])


def test_a_new_database_is_created_and_replicated_under_the_servers_own_names(
    servers: list[str], leaders: CouchCluster
) -> None:
    """Behind a disguise the servers know each other by other names than we do: as their configuration says."""
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


def trouble(options: CouchOptions) -> ClientError:
    with pytest.raises(ClientError) as caught:
        CouchClient(options, RealClock()).prepare()
    assert "\n" not in str(caught.value)
    assert "wr0ng" not in str(caught.value)
    return caught.value


def test_a_wrong_password_is_named(leaders: CouchCluster) -> None:
    right = options_for(leaders.nodes())
    wrong = right.b._replace(password="wr0ng")  # noqa: S106 # wrong on purpose
    error = trouble(CouchOptions(a=right.a, b=wrong))
    assert isinstance(error, Unreachable)
    assert f"--couch-b {right.b.node} refused the user or the password" in str(error)
    nobody = trouble(CouchOptions(a=right.a._replace(user=None), b=right.b))
    assert "STALEWATCH_COUCH_USERNAME" in str(nobody)


def test_a_leader_that_is_down_is_named(leaders: CouchCluster) -> None:
    leaders.kill(leaders.nodes()[1])
    error = trouble(options_for(leaders.nodes()))
    assert isinstance(error, Unreachable)
    assert f"no CouchDB answers at --couch-b {leaders.nodes()[1]} (connection refused)" in str(error)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "is not CouchDB"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<br>", "is not CouchDB"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", "is not CouchDB"),
        (b'HTTP/1.1 500 Oh\r\nContent-Length: 13\r\n\r\n{"error":"x"}', "is not CouchDB"),
        (b"220 smtp\r\n", "no CouchDB answers"),
    ],
)
def test_a_server_that_is_not_couchdb_is_named(answer: bytes, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:

        def serve() -> None:
            client, _ = stranger.accept()
            with client:
                client.recv(65536)
                client.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        a = Leader("http", "127.0.0.1", stranger.getsockname()[1])
        error = trouble(CouchOptions(a=a, b=a._replace(port=1), timeout_s=2))
        assert isinstance(error, Unreachable)
        assert words in str(error)
        assert a.node in str(error)


def test_replication_that_does_not_work_is_named(leaders: CouchCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers are told names of each other where nobody listens."""
    monkeypatch.setattr("stalewatch.clients.couchdb.setup.READY_S", 2.0)
    nowhere = Leader("http", "127.0.0.1", 1, "admin", "pass")
    name = f"lost-{secrets.token_hex(4)}"
    error = trouble(options_for(leaders.nodes(), db=name, peer_a=nowhere, peer_b=nowhere._replace(port=2)))
    assert isinstance(error, Unreachable)
    assert "--peer-a" in str(error)
    assert leaders.nodes()[0] in str(error)


def test_one_address_for_both_is_refused_before_anything_is_sent() -> None:
    a = Leader("http", "127.0.0.1", 1)
    assert isinstance(trouble(CouchOptions(a=a, b=a)), BadAddress)
