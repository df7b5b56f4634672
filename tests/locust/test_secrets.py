"""Secrets stay in the process that they were given to, and go to nobody but the servers that they came with."""

import os
import signal
import threading
import time
from argparse import Namespace
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib.metadata import version

import msgpack
import psutil
import pytest
import requests
import zmq

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import BadAddress, ClientError
from stalewatch.clients.mongodb.options import MongoOptions
from stalewatch.clients.options import options_of, parse_options
from stalewatch.clusters.local import ports
from stalewatch.clusters.local.couch import CouchCluster
from stalewatch.history.clock import RealClock
from stalewatch.locust.bound_ports import is_loopback
from stalewatch.locust.options import Secrets
from tests.adversary.hostile import HostileServer, cassandra_message, saying
from tests.adversary.test_connecting import HELLO, mongo_message
from tests.conftest import eventually
from tests.locust.conftest import MEMORY, ROOT, RecordingProxy, Swarm, assert_keeps_secret

MONGO = "locustfiles/mongo_users.py"
WITH_SECRETS, REDACTED = "mongodb://carol:s3cret@127.0.0.1:1/?replicaSet=rs0", "mongodb://127.0.0.1:1/?replicaSet=rs0"


def secrets_of(given: str | None, environ: dict[str, str]) -> tuple[Secrets, Namespace]:
    namespace = Namespace(mongo_uri=given)
    return Secrets(options_of(MongoOptions), namespace, environ), namespace


def test_options_that_are_sent_contain_neither_user_nor_password() -> None:
    _, options = secrets_of(WITH_SECRETS, {})
    assert options.mongo_uri == REDACTED


def test_the_process_itself_can_restore_them() -> None:
    own, options = secrets_of(WITH_SECRETS, {})
    assert own.options_of(DATABASES["mongo"], options).uri == WITH_SECRETS


def test_a_worker_takes_secrets_from_its_environment_and_settings_from_the_master() -> None:
    own, _ = secrets_of(None, {"STALEWATCH_MONGO_URI": "mongodb://carol:s3cret@127.0.0.1:1,127.0.0.1:2/?w=1"})
    assert own.options_of(DATABASES["mongo"], Namespace(mongo_uri=REDACTED)).uri == WITH_SECRETS


OWN: dict[str, dict[str, str]] = {
    "mongo": {"mongo_uri": "mongodb://carol:s3cret@db1,db2:27018/?authSource=admin&tls=true"},
    "cassandra": {"hosts": "db1,db2:9043", "username": "carol", "password": "s3cret", "tls": "on"},
    "couch": {"couch_a": "http://carol:s3cret@db1:5984", "couch_b": "https://carol:t0psecret@db2"},
}

SAME = [
    ("mongo", {"mongo_uri": "mongodb://db2:27018,db1:27017/?readPreference=nearest&tls=true&authSource=admin"}),
    ("mongo", {"mongo_uri": "mongodb://DB1/?tls=true&authSource=admin"}),
    ("cassandra", {"hosts": "db2:9043", "tls": "on", "tls_ca": "/dev/null"}),
    ("couch", {"couch_a": "http://db1", "couch_b": "https://db2:6984"}),
    ("couch", {"couch_a": "http://db1", "couch_b": "https://db2", "peer_a": "http://db1:5984"}),
]

OTHERS = [
    ("mongo", {"mongo_uri": "mongodb://db1,evil/?authSource=admin&tls=true"}),
    ("mongo", {"mongo_uri": "mongodb://db1:27018/?authSource=admin&tls=true"}),
    ("mongo", {"mongo_uri": "mongodb+srv://db1/?authSource=admin&tls=true"}),
    ("mongo", {"mongo_uri": "mongodb://db1,db2:27018/?authSource=admin"}),
    ("mongo", {"mongo_uri": "mongodb://db1/?authSource=admin&tls=true&authMechanism=PLAIN"}),
    ("mongo", {"mongo_uri": "mongodb://evil/?authMechanismProperties=a:b"}),
    ("mongo", {"mongo_uri": "mongodb://mallory:x@evil/"}),
    ("cassandra", {"hosts": "db1,evil", "tls": "on"}),
    ("cassandra", {"hosts": "db1", "port": "9999", "tls": "on"}),
    ("cassandra", {"hosts": "db1,db2:9043"}),
    ("couch", {"couch_a": "http://db1:5984", "couch_b": "http://evil"}),
    ("couch", {"couch_a": "http://db1:5984", "couch_b": "http://db2:6984"}),
    ("couch", {"couch_a": "http://db1", "couch_b": "https://db2", "peer_a": "http://evil"}),
]


