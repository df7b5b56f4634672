"""What can be chosen about a MongoDB client, as a dataclass and as the table of its flags."""

from dataclasses import dataclass, field
from typing import Literal, cast

from stalewatch.clients import urls
from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import Option, Seal, chosen

ReadConcernLevel = Literal["local", "majority", "linearizable"]

MODES = ("primary", "secondary", "nearest")
"""The read preferences that can be asked for by name; anything else is one member's HOST:PORT."""

DEFAULT_TIMEOUT_S = 2.0

_PORTS = range(1, 65536)


def write_concern(text: str) -> str:
    """Return a write concern as it was given; raise ValueError for anything but ``majority`` or a number above 0."""
    if text == "majority" or (text.isdecimal() and int(text) > 0):
        return text
    unconfirmed = " (w=0 is never confirmed, so nothing could be measured)" if text == "0" else ""
    raise ValueError(f"must be majority or a number of members from 1 on{unconfirmed}")


def read_from(text: str) -> str:
    """Return where to read as it was given; raise ValueError for neither a mode nor HOST:PORT."""
    if text not in MODES:
        member_address(text)
    return text


def member_address(text: str) -> tuple[str, int]:
    """Return HOST:PORT (or [IPV6]:PORT) as a pair; raise ValueError where it is none."""
    host, colon, port = text.rpartition(":")
    if not (host.strip("[]") and colon and port.isdecimal() and int(port) in _PORTS):
        raise ValueError(f"must be one of {', '.join(MODES)} or HOST:PORT")
    return host.strip("[]"), int(port)


def seconds(text: str) -> float:
    """Return a time in seconds; raise ValueError unless it is a number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError("must be a number of seconds above 0")
    return value


@dataclass(frozen=True, kw_only=True)
class MongoClientOptions:
    """How to reach a replica set and at which levels to write and read; None stands for the URI's word, else ours.

    `write_concern` is ``majority`` or a number of members as text (ours: 1). `journal` asks members to confirm from
    their journal. `read_from` is one of `MODES` or a member's HOST:PORT (ours: primary). `timeout_s` bounds, in
    seconds and each for itself, finding a server, waiting for a connection and waiting for the answer, where the URI
    has no word on it. `pool_size` should be at least the number of sessions. `retries` are the driver's hidden ones
    (ours: off).
    """

    uri: str = field(repr=False)  # may hold a password
    db: str = "bench"
    coll: str = "kv"
    write_concern: str | None = None
    journal: bool | None = None
    read_concern: ReadConcernLevel | None = None
    read_from: str | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S
    pool_size: int = 100
    retries: bool | None = None

    @property
    def member(self) -> tuple[str, int] | None:
        """The member that all reads go to, if they go to one: host and port."""
        return None if self.read_from is None or self.read_from in MODES else member_address(self.read_from)

    def check(self) -> None:
        """Raise `BadAddress` for choices that contradict each other."""
        if self.read_concern == "linearizable" and self.read_from in {"secondary", "nearest"}:
            raise BadAddress(
                f"--read-concern linearizable cannot be had with --read-from {self.read_from}: "
                "only the primary answers such reads; use --read-from primary",
            )


OPTIONS: tuple[Option, ...] = (
    Option(
        "--mongo-uri",
        "where the replica set is: mongodb://HOST:PORT,.../?replicaSet=NAME; what it sets (w, readPreference, TLS, "
        "time-outs, ...) stands unless a flag says otherwise",
        env="STALEWATCH_MONGO_URI",
        secret=True,
        seal=Seal(urls.bare, urls.whole),
    ),
    Option("--db", "database", default="bench"),
    Option("--coll", "collection; a run creates and deletes its own documents in it", default="kv"),
    Option(
        "--write-concern",
        "members that must confirm a write: 1, 2, ... or majority (default: w of the URI, else 1)",
        parse=write_concern,
    ),
    Option(
        "--journal",
        "on: members confirm a write once it is in their journal (default: what the URI or the server says)",
        choices=("on", "off"),
    ),
    Option(
        "--read-concern",
        "what a read may show (default: what the URI or the server says)",
        choices=("local", "majority", "linearizable"),
    ),
    Option(
        "--read-from",
        "who answers reads: primary, secondary, nearest, or one member as HOST:PORT "
        "(default: readPreference of the URI, else primary)",
        parse=read_from,
    ),
    Option(
        "--timeout",
        "seconds to wait for a server, for a connection and for an answer, each",
        default=DEFAULT_TIMEOUT_S,
        parse=seconds,
    ),
    Option(
        "--retries",
        "on: the driver may repeat an operation unseen, and a failed write may then have been applied "
        "(default: what the URI says, else off)",
        choices=("on", "off"),
    ),
)

_SWITCH = {"on": True, "off": False, None: None}


def options_from(namespace: object, pool_size: int = 100) -> MongoClientOptions:
    """Build the options from parsed arguments (attributes named after the flags), the environment and the defaults.

    Raises `BadAddress` for a value that makes no sense, or where no URI is to be found.
    """
    values = chosen(OPTIONS, namespace)
    if values["mongo_uri"] is None:
        raise BadAddress(
            "no MongoDB address: give --mongo-uri, or start a local one with `stalewatch cluster up mongo`"
        )
    return MongoClientOptions(
        uri=str(values["mongo_uri"]),
        db=str(values["db"]),
        coll=str(values["coll"]),
        write_concern=cast("str | None", values["write_concern"]),
        journal=_SWITCH[cast("str | None", values["journal"])],
        read_concern=cast("ReadConcernLevel | None", values["read_concern"]),
        read_from=cast("str | None", values["read_from"]),
        timeout_s=cast("float", values["timeout"]),
        pool_size=pool_size,
        retries=_SWITCH[cast("str | None", values["retries"])],
    )
