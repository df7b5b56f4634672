"""The MongoDB client against a real replica set."""

import itertools
import secrets
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import psutil
import pymongo
import pytest
from pymongo.errors import PyMongoError

from stalewatch.clients.errors import BadAddress, ClientError, Unreachable
from stalewatch.clients.mongodb import DATABASE
from stalewatch.clients.mongodb.client import MongoDatabaseClient, MongoSession
from stalewatch.clients.mongodb.options import MongoOptions
from stalewatch.clients.protocol import Answer, Value
from stalewatch.clusters.local import ports, programs
from stalewatch.clusters.local.mongo import PROGRAM, MongoCluster
from stalewatch.history.clock import RealClock
from stalewatch.history.operation import Depends
from tests.clients.answers import shown
from tests.clients.certificates import certificate

pytestmark = pytest.mark.server

PASSWORD = "hunter2/"  # noqa: S105 # of servers that exist only during these tests


@pytest.fixture
def mongo(whole: MongoCluster) -> MongoCluster:
    return whole


@pytest.fixture
def mongo_uri(whole: MongoCluster) -> str:
    return whole.uri()


@pytest.fixture
def breakable(whole: MongoCluster) -> MongoCluster:
    """A cluster that the test may break: it is repaired before the next one."""
    return whole


Opener = Callable[..., MongoDatabaseClient]


@pytest.fixture
def connect(mongo_uri: str) -> Iterator[Opener]:
    opened: list[MongoDatabaseClient] = []

    def open_client(**chosen: object) -> MongoDatabaseClient:
        opened.append(MongoDatabaseClient(MongoOptions(**{"uri": mongo_uri, **chosen}), RealClock()))
        opened[-1].prepare()
        return opened[-1]

    yield open_client
    for client in opened:
        client.close()


@pytest.fixture
def key() -> str:
    return f"test-{secrets.token_hex(4)}"


def error_of(**chosen: object) -> ClientError:
    with pytest.raises(ClientError) as caught:
        MongoDatabaseClient(MongoOptions(**chosen), RealClock()).prepare()
    assert "\n" not in str(caught.value)
    return caught.value


T = TypeVar("T")


def until(condition: Callable[[], T], timeout_s: float = 60) -> T:
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return result


@pytest.mark.parametrize("read_from", ["primary", "secondary", "nearest", None])
def test_sessions_leave_no_more_connections_open_than_are_counted(
    mongo: MongoCluster, connect: Opener, key: str, read_from: str | None
) -> None:
    sessions, ports = 30, until(lambda: member_ports(mongo))
    chosen = read_from or f"127.0.0.1:{min(ports)}"
    client = connect(read_from=chosen, sessions=sessions)
    client.preload([key], "")
    idle = len(connections(ports))
    together = threading.Barrier(sessions)

    def work(number: int) -> None:
        session = client.session(str(number))
        for version in range(1, 6):
            together.wait(60)
            session.write(key, Value(version, ""))
            together.wait(60)
            session.read(key)

    with ThreadPoolExecutor(sessions) as pool:
        list(pool.map(work, range(sessions)))
    opened = len(connections(ports)) - idle
    assert 0 < opened <= sessions * DATABASE.connections_per_user(client._options)


def member_ports(cluster: MongoCluster) -> set[int]:
    """Return the ports of all members; nothing until they are all known."""
    with pymongo.MongoClient(cluster.uri()) as client:
        client.admin.command("ping")
        found = {port for _, port in client.nodes if port is not None}
    return found if len(found) == len(cluster.nodes()) else set()


def connections(ports: set[int]) -> list[object]:
    """Return this process's connections to these ports."""
    mine = psutil.Process().net_connections("tcp")
    return [one for one in mine if one.status == psutil.CONN_ESTABLISHED and one.raddr.port in ports]


def test_a_write_never_undoes_a_newer_one(connect: Opener, key: str) -> None:
    client = connect()
    client.preload([key], "")
    session = client.session("a")
    wide = 2**31  # where BSON's integers change their width
    versions = [3, 2, 5, 4, 5, wide - 1, wide, wide - 1, 2**40, wide]
    newest = list(itertools.accumulate(versions, max))
    superseded = [version <= before for version, before in zip(versions, [0, *newest], strict=False)]
    answers = []
    for version in versions:
        author = f"{wide * wide - version:020}"  # falls as the version rises
        answers.append((session.write(key, Value(version, author, payload=author)), session.read(key)))
    assert [write.superseded for write, _ in answers] == superseded
    assert [read.version for _, read in answers] == newest
    assert {write.outcome for write, _ in answers} == {"ok"}


