"""The PouchDB server of local leaders: the parts of CouchDB's protocol that clients and replication rely on."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from stalewatch.clusters.local import couch_leaders, couch_servers, ports
from stalewatch.clusters.local.process import ServerProcess
from tests.conftest import eventually

pytestmark = pytest.mark.server

AUTH = (couch_leaders.USER, couch_leaders.PASSWORD)
TIMEOUT_S = 60


class Server:
    """One server in its own folder, and requests to it."""

    def __init__(self, folder: Path, program: Path, packages: Path) -> None:
        self.process = ServerProcess(folder.name, folder)
        self.port = ports.free(1)[0]
        self.address = f"127.0.0.1:{self.port}"
        self._command = couch_servers.pouchdb_arguments(program, f"127.0.0.1:{self.port}", folder / "data")
        self._packages = packages

    def launch(self) -> None:
        environment = {"NODE_PATH": str(self._packages), "COUCH_USER": AUTH[0], "COUCH_PASSWORD": AUTH[1]}
        self.process.start(self._command, environment)

    def start(self) -> None:
        self.launch()
        eventually(lambda: couch_leaders.serving([self.address]))

    def ask(self, method: str, path: str, body: object = None, **more: object) -> requests.Response:
        more = {"auth": AUTH, "json": body, **more}
        return requests.request(method, f"http://{self.address}/{path}", timeout=TIMEOUT_S, **more)  # type: ignore[arg-type] # as given

    def end_jobs(self) -> None:
        for row in self.ask("GET", "_replicator/_all_docs").json()["rows"]:
            assert self.ask("DELETE", f"_replicator/{row['id']}?rev={row['value']['rev']}").ok

    def renew(self) -> None:
        """Delete all databases, and create one."""
        for name in self.ask("GET", "_all_dbs").json():
            assert name == "_replicator" or self.ask("DELETE", name).ok
        assert self.ask("PUT", "db").status_code == 201

    def url(self, database: str) -> str:
        return couch_leaders.url(self.address, database)


@pytest.fixture(scope="module")
def both(pouch: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    folder = tmp_path_factory.mktemp("servers")
    both = [Server(folder / name, *pouch) for name in ("one", "two")]
    try:
        yield both
    finally:
        for server in both:
            server.process.kill()


def test_a_server_that_says_it_is_up_has_the_database_of_its_replications(
    pouch: tuple[Path, Path], tmp_path: Path
) -> None:
    for number in range(3):  # once it may be quick enough by chance
        server = Server(tmp_path / str(number), *pouch)
        try:
            server.launch()
            while not couch_leaders.serving([server.address]):
                assert server.process.state == "running"
            assert server.ask("GET", "_replicator").status_code == 200
        finally:
            server.process.kill()


@pytest.fixture
def servers(both: list[Server]) -> list[Server]:
    """Two servers with an empty database and without jobs, whatever the test before did to them."""
    for server in both:
        if server.process.state != "running":
            server.start()
        server.end_jobs()
    for server in both:
        server.renew()
    return both


@pytest.fixture
def server(servers: list[Server]) -> Server:
    return servers[0]


def replicate(one: Server, two: Server, **more: object) -> requests.Response:
    document = {"source": one.url("db"), "target": two.url("db"), "continuous": True, **more}
    return one.ask("PUT", "_replicator/job", document)


def arrives(server: Server, key: str) -> None:
    eventually(lambda: server.ask("GET", f"db/{key}").ok)


def test_everything_but_the_health_check_needs_the_password(server: Server) -> None:
    read = [("GET", path) for path in ("db", "_all_dbs", "db/_changes", "_replicator/_all_docs")]
    changed = [
        ("PUT", "new"),
        ("DELETE", "db"),
        ("PUT", "db/k"),
        ("POST", "_replicate"),
        ("PUT", "_up"),
        ("DELETE", ""),
    ]
    for credentials in (None, ("admin", "wrong"), ("nobody", "pass"), ("", "")):
        for method, path in [*read, *changed]:
            answer = server.ask(method, path, {}, auth=credentials)
            assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized"), path
            assert "Basic" in answer.headers["WWW-Authenticate"]
        for path in ("", "_up"):
            assert server.ask("GET", path, auth=credentials).status_code == 200
    assert sorted(server.ask("GET", "_all_dbs").json()) == ["_replicator", "db"]


def test_the_server_identifies_as_couchdb(server: Server) -> None:
    assert server.ask("GET", "").json()["couchdb"] == "Welcome"


def test_a_document_sent_by_curl_is_stored(server: Server) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert server.ask("PUT", "db/k", data='{"v": 7}', headers=headers).status_code == 201
    assert server.ask("GET", "db/k").json()["v"] == 7


def test_concurrent_edits_become_the_same_conflict_on_both_servers(servers: list[Server]) -> None:
    one, two = servers
    revs = {server.ask("PUT", "db/k", {"by": server.address}).json()["rev"] for server in servers}
    replicate(one, two)
    replicate(two, one)
    seen = []
    for server in servers:
        eventually(lambda server=server: "_conflicts" in server.ask("GET", "db/k?conflicts=true").json())
        document = server.ask("GET", "db/k?conflicts=true").json()
        assert {document["_rev"], *document["_conflicts"]} == revs
        seen.append(document["_rev"])
    assert seen[0] == seen[1]
    loser = (revs - {seen[0]}).pop()
    assert one.ask("DELETE", f"db/k?rev={loser}").status_code == 200
    eventually(lambda: "_conflicts" not in two.ask("GET", "db/k?conflicts=true").json())


def test_endpoints_may_have_separate_credentials(servers: list[Server]) -> None:
    one, two = servers
    basic = {"auth": {"basic": {"username": AUTH[0], "password": AUTH[1]}}}
    header = {"headers": {"Authorization": requests.auth._basic_auth_str(*AUTH)}}
    for sender, receiver, credentials in ((one, two, basic), (two, one, header)):
        target = {"url": f"http://{receiver.address}/db", **credentials}
        assert replicate(sender, receiver, target=target).status_code == 201
        sender.ask("PUT", f"db/{sender.port}", {"v": 1})
        arrives(receiver, str(sender.port))


def test_replication_that_would_never_run_is_refused(servers: list[Server]) -> None:
    for wrong in ({"continuous": False}, {"source": "db"}, {"target": None}):
        answer = replicate(*servers, **wrong)
        assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")


def test_acknowledged_writes_and_jobs_survive_a_kill(servers: list[Server]) -> None:
    one, two = servers
    replicate(one, two)
    one.ask("PUT", "db/before", {"v": 1})
    arrives(two, "before")
    for number in range(50):
        assert one.ask("PUT", f"db/k{number}", {"v": number}).status_code == 201
    one.process.kill()
    one.start()
    for number in range(50):
        assert one.ask("GET", f"db/k{number}").json()["v"] == number
        arrives(two, f"k{number}")
    one.ask("PUT", "db/after", {"v": 2})
    arrives(two, "after")


def test_a_created_database_survives_a_kill(servers: list[Server]) -> None:
    for server in servers:
        created = [f"db{number}" for number in range(5)]
        assert {server.ask("PUT", name).status_code for name in created} == {201}
        server.process.kill()
        server.start()
        assert {*created} < {*server.ask("GET", "_all_dbs").json()}
        assert server.ask("PUT", "db0").status_code == 412


def test_a_job_waits_for_a_dead_peer_and_for_a_missing_database(servers: list[Server]) -> None:
    one, two = servers
    two.process.kill()
    replicate(one, two)
    one.ask("PUT", "_replicator/other", {"source": one.url("db"), "target": two.url("later"), "continuous": True})
    one.ask("PUT", "db/k", {"v": 1})
    with pytest.raises(requests.ConnectionError):
        two.ask("GET", "db/k")
    two.start()
    arrives(two, "k")
    assert two.ask("GET", "later").status_code == 404, "replication must not create databases"
    two.ask("PUT", "later")
    eventually(lambda: two.ask("GET", "later/k").ok)


def test_a_job_ends_when_its_document_is_deleted(servers: list[Server]) -> None:
    one, two = servers
    rev = replicate(one, two).json()["rev"]
    one.ask("PUT", "db/before", {"v": 1})
    arrives(two, "before")
    assert one.ask("DELETE", f"_replicator/job?rev={rev}").ok
    time.sleep(0.5)
    one.ask("PUT", "db/after", {"v": 2})
    time.sleep(1.5)  # an active job would have sent it within some 50 ms
    assert two.ask("GET", "db/after").status_code == 404


def test_a_continuous_feed_sends_changes_and_deletions(server: Server) -> None:
    with server.ask("GET", "db/_changes?feed=continuous&since=0&heartbeat=100", stream=True) as feed:
        lines = feed.iter_lines()
        rev = server.ask("PUT", "db/k", {"v": 1}).json()["rev"]
        assert f'"id":"k","changes":[{{"rev":"{rev}"}}]' in next(filter(None, lines)).decode()
        server.ask("DELETE", f"db/k?rev={rev}")
        assert '"deleted":true' in next(filter(None, lines)).decode()
    assert server.ask("GET", "nowhere/_changes?feed=continuous").status_code == 404


LEFT_FEEDS = """
const [changes, Databases] = [require(process.argv[1] + '/changes'), require(process.argv[1] + '/databases')];
const PouchDB = require('pouchdb').defaults({ prefix: process.argv[2] + '/' });
require('pouchdb-all-dbs')(PouchDB);
(async () => {
  const database = new PouchDB('db');
  await database.info();
  const databases = new Databases(PouchDB);
  const opened = await databases.open('db');
  const app = require('express')().get('/:db/_changes', changes(databases));
  const server = app.listen(0, '127.0.0.1', async () => {
    const before = opened.listenerCount('destroyed');
    const feeds = [];
    for (let i = 0; i < 20; i++) {
      const url = `http://127.0.0.1:${server.address().port}/db/_changes?feed=continuous`;
      feeds.push(await new Promise((done) => { const ask = require('http').get(url, () => done(ask)); }));
    }
    const during = opened.listenerCount('destroyed') - before;
    feeds.forEach((feed) => feed.destroy());
    const left = () => opened.listenerCount('destroyed') - before;
    for (let i = 0; i < 100 && left() > 1; i++) await new Promise((done) => setTimeout(done, 50));
    console.log(JSON.stringify([during, left()]));
    process.exit(0);
  });
})();
"""


def test_a_continuous_feed_ends_when_its_client_disconnects(pouch: tuple[Path, Path], tmp_path: Path) -> None:
    """PouchDB has one listener per feed; none is left after the clients have disconnected."""
    program, packages = pouch
    done = subprocess.run(
        [program, "-e", LEFT_FEEDS, couch_servers.POUCH, tmp_path],
        env={"NODE_PATH": str(packages)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    during, left = json.loads(done.stdout)
    assert during >= 20, done.stderr
    assert left <= 1  # PouchDB itself adds one


def test_invalid_bodies_are_refused_and_do_not_end_the_server(server: Server) -> None:
    for body in (b"{", b"[]", b'"text"', b"\xff"):
        for method, path in (("PUT", "db/k"), ("POST", "db/_bulk_docs"), ("PUT", "_replicator/job")):
            answer = server.ask(method, path, data=body, headers={"Content-Type": "application/json"})
            assert answer.status_code >= 400
    with socket.create_connection(("127.0.0.1", server.port)) as half:
        half.sendall(b"PUT /db/k HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    assert server.ask("PUT", "db/k", {"v": 1}).status_code == 201


def test_the_server_listens_only_on_loopback(server: Server) -> None:
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if " 0A " in line]
    mine = [address for address in listening if address.endswith(f":{server.port:04X}")]
    assert mine == [f"0100007F:{server.port:04X}"]


def test_a_taken_port_is_reported(server: Server, pouch: tuple[Path, Path], tmp_path: Path) -> None:
    command = couch_servers.pouchdb_arguments(pouch[0], f"127.0.0.1:{server.port}", tmp_path / "third")
    done = subprocess.run(
        command, env={"NODE_PATH": str(pouch[1])}, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 1
    assert "address already in use" in done.stderr
