"""The set-up of a database on two leaders: what is refused before anything is created, and replication that exists."""

import json
import ssl
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
import requests

from stalewatch.clients.couchdb import tls
from stalewatch.clients.couchdb.administration import LeaderAdmin
from stalewatch.clients.couchdb.client import CouchClient
from stalewatch.clients.couchdb.documents import EDIT_ATTEMPTS, LONGEST_PAUSE_S, pause_s
from stalewatch.clients.couchdb.options import CouchOptions, Leader
from stalewatch.clients.couchdb.replication import ReplicationDirection, paused, without_secrets
from stalewatch.clients.errors import BadAddress, ClientError, Unreachable
from stalewatch.clients.protocol import PausedReplication, Value
from stalewatch.clients.tls import _context
from stalewatch.clusters.local.couch import CouchCluster
from stalewatch.clusters.local.couch_leaders import url
from stalewatch.commands.main import main
from stalewatch.history.clock import RealClock
from tests.clients.certificates import certificate
from tests.clients.couchdb_traits import CouchProxy, error_of, options_for, paired
from tests.clients.scripted_server import ScriptedServer

TIMEOUT_S = 60
MEMBER = {"member": True}

Behind = Callable[..., list[CouchProxy]]


@pytest.fixture
def proxies(leaders: CouchCluster) -> Iterator[Behind]:
    """Open proxies for both leaders; their names for each other are the leaders' own."""
    with ExitStack() as opened:

        def proxied(**traits: Any) -> list[CouchProxy]:
            both = [CouchProxy(f"http://{a}", peer_url=f"http://{b}", **traits) for a, b in paired(leaders.nodes())]
            for proxy in both:
                opened.callback(proxy.close)
            return both

        yield proxied


def ask(address: str, method: str, path: str, body: object = None) -> Any:
    return requests.request(method, url(address, path), json=body, timeout=TIMEOUT_S).json()


def replications(leaders: CouchCluster, name: str) -> dict[str, dict[str, Any]]:
    """Return the replication documents of a database by id."""
    listed = (ask(node, "GET", "_replicator/_all_docs?include_docs=true")["rows"] for node in leaders.nodes())
    found = (row["doc"] for rows in listed for row in rows)
    return {document["_id"]: document for document in found if f"stalewatch-{name}-" in document["_id"]}


def prepared(options: CouchOptions) -> None:
    client = CouchClient(options, RealClock())
    client.prepare()
    client.close()


def databases(node: str) -> set[str]:
    return set(ask(node, "GET", "_all_dbs"))


@pytest.mark.server
@pytest.mark.parametrize("db", ["bench", "one-place-new"])
def test_one_server_under_two_names_is_refused_before_anything_is_created(leaders: CouchCluster, db: str) -> None:
    node = leaders.nodes()[0]
    before = databases(node), replications(leaders, db)
    options = options_for([node, node.replace("127.0.0.1", "localhost")], db=db)
    error = error_of(options)
    assert isinstance(error, BadAddress)
    assert "are the same server, or members of one cluster" in str(error)
    assert (databases(node), replications(leaders, db)) == before


@pytest.mark.server
def test_two_doors_of_one_place_are_refused_even_if_their_uuids_differ(leaders: CouchCluster, proxies: Behind) -> None:
    first = proxies()[0]
    assert "a _local document of bench" in str(error_of(options_for([first.address, leaders.nodes()[0]])))


@pytest.mark.server
def test_two_servers_with_a_copied_uuid_are_two_places(proxies: Behind) -> None:
    prepared(options_for([proxy.address for proxy in proxies(uuid="c0ffee")]))


@pytest.mark.server
def test_a_user_who_may_not_look_elsewhere_is_refused_by_the_uuid(proxies: Behind) -> None:
    both = proxies(uuid="c0ffee", member=True)
    said = str(error_of(options_for([proxy.address for proxy in both], db="absent")))
    assert "both have the uuid c0ffee" in said
    assert said.endswith("create the database absent at both first")


