"""What can be chosen about a MongoDB client, as a dataclass and as the table of its flags."""

from dataclasses import dataclass
from typing import Literal

from stalewatch.clients import urls
from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import ON_OFF, Redaction, option, positive

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


@dataclass(frozen=True, kw_only=True)
class MongoClientOptions:
    """How to reach a replica set and at which levels to write and read; None stands for the URI's word, else ours.

    `write_concern` is ``majority`` or a number of members as text (ours: 1). `journal` asks members to confirm from
    their journal. `read_from` is one of `MODES` or a member's HOST:PORT (ours: primary). `timeout_s` bounds, in
    seconds and each for itself, finding a server, waiting for a connection and waiting for the answer, where the URI
    has no word on it. `pool_size` should be at least the number of sessions. `retries` are the driver's hidden ones
    (ours: off).
    """

    uri: str | None = option(
        "--mongo-uri",
        "address of the replica set: mongodb://HOST:PORT,.../?replicaSet=NAME; its settings (w, readPreference, TLS, "
        "timeouts, ...) apply unless a flag says otherwise",
        env="STALEWATCH_MONGO_URI",
        secret=True,
        redaction=Redaction(urls.bare, urls.whole),
    )
    db: str = option("--db", "database", "bench")
    coll: str = option("--coll", "collection; a run creates and deletes its own documents in it", "kv")
    write_concern: str | None = option(
        "--write-concern",
        "members that must acknowledge a write: 1, 2, ... or majority (default: w of the URI, else 1)",
        parse=write_concern,
    )
    journal: bool | None = option(
        "--journal",
        "on: members acknowledge a write once it is in their journal (default: as in the URI, else the server's)",
        **ON_OFF,
    )
    read_concern: ReadConcernLevel | None = option(
        "--read-concern",
        "what a read may show (default: as in the URI, else the server's)",
        choices=("local", "majority", "linearizable"),
    )
    read_from: str | None = option(
        "--read-from",
        "who answers reads: primary, secondary, nearest, or one member as HOST:PORT "
        "(default: readPreference of the URI, else primary)",
        parse=read_from,
    )
    timeout_s: float = option(
        "--timeout",
        "seconds to wait for a server, for a connection and for an answer, each",
        DEFAULT_TIMEOUT_S,
        parse=positive,
    )
    retries: bool | None = option(
        "--retries",
        "on: the driver may repeat an operation silently, so a failed write may have been applied "
        "(default: as in the URI, else off)",
        **ON_OFF,
    )
    pool_size: int = 100

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
