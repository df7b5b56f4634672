"""What can be chosen about a Cassandra client, as a dataclass and as the table of its flags."""

import re
from dataclasses import dataclass

from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import ON_OFF, count, option, port, positive

DEFAULT_PORT = 9042
DEFAULT_TIMEOUT_S = 3.0
"""A little more than a server waits for others, so that its word arrives."""

Server = tuple[str, int]

READ_LEVELS = ("ONE", "TWO", "THREE", "QUORUM", "LOCAL_ONE", "LOCAL_QUORUM", "ALL", "SERIAL", "LOCAL_SERIAL")
WRITE_LEVELS = ("ANY", "ONE", "TWO", "THREE", "QUORUM", "LOCAL_ONE", "LOCAL_QUORUM", "EACH_QUORUM", "ALL")

COORDINATORS = ("any", "token", "pinned", "split")
"""Who takes a request: any node in turn, a replica of the key, one node a session, or one for its writes and another
for its reads; anything else is one node's HOST:PORT."""

_PORTS = range(1, 65536)
_NAME = re.compile(r"[a-zA-Z]\w{0,47}", re.ASCII)
_SPECULATION = re.compile(r"never|always|\d+(\.\d+)?(p|percentile|ms)", re.IGNORECASE)
_SKEWED = re.compile(r"skewed:0*([1-9]\d*)", re.ASCII)
_SERVER = re.compile(r"(?P<host>\[[^\]]+\]|[^\[\]:,\s]+)(:(?P<port>\d+))?")


def servers(text: str) -> str:
    """Return HOST[:PORT],... as it was given; raise ValueError where it is none."""
    _parsed(text, DEFAULT_PORT)
    return text


def node(text: str) -> str:
    """Return HOST:PORT as it was given; raise ValueError where it is none."""
    address(text)
    return text


def address(text: str) -> Server:
    """Return HOST:PORT (or [IPV6]:PORT) as a pair; raise ValueError where it is none."""
    found = _SERVER.fullmatch(text)
    if not found or not found["port"] or int(found["port"]) not in _PORTS:
        raise ValueError("must be HOST:PORT")
    return found["host"].strip("[]"), int(found["port"])


def coordinator(text: str) -> str:
    """Return who takes requests as it was given; raise ValueError for neither a way nor HOST:PORT."""
    if text not in COORDINATORS:
        try:
            node(text)
        except ValueError:
            raise ValueError(f"must be one of {', '.join(COORDINATORS)} or HOST:PORT") from None
    return text


def level(levels: tuple[str, ...]) -> "Level":
    """Return what parses one of the levels, whatever its case."""
    return Level(levels)


class Level:
    """Parses a consistency level."""

    def __init__(self, levels: tuple[str, ...]) -> None:
        self._levels = levels

    def __call__(self, text: str) -> str:
        """Return it in capitals; raise ValueError for another word."""
        if text.upper() not in self._levels:
            raise ValueError(f"must be one of {', '.join(self._levels)}")
        return text.upper()


def timestamps(text: str) -> str:
    """Return whose clock decides as it was given; raise ValueError for anything but one of the three ways."""
    if text not in {"version", "server"} and not _SKEWED.fullmatch(text):
        raise ValueError("must be version, server or skewed:MS with whole milliseconds above 0")
    return text


def name(text: str) -> str:
    """Return the name of a keyspace or table in the case that Cassandra gives it; raise ValueError where it is none."""
    if not _NAME.fullmatch(text):
        raise ValueError("must be a letter and then at most 47 letters, digits and underscores")
    return text.lower()


def speculation(text: str) -> str:
    """Return a policy of the servers' speculation in capitals; raise ValueError where it is none."""
    if not _SPECULATION.fullmatch(text):
        raise ValueError("must be never, always, a percentile such as 99p, or a time such as 50ms")
    return text.upper().replace("PERCENTILE", "p").replace("P", "p").replace("MS", "ms")


def _parsed(text: str, usual_port: int) -> tuple[Server, ...]:
    found = [_SERVER.fullmatch(one.strip()) for one in text.split(",")]
    if not all(one and (not one["port"] or int(one["port"]) in _PORTS) for one in found):
        raise ValueError("must be HOST or HOST:PORT, several with commas between them")
    return tuple((one["host"].strip("[]"), int(one["port"] or usual_port)) for one in found if one)