@pytest.mark.parametrize("peers", [("http://h:1", "http://h:1")])
def test_one_address_for_both_peers_is_refused(peers: tuple[str, str]) -> None:
    a, b = Leader("http", "x", 1), Leader("http", "y", 1)
    same = Leader("http", "h", 1)
    with pytest.raises(BadAddress, match="--peer-a and --peer-b are both h:1"):
        CouchOptions(a=a, b=b, peer_a=same, peer_b=same).check()
    assert peers


@pytest.mark.server
def test_a_partitioned_database_is_refused(proxies: Behind) -> None:
    both = proxies(partitioned=True)
    assert "bench at --couch-a" in (said := str(error_of(options_for([proxy.address for proxy in both]))))
    assert "is partitioned" in said


@pytest.mark.server
def test_a_database_that_soon_forgets_revisions_is_refused(proxies: Behind) -> None:
    said = str(error_of(options_for([proxy.address for proxy in proxies(revs_limit=5)])))
    assert "bench at --couch-a" in said
    assert "has a _revs_limit of 5" in said


@pytest.mark.server
def test_a_database_that_may_refuse_documents_is_refused(leaders: CouchCluster) -> None:
    node = leaders.nodes()[1]
    ask(node, "PUT", "validated")
    ask(node, "PUT", "validated/_design/views", {"views": {"all": {"map": "function (doc) {}"}}})
    prepared(options_for(leaders.nodes(), db="validated"))
    ask(node, "PUT", "validated/_design/rules", {"validate_doc_update": "function () { throw({forbidden: 'no'}); }"})
    said = str(error_of(options_for(leaders.nodes(), db="validated")))
    assert f"validated at --couch-b {node} has a validate_doc_update function in _design/rules" in said or (
        "validated at --couch-a" in said  # the design document was replicated already
    )


FAILURE = "unauthorized: unauthorized to access or create database http://admin:wr0ng@127.0.0.1:1/bench/"


@pytest.mark.server
def test_our_replications_whose_jobs_crash_are_written_again(leaders: CouchCluster, proxies: Behind) -> None:
    name = "crashed"
    both = proxies()
    nodes = [proxy.address for proxy in both]
    prepared(options_for(nodes, db=name))
    before = replications(leaders, name)
    for proxy in both:
        proxy.failing = {f"stalewatch-{name}-": FAILURE}
    prepared(options_for(nodes, db=name))
    after = replications(leaders, name)
    assert after.keys() == before.keys()
    assert len(after) == 2
    assert {one["_rev"] for one in after.values()}.isdisjoint(one["_rev"] for one in before.values())
    assert [proxy.failing for proxy in both] == [{}, {}]
    prepared(options_for(nodes, db=name))
    assert replications(leaders, name) == after


@pytest.mark.server
@pytest.mark.parametrize("with_scheduler", [True, False])
def test_our_replications_with_another_password_are_written_again(
    leaders: CouchCluster, proxies: Behind, *, with_scheduler: bool
) -> None:
    """As after a change of the password; PouchDB has no scheduler that could say that the old one fails."""
    name = "repassworded" if with_scheduler else "repassworded-pouch"
    nodes = [proxy.address for proxy in proxies()] if with_scheduler else list(leaders.nodes())
    for node, other in paired(leaders.nodes()):
        ask(node, "PUT", name)
        ends = {"source": url(node, name), "target": f"http://admin:0ld@{other}/{name}", "continuous": True}
        ask(node, "PUT", f"_replicator/stalewatch-{name}-{node}-{other}", ends)
    prepared(options_for(nodes, db=name))
    found = replications(leaders, name)
    assert {one["target"] for one in found.values()} == {url(node, name) for node in leaders.nodes()}
    assert len(found) == 2


@pytest.mark.server
def test_replications_of_others_are_not_touched_and_filtered_ones_not_trusted(leaders: CouchCluster) -> None:
    name = "shared"
    for node, other in permutations(leaders.nodes()):
        ask(node, "PUT", name)
        ends = {"source": url(node, name), "target": url(other, name), "continuous": True, "filter": "app/some"}
        ask(node, "PUT", f"_replicator/theirs-{name}", ends)
    try:
        prepared(options_for(leaders.nodes(), db=name))
        assert len(replications(leaders, name)) == 2
    finally:
        for node in leaders.nodes():
            rev = ask(node, "GET", f"_replicator/theirs-{name}")["_rev"]
            assert rev.startswith("1-")
            ask(node, "DELETE", f"_replicator/theirs-{name}?rev={rev}")