def test_a_write_to_a_deleted_document_fails_and_does_not_recreate_it(connect: Opener, key: str) -> None:
    session = connect().session("a")
    answer = session.write(key, Value(1, "a"))
    assert (answer.outcome, answer.error, answer.superseded) == ("fail", "missing", False)
    assert session.read(key).version == 0
    assert connect(retries=True).session("a").write(key, Value(1, "a")).outcome == "unknown"


def test_a_final_read_returns_every_item_that_one_member_acknowledged(connect: Opener, key: str) -> None:
    client = connect(write_concern="1")
    lists = [f"{key}-1", f"{key}-10"]
    client.create_lists(lists)
    session = client.session("a")
    for count in range(20):  # right after the write, when a majority read alone would miss it
        answer = session.append(lists[0], f"a-{count}")
        assert (answer.outcome, answer.version) == ("ok", None)
        assert client.final_items(lists[0]).items == sorted(f"a-{number}" for number in range(count + 1))
    assert client.final_items(lists[1]).items == []
    assert client.final_items(lists[0]).node == answer.node


def test_removing_a_list_deletes_its_items_and_no_others(connect: Opener, key: str) -> None:
    client = connect()
    lists = [f"{key}-1", f"{key}-10"]
    client.create_lists(lists)
    for one in lists:
        client.session("a").append(one, "a-1")
    with pytest.raises(ClientError, match=f"{key}-1' already exists"):
        client.create_lists(lists[:1])
    client.remove_lists(lists[:1])
    assert (client.final_items(lists[0]).items, client.final_items(lists[1]).items) == ([], ["a-1"])
    client.remove_lists(lists)
    client.create_lists(lists)
    assert client.final_items(lists[1]).items == []


def test_a_counter_counts_and_a_deleted_one_is_not_recreated(connect: Opener, key: str) -> None:
    client = connect()
    client.create_counters([key])
    session = client.session("a")
    assert [session.draw(key).version for _ in range(5)] == [1, 2, 3, 4, 5]
    assert session.draw(key).node == session.append(key, "a-1").node
    client.remove_counters([key])
    assert shown(session.draw(key)) == ("fail", None)
    assert shown(connect(retries=True).session("a").draw(key)) == ("unknown", None)


def test_an_item_or_an_id_without_enough_acknowledgements_is_unknown_and_may_exist(
    connect: Opener, breakable: MongoCluster, key: str
) -> None:
    client = connect(write_concern="3", timeout_s=1)
    client.create_lists([key])
    client.create_counters([f"{key}-ids"])
    session = client.session("a")
    primary = until(breakable.primary)
    follower = next(node for node in breakable.nodes() if node != primary)
    breakable.pause(follower)
    try:
        for send in (lambda: session.append(key, "a-1"), lambda: session.draw(f"{key}-ids")):
            with pytest.raises(PyMongoError) as caught:
                send()
            assert client.explain(caught.value) == ("unknown", "WTimeoutError:64")
        patient = connect(write_concern="majority", timeout_s=30)
        assert patient.final_items(key).items == ["a-1"]
    finally:
        breakable.resume(follower)
    drawn = patient.session("b").draw(f"{key}-ids")
    assert drawn.version == 2  # the first was applied: a gap, which is not a violation


def test_a_read_returns_what_the_value_depends_on(connect: Opener, key: str) -> None:
    client = connect()
    client.preload([key], "padding")
    session = client.session("a")
    assert shown(session.read(key)) == ("ok", 0)
    for depends in (None, Depends(key="b", version=7), Depends(key="b", version=8, cause="monotonic_writes")):
        session.write(key, Value(session.read(key).version + 1, "a", depends, "padding"))
        assert session.read(key).depends == depends


def test_every_answer_names_its_node(connect: Opener, mongo: MongoCluster, key: str) -> None:
    connect().preload([key], "")
    primary = until(mongo.primary)
    followers = set(mongo.nodes()) - {primary}
    session = connect(read_from="secondary", write_concern="majority").session("a")
    assert session.write(key, Value(1, "a")).node == primary
    assert {session.read(key).node for _ in range(20)} <= followers
    assert connect().session("a").read(key).node == primary
    for node in mongo.nodes():
        pinned = connect(read_from=node).session("a")
        assert {pinned.read(key).node, pinned.read("no-such-key").node} == {node}
        assert pinned.write(key, Value(1, "a")).node == primary


def test_followers_return_stale_versions_and_never_wrong_ones(connect: Opener, key: str) -> None:
    connect().preload([key], "")
    session = connect(write_concern="1", read_from="secondary").session("a")
    seen = []
    for version in range(1, 3000):
        session.write(key, Value(version, "a"))
        seen.append(version - (session.read(key).version or 0))
        if len(seen) > 100 and seen[-1] > 0:
            break
    assert min(seen) >= 0
    assert max(seen) > 0


