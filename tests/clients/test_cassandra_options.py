"""Options of the Cassandra client: parsing, defaults, contradictions, and addresses without a node."""

import argparse
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from stalewatch.clients.cassandra.client import CassandraDatabaseClient
from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clients.errors import BadAddress, Unreachable
from stalewatch.clients.options import add_arguments, options_of, parse_options, public_values
from stalewatch.clients.tls import TlsFiles
from stalewatch.history.clock import RealClock
from tests.clients.certificates import certificate


def given(**more: str) -> SimpleNamespace:
    return SimpleNamespace(**{"hosts": "db1", **more})


def test_flags_become_options() -> None:
    flags = given(
        hosts="db1, db2:9043,[::1]:9044",
        port="9050",
        rf="3",
        write_cl="quorum",
        read_cl="local_quorum",
        lwt="on",
        coordinator="split",
        read_repair="none",
        speculative_retry="99P",
        timeout="0.5",
        keyspace="Bench",
    )
    options = parse_options(CassandraClientOptions, flags)
    assert options == CassandraClientOptions(
        hosts="db1, db2:9043,[::1]:9044",
        port=9050,
        rf=3,
        write_cl="QUORUM",
        read_cl="LOCAL_QUORUM",
        lwt=True,
        coordinator="split",
        read_repair="none",
        speculative_retry="99p",
        timeout_s=0.5,
        keyspace="Bench",
    )
    assert options.contact_points == (("db1", 9050), ("db2", 9043), ("::1", 9044))


def test_lwt_needs_no_value() -> None:
    import argparse  # noqa: PLC0415

    parser = argparse.ArgumentParser()
    add_arguments(parser, options_of(CassandraClientOptions))
    for words, lwt in (([], False), (["--lwt"], True), (["--lwt", "off"], False)):
        assert parse_options(CassandraClientOptions, parser.parse_args(["--hosts", "db1", *words])).lwt == lwt


def test_credentials_and_hosts_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("hosts", "username", "password"):
        monkeypatch.setenv(f"STALEWATCH_CASSANDRA_{name.upper()}", f"the-{name}")
    options = parse_options(CassandraClientOptions, SimpleNamespace())
    assert (options.hosts, options.username, options.password) == ("the-hosts", "the-username", "the-password")
    assert "the-password" not in repr(options)
    assert "the-password" not in str(public_values(options))


def test_without_hosts_the_error_says_how_to_start_a_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STALEWATCH_CASSANDRA_HOSTS", raising=False)
    with pytest.raises(BadAddress, match="stalewatch cluster up cassandra"):
        _ = parse_options(CassandraClientOptions, SimpleNamespace()).contact_points


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("hosts", "db1,,db2"),
        ("hosts", "db1:0"),
        ("hosts", "db1:port"),
        ("hosts", "cassandra://db1"),
        ("port", "70000"),
        ("write_cl", "MOST"),
        ("write_cl", "SERIAL"),
        ("read_cl", "ANY"),
        ("rf", "0"),
        ("rf", "three"),
        ("lwt", "maybe"),
        ("coordinator", "nearest"),
        ("coordinator", "db1"),
        ("read_from", "db1"),
        ("read_from", "db1:0"),
        ("read_from", "a..b:9042"),
        ("coordinator", f"{'a' * 64}:9042"),
        ("hosts", "db1,a..b"),
        ("timestamps", "skewed"),
        ("timestamps", "skewed:0"),
        ("timestamps", "skewed:-5"),
        ("timestamps", "server:5"),
        ("read_repair", "maybe"),
        ("speculative_retry", "often"),
        ("speculative_retry", "99p'; DROP"),
        ("keyspace", "b" * 49),
        ("keyspace", "bench; DROP"),
        ("table", "k" * 49),
        ("timeout", "0"),
        ("timeout", "soon"),
    ],
)
def test_an_invalid_value_is_refused_with_its_flag(flag: str, text: str) -> None:
    with pytest.raises(BadAddress, match=f"--{flag.replace('_', '-')}"):
        parse_options(CassandraClientOptions, given(**{flag: text}))