def worker_secrets(database: str, own: dict[str, str], environ: dict[str, str] | None = None) -> Secrets:
    return Secrets(options_of(DATABASES[database].options), Namespace(**own), environ or {})


@pytest.mark.parametrize(("database", "sent"), SAME)
def test_credentials_are_used_for_hosts_of_their_own_address(database: str, sent: dict[str, str]) -> None:
    used = worker_secrets(database, OWN[database]).options_of(DATABASES[database], Namespace(**sent))
    assert {login.password for login in used.logins()} & {"carol:s3cret@", "s3cret"}


@pytest.mark.parametrize(("database", "sent"), OTHERS)
def test_credentials_are_used_for_no_other_hosts(database: str, sent: dict[str, str]) -> None:
    with pytest.raises(
        BadAddress, match=r"the master names .*, but .*db1.*: give master and worker the same"
    ) as caught:
        worker_secrets(database, OWN[database]).options_of(DATABASES[database], Namespace(**sent))
    assert "s3cret" not in str(caught.value)


def test_a_password_without_an_address_is_for_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STALEWATCH_COUCH_USERNAME", "carol")
    monkeypatch.setenv("STALEWATCH_COUCH_PASSWORD", "s3cret")
    sent = {"couch_a": "http://db1", "couch_b": "http://db2"}
    with pytest.raises(BadAddress, match="given its password for no server"):
        worker_secrets("couch", {}).options_of(DATABASES["couch"], Namespace(**sent))
    assert worker_secrets("couch", sent).options_of(DATABASES["couch"], Namespace(**sent)).logins()
    environ = {"STALEWATCH_CASSANDRA_PASSWORD": "s3cret"}
    with pytest.raises(BadAddress, match="given its password for no server"):
        worker_secrets("cassandra", {}, environ).options_of(DATABASES["cassandra"], Namespace(hosts="db1"))


def test_a_worker_uses_its_own_address_if_the_master_has_none() -> None:
    own, _ = secrets_of(None, {"STALEWATCH_MONGO_URI": WITH_SECRETS})
    assert own.options_of(DATABASES["mongo"], Namespace(mongo_uri=None)).uri == WITH_SECRETS


def test_a_worker_without_secrets_uses_the_masters_address_unchanged() -> None:
    own, _ = secrets_of(None, {})
    assert own.options_of(DATABASES["mongo"], Namespace(mongo_uri=REDACTED)).uri == REDACTED


def eavesdropped(port: int) -> list[bytes]:
    """Pose as a worker, and return every message that the master sends until it starts the test."""
    heard: list[bytes] = []
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.IDENTITY, b"eavesdropper")
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(f"tcp://127.0.0.1:{port}")
        deadline = time.monotonic() + 30
        socket.send(msgpack.dumps(("client_ready", version("locust"), "eavesdropper")))
        while time.monotonic() < deadline:
            if socket.poll(500):
                heard.append(socket.recv())
                if msgpack.loads(heard[-1])[0] == "spawn":
                    return heard
            else:
                state = {"state": "ready", "current_cpu_usage": 0, "current_memory_usage": 0}
                socket.send(msgpack.dumps(("heartbeat", state, "eavesdropper")))
    pytest.fail("the master started no test")


