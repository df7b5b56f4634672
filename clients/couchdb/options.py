"""The options of a CouchDB client."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self
from urllib.parse import quote, unquote, urlsplit

from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import ON_OFF, URL, Login, host_name, logins, option, timeout
from stalewatch.clients.read_strategies import Strategy, read_strategy_option, sticky_seconds_option
from stalewatch.clients.tls import TlsFiles, tls_option

WRITE_TO = ("a", "b", "both", "home")
READ_FROM = ("a", "b", "both", "same", "other")

DEFAULT_TIMEOUT_S = 5.0

USERNAME, PASSWORD = "STALEWATCH_COUCH_USERNAME", "STALEWATCH_COUCH_PASSWORD"
"""Environment variables with the credentials for URLs without any."""

_PORTS = {"http": 5984, "https": 6984}
_LEGAL_NAME = re.compile(r"[a-z][a-z0-9_$()+/-]*")
_EXPECTED = (
    "must be the URL of a CouchDB server: write http://[USER:PASSWORD@]HOST:PORT, with / ? # @ % : in a password "
    "written as %2F %3F %23 %40 %25 %3A"
)


class Leader(NamedTuple):
    """The address of one server, and the credentials for it."""

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
        """The server's URL with the credentials, for replication documents; never for a page, log or message."""
        if self.user is None:
            return self.url
        return f"{self.scheme}://{quote(self.user, safe='')}:{quote(self.password or '', safe='')}@{self.node}"


def leader(text: str) -> Leader:
    """Return the server that a URL names, with the environment's credentials if the URL has none.

    Raises ValueError, which never quotes the URL.
    """
    named = peer(text)
    if named.user is not None:
        return named
    return named._replace(user=os.environ.get(USERNAME), password=os.environ.get(PASSWORD))


def peer(text: str) -> Leader:
    """Return the server that a URL names, with the URL's own credentials only, or raise ValueError."""
    try:
        parts = urlsplit(text)
        port = parts.port or _PORTS.get(parts.scheme, 0)
        host_name(parts.hostname or "")
    except ValueError:
        raise ValueError(_EXPECTED) from None
    if parts.scheme not in _PORTS or not parts.hostname or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError(_EXPECTED)
    if parts.username is None:
        return Leader(parts.scheme, parts.hostname, port)
    return Leader(parts.scheme, parts.hostname, port, unquote(parts.username), unquote(parts.password or ""))


def database_name(text: str) -> str:
    """Return the text if it is a legal database name, else raise ValueError."""
    if not _LEGAL_NAME.fullmatch(text):
        raise ValueError("must start with a lower-case letter and contain only a-z, 0-9 and _$()+/-")
    return text


_NODE = re.compile(r"[^@\s/]+:\d+")
_URL: Mapping[str, Any] = {
    "secret": True,
    "on_page": (),
    "redaction": URL,
    "show": lambda leader: None if leader is None else leader.url,
}