@pytest.mark.parametrize("read_concern", ["local", "majority", "linearizable"])
def test_majority_writes_are_read_back_from_the_primary(connect: Opener, key: str, read_concern: str) -> None:
    client = connect(write_concern="majority", journal=True, read_concern=read_concern, read_from="primary")
    client.preload([key], "")
    session = client.session("a")
    for version in range(1, 30):
        assert session.write(key, Value(version, "a")).outcome == "ok"
        assert session.read(key).version == version


def test_options_override_the_settings_of_the_uri(connect: Opener, mongo_uri: str) -> None:
    uri = f"{mongo_uri}&w=majority&journal=true&wtimeoutMS=500&readPreference=secondary&readConcernLevel=majority"
    settings = connect(uri=uri).settings()
    assert settings["write_concern"] == {"w": "majority", "j": True, "wtimeout": 500}
    assert (settings["read_from"], settings["read_concern"]) == ("secondary", "majority")
    chosen = connect(uri=uri, write_concern="2", journal=False, read_from="nearest", read_concern="local").settings()
    assert chosen["write_concern"] == {"w": 2, "j": False, "wtimeout": 500}
    assert (chosen["read_from"], chosen["read_concern"]) == ("nearest", "local")
    assert connect().settings()["write_concern"] == {"w": 1, "wtimeout": 1800}


def test_preload_rejects_a_key_that_exists_and_removes_the_keys_it_created(connect: Opener, key: str) -> None:
    client = connect()
    client.preload([f"{key}-1500"], "")
    client.session("a").write(f"{key}-1500", Value(1, "a"))
    with pytest.raises(ClientError, match=rf"'{key}-1500' already exists in bench\.kv"):
        client.preload([f"{key}-{number}" for number in range(2000)], "")
    session = client.session("a")
    assert session.write(f"{key}-0", Value(1, "a")).error == "missing"
    assert session.write(f"{key}-1499", Value(1, "a")).error == "missing"
    assert session.read(f"{key}-1500").version == 1


def test_preload_rejects_a_value_larger_than_a_document(connect: Opener, key: str) -> None:
    with pytest.raises(ClientError, match="smaller"):
        connect().preload([key], "x" * 17_000_000)


def test_remove_deletes_only_the_given_keys(connect: Opener, key: str) -> None:
    client = connect()
    keys = [f"{key}-{number}" for number in range(2500)]
    client.preload([*keys, key], "x" * 1000)
    client.remove(keys)
    session = client.session("a")
    assert {session.write(deleted, Value(1, "a")).error for deleted in (keys[0], keys[1200], keys[-1])} == {"missing"}
    assert session.write(key, Value(1, "a")).outcome == "ok"


def test_a_session_needs_a_prepared_client(connect: Opener, mongo_uri: str) -> None:
    client = connect()
    client.close()
    client.close()
    for unprepared in (client, MongoDatabaseClient(MongoOptions(uri=mongo_uri), RealClock())):
        with pytest.raises(RuntimeError, match="prepare"):
            unprepared.session("a")


def attempt(client: MongoDatabaseClient, operation: Callable[[], Answer]) -> tuple[str, str | None]:
    try:
        answer = operation()
    except PyMongoError as error:
        return client.explain(error)
    return answer.outcome, answer.error


def test_a_majority_write_without_followers_is_unknown_and_then_fails(
    connect: Opener, breakable: MongoCluster, key: str
) -> None:
    client = connect(write_concern="majority", read_concern="linearizable")
    client.preload([key], "")
    session = client.session("a")
    hasty = connect(write_concern="majority", timeout_s=0.5).session("a")  # the primary steps down after 2 s
    followers = set(breakable.nodes()) - {until(breakable.primary)}
    for node in followers:
        breakable.pause(node)
    assert attempt(client, lambda: hasty.write(key, Value(1, "a"))) == ("unknown", "WTimeoutError:64")
    outcome, label = attempt(client, lambda: session.read(key))
    assert outcome != "ok"
    assert str(label).partition(":")[0] in {"ExecutionTimeout", "NotPrimaryError"}
    until(lambda: attempt(client, lambda: session.write(key, Value(2, "a"))) == ("fail", "ServerSelectionTimeoutError"))
    assert attempt(client, lambda: client.final(key)) == ("fail", "ServerSelectionTimeoutError")
    for node in followers:
        breakable.resume(node)
    until(lambda: attempt(client, lambda: client.final(key))[0] == "ok")
    assert client.final(key).version == 1