@pytest.mark.parametrize("way", ["argument", "environment"])
def test_no_message_page_or_log_of_the_master_contains_secrets(swarm: Swarm, way: str) -> None:
    given = {
        "argument": (("--mongo-uri", WITH_SECRETS), {}),
        "environment": ((), {"STALEWATCH_MONGO_URI": WITH_SECRETS}),
    }
    arguments, env = given[way]
    pid = swarm.master("--autostart", "-u", "1", "-L", "DEBUG", *arguments, locustfile=MONGO, env=env)
    heard = eavesdropped(swarm.master_port)
    assert heard
    said = b"".join(heard)
    assert b"127.0.0.1:1/?replicaSet" in said
    pages = "".join(swarm.get(path).text for path in ("/", "/stats/requests", "/logs", "/stats/report"))
    for text in (said.decode(errors="replace"), pages, swarm.log(pid)):
        assert "s3cret" not in text
        assert "carol" not in text


def test_an_invalid_url_with_a_password_appears_nowhere(swarm: Swarm) -> None:
    (port,) = ports.free(1)
    uri = f"mongodb://carol:s3/cr3t@127.0.0.1:{port}"
    pid = swarm.alone("--headless", "-u", "1", "--mongo-uri", uri, locustfile=MONGO)
    assert swarm.code(pid) == 2
    assert "cr3t" not in swarm.log(pid)


def test_an_option_that_takes_no_password_refuses_one_without_repeating_it(swarm: Swarm) -> None:
    """It would be on the page, which here has to be asked for to see that."""
    pid = swarm.alone(
        "--write-to", "admin:s3cret@127.0.0.1:1", "--processes", "1", locustfile="locustfiles/couch_users.py"
    )
    assert swarm.code(pid) == 2
    assert "--write-to: it takes no user and password" in swarm.log(pid)
    assert "s3cret" not in swarm.log(pid)


@contextmanager
def greedy(heard: list[bytes]) -> Iterator[str]:
    """A server that poses as any of the databases until it is sent a password; its address."""

    def answer(request: bytes) -> bytes:
        heard.append(request)
        if request[:4] in {b"GET ", b"PUT ", b"POST"}:
            return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
        if int.from_bytes(request[:4], "little") == len(request):
            return mongo_message(request, {**HELLO, "hosts": [server.node], "primary": server.node})
        return cassandra_message(request)

    with HostileServer(saying(answer)) as server:
        yield server.node


def addresses(a: str, b: str, user: str = "") -> dict[str, str]:
    """Return all databases' addresses as environment variables; the second server is for the second leader."""
    return {
        "STALEWATCH_MONGO_URI": f"mongodb://{user}{a}/?authMechanism=PLAIN",
        "STALEWATCH_CASSANDRA_HOSTS": a,
        "STALEWATCH_COUCH_A": f"http://{user}{a}",
        "STALEWATCH_COUCH_B": f"http://{user}{b}",
    }


LOGIN = {"STALEWATCH_CASSANDRA_USERNAME": "carol", "STALEWATCH_CASSANDRA_PASSWORD": "s3cret"}
IN_HTTP = b64encode(b"carol:s3cret")


