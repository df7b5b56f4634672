"""URLs lose their secrets before they are sent, and get them back from the receiver."""

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
def test_redaction_removes_user_password_and_secret_settings(url: str, expected: str) -> None:
    assert redacted_url(url) == expected


@pytest.mark.parametrize("url", ["mongodb://u:p@ss@h:1", "mongodb://u:p/ss@h:1", "mongodb://u:p?ss@h:1", "u:pass@h"])
def test_redaction_of_a_malformed_url_leaks_nothing(url: str) -> None:
    assert not any(part in redacted_url(url) for part in ("u:", "p@", "ss", "pass"))


@pytest.mark.parametrize(("own", "sent"), WITH_AND_WITHOUT)
def test_the_receivers_own_secrets_restore_a_redacted_url(own: str, sent: str) -> None:
    again = restored_url(sent, own)
    assert redacted_url(again) == sent
    assert ("u:p" in again) == ("u:p" in own)
    assert again.lower().count("password=") == own.lower().count("password=")


def test_a_restored_url_keeps_the_hosts_and_settings_that_were_sent() -> None:
    assert restored_url("mongodb://x:9/?w=2", "mongodb://u:p@h:1/?replicaSet=rs0") == "mongodb://u:p@x:9/?w=2"
