"""A node with authentication and TLS: logins, rights, certificates, and the messages if one is refused."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from stalewatch.clients.cassandra.client import CassandraDatabaseClient
from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clients.errors import BadAddress, ClientError, Unreachable
from stalewatch.clusters.local import cassandra_node, java, ports
from stalewatch.clusters.local.cassandra import LOCK, CassandraCluster
from stalewatch.clusters.local.cassandra_node import Node, Ports, Settings
from stalewatch.clusters.local.process import ServerProcess
from stalewatch.clusters.protocol import MissingProgram
from stalewatch.history.clock import RealClock
from tests.clients import certificates
from tests.clients.drill import until
from tests.locust.conftest import Swarm, assert_keeps_secret

pytestmark = pytest.mark.server

PASSWORD = "hunter2"  # noqa: S105 # of a server that runs only during these tests
SECRET = "s3cr3t-of-locust"  # noqa: S105 # likewise
SUPERUSER = {"username": "cassandra", "password": "cassandra"}
HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate; `both.pem` next to it also holds the key."""
    return Path(certificates.certificate(tmp_path_factory.mktemp("tls"))[1])


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, certificate: Path) -> Iterator[str]:
    """The address of a single node that requires logins and accepts TLS."""
    try:
        program, classpath = java.find(), java.fetch_jars(LOCK, print)
    except MissingProgram as error:
        pytest.skip(str(error))
    found = Ports(*ports.free(3, HOST))
    folder = tmp_path_factory.mktemp("node")
    node = Node(HOST, found, Fraction(0), [f"{HOST}:{found.storage}"], Settings())
    cassandra_node.write_files(folder, node)
    file = folder / "cassandra.yaml"
    factory = {"class_name": "org.apache.cassandra.security.PEMBasedSslContextFactory"}
    tls = {"enabled": True, "optional": True, "keystore": str(certificate.with_name("both.pem"))}
    more = {
        "authenticator": "PasswordAuthenticator",
        "authorizer": "CassandraAuthorizer",
        "client_encryption_options": {**tls, "ssl_context_factory": factory},
    }
    file.write_text(json.dumps({**json.loads(file.read_text()), **more}))
    server = ServerProcess("alone", folder)
    server.start(cassandra_node.arguments(program, classpath, folder, node, replaces=False))
    try:
        until(lambda: _is_running(server) and works(node.address, **SUPERUSER), 120)
        yield node.address
    finally:
        server.kill()


def _is_running(server: ServerProcess) -> bool:
    assert server.state == "running", server.last_lines(20)
    return True


def works(address: str, **chosen: object) -> bool:
    try:
        prepared(address, **chosen).close()
    except ClientError:
        return False
    return True


def prepared(address: str, **chosen: object) -> CassandraDatabaseClient:
    client = CassandraDatabaseClient(CassandraClientOptions(**{"hosts": address, "rf": 1, **chosen}), RealClock())
    client.prepare()
    return client


@pytest.fixture(scope="module")
def reader(address: str) -> str:
    """A user without rights."""
    client = prepared(address, **SUPERUSER)
    client._access.session.execute(f"CREATE ROLE reader WITH LOGIN = true AND PASSWORD = '{PASSWORD}'", timeout=30)
    client.close()
    return "reader"


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({}, r"refuses connections without a user name.*--username.*STALEWATCH_CASSANDRA_PASSWORD"),
        (
            {"username": "cassandra", "password": "secret"},
            r"refuses the user cassandra; .*--username.* it said: .*incorrect",
        ),
        ({"username": "nobody", "password": "secret"}, r"refuses the user nobody; .* it said: "),
    ],
)
def test_a_refused_login_is_reported_without_the_password(address: str, chosen: dict[str, str], words: str) -> None:
    with pytest.raises(Unreachable, match=f"{address} {words}") as caught:
        prepared(address, **chosen)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_rights_are_named(address: str, reader: str) -> None:
    with pytest.raises(Unreachable, match=r"does not allow the user reader .*grant CREATE, MODIFY and SELECT"):
        prepared(address, username=reader, password=PASSWORD, keyspace="missing")


def test_rights_on_the_keyspace_are_enough(address: str, reader: str) -> None:
    admin = prepared(address, **SUPERUSER)
    admin._access.session.execute(f"GRANT ALL ON KEYSPACE bench TO {reader}", timeout=30)
    admin.close()
    until(lambda: works(address, username=reader, password=PASSWORD), 60)  # the server caches rights for two seconds
    use(prepared(address, username=reader, password=PASSWORD))


def test_a_valid_user_reads_and_writes(address: str) -> None:
    use(prepared(address, **SUPERUSER))


def test_nodes_of_two_rings_are_refused(address: str, ring: CassandraCluster) -> None:
    first = ring.nodes()[0]
    for hosts in (f"{first},{address}", f"{address},{first}"):
        with pytest.raises(BadAddress, match=r"--hosts names nodes of two rings: .* is in '.*', but not in '.*' of "):
            prepared(hosts, **SUPERUSER)


def test_a_client_that_trusts_the_certificate_uses_tls(address: str, certificate: Path) -> None:
    client = prepared(address, tls_ca=str(certificate), **SUPERUSER)
    assert client._access.cluster.ssl_context is not None
    use(client)


def test_greenlets_use_tls_too(address: str, certificate: Path, tmp_path: Path) -> None:
    """Values of 5 kB are sent and received in several pieces."""
    report = tmp_path / "result.json"
    line = ("cassandra", "--hosts", address, "--rf", "1", "--tls-ca", str(certificate), "--username", "cassandra")
    load = ("--ops", "2000", "--users", "20", "--value-size", "5000", "--json", str(report))
    secret = {**os.environ, "STALEWATCH_CASSANDRA_PASSWORD": SUPERUSER["password"]}
    command = [sys.executable, "bench.py", *line, *load]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=secret, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(report.read_text())
    assert result["options"]["driver"]["reactor"] == "GreenletConnection"
    assert [sum(row[outcome] for row in result["operations"].values()) for outcome in ("ok", "fail", "unknown")] == [
        2000,
        0,
        0,
    ]


def test_a_node_with_an_untrusted_certificate_is_refused(address: str, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    made = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "key.pem", "-out", other)
    subprocess.run([*made, "-subj", "/CN=other"], check=True, capture_output=True, timeout=60)
    with pytest.raises(Unreachable, match=r"certificate verify failed"):
        prepared(address, tls_ca=str(other), **SUPERUSER)


def use(client: CassandraDatabaseClient) -> None:
    client.preload(["a"], "")
    assert client.session("s").read("a").version == 0
    assert client.final("a").outcome == "ok"
    client.remove(["a"])
    assert PASSWORD not in str(client.settings())
    client.close()


def test_nobody_sees_the_password_under_locust(address: str, swarm: Swarm) -> None:
    """The user's name and password differ, so that only the password is looked for."""
    client = prepared(address, **SUPERUSER)
    client._access.session.execute(
        f"CREATE ROLE locust WITH SUPERUSER = true AND LOGIN = true AND PASSWORD = '{SECRET}'"
    )
    client.close()
    until(lambda: works(address, username="locust", password=SECRET), 60)
    env = {
        "STALEWATCH_CASSANDRA_HOSTS": address,
        "STALEWATCH_CASSANDRA_USERNAME": "locust",
        "STALEWATCH_CASSANDRA_PASSWORD": SECRET,
    }
    assert_keeps_secret(swarm, (SECRET,), "--rf", "1", env=env, locustfile="locustfiles/cassandra_users.py")