@pytest.mark.parametrize("database", ["mongo", "cassandra", "couch"])
def test_a_greedy_server_is_one_that_would_hear_a_password(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []
    with greedy(heard) as a, greedy(heard) as b:
        for name, value in {**addresses(a, b, "carol:s3cret@"), **LOGIN}.items():
            monkeypatch.setenv(name, value)
        row = DATABASES[database]
        with (
            suppress(ClientError, KeyError),  # it knows one answer only
            closing(row.open(parse_options(row.options, Namespace(timeout="1")), 1, 0, RealClock())) as client,
        ):
            client.prepare()
    said = b"".join(heard)
    assert b"s3cret" in said or IN_HTTP in said


def test_a_worker_gives_no_database_at_the_masters_address_a_password(swarm: Swarm) -> None:
    """All three at once; the master may be an impostor, which holds the port."""
    heard: list[bytes] = []
    load = ("--headless", "-u", "3", "-r", "9", "--timeout", "2", "MongoUser", "CassandraUser", "CouchUser")
    with greedy(heard) as a, greedy(heard) as b:
        env = addresses(a, b)
        named = ("--mongo-uri", env.pop("STALEWATCH_MONGO_URI"), "--hosts", a)
        own = {**addresses("127.0.0.1:1", "127.0.0.1:2", "carol:s3cret@"), **LOGIN}
        master = swarm.master(*load, *named, locustfile="locustfiles/", env=env)
        swarm.worker(locustfile="locustfiles/", env=own)
        assert swarm.code(master) == 2, swarm.log(master)
        said = b"".join(heard)
    assert "the master names " in swarm.log(master)
    assert "but this process was given its password for " in swarm.log(master)
    assert b"s3cret" not in said
    assert IN_HTTP not in said


FORM = {"user_count": "1", "spawn_rate": "1"}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    """A page for all databases, whose process has passwords for servers that do not answer."""
    swarm = Swarm(tmp_path_factory.mktemp("page"))
    env = {**addresses("127.0.0.1:1", "127.0.0.1:2", "carol:s3cret@"), **LOGIN}
    swarm.alone("--web-allowed-hosts", "bench.example, other.example", locustfile="locustfiles/", env=env)
    try:
        swarm.await_page()
        yield swarm
    finally:
        swarm.end()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("mongo_uri", "mongodb://{}/"),
        ("hosts", "{}"),
        ("port", "{port}"),
        ("couch_a", "http://{}"),
        ("peer_a", "http://{}"),
        ("read_from", "{}"),
        ("write_to", "{}"),
        ("coordinator", "{}"),
        ("tls", "off"),
        ("tls_ca", "/dev/null"),
        ("client_key", "/dev/null"),
        ("username", "mallory"),
        ("password", "guess"),
        ("report_json", "/dev/null"),
        ("history_dir", "elsewhere"),
        ("metrics_host", "elsewhere"),
        ("web_allowed_hosts", "evil.example"),
    ],
)
def test_the_page_names_no_server_and_no_file(page: Swarm, option: str, value: str) -> None:
    heard: list[bytes] = []
    with greedy(heard) as node:
        text = value.format(node, port=node.rpartition(":")[2])
        answer = page.post("/swarm", **FORM, **{option: text}).json()
        assert not answer["success"]
        assert answer["message"].startswith("cannot be set on the page")
        assert option in answer["message"]
        assert page.get("/stats/requests").json()["state"] == "ready"
        assert heard == []


def test_the_page_sets_words_that_name_no_server(page: Swarm) -> None:
    """Something else is wrong with the form, so that nothing starts."""
    for option, word in (("read_from", ""), ("coordinator", "token"), ("write_to", "a"), ("db", "other")):
        message = page.post("/swarm", **FORM, **{option: word}, write_ratio="7").json()["message"]
        assert "cannot be set" not in message
        assert page.get("/stats/requests").json()["state"] == "ready"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://127.0.0.1:{port}"}, 200),
        ({"Origin": "http://localhost:{port}", "Host": "localhost:{port}"}, 200),
        ({"Origin": "https://bench.example", "Host": "bench.example"}, 200),
        ({"Origin": "https://bench.example"}, 200),  # a proxy that does not pass the host on
        ({"Host": "10.1.2.3:8089"}, 200),  # as addressed from another machine
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://evil.example", "Host": "evil.example"}, 403),
        ({"Host": "evil.example:{port}"}, 403),
        ({"Origin": "http://bench.example.evil.example"}, 403),
        ({"Origin": "http://localhost", "Host": "localhost.evil.example"}, 403),
    ],
)
def test_requests_that_another_sites_page_sends_are_refused(page: Swarm, headers: dict[str, str], status: int) -> None:
    sent = {name: value.format(port=page.web_port) for name, value in headers.items()}
    base = f"http://127.0.0.1:{page.web_port}"
    forms = {"/swarm": {"write_ratio": "7"}, "/stop": {}, "/stats/reset": {}}
    answers = [requests.post(f"{base}{path}", data=form, headers=sent, timeout=30) for path, form in forms.items()]
    answers.append(requests.get(f"{base}/logs", headers=sent, timeout=30))
    assert {answer.status_code for answer in answers} == {status}
    if status == 403:
        assert "--web-allowed-hosts" in answers[0].text