class BusySessions:
    """Sessions that each write and read a key of their own, and the outcomes."""

    def __init__(self, client: MongoDatabaseClient, key: str, sessions: int = 20) -> None:
        self.keys = [f"{key}-{number}" for number in range(sessions)]
        self.outcomes: Counter[tuple[str, str, str | None]] = Counter()
        self.failed: defaultdict[str, set[int]] = defaultdict(set)
        self.acknowledged: dict[str, int] = {}
        self.failed_but_read: list[tuple[str, Answer]] = []
        self._client = client
        self._over = threading.Event()

    @contextmanager
    def working(self) -> Iterator[None]:
        self._client.preload(self.keys, "")
        threads = [threading.Thread(target=self._session, args=(key,)) for key in self.keys]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def writes_since(self) -> Callable[[], bool]:
        before = self.outcomes["write", "ok", None]
        return lambda: self.outcomes["write", "ok", None] > before + len(self.keys)

    def finals(self) -> dict[str, int | None]:
        return {key: self._client.final(key).version for key in self.keys}

    def _session(self, key: str) -> None:
        session = self._client.session(key)
        for version in itertools.count(1):
            if self._over.is_set():
                return
            outcome, error = attempt(self._client, lambda version=version: session.write(key, Value(version, key)))
            self.outcomes["write", outcome, error] += 1
            if outcome == "fail":
                self.failed[key].add(version)
            if outcome == "ok":
                self.acknowledged[key] = version
            self._read(session, key)

    def _read(self, session: object, key: str) -> None:
        def read() -> Answer:
            answer = session.read(key)
            if answer.version in self.failed[key]:
                self.failed_but_read.append((key, answer))
            return answer

        self.outcomes["read", *attempt(self._client, read)] += 1


def test_a_killed_primary_causes_only_known_errors_and_loses_no_acknowledged_write(
    connect: Opener, breakable: MongoCluster, key: str
) -> None:
    busy = BusySessions(connect(write_concern="majority"), key)
    with busy.working():
        until(busy.writes_since())
        primary = until(breakable.primary)
        breakable.kill(primary)
        until(lambda: breakable.primary() not in (None, primary))
        until(busy.writes_since())
        breakable.restart(primary)
    labels = {error for _, outcome, error in busy.outcomes if outcome != "ok"}
    known = {"AutoReconnect", "ServerSelectionTimeoutError", "NotPrimaryError", "WTimeoutError", "WriteConcernError"}
    assert labels
    assert {str(label).partition(":")[0] for label in labels} <= known
    assert not busy.failed_but_read
    assert all(busy.finals()[key] >= version for key, version in busy.acknowledged.items())


def test_a_failed_write_is_never_read_however_often_the_primary_changes(
    connect: Opener, breakable: MongoCluster, key: str
) -> None:
    client = connect(write_concern="1")
    busy = BusySessions(client, key)
    with busy.working(), pymongo.MongoClient(breakable.uri(), serverSelectionTimeoutMS=20_000) as admin:
        for _ in range(3):
            until(busy.writes_since())
            with suppress(PyMongoError):
                admin.admin.command("replSetStepDown", 1, secondaryCatchUpPeriodSecs=1, force=True)
        until(busy.writes_since())
    assert any(outcome == "fail" for _, outcome, _ in busy.outcomes)
    assert not busy.failed_but_read
    assert not [key for key, version in busy.finals().items() if version in busy.failed[key]]


def test_a_uri_with_the_wrong_set_is_rejected_with_the_actual_one(mongo: MongoCluster, mongo_uri: str) -> None:
    error = error_of(uri=mongo_uri.replace("rs0", "other"), timeout_s=0.5)
    assert isinstance(error, BadAddress)
    assert "belongs to replica set rs0, not other" in str(error)
    assert any(node in str(error) for node in mongo.nodes())


