"""Addresses lose their secrets before they travel, and get them back from who knows them."""

import pytest

from stalewatch.clients.options import redacted_url, restored_url

WITH_AND_WITHOUT = [
    ("mongodb://u:p@h:1,i:2/?replicaSet=rs0", "mongodb://h:1,i:2/?replicaSet=rs0"),
    ("mongodb+srv://u:p@h/db", "mongodb+srv://h/db"),
    ("http://admin:pass@localhost:5984", "http://localhost:5984"),
    ("mongodb://h:1/?w=1&tlsCertificateKeyFilePassword=p&tls=true", "mongodb://h:1/?w=1&tls=true"),
    ("mongodb://h:1/?tlsCertificateKeyFilePassword=p&w=1", "mongodb://h:1/?w=1"),
    ("mongodb://u:p&password=q@h:1/?w=1", "mongodb://h:1/?w=1"),
    ("mongodb://h:1/?authMechanismProperties=A:p", "mongodb://h:1/"),
]


@pytest.mark.parametrize(("url", "expected"), WITH_AND_WITHOUT)
def test_user_password_and_secret_settings_are_taken_out(url: str, expected: str) -> None:
    assert redacted_url(url) == expected


@pytest.mark.parametrize("url", ["mongodb://u:p@ss@h:1", "mongodb://u:p/ss@h:1", "mongodb://u:p?ss@h:1", "u:pass@h"])
def test_nothing_of_a_malformed_address_leaks(url: str) -> None:
    assert not any(part in redacted_url(url) for part in ("u:", "p@", "ss", "pass"))


@pytest.mark.parametrize(("own", "sent"), WITH_AND_WITHOUT)
def test_who_knows_the_secret_makes_the_address_whole(own: str, sent: str) -> None:
    again = restored_url(sent, own)
    assert redacted_url(again) == sent
    assert ("u:p" in again) == ("u:p" in own)
    assert again.lower().count("password=") == own.lower().count("password=")


def test_hosts_and_settings_are_those_that_were_sent() -> None:
    assert restored_url("mongodb://x:9/?w=2", "mongodb://u:p@h:1/?replicaSet=rs0") == "mongodb://u:p@x:9/?w=2"