@dataclass(frozen=True, kw_only=True)
class CassandraClientOptions:
    """How to reach a ring, and at which levels to write and read.

    `coordinator` is one of `COORDINATORS` or a node's HOST:PORT; `read_from` is a node that takes all reads instead.
    `rf`, `read_repair` and `speculative_retry` are those of the keyspace and the table: None leaves what is there, and
    makes a new one with 3 replicas, blocking read repair and no speculation. `timeout_s` bounds, in seconds, waiting
    for an answer. `retries` are the driver's hidden ones.
    """

    hosts: str | None = option(
        "--hosts",
        "some nodes of the ring: HOST[:PORT],...; the driver finds the others",
        parse=servers,
        env="STALEWATCH_CASSANDRA_HOSTS",
    )
    port: int = option("--port", "port of nodes that are given without one", DEFAULT_PORT, parse=port)
    username: str | None = option("--username", "user to log in as", env="STALEWATCH_CASSANDRA_USERNAME")
    password: str | None = option(
        "--password",
        "password; better in the environment, where no other user sees it",
        env="STALEWATCH_CASSANDRA_PASSWORD",
        secret=True,
    )
    tls_ca: str | None = option(
        "--tls-ca",
        "encrypt, and trust servers whose certificate was signed by the authority in this file",
        env="STALEWATCH_CASSANDRA_TLS_CA",
    )
    client_cert: str | None = option(
        "--client-cert", "client certificate, if servers ask for one", env="STALEWATCH_CASSANDRA_CLIENT_CERT"
    )
    client_key: str | None = option("--client-key", "key of that certificate", env="STALEWATCH_CASSANDRA_CLIENT_KEY")
    data_center: str | None = option(
        "--data-center", "data center whose nodes take requests (default: nodes of all data centers)"
    )
    keyspace: str = option("--keyspace", "keyspace; created if it is missing", "bench", parse=name)
    table: str = option("--table", "table; created if it is missing; a run deletes its own rows", "kv", parse=name)
    rf: int | None = option(
        "--rf", "replicas of each key in each data center (default: the keyspace's; 3 for a new one)", parse=count
    )
    write_cl: str = option(
        "--write-cl",
        "replicas that must acknowledge a write: " + ", ".join(WRITE_LEVELS),
        "ONE",
        parse=level(WRITE_LEVELS),
    )
    read_cl: str = option(
        "--read-cl", "replicas that must answer a read: " + ", ".join(READ_LEVELS), "ONE", parse=level(READ_LEVELS)
    )
    lwt: bool = option(
        "--lwt",
        "on: each write is a lightweight transaction, conditional on nothing newer being there; combine with "
        "--read-cl SERIAL",
        default=False,
        alone="on",
        **ON_OFF,
    )
    coordinator: str = option(
        "--coordinator",
        "who takes requests: any node in turn, a replica of the key (token), one node a session (pinned), one for its "
        "writes and another for its reads (split), or one node as HOST:PORT",
        "any",
        parse=coordinator,
    )
    read_from: str | None = option(
        "--read-from", "node that takes all reads, as HOST:PORT (default: see --coordinator)", parse=node
    )
    timestamps: str = option(
        "--timestamps",
        "what decides which of two writes wins: their version, whatever their order; the server's clock on arrival "
        "(the older of two overlapping versions may win); skewed:MS: the sessions' clocks, every other one MS behind",
        "version",
        parse=timestamps,
    )
    read_repair: str | None = option(
        "--read-repair",
        "whether a read repairs replicas that disagree (default: the table's; blocking for a new one)",
        choices=("none", "blocking"),
    )
    speculative_retry: str | None = option(
        "--speculative-retry",
        "when a coordinator asks one more replica: never, always, 99p, 50ms "
        "(default: the table's; never for a new one)",
        parse=speculation,
    )
    timeout_s: float = option("--timeout", "seconds to wait for an answer", DEFAULT_TIMEOUT_S, parse=positive)
    retries: bool = option(
        "--retries",
        "on: the driver may repeat an operation silently, so a failed write may have been applied",
        default=False,
        **ON_OFF,
    )

    @property
    def contact_points(self) -> tuple[Server, ...]:
        """Where the driver starts to look for the ring; raises `BadAddress` if nothing says where."""
        if self.hosts is None:
            raise BadAddress(
                "no Cassandra address: give --hosts, or start a local ring with `stalewatch cluster up cassandra`"
            )
        return _parsed(self.hosts, self.port)

    @property
    def behind_ms(self) -> int:
        """By how many milliseconds the clocks of some sessions are behind."""
        found = _SKEWED.fullmatch(self.timestamps)
        return int(found[1]) if found else 0

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return bool(self.tls_ca or self.client_cert)

    def check(self) -> None:
        """Raise `BadAddress` for choices that contradict each other."""
        if self.lwt and self.timestamps != "version":
            raise BadAddress(
                f"--timestamps {self.timestamps} cannot be had with --lwt: a conditional write gets its time from the "
                "servers' agreement; leave out one of the two"
            )
        if bool(self.username) != bool(self.password):
            raise BadAddress("a user name without a password, or a password without a user name: give both or neither")
        if self.client_key and not self.client_cert:
            raise BadAddress("--client-key needs the certificate that it belongs to: give --client-cert too")
