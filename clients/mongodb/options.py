"""The options of a MongoDB client."""

import re
from dataclasses import dataclass
from typing import Literal

from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import (
    ON_OFF,
    URL,
    Login,
    host_name,
    logins,
    option,
    redacted_url,
    timeout,
    url_secrets,
)
from stalewatch.clients.read_strategies import Strategy, read_strategy_option, sticky_seconds_option
from stalewatch.clients.tls import TlsFiles, tls_option

ReadConcernLevel = Literal["local", "majority", "linearizable"]

MODES = ("primary", "secondary", "nearest")
"""The read preferences by name; any other value of `--read-from` is one member's HOST:PORT."""

DEFAULT_TIMEOUT_S = 2.0

DEFAULT_PORT = 27017

_LOGIN_SETTINGS = ("tls", "ssl", "auth")
_WITH_PORT = re.compile(r":\d+$")
_PORTS = range(1, 65536)
_MEMBERS = range(1, 51)
"""How many members a replica set may have."""

_READ_PREFERENCE = re.compile(r"[?&]readPreference=(\w+)", re.IGNORECASE)


def write_concern(text: str) -> str:
    """Return the text if it is ``majority`` or a number of members, else raise ValueError."""
    if text == "majority" or (text.isdecimal() and int(text) in _MEMBERS):
        return text
    unacknowledged = " (w=0 is never acknowledged, so nothing can be measured)" if text == "0" else ""
    raise ValueError(f"must be majority or a number of members, 1 to {_MEMBERS[-1]}{unacknowledged}")


def read_from(text: str) -> str:
    """Return the text if it is a mode or HOST:PORT, else raise ValueError."""
    if text not in MODES:
        member_address(text)
    return text


def member_address(text: str) -> tuple[str, int]:
    """Return HOST:PORT (or [IPV6]:PORT) as a pair, or raise ValueError."""
    host, colon, port = text.rpartition(":")
    if not (host.strip("[]") and "@" not in host and colon and port.isdecimal() and int(port) in _PORTS):
        raise ValueError(f"must be one of {', '.join(MODES)} or HOST:PORT")
    return host_name(host.strip("[]")), int(port)


@dataclass(frozen=True, kw_only=True)
class MongoOptions:
    """The address of a replica set and the levels of writes and reads; None means the URI's setting, else our default.

    `write_concern` is ``majority`` or a number of members as text (default 1). `journal` asks members to acknowledge
    from their journal. `read_from` is one of `MODES` or a member's HOST:PORT (default primary). `timeout_s` limits,
    each on its own, server selection and the wait for an answer, unless the URI does.
    `sessions` is the number of sessions in this process. `retries` are the driver's silent ones (default off).
    """

    uri: str | None = option(
        "--mongo-uri",
        "address of the replica set: mongodb://HOST:PORT,.../?replicaSet=NAME; its settings (w, readPreference, TLS, "
        "timeouts, ...) apply unless a flag says otherwise",
        env="STALEWATCH_MONGO_URI",
        secret=True,
        on_page=(),
        redaction=URL,
    )
    db: str = option("--db", "database", "bench")
    coll: str = option("--coll", "collection; a run creates and deletes its own documents in it", "kv")
    write_concern: str | None = option(
        "--write-concern",
        "members that must acknowledge a write: 1, 2, ... or majority (default: w in the URI, else 1)",
        parse=write_concern,
    )
    journal: bool | None = option(
        "--journal",
        "on: members acknowledge a write once it is in their journal (default: the URI's setting, else the server's)",
        **ON_OFF,
    )
    read_concern: ReadConcernLevel | None = option(
        "--read-concern",
        "read concern: what a read may return (default: the URI's setting, else the server's)",
        choices=("local", "majority", "linearizable"),
    )
    read_from: str | None = option(
        "--read-from",
        "members that answer reads: primary, secondary, nearest, or one member as HOST:PORT "
        "(default: readPreference in the URI, else primary)",
        parse=read_from,
        on_page=MODES,
    )
    read_strategy: Strategy = read_strategy_option(
        "the primary",
        "causally consistent, after all that the session has seen",
        "one member per session",
    )
    sticky_seconds: float = sticky_seconds_option()
    timeout_s: float = option(
        "--timeout",
        "longest wait in seconds for a server and for an answer, each",
        DEFAULT_TIMEOUT_S,
        parse=timeout,
    )
    retries: bool | None = option(
        "--retries",
        "on: the driver may silently repeat an operation, so a failed write may have been applied "
        "(default: the URI's setting, else off)",
        **ON_OFF,
    )
    tls_ca: str | None = tls_option("ca", "MONGO")
    tls_cert: str | None = tls_option("cert", "MONGO")
    tls_key: str | None = tls_option("key", "MONGO")
    sessions: int = 80

    @property
    def tls(self) -> TlsFiles:
        """The files for TLS."""
        return TlsFiles(self.tls_ca, self.tls_cert, self.tls_key)

    def logins(self) -> list[Login]:
        """Return the logins at the members that the URI names; its settings of TLS and login must be the same too."""
        scheme, _, rest = redacted_url(self.uri or "").lower().partition("://")
        place, _, settings = rest.partition("?")
        hosts = [
            host if _WITH_PORT.search(host) else f"{host}:{DEFAULT_PORT}" for host in place.split("/")[0].split(",")
        ]
        how = "&".join(sorted(one for one in settings.split("&") if one.startswith(_LOGIN_SETTINGS)))
        servers = [f"{scheme}://{host}" + (f"/?{how}" if how else "") for host in hosts]
        return logins(servers, url_secrets(self.uri or ""), encrypted=any(self.tls))

    @property
    def member(self) -> tuple[str, int] | None:
        """The one member that all reads go to, as host and port, if there is one."""
        return None if self.read_from is None or self.read_from in MODES else member_address(self.read_from)

    def check(self) -> None:
        """Raise `BadAddress` for options that contradict each other, or files that cannot be used."""
        self.tls.check()
        if self.read_concern == "linearizable" and self.read_from in {"secondary", "nearest"}:
            raise BadAddress(
                f"--read-concern linearizable cannot be combined with --read-from {self.read_from}: "
                "only the primary answers such reads; use --read-from primary"
            )
        if self.read_concern == "linearizable" and self.read_strategy == "token":
            raise BadAddress(
                "--read-concern linearizable cannot be combined with --read-strategy token: servers allow it in no "
                "causal session, and such reads need none; use --read-strategy plain"
            )


def reads_at(options: MongoOptions) -> str:
    """Return where reads go: a read preference, from the options or the URI, or one member's HOST:PORT."""
    in_uri = _READ_PREFERENCE.search(options.uri or "")
    return options.read_from or (in_uri[1] if in_uri else "primary")
