"""No option or argument that holds user:password@ is echoed, whichever it is and whatever is wrong with it."""

import timeit
from contextlib import suppress
from pathlib import Path

import pytest

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import without_credentials
from stalewatch.clients.options import options_of, public_command
from stalewatch.clusters.local import home
from stalewatch.commands.main import main
from stalewatch.credentials import hide_split
from stalewatch.workloads.options import LoadOptions

SECRET = "s3cr3t"  # noqa: S105 # of nothing
VALUES = (f"admin:{SECRET}@host:1", f"http://admin:{SECRET}@host:1/x")
ADDRESSES = {
    "couch": ("--couch-a", "http://127.0.0.1:1", "--couch-b", "http://127.0.0.1:2"),
    "mongo": ("--mongo-uri", "mongodb://127.0.0.1:1/?replicaSet=rs0"),
    "cassandra": ("--hosts", "127.0.0.1:1"),
    "memory": (),
}
FLAGS = [
    (name, option.flag)
    for name, database in DATABASES.items()
    if name in ADDRESSES
    for option in (*database.flags(), *(options_of(LoadOptions) if name == "memory" else ()))
]
OUTPUTS = [("memory", flag) for flag in ("--expect", "--history", "--json", "--metrics-port", "--no-such-option")]
COMMANDS = [
    ("bench",),
    ("bench", "couch", "--remove-replication"),
    ("check",),
    ("report",),
    ("drill", "mongo", "--fault"),
    ("drill", "mongo", "--fault", "kill-primary", "--vary"),
    ("drill", "mongo", "--fault", "kill-primary", "--after"),
    ("cluster",),
    ("cluster", "up"),
]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with suppress(SystemExit):  # argparse
        main(arguments)
    captured = capsys.readouterr()
    return captured.out + captured.err


@pytest.mark.parametrize(("database", "flag"), FLAGS + OUTPUTS)
def test_no_option_is_echoed(
    database: str, flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    load = ("--ops", "1", "--keys", "1", "--users", "1", "--timeout", "0.05")
    for value in VALUES:
        address = ADDRESSES[database]
        given = ("bench", database, *address, *load, flag, value)
        assert SECRET not in said(capsys, *given), (flag, value)
        assert SECRET not in said(capsys, *given[:-2], f"{flag}={value}"), (flag, value)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_argument_is_echoed(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    for value in VALUES:
        assert SECRET not in said(capsys, *command, value)


SPLIT = (("u:two", f"{SECRET}@host:1"), (f"http://u:{SECRET}", "words@host:1/x"), (f"u:a{SECRET}", "b", "c@host"))


@pytest.mark.parametrize("command", [*COMMANDS, ("bench", "couch", "--couch-a"), ("bench", "memory", "--write-to")])
def test_no_password_with_a_space_is_echoed_where_the_shell_split_it(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for words in SPLIT:
        assert SECRET not in said(capsys, *command, *words), words


def test_a_lock_names_its_holder_without_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = (
        "--couch-a",
        f"http://u:two {SECRET}@h:1",
        "--password",
        f"{SECRET} x",
        f"--mongo-uri=mongodb://u:{SECRET}@h",
    )
    monkeypatch.setattr("sys.argv", ["stalewatch", "bench", *options])
    with home.locked(tmp_path / "lock", print):
        held = (tmp_path / "lock").read_text()
    assert "stalewatch bench --couch-a" in held
    assert SECRET not in held


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("--write-to 'admin:PW@host:1': must be a", "--write-to '***@host:1': must be a"),
        ("http://u:p@h:1/x and mongodb://u:p%40@h,i", "http://***@h:1/x and mongodb://***@h,i"),
        ("https://token@h", "https://***@h"),
        ("'a b:c d@h' is wrong", "'***@h' is wrong"),
        ("u:p@q@h", "***@h"),
        ("mongodb://u:two words@h:1/x", "mongodb://***@h:1/x"),
        ("mongodb://u:p@ss word@h:1", "mongodb://***@h:1"),
        ("u:two words@h", "***@h"),
        ("stalewatch: error: ask ops@example.org", "stalewatch: error: ask ops@example.org"),
        ("write mongodb://[USER:PASSWORD@]HOST:PORT", "write mongodb://[USER:PASSWORD@]HOST:PORT"),
        ("127.0.0.1:5984: connection refused", "127.0.0.1:5984: connection refused"),
        ("ask ops@example.org", "ask ops@example.org"),
        ("u:p @h and 'w:x y@h'", "***@h and '***@h'"),
        ("http://u:two words@h:1, mongodb://a:b@c", "http://***@h:1, mongodb://***@c"),
        ("USER:PASSWORD@HOST or u:p@h", "USER:PASSWORD@HOST or ***@h"),
    ],
)
def test_credentials_are_found_in_any_text(text: str, shown: str) -> None:
    hide_split([])  # nothing of an earlier test
    assert without_credentials(text) == shown


@pytest.mark.parametrize("repeated", ["k", "-", "@", "://", "a:b ", "x ", "a:b@a ", "a:b c@a", "://a:b c ", "' "])
def test_the_time_grows_with_the_length_and_not_with_its_square(repeated: str) -> None:
    assert seconds(repeated, 80_000) < 8 * 16 * seconds(repeated, 5_000), "16 times the length, 256 times its square"


def seconds(repeated: str, length: int) -> float:
    text = f"{repeated * (length // len(repeated))} u:{SECRET}@h"
    assert without_credentials(text).endswith("***@h")
    return max(1e-4, min(timeit.repeat(lambda: without_credentials(text), number=1, repeat=3)))


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (
            ("--mongo-uri", f"mongodb://u:{SECRET}@h1,h2/?replicaSet=rs0"),
            "--mongo-uri 'mongodb://h1,h2/?replicaSet=rs0'",
        ),
        (("--mongo-uri", f"mongodb://h/?tlsCertificateKeyFilePassword={SECRET}"), "--mongo-uri mongodb://h/"),
        ((f"--mongo-ur=mongodb://u:{SECRET}@h",), "--mongo-ur=mongodb://h"),
        (("--password", SECRET, "--users", "3"), "--password SECRET --users 3"),
        ((f"--passw={SECRET}",), "--passw=SECRET"),
        (("--vary", f"password={SECRET},b"), "--vary password=SECRET"),
        ((f"--vary=password={SECRET}",), "--vary=password=SECRET"),
        (("--couch-a", f"http://admin:{SECRET}@h:1/x"), "--couch-a http://h:1/x"),
        (("-H", f"http://a:{SECRET}@b"), "-H http://***@b"),
        (("--write-concern=1", "--expect", "stale_reads<0.05"), "--write-concern=1 --expect 'stale_reads<0.05'"),
    ],
)
def test_a_command_is_shown_without_secrets(words: tuple[str, ...], shown: str) -> None:
    options = [option for database in DATABASES.values() for option in database.flags()]
    found = public_command(("stalewatch", *words), [*options, *options_of(LoadOptions)])
    assert found == f"stalewatch {shown}"
