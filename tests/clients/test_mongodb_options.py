"""The options of the MongoDB client, and errors that need no server."""

import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from stalewatch.clients.errors import BadAddress, ClientError, Unreachable
from stalewatch.clients.mongodb.address import MongoAddress
from stalewatch.clients.mongodb.client import MongoDatabaseClient
from stalewatch.clients.mongodb.options import MongoOptions
from stalewatch.clients.options import options_of, parse_options
from stalewatch.history.clock import RealClock
from tests.clients.certificates import certificate

NOWHERE = "mongodb://127.0.0.1:1/?replicaSet=rs0"


def error_of(uri: str, **chosen: object) -> ClientError:
    client = MongoDatabaseClient(MongoOptions(uri=uri, timeout_s=0.3, **chosen), RealClock())
    with pytest.raises(ClientError) as caught:
        client.prepare()
    assert "\n" not in str(caught.value)
    return caught.value


def test_flags_become_options() -> None:
    given = SimpleNamespace(
        mongo_uri=NOWHERE, write_concern="majority", journal="on", read_from="db1:27018", timeout="0.5", retries="off"
    )
    assert parse_options(MongoOptions, given) == MongoOptions(
        uri=NOWHERE,
        write_concern="majority",
        journal=True,
        read_from="db1:27018",
        timeout_s=0.5,
        retries=False,
    )


def test_the_uri_defaults_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STALEWATCH_MONGO_URI", NOWHERE)
    assert parse_options(MongoOptions, SimpleNamespace()).uri == NOWHERE
    assert parse_options(MongoOptions, SimpleNamespace(mongo_uri="")).uri == NOWHERE
    assert parse_options(MongoOptions, SimpleNamespace(mongo_uri="mongodb://other")).uri == "mongodb://other"


def test_a_missing_uri_is_reported_with_the_command_for_a_local_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STALEWATCH_MONGO_URI", raising=False)
    with pytest.raises(BadAddress, match="stalewatch cluster up mongo"):
        MongoAddress(parse_options(MongoOptions, SimpleNamespace()))


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("write_concern", "0"),
        ("write_concern", "51"),
        ("timeout", "3601"),
        ("write_concern", "most"),
        ("read_concern", "snapshot"),
        ("journal", "yes"),
        ("read_from", "leader"),
        ("read_from", "host:port"),
        ("read_from", "host:0"),
        ("read_from", ":27017"),
        ("read_from", "a..b:27017"),
        ("read_from", f"{'a' * 64}.com:27017"),
        ("timeout", "0"),
        ("timeout", "nan"),
        ("timeout", "soon"),
        ("retries", "2"),
    ],
)
def test_an_invalid_value_is_rejected_with_its_flag(flag: str, text: str) -> None:
    with pytest.raises(BadAddress, match=f"--{flag.replace('_', '-')} '{text}'"):
        parse_options(MongoOptions, SimpleNamespace(mongo_uri=NOWHERE, **{flag: text}))


def test_only_the_uri_is_secret() -> None:
    assert [option.flag for option in options_of(MongoOptions) if option.secret] == ["--mongo-uri"]


def test_the_options_repr_contains_no_password() -> None:
    assert "hunter2" not in repr(MongoOptions(uri="mongodb://me:hunter2@db/"))


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://me:hun/ter2@db/",
        "mongodb://me:hun?ter2@db/",
        "mongodb://me:hun@ter2@db/",
        "mongodb://me:hun%ter2@db/",
        "mongodb://me:hunter2@db:port/",
        "mongodb://me:hunter2@db/?ter2=1",
        "mongodb://me:hunter2@/",
        "http://me:hunter2@db/",
        "me:hunter2@db",
        "mongodb://db/?tlsCertificateKeyFilePassword=hunter2&socketTimeoutMS=x",
        "mongodb://db/?authMechanismProperties=hunter2&authMechanism=MONGODB-AWS",
    ],
)
def test_a_malformed_uri_is_rejected_without_quoting_its_password(uri: str) -> None:
    error = error_of(uri)
    assert isinstance(error, BadAddress)
    assert "hun" not in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("mongodb://h:99999/", "65535"),
        ("mongodb://h/?bogus=1", "bogus"),
        ("mongodb://h/?socketTimeoutMS=x", "sockettimeoutms"),
        ("postgres://h/", "scheme"),
        ("mongodb://h/?tls=true&tlsCAFile=/no/such/file", "/no/such/file"),
        ("mongodb://h/?w=0", "w=1"),
        ("mongodb://h/?replicaSet=rs0&maxStalenessSeconds=90", "give --read-from secondary"),
        ("mongodb://h/?replicaSet=rs0&maxStalenessSeconds=90", "primary cannot be combined with maxStalenessSeconds"),
        ("mongodb://me:hunter2@h/?readPreferenceTags=dc:a", "primary cannot be combined with tags"),
        ("mongodb://me:hunter2@h/?maxPoolSize=5", "maxPoolSize=5 in --mongo-uri is too small for 80 users"),
    ],
)
def test_a_malformed_uri_is_rejected_with_the_reason(uri: str, words: str) -> None:
    assert words in str(error_of(uri))


@pytest.mark.parametrize("chosen", [{"db": "a b"}, {"db": ""}, {"coll": "$kv"}, {"coll": ""}])
def test_an_illegal_name_is_rejected(chosen: dict[str, str]) -> None:
    assert isinstance(error_of(NOWHERE, **chosen), BadAddress)