@pytest.mark.server
def test_replication_that_cannot_work_is_deleted_again(leaders: CouchCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stalewatch.clients.couchdb.setup.READY_S", 0.5)
    nowhere = Leader("http", "127.0.0.1", 1, "admin", "pass")
    error_of(options_for(leaders.nodes(), db="unreachable", peer_a=nowhere, peer_b=nowhere._replace(port=2)))
    assert replications(leaders, "unreachable") == {}


def test_what_a_scheduler_says_is_shown_without_credentials() -> None:
    said = 'db_not_found http://a:b@h:1/x {headers,[{"Authorization","Basic YWRtaW46cGFzcw=="}]}'
    assert without_secrets(said) == 'db_not_found http://***@h:1/x {headers,[{"Authorization","Basic ***"}]}'


@pytest.mark.server
def test_who_is_no_administrator_runs_where_one_has_prepared_everything(leaders: CouchCluster, proxies: Behind) -> None:
    assert leaders.count == 2
    client = CouchClient(options_for([proxy.address for proxy in proxies(**MEMBER)]), RealClock())
    client.prepare()
    client.preload(["member-1"], "")
    assert client.session("s").write("member-1", Value(1, "s")).outcome == "ok"
    client.remove(["member-1"])
    assert client.leave() == []
    client.close()


@pytest.mark.server
def test_who_is_no_administrator_is_told_so_in_the_servers_words(proxies: Behind) -> None:
    error = error_of(options_for([proxy.address for proxy in proxies(**MEMBER)], db="members"))
    assert isinstance(error, Unreachable)
    assert "refused PUT /members (You are not a server admin.): name an administrator in --couch-a" in str(error)
    assert "password" not in str(error)


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (
            401,
            "Name or password is incorrect.",
            "the user or the password (Name or password is incorrect.): give",
        ),
        (401, "You are not a server admin.", "refused GET / (You are not a server admin.): name an administrator"),
        (403, "Account is temporarily locked due to multiple authentication failures", "look in _replicator"),
        (403, "You are not allowed to access this db.", "refused GET / (You are not allowed to access this db.): name"),
        (413, "the document is too large", "answered GET / with 413: the document is too large"),
    ],
)
def test_a_refusal_repeats_what_the_server_said(status: int, reason: str, words: str) -> None:
    body = json.dumps({"error": "unauthorized", "reason": reason}).encode()
    server = ScriptedServer(b"HTTP/1.1 %d No\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
    admin = LeaderAdmin("--couch-a", server.leader, TIMEOUT_S)
    with pytest.raises(ClientError) as caught:
        admin.ask("GET", "")
    admin.close()
    server.close()
    assert words in str(caught.value)


@pytest.mark.server
def test_missing_replication_is_reported_to_who_may_not_set_it_up(
    leaders: CouchCluster, proxies: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stalewatch.clients.couchdb.setup.READY_S", 0.5)
    for node in leaders.nodes():
        ask(node, "PUT", "unlinked")
    said = str(error_of(options_for([proxy.address for proxy in proxies(**MEMBER)], db="unlinked")))
    assert "replication of unlinked does not work" in said
    assert "name an administrator" in said


@pytest.mark.server
def test_a_database_with_a_slash_is_replicated_once(leaders: CouchCluster) -> None:
    name = "company/projects"
    for _ in range(2):
        prepared(options_for(leaders.nodes(), db=name))
    found = replications(leaders, name)
    assert len(found) == 2
    assert all(one["target"].endswith("/company%2Fprojects") for one in found.values())
    node = leaders.nodes()[0]
    assert name in databases(node)
    assert ask(node, "GET", "companyprojects")["error"] == "not_found"


def bench(leaders: CouchCluster, db: str, *more: str) -> int:
    a, b = (url(node) for node in leaders.nodes())
    load = ("--ops", "20", "--users", "2", "--keys", "2")
    return main(["bench", "couch", "--couch-a", a, "--couch-b", b, "--db", db, *load, *more])


@pytest.mark.server
def test_a_run_says_what_stays_or_removes_it(leaders: CouchCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(leaders, "stays") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "--remove-replication" in line]
    assert len(lines) == 1
    assert all(name in lines[0] for name in replications(leaders, "stays"))
    assert len(replications(leaders, "stays")) == 2
    assert bench(leaders, "stays", "--remove-replication") == 0
    assert "stay" not in capsys.readouterr().err.replace("--db stays", "")
    assert replications(leaders, "stays") == {}


def test_pauses_grow_between_the_tries_of_an_edit() -> None:
    longest = [max(pause_s(conflicts) for _ in range(200)) for conflicts in range(EDIT_ATTEMPTS)]
    assert longest[0] < longest[3] < longest[6] <= LONGEST_PAUSE_S
    assert longest[-1] <= LONGEST_PAUSE_S


@pytest.mark.server
def test_twenty_users_draw_from_one_counter(leaders: CouchCluster) -> None:
    client = CouchClient(options_for(leaders.nodes(), write_to="a"), RealClock())
    client.prepare()
    client.create_counters(["twenty"])
    drawn: list[int | None] = []
    failed: list[Exception] = []

    def draw(number: int) -> None:
        session = client.session(f"s{number}")
        for _ in range(5):
            try:
                drawn.append(session.draw("twenty").version)
            except Exception as error:  # noqa: BLE001 # counted
                failed.append(error)

    threads = [threading.Thread(target=draw, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.remove_counters(["twenty"])
    client.close()
    assert len(failed) <= 2
    assert len(set(drawn)) == len(drawn) == 100 - len(failed)


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    return certificate(tmp_path_factory.mktemp("tls"))


def server_side(signed: tuple[str, str, str], *, wants_client: bool = False) -> ssl.SSLContext:
    ca, cert, key = signed
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    if wants_client:
        context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def secure(both: list[CouchProxy], **chosen: Any) -> CouchOptions:
    options = options_for([proxy.address for proxy in both], **chosen)
    a, b = (one._replace(scheme="https") for one in options.leaders)
    first, second = (proxy.behind.removeprefix("http://").partition(":") for proxy in both)
    peers = [one._replace(scheme="http", port=int(end[2])) for one, end in zip((a, b), (first, second), strict=True)]
    return CouchOptions(a=a, b=b, peer_a=peers[0], peer_b=peers[1], **chosen)


@pytest.fixture
def no_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*tls.BUNDLES, *tls.OPENSSL):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.server
@pytest.mark.usefixtures("no_bundles")
@pytest.mark.parametrize("source", ["--tls-ca", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_private_authority_is_trusted(
    proxies: Behind, signed: tuple[str, str, str], source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _context.cache_clear()
    chosen: Mapping[str, Any] = {"tls_ca": signed[0]} if source == "--tls-ca" else {}
    if not chosen:
        monkeypatch.setenv(source, signed[0])
    client = CouchClient(secure(proxies(tls=server_side(signed)), **chosen), RealClock())
    client.prepare()
    client.preload(["tls-1"], "")
    assert [client.session(name).write("tls-1", Value(1, name)).outcome for name in "abc"] == ["ok"] * 3
    client.remove(["tls-1"])
    client.close()
    assert _context.cache_info().currsize == 1
    _context.cache_clear()


@pytest.mark.server
@pytest.mark.usefixtures("no_bundles")
def test_a_certificate_of_an_unknown_authority_is_reported_as_such(
    proxies: Behind, signed: tuple[str, str, str]
) -> None:
    error = error_of(secure(proxies(tls=server_side(signed))))
    assert isinstance(error, Unreachable)
    assert "TLS with --couch-a" in str(error)
    assert "self-signed certificate" in str(error)
    assert "--tls-ca" in str(error)


@pytest.mark.server
def test_a_client_certificate_is_presented(proxies: Behind, signed: tuple[str, str, str]) -> None:
    ca, cert, key = signed
    both = proxies(tls=server_side(signed, wants_client=True))
    with pytest.raises(ClientError, match=r"--tls-cert|no CouchDB answers"):
        CouchClient(secure(both, tls_ca=ca), RealClock()).prepare()
    prepared(secure(both, tls_ca=ca, tls_cert=cert, tls_key=key))


@pytest.mark.server
def test_a_port_without_tls_is_reported_as_such(leaders: CouchCluster) -> None:
    a, b = options_for(leaders.nodes()).leaders
    assert "this port does not speak TLS" in str(error_of(CouchOptions(a=a._replace(scheme="https"), b=b)))


HTTPS, HTTP = Leader("https", "h", 1), Leader("http", "h", 2)


@pytest.mark.parametrize(
    ("leaders_", "chosen", "words"),
    [
        ((HTTP, HTTP._replace(port=3)), {"tls_ca": "ca.pem"}, "need https://"),
        ((HTTPS, HTTP), {"tls_key": "key.pem"}, "--tls-key (under Locust: --client-key) needs its certificate"),
        ((HTTPS, HTTP), {"tls_ca": "/nowhere/ca.pem"}, "--tls-ca /nowhere/ca.pem: No such file or directory"),
        ((HTTPS, HTTP), {"tls_cert": "/nowhere/c.pem"}, "--client-cert) /nowhere/c.pem: No such file or directory"),
        ((HTTPS, HTTP), {"tls_ca": __file__}, f"--tls-ca {__file__}: not a file of certificates"),
    ],
)
def test_files_that_cannot_be_used_are_reported_before_connecting(
    leaders_: tuple[Leader, Leader], chosen: dict[str, str], words: str
) -> None:
    a, b = leaders_
    error = error_of(CouchOptions(a=a, b=b, **chosen))  # type: ignore[arg-type] # texts
    assert isinstance(error, BadAddress)
    assert words in str(error)


class _Scheduler(LeaderAdmin):
    """A leader that answers with a replication document from a to b, or the other way, and its job's state."""

    def __init__(self, name: str, other: str, **job: object) -> None:
        super().__init__("--couch", Leader("http", name, 1), 1.0)
        self.document = {"_id": f"stalewatch-bench-{name}", "continuous": True}
        self.document |= {"source": f"http://{name}:1/bench", "target": f"http://{other}:1/bench"}
        self.job = job

    def ask(self, method: str, path: str, body: object = None, allowed: Collection[int] = ()) -> Any:
        if path.startswith("_scheduler"):
            return self.job or {"error": "not_found"}
        return {"rows": [{"doc": self.document}]}


def paused_by(a: dict[str, object], b: dict[str, object]) -> PausedReplication | None:
    one, other = _Scheduler("a", "b", **a), _Scheduler("b", "a", **b)
    forth = ReplicationDirection(one, one.leader, other, other.leader)
    back = ReplicationDirection(other, other.leader, one, one.leader)
    return paused([forth, back], "bench")


def crashed(times: int, ago_s: float) -> dict[str, object]:
    at = (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat(timespec="seconds")
    return {"state": "crashing", "error_count": times, "last_updated": at, "info": {"error": "econnrefused"}}


RUNNING: dict[str, object] = {"state": "running", "error_count": 0, "info": {}}


def test_a_scheduler_tells_when_it_tries_again() -> None:
    found = paused_by(crashed(1, 10), crashed(3, 20))  # the pauses are 30 and 120 s
    assert found is not None
    assert found.said == "stalewatch-bench-b at b:1: crashing econnrefused"
    assert found.retry_s == pytest.approx(100, abs=2)
    assert paused_by(RUNNING, RUNNING) is None


def test_a_job_that_has_failed_is_never_tried_again() -> None:
    found = paused_by({"state": "failed", "info": {"error": "bad document"}}, crashed(1, 0))
    assert found == PausedReplication("stalewatch-bench-a at a:1: failed bad document", None)


def test_without_a_scheduler_nothing_is_known_about_replication() -> None:
    assert paused_by({}, {}) is None


def test_clocks_that_differ_make_no_pause_longer_than_the_schedulers() -> None:
    for ago_s, expected_s in ((-3600, 30), (3600, 0)):
        found = paused_by(crashed(1, ago_s), RUNNING)
        assert found is not None
        assert found.retry_s == expected_s
    found = paused_by({**crashed(2, 0), "last_updated": None}, RUNNING)
    assert found is not None
    assert found.retry_s == 60