@pytest.mark.parametrize("text", ["never", "always", "99p", "99.5percentile", "50ms", "NEVER"])
def test_every_speculative_retry_policy_is_accepted(text: str) -> None:
    assert parse_options(CassandraClientOptions, given(speculative_retry=text)).speculative_retry


@pytest.mark.parametrize(("text", "skew_ms"), [("version", 0), ("server", 0), ("skewed:500", 500)])
def test_clock_skew_is_parsed(text: str, skew_ms: int) -> None:
    assert parse_options(CassandraClientOptions, given(timestamps=text)).clock_skew_ms == skew_ms


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"lwt": True, "timestamps": "server"}, "--timestamps server"),
        ({"username": "me"}, "password"),
        ({"password": "secret"}, "user name"),
        ({"tls_key": "key.pem"}, "--tls-cert"),
        ({"tls_ca": "no-such-file.pem"}, "--tls-ca"),
    ],
)
def test_contradictory_options_are_refused(chosen: dict[str, object], words: str) -> None:
    with pytest.raises(BadAddress, match=words) as caught:
        CassandraDatabaseClient(CassandraClientOptions(hosts="127.0.0.1", **chosen), RealClock()).prepare()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("hosts", "kind", "words"),
    [
        (
            "127.0.0.1:9",
            Unreachable,
            "no Cassandra node answers at 127.0.0.1:9; .*cluster up cassandra.*the driver said: .*refused",
        ),
        ("nowhere.invalid", BadAddress, "none of these names resolves to an address"),
    ],
)
def test_hosts_without_a_node_are_named_with_a_remedy(hosts: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        CassandraDatabaseClient(CassandraClientOptions(hosts=hosts), RealClock()).prepare()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("flags", [("--tls-cert", "--tls-key"), ("--client-cert", "--client-key")])
def test_former_flags_of_the_client_certificate_are_accepted(flags: tuple[str, str]) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser, options_of(CassandraClientOptions))
    parsed = parser.parse_args(["--hosts", "db1", flags[0], "cert.pem", flags[1], "key.pem"])
    options = parse_options(CassandraClientOptions, parsed, {})
    assert (options.tls_cert, options.tls_key, options.encrypted) == ("cert.pem", "key.pem", True)


def test_tls_without_files_trusts_the_system_with_one_context_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not CassandraClientOptions(hosts="db1").encrypted
    options = CassandraClientOptions(hosts="db1", tls=True)
    assert options.encrypted
    assert options.tls_files.context() is CassandraClientOptions(hosts="db2", tls=True).tls_files.context()
    monkeypatch.setenv("SSL_CERT_FILE", certificate(tmp_path)[0])
    trusting = TlsFiles(cert=str(tmp_path / "both.pem")).context()
    assert [dict(*one["subject"])["commonName"] for one in trusting.get_ca_certs()] == ["node"]


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        ("127.0.0.1,127.0.0.1", "127.0.0.1:9042 and 127.0.0.1:9042 are both 127.0.0.1:9042"),
        ("127.0.0.1,127.0.0.2,127.0.0.1:9042", "127.0.0.1:9042 and 127.0.0.1:9042 are both 127.0.0.1:9042"),
        ("[::1],[0:0:0:0:0:0:0:1]:9042", "names one node twice"),
    ],
)
def test_a_node_that_is_named_twice_is_refused(hosts: str, words: str) -> None:
    with pytest.raises(BadAddress, match=re.escape(words)):
        CassandraDatabaseClient(CassandraClientOptions(hosts=hosts), RealClock()).prepare()


def test_the_earlier_names_of_the_variables_for_certificates_are_still_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STALEWATCH_CASSANDRA_CLIENT_CERT", "old.pem")
    assert parse_options(CassandraClientOptions, given()).tls_cert == "old.pem"
    monkeypatch.setenv("STALEWATCH_CASSANDRA_TLS_CERT", "new.pem")
    assert parse_options(CassandraClientOptions, given()).tls_cert == "new.pem"