def test_a_write_concern_that_can_never_be_met_is_rejected(mongo_uri: str) -> None:
    assert "write concern 5 can never be met" in str(error_of(uri=mongo_uri, write_concern="5"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"capped": True, "size": 4096}, "is capped"),
        ({"timeseries": {"timeField": "t"}}, "is a time series"),
        ({"viewOn": "kv", "pipeline": []}, "is a view"),
        ({"validator": {"email": {"$exists": True}}}, "has a validator"),
        ({"collation": {"locale": "en", "strength": 2}}, "has a collation"),
    ],
)
def test_a_collection_that_would_falsify_a_verdict_is_refused(
    mongo_uri: str, key: str, options: dict[str, object], words: str
) -> None:
    with pymongo.MongoClient(mongo_uri) as admin:
        admin["bench"].create_collection(key, **options)
        error = error_of(uri=mongo_uri, coll=key)
        admin["bench"].drop_collection(key)
    assert isinstance(error, BadAddress)
    assert f"the collection bench.{key} {words}" in str(error)
    assert str(error).endswith("choose another --coll")


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({"expireAfterSeconds": 60}, "has the TTL index since_1"),
        ({"unique": True}, "has the unique index since_1"),
    ],
)
def test_an_index_that_deletes_or_refuses_documents_is_refused(
    mongo_uri: str, key: str, index: dict[str, object], words: str
) -> None:
    with pymongo.MongoClient(mongo_uri) as admin:
        admin["bench"][key].create_index("since", **index)
        error = error_of(uri=mongo_uri, coll=key)
        admin["bench"].drop_collection(key)
    assert f"the collection bench.{key} {words}" in str(error)


def test_harmless_properties_and_odd_names_are_accepted(connect: Opener, mongo_uri: str, key: str) -> None:
    odd = f"Order {key} ünïcode.x-'\""
    with pymongo.MongoClient(mongo_uri) as admin:
        admin["bench"].create_collection(odd, validator={"a": 1}, validationAction="warn")
        admin["bench"][odd].create_index("other")
        client = connect(coll=odd)
        client.preload([key], "")
        assert client.session("a").write(key, Value(1, "a")).outcome == "ok"
        assert client.final(key).version == 1
        admin["bench"].drop_collection(odd)


def test_a_unique_index_that_appears_later_is_not_taken_for_another_run(
    connect: Opener, mongo_uri: str, key: str
) -> None:
    with pymongo.MongoClient(mongo_uri) as admin:
        client = connect(coll=key)
        admin["bench"][key].create_index("email", unique=True)
        with pytest.raises(ClientError, match=r"a unique index .*MongoDB said: E11000 .*email_1"):
            client.preload(["a", "b"], "")
        admin["bench"].drop_collection(key)


def test_names_that_the_server_refuses_are_named(connect: Opener) -> None:
    connect().preload(["case"], "")
    connect().remove(["case"])
    for chosen in ({"db": "BENCH"}, {"coll": "x" * 300}):
        with pytest.raises(BadAddress, match=r"refused the names --db .* --coll .*; it said: "):
            connect(**chosen).preload(["a"], "")


def test_seeds_are_members_of_one_set_each_named_once(mongo: MongoCluster, mongo_uri: str, guarded: str) -> None:
    first = mongo.nodes()[0]
    alias = first.replace("127.0.0.1", "localhost")
    assert f"names {first} twice" in str(error_of(uri=f"mongodb://{first},{first}/?replicaSet=rs0"))
    assert f"{first}, {alias} are both {first}" in str(error_of(uri=mongo_uri.replace(first, f"{first},{alias}")))
    assert "names members of two replica sets" in str(
        error_of(uri=f"mongodb://{mongo.nodes()[0]},{mongo.nodes()[1]},{guarded}/?replicaSet=rs0")
    )


