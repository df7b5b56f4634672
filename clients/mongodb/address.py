"""A MongoDB URI, checked, and the driver's clients that are opened from it.

What the URI sets stands; where it is silent, the driver's defaults give way to ours. A password is in no message.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import pymongo
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from stalewatch.clients.errors import BadAddress
from stalewatch.clients.mongodb.options import MongoClientOptions

Document = dict[str, Any]
DriverClient = pymongo.MongoClient[Document]
Server = tuple[str, int | None]
"""Host and port; a Unix socket has no port."""

HEARTBEAT_S = 1.0
CONNECT_S = 1.0

_BAD_URI = (PyMongoError, ValueError, OSError)  # OSError: a certificate that cannot be read
_URI = re.compile(r"(?P<scheme>mongodb(?:\+srv)?://)(?P<user>[^@/?]*@)?(?P<hosts>[^@/?]+)(?P<rest>[/?][^@]*)?")
_SECRET_SETTINGS = re.compile("password|authmechanismproperties", re.IGNORECASE)
_EXPECTED = "write mongodb://[USER:PASSWORD@]HOST:PORT,.../?replicaSet=NAME"


class Address:
    """Where a replica set is, and how its clients are set up. Raises `BadAddress` for a URI that makes no sense."""

    def __init__(self, options: MongoClientOptions) -> None:
        if options.uri is None:
            raise BadAddress(
                "no MongoDB address: give --mongo-uri, or start a local replica set with `stalewatch cluster up mongo`"
            )
        try:
            parsed = parse_uri(options.uri)
        except _BAD_URI:
            # Neither this error nor its text may be shown: they quote the URI.
            raise BadAddress(f"--mongo-uri is no MongoDB URI: {_fault(options.uri)}") from None
        self._uri = options.uri
        self._options = options
        self.hosts: list[Server] = parsed["nodelist"]
        self.has_user: bool = parsed["username"] is not None
        self.settings: Mapping[str, object] = {name.lower(): value for name, value in parsed["options"].items()}
        """What the URI sets, by lower-case name."""

    def open(self) -> DriverClient:
        """Return a client of the set; it connects in the background."""
        return self._client(self._uri, {})

    def open_member(
        self, host: str, port: int | None, settings: Mapping[str, object] = MappingProxyType({})
    ) -> DriverClient:
        """Return a client of that member alone, with the same user and settings, whatever set it belongs to.

        `settings` are the driver's keywords, which stand over those of the URI.
        """
        part = _URI.fullmatch(self._uri)
        if part is None:
            raise BadAddress(f"--mongo-uri is no MongoDB URI: {_EXPECTED}")
        uri = f"mongodb://{part['user'] or ''}{node_name((host, port))}{part['rest'] or ''}"
        alone = {"directConnection": True, "replicaSet": None, **self._from_dns(part["scheme"])}
        return self._client(uri, {**alone, **settings})

    def _from_dns(self, scheme: str) -> Mapping[str, object]:
        """Return what mongodb+srv sets without saying so: TLS, and in the DNS the database that knows the user."""
        if scheme != "mongodb+srv://":
            return {}
        source = self.settings.get("authsource")
        return {"tls": self.settings.get("tls", True)} | ({"authSource": source} if source else {})

    def _client(self, uri: str, keywords: Mapping[str, object]) -> DriverClient:
        ours = {name: value for name, value in self._defaults().items() if name.lower() not in self.settings}
        asked = {} if self._options.retries is None else _retries(on=self._options.retries)
        try:
            return pymongo.MongoClient(uri, **{**ours, **asked, **keywords})  # type: ignore[arg-type] # all are keywords
        except _BAD_URI:
            raise BadAddress(f"--mongo-uri cannot be used: {_fault(self._uri)}") from None

    def _defaults(self) -> Mapping[str, object]:
        """Return what the driver is told where the URI is silent.

        With the driver's own time-outs, writes were not back 12 s after a primary was stopped; with these, after 4 s.
        """
        timeout_ms = int(self._options.timeout_s * 1000)
        return {
            "appName": "stalewatch",
            "socketTimeoutMS": timeout_ms,
            "serverSelectionTimeoutMS": timeout_ms,
            "waitQueueTimeoutMS": timeout_ms,
            "connectTimeoutMS": int(min(CONNECT_S, self._options.timeout_s / 2) * 1000),
            "heartbeatFrequencyMS": int(HEARTBEAT_S * 1000),
            "maxPoolSize": self._options.pool_size,
            **_retries(on=False),
        }


def _retries(*, on: bool) -> Mapping[str, object]:
    return {"retryWrites": on, "retryReads": on}


def _fault(uri: str) -> str:
    """Say what is wrong with a URI in words that cannot hold its password, by parsing it again without the user."""
    part = _URI.fullmatch(uri)
    bare = uri if part is None else f"{part['scheme']}{part['hosts']}{part['rest'] or ''}"
    if "@" in bare or _SECRET_SETTINGS.search(bare):
        return f"{_EXPECTED}, where / ? # @ % in a password are written %2F %3F %23 %40 %25"
    try:
        parse_uri(bare)
    except _BAD_URI as error:
        told, setting = str(error).partition(" Did you mean")[0].rstrip("."), part and _refused(part)
        return f"{told}{f' ({setting})' if setting else ''}; {_EXPECTED}"
    return "in user and password, / ? # @ % are written %2F %3F %23 %40 %25"


def _refused(part: re.Match[str]) -> str | None:
    """Return the setting of a URI that the driver does not take: its message may not say which."""
    for setting in (part["rest"] or "").partition("?")[2].split("&"):
        try:
            parse_uri(f"{part['scheme']}{part['hosts']}/?{setting}")
        except _BAD_URI:
            return setting
    return None


@lru_cache(maxsize=1024)
def node_name(address: Server) -> str:
    """Return a server's address as HOST:PORT."""
    host, port = address
    if port is None:
        return host  # a Unix socket
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def node_names(addresses: Iterable[Server]) -> str:
    """Return servers' addresses for a message."""
    return ", ".join(map(node_name, addresses))