def test_what_changes_anything_is_sent_by_post(page: Swarm) -> None:
    """A link, an image or a redirection makes a browser send GET, with no origin."""
    for path in ("/swarm", "/stop", "/stats/reset", "/user"):
        assert page.get(path).status_code == 405


def test_the_page_sets_only_what_it_offers_of_a_user_class(page: Swarm) -> None:
    base, known = f"http://127.0.0.1:{page.web_port}/user", {"user_class_name": "MongoUser"}
    for settings in ({**known, "database": "couch"}, {**known, "host": "evil"}, {"user_class_name": "Nobody"}, []):
        assert requests.post(base, json=settings, timeout=30).status_code == 400
    assert requests.post(base, json={**known, "weight": 2}, timeout=30).status_code == 201


TOKEN, OTHER_TOKEN = "correct-horse-battery", "incorrect-horse-battery"


def with_token(token: str) -> dict[str, str]:
    return {"STALEWATCH_MASTER_TOKEN": token}


def patched(swarm: Swarm, line: str) -> str:
    """A locustfile with a line of its own before what it loads."""
    file = swarm.folder / "patched.py"
    file.write_text(f"{line}\nexec(open({str(ROOT / MEMORY)!r}).read())\n")
    return str(file)


def test_only_workers_with_the_masters_token_join(swarm: Swarm) -> None:
    pid = swarm.master("--headless", "-u", "2", "--keys", "20", env=with_token(TOKEN))
    soon = patched(swarm, "from stalewatch.locust import master_token; master_token.LEAVE_S = 1.0")
    with RecordingProxy(swarm.master_port) as proxy:
        line = ("--worker", "--master-port", str(proxy.port))
        strangers = [swarm.start(*line, locustfile=soon, env=env) for env in ({}, with_token(OTHER_TOKEN))]
        for stranger in strangers:
            assert swarm.code(stranger) == 2
            assert "does not have this worker's token, or one of the two has none: set the same" in swarm.log(stranger)
        assert "refused a connection to the workers' port" in swarm.log(pid)
        assert "reported as ready" not in swarm.log(pid)
        proxy.passed.clear()
        swarm.start(*line, env=with_token(TOKEN))
        assert swarm.finish(pid, lines=50) == 0
        assert len(proxy.passed) > 1000
        for clear in (b"client_ready", b"parsed_options", b"memory", TOKEN.encode()):
            assert clear not in proxy.passed
    assert TOKEN not in swarm.log(pid)


@contextmanager
def impostor(port: int, heard: list[bytes]) -> Iterator[None]:
    """A process of another user, which holds the port that workers connect to, and answers as a master."""
    over = threading.Event()

    def answer() -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as held:
            held.setsockopt(zmq.LINGER, 0)
            held.bind(f"tcp://127.0.0.1:{port}")
            bound.set()
            while not over.is_set():
                if held.poll(100):
                    sender, message = held.recv_multipart()
                    heard.append(message)
                    held.send_multipart([sender, msgpack.dumps(("ack", {"index": 0}, sender.decode()))])

    bound, thread = threading.Event(), threading.Thread(target=answer)
    thread.start()
    assert bound.wait(60)
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_workers_of_a_master_without_a_port_join_nobody_else(swarm: Swarm) -> None:
    """Somebody takes the port between the check of it and the master's own use, so the check is left out here."""
    late = patched(swarm, "from stalewatch.locust import bound_ports as b; b.BoundPort.problem = lambda self: None")
    heard: list[bytes] = []
    with impostor(swarm.master_port, heard):
        pid = swarm.alone("--headless", "--processes", "2", locustfile=late)
        assert swarm.code(pid) != 0
        psutil.wait_procs(swarm.living(), timeout=60)
        assert not swarm.living()
        assert heard == []
        worker = swarm.worker()  # the impostor is heard by those who have no token
        deadline = time.monotonic() + 30
        while not heard and time.monotonic() < deadline:
            time.sleep(0.05)
        assert heard
        os.kill(worker, signal.SIGKILL)