@dataclass(frozen=True, kw_only=True)
class CouchOptions:
    """The addresses of two leaders, and which of them take writes and answer reads.

    `write_to`: ``a``, ``b``, ``both`` (each write goes to either, chosen at random) or ``home`` (every key has its own
    leader). `read_from`: ``a``, ``b``, ``both``, ``same`` (the leader that takes the session's writes of the key; if
    writes go to both, the one that it last wrote to) or ``other``. The peers are the servers' addresses for each other.
    `timeout_s` limits connecting and each wait for an answer.
    """

    a: Leader | None = option(
        "--couch-a", "one leader: http://USER:PASSWORD@HOST:PORT", parse=leader, env="STALEWATCH_COUCH_A", **_URL
    )
    b: Leader | None = option("--couch-b", "the other leader", parse=leader, env="STALEWATCH_COUCH_B", **_URL)
    peer_a: Leader | None = option(
        "--peer-a",
        "URL by which leader b reaches leader a (default: stalewatch/peer_url in b's configuration, else --couch-a)",
        parse=peer,
        env="STALEWATCH_COUCH_PEER_A",
        **_URL,
    )
    peer_b: Leader | None = option(
        "--peer-b", "URL by which leader a reaches leader b", parse=peer, env="STALEWATCH_COUCH_PEER_B", **_URL
    )
    db: str = option(
        "--db", "database; created and replicated in both directions if necessary", "bench", parse=database_name
    )
    write_to: str = option(
        "--write-to",
        "leader that takes writes: a, b, both (either, chosen at random), home (each key has its own), or HOST:PORT",
        "both",
        on_page=WRITE_TO,
    )
    read_from: str = option(
        "--read-from",
        "leader that answers reads: a, b, both (either, chosen at random), same (as the session's writes of the key), "
        "other, or HOST:PORT",
        "a",
        on_page=READ_FROM,
    )
    read_strategy: Strategy = read_strategy_option(
        "the leader that took the write",
        "also the other leader if older than what the session has seen",
        "one leader per session",
    )
    sticky_seconds: float = sticky_seconds_option()
    tls_ca: str | None = tls_option("ca", "COUCH")
    tls_cert: str | None = tls_option("cert", "COUCH")
    tls_key: str | None = tls_option("key", "COUCH")
    remove_replication: bool = option(
        "--remove-replication",
        "on: after the run, delete the replication documents that stalewatch wrote for this database; only if no other "
        "run uses the replication",
        default=False,
        alone="on",
        **ON_OFF,
    )
    timeout_s: float = option(
        "--timeout",
        "longest wait in seconds to connect and for a whole answer, each; six times as long for batches of keys",
        DEFAULT_TIMEOUT_S,
        parse=timeout,
    )
    seed: int = 0

    @property
    def leaders(self) -> tuple[Leader, Leader]:
        """Both leaders; raise `BadAddress` if one is missing."""
        if self.a is None or self.b is None:
            flag = "--couch-a" if self.a is None else "--couch-b"
            raise BadAddress(
                f"no CouchDB address: give {flag}, or start two local leaders with `stalewatch cluster up couch`"
            )
        return self.a, self.b

    def resolved(self) -> Self:
        """Return the options with the leaders' credentials for peers without any, and addresses replaced by a and b."""
        return replace(
            self,
            peer_a=_with_credentials(self.peer_a, self.a),
            peer_b=_with_credentials(self.peer_b, self.b),
            write_to=self._place("--write-to", self.write_to, WRITE_TO),
            read_from=self._place("--read-from", self.read_from, READ_FROM),
        )

    def _place(self, flag: str, text: str, words: tuple[str, ...]) -> str:
        nodes = {named.node: name for name, named in (("a", self.a), ("b", self.b)) if named is not None}
        place = nodes.get(text, text)
        if place not in words and (nodes or not _NODE.fullmatch(place)):
            raise BadAddress(f"{flag} {text!r}: must be one of {', '.join((*words, *nodes))}")
        return place

    def logins(self) -> list[Login]:
        """Return the logins at the leaders, by whichever address, and the environment's password for any leader."""
        named = [one for one in (self.a, self.b, self.peer_a, self.peer_b) if one is not None and one.user is not None]
        at_leaders = (Login(one.url, one.password or "", encrypted=True) for one in named)
        return [*at_leaders, *logins([""], filter(None, [os.environ.get(PASSWORD)]), encrypted=False)]

    @property
    def tls(self) -> TlsFiles:
        """The files of ``--tls-ca``, ``--tls-cert`` and ``--tls-key``."""
        return TlsFiles(self.tls_ca, self.tls_cert, self.tls_key)

    def check(self) -> None:
        """Raise `BadAddress` for options that contradict each other."""
        given = [named for named in (self.a, self.b) if named is not None]
        if self.a and self.b and self.a.node == self.b.node:
            raise BadAddress(f"--couch-a and --couch-b are both {self.a.node}: name two servers")
        if self.peer_a and self.peer_b and self.peer_a.node == self.peer_b.node:
            raise BadAddress(f"--peer-a and --peer-b are both {self.peer_a.node}: name two servers")
        if any(self.tls) and "https" not in {named.scheme for named in given}:
            raise BadAddress("--tls-ca, --tls-cert and --tls-key need https:// in --couch-a or --couch-b")
        self.tls.check()


def _with_credentials(peer: Leader | None, same: Leader | None) -> Leader | None:
    if peer is None or same is None or peer.user is not None:
        return peer
    return peer._replace(user=same.user, password=same.password)
