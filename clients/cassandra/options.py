"""Options of the Cassandra client, and the parsers of their values."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import ON_OFF, Login, count, host_name, logins, option, port, timeout
from stalewatch.clients.read_strategies import Strategy, read_strategy_option, sticky_seconds_option
from stalewatch.clients.tls import TlsFiles, tls_option

DEFAULT_PORT = 9042
DEFAULT_TIMEOUT_S = 3.0
"""A little longer than a server waits for its replicas, so that its own time-out error arrives first."""

HostPort = tuple[str, int]

READ_LEVELS = ("ONE", "TWO", "THREE", "QUORUM", "LOCAL_ONE", "LOCAL_QUORUM", "ALL", "SERIAL", "LOCAL_SERIAL")
WRITE_LEVELS = ("ANY", "ONE", "TWO", "THREE", "QUORUM", "LOCAL_ONE", "LOCAL_QUORUM", "EACH_QUORUM", "ALL")

COORDINATORS = ("any", "token", "pinned", "split")
"""Which node receives a request: each in turn, a replica of the key, one per session, or one per session for writes and
another for reads. Any other value is the HOST:PORT of one node."""

_ONE_REPLICA = frozenset({"ONE", "LOCAL_ONE"})
"""The levels at which one replica answers a read."""

_PORTS = range(1, 65536)
_IDENTIFIER = re.compile(r"\w{1,48}", re.ASCII)
_SPECULATION = re.compile(r"never|always|\d+(\.\d+)?(p|percentile|ms)", re.IGNORECASE)
_SKEWED = re.compile(r"skewed:0*([1-9]\d*)", re.ASCII)
_MOST_SKEW_MS = 86_400_000
_NODE = re.compile(r"(?P<host>\[[^\]]+\]|[^\[\]:,\s]+)(:(?P<port>\d+))?")


def node_list(text: str) -> str:
    """Return HOST[:PORT],... unchanged; raise ValueError if it is not such a list."""
    _split(text, DEFAULT_PORT)
    return text


def node(text: str) -> str:
    """Return HOST:PORT unchanged; raise ValueError if it is not an address."""
    address(text)
    return text


def address(text: str) -> HostPort:
    """Return HOST:PORT (or [IPV6]:PORT) as a pair; raise ValueError if it is not an address."""
    found = _NODE.fullmatch(text)
    if not found or not found["port"] or int(found["port"]) not in _PORTS:
        raise ValueError("must be HOST:PORT")
    return host_name(found["host"].strip("[]")), int(found["port"])


def host_port(host: str, port: int) -> str:
    """Return an address as HOST:PORT, or [IPV6]:PORT."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def coordinator(text: str) -> str:
    """Return a choice of coordinator unchanged; raise ValueError if it is neither a known word nor HOST:PORT."""
    if text not in COORDINATORS:
        try:
            node(text)
        except ValueError:
            raise ValueError(f"must be one of {', '.join(COORDINATORS)} or HOST:PORT") from None
    return text


def consistency_level(levels: tuple[str, ...]) -> Callable[[str], str]:
    """Return a parser of these levels, which ignores case and raises ValueError for any other word."""

    def parse(text: str) -> str:
        if text.upper() not in levels:
            raise ValueError(f"must be one of {', '.join(levels)}")
        return text.upper()

    return parse


def timestamp_source(text: str) -> str:
    """Return a source of timestamps unchanged; raise ValueError if it is not version, server or skewed:MS."""
    skewed = _SKEWED.fullmatch(text)
    if text not in {"version", "server"} and not (skewed and int(skewed[1]) <= _MOST_SKEW_MS):
        raise ValueError(
            f"must be version, server, or skewed:MS with a whole number of milliseconds, 1 to {_MOST_SKEW_MS}"
        )
    return text