def test_workers_that_a_master_forked_leave_with_it(swarm: Swarm) -> None:
    pid = swarm.alone("--headless", "-u", "2", "--processes", "2", "--keys", "20")
    swarm.await_operations(workers=1, lines=50)
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs(swarm.living(), timeout=60)
    assert not swarm.living()
    assert "the master of this worker is gone" in swarm.log(pid)


def test_a_worker_with_a_password_refuses_a_remote_master_without_a_token(swarm: Swarm) -> None:
    far = ("--worker", "--master-host", "192.0.2.1")
    pid = swarm.start(*far, locustfile=MONGO, env={"STALEWATCH_MONGO_URI": WITH_SECRETS})
    short = swarm.start(*far, locustfile=MONGO, env={"STALEWATCH_MONGO_URI": WITH_SECRETS, **with_token("short")})
    assert [swarm.code(pid), swarm.code(short)] == [2, 2]
    assert "cannot tell whether the master at 192.0.2.1 is its own: set the same STALEWATCH_MASTER_TOKEN" in swarm.log(
        pid
    )
    assert "a token has at least 16 characters" in swarm.log(short)
    assert "s3cret" not in swarm.log(pid)


def test_a_password_for_a_page_without_a_login_is_refused(swarm: Swarm) -> None:
    pid = swarm.alone(env={"STALEWATCH_WEB_PASSWORD": "s3cret"})
    assert swarm.code(pid) == 2
    assert "STALEWATCH_WEB_PASSWORD is set, but without --web-login" in swarm.log(pid)


def test_a_worker_trusts_a_local_master_or_one_with_its_token() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "localhost", "::1")))
    assert not any(map(is_loopback, ("10.0.0.1", "localhost.example", "127.0.0.1.example", "")))


@pytest.mark.server
def test_nobody_sees_the_passwords_of_couchdb(swarm: Swarm, leaders: CouchCluster) -> None:
    a, b = leaders.uri().split()
    env = {"STALEWATCH_COUCH_A": a, "STALEWATCH_COUCH_B": b}
    seen = ("admin:pass", b64encode(b"admin:pass").decode())
    assert_keeps_secret(swarm, seen, "--db", "secret", env=env, locustfile="locustfiles/couch_users.py")


def test_the_password_of_an_http_service_is_used_and_not_shown(swarm: Swarm) -> None:
    asked: list[bytes] = []

    def answer(request: bytes) -> bytes:
        asked.append(request)
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    with HostileServer(saying(answer)) as service:
        pid = swarm.alone("-H", f"http://ada:s3cret@{service.node}", locustfile="tests/locust/http_users.py")
        swarm.await_page()
        shown = f"http://***@{service.node}"
        assert shown in swarm.get("/").text
        assert swarm.post("/swarm", user_count=2, spawn_rate=10, host=shown).json()["success"]
        eventually(lambda: asked)
        pages = {path: swarm.get(path).text for path in ("/", "/stats/requests", "/stats/report", "/exceptions")}
        swarm.post("/stop")
    assert {path for path, text in pages.items() if "s3cret" in text} == set()
    assert b64encode(b"ada:s3cret") in asked[0]
    assert "s3cret" not in swarm.log(pid)


def test_the_page_that_locust_writes_shows_no_password(swarm: Swarm) -> None:
    page = swarm.folder / "page.html"
    with HostileServer(saying(lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as service:
        host = f"http://ada:s3cret@{service.node}"
        options = ("--headless", "-u", "2", "-t", "3s", "-H", host, "--html", str(page))
        pid = swarm.alone(*options, locustfile="tests/locust/http_users.py")
        assert swarm.code(pid) == 0
    assert f"http://***@{service.node}" in page.read_text()
    assert "s3cret" not in page.read_text()
