"""The options of the CouchDB client."""

from types import SimpleNamespace

import pytest

from stalewatch.clients.couchdb.options import PASSWORD, USERNAME, CouchOptions, Leader, database_name, leader
from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import parse_options

A, B = "http://admin:s3cret@127.0.0.1:5984", "http://admin:s3cret@127.0.0.1:5985"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://localhost:5985", Leader("http", "localhost", 5985)),
        ("http://localhost", Leader("http", "localhost", 5984)),
        ("https://couch.example/", Leader("https", "couch.example", 6984)),
        ("http://admin:pa%2Fss%40@[::1]:1", Leader("http", "::1", 1, "admin", "pa/ss@")),
        ("http://admin@h:1", Leader("http", "h", 1, "admin", "")),
    ],
)
def test_a_leaders_url_is_parsed(text: str, expected: Leader) -> None:
    found = leader(text)
    assert found == expected
    assert leader(found.full_url) == expected
    assert "@" not in found.url


def test_credentials_come_from_the_environment_if_the_url_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(USERNAME, "ada")
    monkeypatch.setenv(PASSWORD, "s3cret")
    assert leader("http://h:1")[3:] == ("ada", "s3cret")
    assert leader("http://eve:x@h:1")[3:] == ("eve", "x")


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:5984",
        "couch://h:1",
        "http://",
        "http://u:s3cret@h:1/db",
        "http://u:s3cret@h:1?x=1",
        "http://u:s3cret@h:99999",
        "http://u:s3/cret@h:1",
        "http://u:s3cret@[::1:1",
    ],
)
def test_an_invalid_url_is_rejected_without_quoting_it(text: str) -> None:
    with pytest.raises(BadAddress) as refused:
        parse_options(CouchOptions, SimpleNamespace(couch_a=text, couch_b=B))
    assert "--couch-a" in str(refused.value)
    assert "s3" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_options_repr_contains_no_password() -> None:
    options = parse_options(CouchOptions, SimpleNamespace(couch_a=A, couch_b=B, peer_a="http://x:s3cret@h:1"))
    assert "s3cret" not in repr(options)


def test_a_peer_without_credentials_gets_the_leaders() -> None:
    options = parse_options(CouchOptions, SimpleNamespace(couch_a=A, couch_b=B, peer_a="http://couch1:5984"))
    assert options.peer_a == Leader("http", "couch1", 5984, "admin", "s3cret")
    assert options.peer_b is None


@pytest.mark.parametrize(
    ("flag", "given", "means"),
    [
        ("write_to", "home", "home"),
        ("write_to", "127.0.0.1:5985", "b"),
        ("read_from", "other", "other"),
        ("read_from", "127.0.0.1:5984", "a"),
        ("read_from", None, "a"),
        ("write_to", "", "both"),
    ],
)
def test_leaders_can_be_chosen_by_name_or_by_address(flag: str, given: str | None, means: str) -> None:
    assert getattr(parse_options(CouchOptions, SimpleNamespace(couch_a=A, couch_b=B, **{flag: given})), flag) == means


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"write_to": "c"}, "--write-to 'c'"),
        ({"read_from": "either"}, "--read-from 'either'"),
        ({"read_from": "127.0.0.1:1"}, "127.0.0.1:5984, 127.0.0.1:5985"),
        ({"db": "Bench"}, "--db"),
        ({"timeout": "0"}, "--timeout"),
        ({"couch_b": None}, "--couch-b"),
        ({"couch_b": "http://a..b:5984"}, "--couch-b"),
        ({"peer_b": "http://a..b:5984"}, "--peer-b"),
    ],
)
def test_an_invalid_value_is_rejected_with_its_flag(
    monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str | None], words: str
) -> None:
    monkeypatch.delenv("STALEWATCH_COUCH_B", raising=False)
    with pytest.raises(BadAddress, match=words):
        _ = parse_options(CouchOptions, SimpleNamespace(**{"couch_a": A, "couch_b": B, **wrong})).leaders


def test_one_server_cannot_be_both_leaders() -> None:
    with pytest.raises(BadAddress, match="name two servers"):
        parse_options(CouchOptions, SimpleNamespace(couch_a=A, couch_b=A)).check()


@pytest.mark.parametrize("name", ["bench", "a0_$()+-", "a/b"])
def test_legal_database_names_are_accepted(name: str) -> None:
    assert database_name(name) == name


@pytest.mark.parametrize("name", ["", "_users", "0a", "Bench", "a b", "ä"])
def test_illegal_database_names_are_rejected(name: str) -> None:
    with pytest.raises(ValueError, match="lower-case"):
        database_name(name)


def test_a_missing_address_means_the_local_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STALEWATCH_COUCH_A", "STALEWATCH_COUCH_B"):
        monkeypatch.delenv(name, raising=False)
    for given, lacks in ({}, True), ({"couch_a": A}, False):
        options = parse_options(CouchOptions, SimpleNamespace(**given))
        assert DATABASES["couch"].lacks_address(options) == lacks