def test_linearizable_reads_need_the_primary() -> None:
    assert "--read-from primary" in str(error_of(NOWHERE, read_concern="linearizable", read_from="secondary"))


def test_unreachable_servers_are_reported_with_what_to_do() -> None:
    error = error_of("mongodb://me:hunter2@127.0.0.1:1,127.0.0.1:2/?replicaSet=rs0")
    assert isinstance(error, Unreachable)
    assert "127.0.0.1:1 (" in str(error)
    assert "127.0.0.1:2 (" in str(error)
    assert "refused" in str(error)
    assert "stalewatch cluster up mongo" in str(error)
    assert "hunter2" not in str(error)


def driver_settings(uri: str, **chosen: object) -> tuple[float | None, bool, int | None, str | None]:
    client = MongoAddress(MongoOptions(uri=uri, **chosen)).open()
    client.close()
    pool = client.options.pool_options
    return pool.socket_timeout, client.options.retry_writes, pool.max_pool_size, pool.appname


def test_silent_retries_are_off_and_time_outs_are_set_unless_the_uri_sets_them() -> None:
    assert driver_settings(NOWHERE, timeout_s=3) == (3, False, 0, "stalewatch")
    uri = f"{NOWHERE}&sockettimeoutMS=700&retryWrites=true&maxPoolSize=5&appname=me"
    assert driver_settings(uri, timeout_s=3) == (0.7, True, 5, "me")


def test_the_retries_flag_overrides_the_uri() -> None:
    assert not driver_settings(f"{NOWHERE}&retryWrites=true", retries=False)[1]
    assert driver_settings(f"{NOWHERE}&retryWrites=false", retries=True)[1]


@pytest.mark.parametrize(
    ("uri", "host", "tls"),
    [
        ("mongodb://me:hunter2@a:1,b:2/admin?replicaSet=rs0", "c", False),
        ("mongodb://a?replicaSet=rs0", "c", False),
        ("mongodb://a/?tls=true", "::1", True),
    ],
)
def test_one_member_is_opened_with_the_same_user_and_settings(uri: str, host: str, tls: bool) -> None:  # noqa: FBT001
    member = MongoAddress(MongoOptions(uri=uri)).open_member(host, 7)
    member.close()
    pool = member.options.pool_options
    assert set(member.topology_description._topology_settings.seeds) == {(host, 7)}
    assert (pool._credentials is not None) == ("me" in uri)
    assert (pool._ssl_context is not None) == tls


def test_a_wrong_host_is_not_blamed_on_a_setting() -> None:
    assert "replicaSet=rs0 (" not in (said := str(error_of("mongodb://h:99999/?replicaSet=rs0&w=1")))
    assert "(replicaSet=rs0)" not in said


def test_a_member_cannot_be_combined_with_settings_that_choose_members() -> None:
    for setting in ("maxStalenessSeconds=90&readPreference=secondary", "readPreferenceTags=dc:a"):
        words = str(error_of(f"{NOWHERE}&{setting}", read_from="h:1"))
        assert f"{setting.partition('=')[0]} in --mongo-uri cannot be combined with --read-from HOST:PORT" in words


def test_tls_files_become_settings_of_the_driver(tmp_path: Path) -> None:
    ca, cert, key = certificate(tmp_path)
    for chosen in ({"tls_ca": ca}, {"tls_ca": ca, "tls_cert": cert, "tls_key": key}):
        address = MongoAddress(MongoOptions(uri=NOWHERE, **chosen))
        with address.open() as client, address.open_member("h", 1) as member:
            assert client.options.pool_options._ssl_context is not None
            assert member.options.pool_options._ssl_context is not None


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"tls_ca": "/no/such/file"}, "--tls-ca /no/such/file: No such file"),
        ({"tls_ca": __file__}, "--tls-ca .* not a file of certificates"),
        ({"tls_cert": __file__}, "--tls-cert .* not a certificate with its key"),
        ({"tls_key": __file__}, "--tls-key .* needs its certificate"),
    ],
)
def test_tls_files_that_cannot_be_used_are_named(chosen: dict[str, str], words: str) -> None:
    assert re.search(words, str(error_of(NOWHERE, **chosen)))


@pytest.mark.parametrize("host", [".a", "a..b", "a" * 64])
def test_a_host_name_that_cannot_be_one_is_refused_in_the_uri(host: str) -> None:
    assert f"'{host}' cannot be the name of a host" in str(error_of(f"mongodb://{host}:27017/?replicaSet=rs0"))


@pytest.mark.parametrize("chosen", ["key", "both"])
def test_an_encrypted_key_is_refused_without_asking_for_its_passphrase(chosen: str, tmp_path: Path) -> None:
    _, cert, key = certificate(tmp_path)
    secret, both = tmp_path / "secret.pem", tmp_path / "all.pem"
    encrypt = ("openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:hunter2", "-out", secret)
    subprocess.run(encrypt, check=True, capture_output=True, timeout=60)
    both.write_text(Path(cert).read_text() + secret.read_text())
    files = {"tls_cert": cert, "tls_key": str(secret)} if chosen == "key" else {"tls_cert": str(both)}
    named = secret if chosen == "key" else both
    said = str(error_of(NOWHERE, **files))
    assert (
        f"(under Locust: --client-{'key' if chosen == 'key' else 'cert'}) {named}: the private key is encrypted" in said
    )
    assert "cannot be used" in str(error_of(f"{NOWHERE}&tls=true&tlsCertificateKeyFile={both}"))