def identifier(text: str) -> str:
    """Return the name of a keyspace or table unchanged; raise ValueError if Cassandra allows no such name.

    Statements quote it, so upper case is kept, and reserved words and names that start with a digit are fine.
    """
    if not _IDENTIFIER.fullmatch(text):
        raise ValueError("must consist of 1 to 48 letters, digits and underscores (A-Z, a-z, 0-9, _)")
    return text


def speculation(text: str) -> str:
    """Return a speculative retry policy as Cassandra writes it; raise ValueError if it is invalid."""
    if not _SPECULATION.fullmatch(text):
        raise ValueError("must be never, always, a percentile such as 99p, or a time such as 50ms")
    return text.upper().replace("PERCENTILE", "p").replace("P", "p").replace("MS", "ms")


def _split(text: str, default_port: int) -> tuple[HostPort, ...]:
    found = [_NODE.fullmatch(one.strip()) for one in text.split(",")]
    if not all(one and (not one["port"] or int(one["port"]) in _PORTS) for one in found):
        raise ValueError("must be HOST or HOST:PORT, or several of these separated by commas")
    return tuple((host_name(one["host"].strip("[]")), int(one["port"] or default_port)) for one in found if one)


@dataclass(frozen=True, kw_only=True)
class CassandraClientOptions:
    """Addresses and credentials of a ring, and the consistency levels of writes and reads.

    `coordinator` is one of `COORDINATORS` or the HOST:PORT of a node; `read_from` is a node that receives all reads
    instead. `rf`, `read_repair` and `speculative_retry` are properties of the keyspace and the table: None keeps those
    of an existing one, and means 3 replicas, blocking read repair and no speculation for a new one. `timeout_s` is how
    many seconds to wait for an answer. `retries` turns on the driver's own hidden retries.
    """

    hosts: str | None = option(
        "--hosts",
        "some nodes of the ring: HOST[:PORT],...; the driver discovers the others",
        parse=node_list,
        env="STALEWATCH_CASSANDRA_HOSTS",
        on_page=(),
    )
    port: int = option("--port", "port of nodes listed without one", DEFAULT_PORT, parse=port, on_page=())
    username: str | None = option("--username", "user to log in as", env="STALEWATCH_CASSANDRA_USERNAME", on_page=())
    password: str | None = option(
        "--password",
        "password; safer in the environment, where other users cannot see it",
        env="STALEWATCH_CASSANDRA_PASSWORD",
        secret=True,
    )
    tls: bool = option(
        "--tls",
        "on: use TLS; without --tls-ca, the system's store (or SSL_CERT_FILE) says which authorities to trust",
        default=False,
        alone="on",
        on_page=(),
        **ON_OFF,
    )
    tls_ca: str | None = tls_option("ca", "CASSANDRA")
    tls_cert: str | None = tls_option("cert", "CASSANDRA")
    tls_key: str | None = tls_option("key", "CASSANDRA")
    data_center: str | None = option(
        "--data-center", "data center whose nodes receive requests (default: all data centers)"
    )
    keyspace: str = option("--keyspace", "keyspace; created if missing; upper case is kept", "bench", parse=identifier)
    table: str = option(
        "--table",
        "table; created if missing; upper case is kept; a run deletes only its own rows",
        "kv",
        parse=identifier,
    )
    rf: int | None = option(
        "--rf", "replicas of each key per data center (default: those of the keyspace; 3 for a new one)", parse=count
    )
    write_cl: str = option(
        "--write-cl",
        "consistency level of writes: " + ", ".join(WRITE_LEVELS),
        "ONE",
        parse=consistency_level(WRITE_LEVELS),
    )
    read_cl: str = option(
        "--read-cl",
        "consistency level of reads: " + ", ".join(READ_LEVELS),
        "ONE",
        parse=consistency_level(READ_LEVELS),
    )
    lwt: bool = option(
        "--lwt",
        "on: make each write a lightweight transaction that applies only if nothing newer is stored; combine with "
        "--read-cl SERIAL",
        default=False,
        alone="on",
        **ON_OFF,
    )
    coordinator: str = option(
        "--coordinator",
        "node that receives a request: any (each in turn), token (a replica of the key), pinned (one per session), "
        "split (one per session for writes, another for reads), or HOST:PORT",
        "any",
        parse=coordinator,
        on_page=COORDINATORS,
    )
    read_from: str | None = option(
        "--read-from", "node that receives all reads, as HOST:PORT (default: see --coordinator)", parse=node, on_page=()
    )
    timestamps: str = option(
        "--timestamps",
        "what decides which of two writes wins: version (the newer version, in whatever order they arrive), server "
        "(the server's clock on arrival; the older of two overlapping versions may win), or skewed:MS (the sessions' "
        "clocks, every other one MS milliseconds slow)",
        "version",
        parse=timestamp_source,
    )
    read_repair: str | None = option(
        "--read-repair",
        "read repair of replicas that disagree (default: that of the table; blocking for a new one)",
        choices=("none", "blocking"),
    )
    speculative_retry: str | None = option(
        "--speculative-retry",
        "when a coordinator asks one more replica: never, always, 99p, 50ms "
        "(default: that of the table; never for a new one)",
        parse=speculation,
    )
    read_strategy: Strategy = read_strategy_option(
        "at QUORUM",
        "again at QUORUM if older than what the session has seen",
        "one replica per session",
    )
    sticky_seconds: float = sticky_seconds_option()
    timeout_s: float = option("--timeout", "seconds to wait for an answer", DEFAULT_TIMEOUT_S, parse=timeout)
    retries: bool = option(
        "--retries",
        "on: the driver may repeat an operation silently, so a failed write may have been applied",
        default=False,
        **ON_OFF,
    )

    @property
    def contact_points(self) -> tuple[HostPort, ...]:
        """The nodes to connect to first; raises `BadAddress` if none was given."""
        if self.hosts is None:
            raise BadAddress(
                "no Cassandra address: give --hosts, or start a local ring with `stalewatch cluster up cassandra`"
            )
        return _split(self.hosts, self.port)

    @property
    def by_token(self) -> bool:
        """Whether the client has to know which nodes hold a key."""
        return self.coordinator == "token" or self.read_strategy == "pinned"

    @property
    def clock_skew_ms(self) -> int:
        """How many milliseconds slow the clock of every other session is."""
        found = _SKEWED.fullmatch(self.timestamps)
        return int(found[1]) if found else 0

    def logins(self) -> list[Login]:
        """Return the logins at the nodes of `hosts`."""
        servers = [host_port(*place) for place in self.contact_points] if self.hosts else [""]
        return logins(servers, filter(None, [self.password]), encrypted=self.encrypted)

    @property
    def tls_files(self) -> TlsFiles:
        """The files for TLS."""
        return TlsFiles(self.tls_ca, self.tls_cert, self.tls_key)

    @property
    def encrypted(self) -> bool:
        """Whether connections are encrypted."""
        return self.tls or any(self.tls_files)

    def check(self) -> None:
        """Raise `BadAddress` for options that contradict each other."""
        if self.lwt and self.timestamps != "version":
            raise BadAddress(
                f"--timestamps {self.timestamps} cannot be combined with --lwt: the servers choose the timestamps of "
                "conditional writes; remove one of the two options"
            )
        if self.read_strategy == "pinned" and self.read_cl not in _ONE_REPLICA:
            raise BadAddress(
                f"--read-strategy pinned cannot be combined with --read-cl {self.read_cl}, at which several replicas "
                "answer: use --read-cl ONE or LOCAL_ONE"
            )
        if self.read_strategy == "pinned" and self.read_from is not None:
            raise BadAddress("--read-strategy pinned chooses a replica for each session: remove --read-from")
        if bool(self.username) != bool(self.password):
            raise BadAddress("a user name without a password, or a password without a user name: give both or neither")
        self.tls_files.check()