def test_names_of_members_that_do_not_resolve_are_listed(mongo: MongoCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve, first = socket.getaddrinfo, mongo.nodes()[0]

    def lacking(host: str, *more: object, **named: object) -> list[object]:
        if host == "127.0.0.1":
            raise socket.gaierror(-2, "Name or service not known")
        return resolve(host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", lacking)
    error = error_of(uri=f"mongodb://{first.replace('127.0.0.1', 'localhost')}/?replicaSet=rs0")
    assert f"localhost:{first.rpartition(':')[2]} answered, but its set has members whose names do not" in str(error)
    assert "127.0.0.1; for each put a line into /etc/hosts" in str(error)
    assert "Name or service not known" in str(error)


def test_tags_and_staleness_of_the_uri_are_honoured_and_shown(connect: Opener, mongo_uri: str) -> None:
    uri = f"{mongo_uri}&readPreferenceTags=dc:nowhere"
    settings = connect(uri=f"{uri}&readPreferenceTags=&maxStalenessSeconds=90", read_from="secondary").settings()
    assert (settings["read_from"], settings["max_staleness_s"]) == ("secondary", 90)
    assert settings["read_tags"] == [{"dc": "nowhere"}, {}]
    error = error_of(uri=uri, read_from="secondary", timeout_s=0.5)
    assert "no member of the set at" in str(error)
    assert "dc" in str(error).partition("the driver said: ")[2]


def test_a_direct_connection_is_rejected(mongo: MongoCluster) -> None:
    assert "remove directConnection" in str(error_of(uri=f"mongodb://{mongo.nodes()[0]}/?directConnection=true"))


def test_the_member_to_read_from_must_answer_and_belong_to_the_set(mongo_uri: str, loner: str) -> None:
    assert "belongs to no replica set, not to rs0" in str(error_of(uri=mongo_uri, read_from=loner))
    assert "no MongoDB server answers at --read-from 127.0.0.1:1; " in str(
        error_of(uri=mongo_uri, read_from="127.0.0.1:1", timeout_s=0.5)
    )


def test_an_arbiter_to_read_from_is_named_and_not_called_silent(tmp_path: Path) -> None:
    folders = [tmp_path / "data", tmp_path / "arbiter"]
    for folder in folders:
        folder.mkdir()
    with server(folders[0], "--replSet", "rs0") as data, server(folders[1], "--replSet", "rs0") as arbiter:
        members = [{"_id": 0, "host": data}, {"_id": 1, "host": arbiter, "arbiterOnly": True}]
        with pymongo.MongoClient(f"mongodb://{data}", directConnection=True) as client:
            client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
            until(lambda: client.admin.command("hello")["isWritablePrimary"])
        with pymongo.MongoClient(f"mongodb://{arbiter}", directConnection=True) as client:
            until(lambda: client.admin.command("hello").get("arbiterOnly"))
        error = error_of(uri=f"mongodb://{data}/?replicaSet=rs0", read_from=arbiter)
    assert str(error) == f"--read-from {arbiter} is an arbiter, which holds no data: choose another member"


@pytest.mark.parametrize("options", ["", "?replicaSet=rs0"])
def test_a_standalone_server_is_rejected(loner: str, options: str) -> None:
    error = error_of(uri=f"mongodb://{loner}/{options}", timeout_s=0.5)
    assert isinstance(error, BadAddress)
    assert f"{loner} is a standalone server" in str(error)


def test_a_set_that_was_never_initiated_is_rejected(tmp_path: Path) -> None:
    with server(tmp_path, "--replSet", "rs0") as node:
        assert "rs.initiate()" in str(error_of(uri=f"mongodb://{node}/", timeout_s=0.5))


def test_a_set_without_a_primary_is_reported_with_the_states_of_its_members(breakable: MongoCluster) -> None:
    primary = until(breakable.primary)
    last = next(node for node in breakable.nodes() if node != primary)
    for node in set(breakable.nodes()) - {last}:
        breakable.kill(node)
    error = error_of(uri=breakable.uri(), timeout_s=1)
    assert isinstance(error, Unreachable)
    assert "rs0 has no primary" in str(error)
    assert f"{last} RSSecondary" in str(error)


@contextmanager
def server(folder: Path, *arguments: str, **settings: object) -> Iterator[str]:
    port = ports.free(1)[0]
    command = [programs.find(PROGRAM), "--dbpath", folder, "--port", str(port), "--bind_ip", "127.0.0.1"]
    process = subprocess.Popen([*command, "--nounixsocket", "--logpath", folder / "log", *arguments])
    try:
        with pymongo.MongoClient("127.0.0.1", port, directConnection=True, **settings) as client:
            client.admin.command("ping")
        yield f"127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="session")
def loner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server(tmp_path_factory.mktemp("loner")) as node:
        yield node


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A set of one member that requires passwords."""
    folder = tmp_path_factory.mktemp("guarded")
    secret = folder / "key"
    secret.write_text("c3RhbGV3YXRjaA")
    secret.chmod(0o600)
    with server(folder, "--replSet", "rs0", "--keyFile", str(secret)) as node:
        with pymongo.MongoClient(f"mongodb://{node}", directConnection=True) as client:
            client.admin.command("replSetInitiate", {"_id": "rs0", "members": [{"_id": 0, "host": node}]})
            until(lambda: client.admin.command("hello")["isWritablePrimary"])
            client.admin.command("createUser", "root", pwd=PASSWORD, roles=["root"])
        with pymongo.MongoClient(f"mongodb://root:hunter2%2F@{node}", directConnection=True) as client:
            some = [{"resource": {"db": "bench", "collection": ""}, "actions": ["find", "update", "remove"]}]
            client.admin.command("createRole", "noInsert", privileges=some, roles=[])
            all_of_a_run = [{**some[0], "actions": ["find", "insert", "update", "remove"]}]
            client.admin.command("createRole", "runOnly", privileges=all_of_a_run, roles=[])
            for user, role in {"writer": "readWrite", "reader": "read"}.items():
                client.admin.command("createUser", user, pwd=PASSWORD, roles=[{"role": role, "db": "bench"}])
            for user, roles in {"nobody": [], "updater": ["noInsert"], "runner": ["runOnly"]}.items():
                client.admin.command("createUser", user, pwd=PASSWORD, roles=roles)
        yield node


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """A set of one member that speaks TLS alone, to clients with a certificate of its own authority."""
    folder = tmp_path_factory.mktemp("encrypted")
    ca, cert, key = certificate(folder)
    tls = ("--tlsMode", "requireTLS", "--tlsCAFile", ca, "--tlsCertificateKeyFile", str(folder / "both.pem"))
    admin = {"tls": True, "tlsCAFile": ca, "tlsCertificateKeyFile": str(folder / "both.pem")}
    with server(folder, "--replSet", "rs0", *tls, **admin) as node:
        with pymongo.MongoClient(f"mongodb://{node}", directConnection=True, **admin) as client:
            client.admin.command("replSetInitiate", {"_id": "rs0", "members": [{"_id": 0, "host": node}]})
            until(lambda: client.admin.command("hello")["isWritablePrimary"])
        yield node, (ca, cert, key)


def test_certificates_come_from_flags(encrypted: tuple[str, tuple[str, str, str]], key: str) -> None:
    node, (ca, cert, private) = encrypted
    chosen = {"uri": f"mongodb://{node}/?replicaSet=rs0", "tls_ca": ca, "timeout_s": 1}
    both = str(Path(cert).with_name("both.pem"))
    for files in ({"tls_cert": cert, "tls_key": private}, {"tls_cert": both}):
        client = MongoDatabaseClient(MongoOptions(**chosen, **files, read_from=node), RealClock())
        client.prepare()
        client.preload([key], "")
        assert client.session("a").read(key).outcome == "ok"
        client.remove([key])
        client.close()
    assert "TLS" in (said := str(error_of(uri=chosen["uri"], timeout_s=1)))
    assert "the driver said: " in said
    assert "certificate verify failed" in str(error_of(uri=f"{chosen['uri']}&tls=true", timeout_s=1))


def test_a_user_with_rights_can_read_from_one_member(guarded: str, key: str) -> None:
    options = MongoOptions(uri=f"mongodb://writer:hunter2%2F@{guarded}/?replicaSet=rs0", read_from=guarded)
    client = MongoDatabaseClient(options, RealClock())
    client.prepare()
    client.preload([key], "")
    assert client.session("a").write(key, Value(1, "a")).outcome == "ok"
    answer = client.session("a").read(key)
    assert (answer.outcome, answer.version, answer.node) == ("ok", 1, guarded)
    assert "hunter2" not in repr((options, client.settings()))
    client.close()


@pytest.mark.parametrize(
    ("user", "db", "words"),
    [
        ("writer:hunter3@", "bench", "refused the user or the password"),
        ("stranger:hunter2%2F@", "bench", "refused the user or the password"),
        ("", "bench", "name a user"),
        (
            "nobody:hunter2%2F@",
            "bench",
            "denied access to bench.kv; grant the user readWrite on bench; it said: not authorized on bench to find",
        ),
        (
            "reader:hunter2%2F@",
            "bench",
            "denied access to bench.kv; grant the user readWrite on bench; it said: not authorized on bench to update",
        ),
        (
            "updater:hunter2%2F@",
            "bench",
            "denied access to bench.kv; grant the user readWrite on bench; it said: not authorized on bench to insert",
        ),
        ("writer:hunter2%2F@", "elsewhere", "grant the user readWrite on elsewhere"),
    ],
)
def test_a_user_without_rights_is_rejected_without_quoting_the_password(
    guarded: str, user: str, db: str, words: str
) -> None:
    error = error_of(uri=f"mongodb://{user}{guarded}/?replicaSet=rs0", db=db)
    assert isinstance(error, Unreachable)
    assert words in str(error)
    assert "hunter" not in repr(error) + repr(error.__cause__)


def test_a_user_who_may_not_look_at_the_collection_runs_with_a_warning(
    guarded: str, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = MongoOptions(uri=f"mongodb://runner:hunter2%2F@{guarded}/?replicaSet=rs0")
    client = MongoDatabaseClient(options, RealClock())
    client.prepare()
    client.preload([key], "")
    assert client.session("a").write(key, Value(1, "a")).outcome == "ok"
    client.remove([key])
    client.close()
    (said,) = caplog.messages
    assert "keeps what a run writes, which could not be checked" in said
    assert "MongoDB said: not authorized on bench to listCollections" in said


def test_a_seed_that_has_just_started_is_left_to_the_driver(mongo: MongoCluster, tmp_path: Path) -> None:
    with server(tmp_path, "--replSet", "rs0") as starting:
        seeds = ",".join([*mongo.nodes(), starting])
        client = MongoDatabaseClient(MongoOptions(uri=f"mongodb://{seeds}/?replicaSet=rs0"), RealClock())
        client.prepare()
        client.close()


def test_checking_rights_creates_nothing(connect: Opener, mongo_uri: str) -> None:
    connect(db="untouched")
    with pymongo.MongoClient(mongo_uri) as client:
        assert "untouched" not in client.list_database_names()


def test_sessions_may_be_greenlets(mongo_uri: str, key: str) -> None:
    pytest.importorskip("gevent")
    script = textwrap.dedent("""
        from gevent import monkey
        monkey.patch_all()
        import sys, threading
        from stalewatch.clients.mongodb.client import MongoDatabaseClient
        from stalewatch.clients.mongodb.options import MongoOptions
        from stalewatch.clients.protocol import Value
        from stalewatch.history.clock import RealClock

        uri, key = sys.argv[1:]
        client = MongoDatabaseClient(MongoOptions(uri=uri, read_from="secondary"), RealClock())
        client.prepare()
        keys = [f"{key}-{number}" for number in range(20)]
        client.preload(keys, "")

        def work(key):
            session = client.session(key)
            for version in range(1, 50):
                assert session.write(key, Value(version, key)).outcome == "ok"
                assert session.read(key).version <= version

        threads = [threading.Thread(target=work, args=(key,)) for key in keys]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        print({client.final(key).version for key in keys})
        client.remove(keys)
        client.close()
    """)
    run = subprocess.run([sys.executable, "-c", script, mongo_uri, key], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "{49}"


@pytest.fixture
def lagging(mongo: MongoCluster) -> Iterator[str]:
    """A member that applies everything a minute late: far later than any of these tests' time-outs."""
    node = next(node for node in mongo.nodes() if node != until(mongo.primary))
    mongo.lag(node, 60)
    try:
        yield node
    finally:
        mongo.lag(node, 0)


def test_sticky_and_token_read_from_the_primary_what_a_lagging_member_lacks(
    connect: Opener, mongo: MongoCluster, lagging: str, key: str
) -> None:
    shown: dict[str, tuple[int | None, str | None, bool | None]] = {}
    for strategy in ("plain", "sticky", "token"):
        client = connect(read_from=lagging, read_strategy=strategy, timeout_s=1.0)
        client.preload([f"{key}-{strategy}"], "")
        session = client.session("s")
        assert session.write(f"{key}-{strategy}", Value(1, "s")).outcome == "ok"
        answer = session.read(f"{key}-{strategy}")
        assert answer.outcome == "ok"
        shown[strategy] = answer.version, answer.node, answer.fell_back
    primary = until(mongo.primary)
    assert shown == {"plain": (0, lagging, None), "sticky": (1, primary, True), "token": (1, primary, True)}


def test_a_causal_session_hands_on_to_a_member_what_it_has_seen(connect: Opener, mongo: MongoCluster, key: str) -> None:
    node = next(node for node in mongo.nodes() if node != until(mongo.primary))
    client = connect(read_from=node, read_strategy="token", timeout_s=10.0)
    client.preload([key], "")
    session = client.session("s")
    for version in range(1, 101):  # plain reads right after w=1 writes miss some of a hundred
        assert session.write(key, Value(version, "s")).outcome == "ok"
        assert session.read(key).version == version


def test_a_pinned_session_stays_at_its_member_until_that_is_gone(connect: Opener, breakable: MongoCluster) -> None:
    client = connect(read_from="secondary", read_strategy="pinned")
    followers = set(breakable.nodes()) - {until(breakable.primary)}
    sessions = [client.session(f"s{number}") for number in range(20)]
    homes = [session.read("k").node for session in sessions]
    for session, home in zip(sessions, homes, strict=True):
        answers = [session.read("k") for _ in range(10)]
        assert {(answer.node, answer.fell_back) for answer in answers} == {(home, False)}
    assert set(homes) <= followers
    gone = str(homes[0])
    breakable.kill(gone)
    (other,) = followers - {gone}

    def moved() -> Answer | None:
        answer = attempted(sessions[0], "k")
        return answer if answer is not None and answer.node != gone else None

    assert (moved_to := until(moved)).node == other
    assert moved_to.fell_back
    assert sessions[0].read("k").fell_back is False


def attempted(session: MongoSession, key: str) -> Answer | None:
    """Read, and return None if that fails."""
    try:
        return session.read(key)
    except PyMongoError:
        return None


def test_linearizable_reads_need_no_token(mongo_uri: str) -> None:
    assert "--read-strategy token" in str(error_of(uri=mongo_uri, read_concern="linearizable", read_strategy="token"))
