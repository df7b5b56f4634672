"""What can be chosen about a CouchDB client, as a dataclass and as the table of its flags."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, cast
from urllib.parse import SplitResult, quote, unquote, urlsplit

from stalewatch.clients import urls
from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import Option, Seal, chosen

WRITE_TO = ("a", "b", "both", "home")
READ_FROM = ("a", "b", "same", "other")

DEFAULT_TIMEOUT_S = 5.0

USERNAME, PASSWORD = "STALEWATCH_COUCH_USERNAME", "STALEWATCH_COUCH_PASSWORD"
"""Environment variables with the credentials of URLs that hold none."""

_PORTS = {"http": 5984, "https": 6984}
_LEGAL_NAME = re.compile(r"[a-z][a-z0-9_$()+/-]*")
_EXPECTED = "write http://[USER:PASSWORD@]HOST:PORT, / ? # @ % : in a password written as %2F %3F %23 %40 %25 %3A"


class Leader(NamedTuple):
    """One server: where it is and who we are there."""

    scheme: str
    host: str
    port: int
    user: str | None = None
    password: str | None = None

    @property
    def node(self) -> str:
        """The server as HOST:PORT."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The server's URL without credentials."""
        return f"{self.scheme}://{self.node}"

    @property
    def full_url(self) -> str:
        """The server's URL with the credentials, as replication documents hold it; for no page, log or message."""
        if self.user is None:
            return self.url
        return f"{self.scheme}://{quote(self.user, safe='')}:{quote(self.password or '', safe='')}@{self.node}"


def leader(flag: str, text: str, environ: Mapping[str, str] = os.environ) -> Leader:
    """Return the server that a URL names; raise `BadAddress`, which never quotes it, where it names none."""
    parts, port = _parsed(flag, text)
    if parts.scheme not in _PORTS or not parts.hostname or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise BadAddress(f"{flag} is no URL of a CouchDB server: {_EXPECTED}")
    user, password = parts.username, parts.password
    if user is None:
        return Leader(parts.scheme, parts.hostname, port, environ.get(USERNAME), environ.get(PASSWORD))
    return Leader(parts.scheme, parts.hostname, port, unquote(user), unquote(password or ""))


def _parsed(flag: str, text: str) -> tuple[SplitResult, int]:
    try:
        parts = urlsplit(text)
        return parts, parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        raise BadAddress(f"{flag} is no URL of a CouchDB server: {_EXPECTED}") from None


def database_name(text: str) -> str:
    """Return a database's name as it was given; raise ValueError where CouchDB would refuse it."""
    if not _LEGAL_NAME.fullmatch(text):
        raise ValueError("must begin with a lower-case letter and hold only a-z, 0-9 and _$()+/-")
    return text


def seconds(text: str) -> float:
    """Return a time in seconds; raise ValueError unless it is a number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError("must be a number of seconds above 0")
    return value


@dataclass(frozen=True, kw_only=True)
class CouchClientOptions:
    """How to reach two leaders, and which of them to write to and to read from.

    `write_to`: ``a``, ``b``, ``both`` (each write goes to one or the other by chance) or ``home`` (every key has its
    leader). `read_from`: ``a``, ``b``, ``same`` (the leader that the session's writes of that key go to; with ``both``
    the one that it last wrote to) or ``other``. The peers are what the servers call each other. `timeout_s` bounds
    connecting and each wait for an answer.
    """

    a: Leader = field(repr=False)  # may hold passwords
    b: Leader = field(repr=False)
    peer_a: Leader | None = field(default=None, repr=False)
    peer_b: Leader | None = field(default=None, repr=False)
    db: str = "bench"
    write_to: str = "both"
    read_from: str = "a"
    timeout_s: float = DEFAULT_TIMEOUT_S
    seed: int = 0

    def check(self) -> None:
        """Raise `BadAddress` for choices that contradict each other."""
        if self.a.node == self.b.node:
            raise BadAddress(f"--couch-a and --couch-b are both {self.a.node}: name two servers")


SEAL = Seal(urls.bare, urls.whole)

OPTIONS: tuple[Option, ...] = (
    Option("--couch-a", "one leader: http://USER:PASSWORD@HOST:PORT", env="STALEWATCH_COUCH_A", secret=True, seal=SEAL),
    Option("--couch-b", "the other leader", env="STALEWATCH_COUCH_B", secret=True, seal=SEAL),
    Option(
        "--peer-a",
        "what leader b calls leader a (default: stalewatch/peer_url in b's configuration, else --couch-a)",
        env="STALEWATCH_COUCH_PEER_A",
        secret=True,
        seal=SEAL,
    ),
    Option("--peer-b", "what leader a calls leader b", env="STALEWATCH_COUCH_PEER_B", secret=True, seal=SEAL),
    Option(
        "--db",
        "database; it is created, and replicated both ways, where that is missing",
        default="bench",
        parse=database_name,
    ),
    Option(
        "--write-to",
        "who takes writes: a, b, both by turns of chance, home (every key has its leader), or one as HOST:PORT",
        default="both",
    ),
    Option(
        "--read-from",
        "who answers reads: a, b, same (where the session's writes of the key go), other, or one as HOST:PORT",
        default="a",
    ),
    Option("--timeout", "seconds to connect, and for an answer, each", default=DEFAULT_TIMEOUT_S, parse=seconds),
)


def options_from(namespace: object, seed: int = 0) -> CouchClientOptions:
    """Build the options from parsed arguments (attributes named after the flags), the environment and the defaults.

    Raises `BadAddress` for a value that makes no sense, or where a leader's address is missing.
    """
    values = chosen(OPTIONS, namespace)
    a, b = (_required(values, name) for name in ("couch_a", "couch_b"))
    return CouchClientOptions(
        a=a,
        b=b,
        peer_a=_peer(values, "peer_a", a),
        peer_b=_peer(values, "peer_b", b),
        db=str(values["db"]),
        write_to=_where("--write-to", str(values["write_to"]), WRITE_TO, a, b),
        read_from=_where("--read-from", str(values["read_from"]), READ_FROM, a, b),
        timeout_s=cast("float", values["timeout"]),
        seed=seed,
    )


def _required(values: Mapping[str, object], name: str) -> Leader:
    flag = f"--{name.replace('_', '-')}"
    if values[name] is None:
        raise BadAddress(f"no address of a leader: give {flag}, or start two with `stalewatch cluster up couch`")
    return leader(flag, str(values[name]))


def _peer(values: Mapping[str, object], name: str, same: Leader) -> Leader | None:
    if values[name] is None:
        return None
    peer = leader(f"--{name.replace('_', '-')}", str(values[name]), {})
    return peer if peer.user is not None else peer._replace(user=same.user, password=same.password)


def _where(flag: str, text: str, words: tuple[str, ...], a: Leader, b: Leader) -> str:
    place = {a.node: "a", b.node: "b"}.get(text, text)
    if place not in words:
        raise BadAddress(f"{flag} {text!r}: must be one of {', '.join(words)}, or {a.node} or {b.node}")
    return place
