"""A MongoDB URI, checked, and the driver's clients that are opened from it.

Settings in the URI take precedence over our defaults, which take precedence over the driver's. No message contains a
password.
"""

import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pymongo
from pymongo.errors import NetworkTimeout, PyMongoError
from pymongo.hello import Hello
from pymongo.synchronous.pool import Pool
from pymongo.topology_description import TopologyDescription
from pymongo.uri_parser import parse_uri

from stalewatch.clients.errors import BadAddress
from stalewatch.clients.mongodb.options import MODES, MongoOptions
from stalewatch.clients.options import host_name
from stalewatch.clients.tls import TlsFiles

Document = dict[str, Any]
DriverClient = pymongo.MongoClient[Document]
Server = tuple[str, int | None]
"""Host and port; a Unix socket has no port."""

HEARTBEAT_S = 1.0
CONNECT_S = 1.0

CONNECTION_WAIT_S = 120.0
"""How long a session may wait until the pool can open a connection for it.

Opening connections is our own work: 2000 sessions that start at once saturate a core for seconds, and if their wait
ended after the time-out of an answer, a third of their operations would fail with no fault of the database's. The wait
is for other connections to be opened, which has its own time-out, and if one cannot be opened, all who wait are told.
"""

LARGEST_MESSAGE = 48_000_000
"""Bytes of the largest message from a server, which is what servers announce themselves; they could announce 2 GB."""

CONNECTING = 20
"""How many connections a pool opens at a time, at least: few sessions never wait for each other."""

_TIME_OUTS = frozenset({"connecttimeoutms", "sockettimeoutms", "serverselectiontimeoutms", "timeoutms"})
_BAD_URI = (PyMongoError, ValueError, OSError)  # OSError: a certificate that cannot be read
_URI = re.compile(r"(?P<scheme>mongodb(?:\+srv)?://)(?P<user>[^@/?]*@)?(?P<hosts>[^@/?]+)(?P<rest>[/?][^@]*)?")
_SECRET_SETTINGS = re.compile("password|authmechanismproperties", re.IGNORECASE)
_EXPECTED = "write mongodb://[USER:PASSWORD@]HOST:PORT,.../?replicaSet=NAME"


_announced: Any = vars(Hello)["max_message_size"]


def _accepted(hello: Hello[Document]) -> int:
    """Return the size of the largest message that is accepted from a server that announces one in its hello."""
    announced = _announced.fget(hello)
    return min(announced, LARGEST_MESSAGE) if isinstance(announced, int) else LARGEST_MESSAGE


# The driver would reserve memory for whatever a message announces, up to what hello announced before.
Hello.max_message_size = property(_accepted)  # type: ignore[method-assign,assignment]


class TimedPool(Pool):
    """A pool of which no connection takes longer to open than the time-outs of its connection and of an answer.

    Among greenlets, TLS's handshake has a time-out only for each byte that is waited for.
    """

    def connect(self, handler: Any = None) -> Any:  # noqa: ANN401 # the driver's own types
        """Open a connection; raise NetworkTimeout, or what the driver raises."""
        with _time_limit(2 * (self.opts.connect_timeout or 0) + (self.opts.socket_timeout or CONNECTION_WAIT_S)):
            return super().connect(handler)


def _time_limit(limit_s: float) -> AbstractContextManager[object]:
    """Return a block that among greenlets raises NetworkTimeout after that time; threads need none."""
    if "gevent.monkey" not in sys.modules:
        return nullcontext()
    from gevent import Timeout, monkey  # noqa: PLC0415 # it may not be installed

    late = NetworkTimeout("no connection in time")
    return Timeout(limit_s, late) if monkey.is_module_patched("socket") else nullcontext()


class MongoAddress:
    """The address of a replica set, and the settings of its clients. Raises `BadAddress` for an invalid URI."""

    def __init__(self, options: MongoOptions) -> None:
        if options.uri is None:
            raise BadAddress(
                "no MongoDB address: give --mongo-uri, or start a local replica set with `stalewatch cluster up mongo`"
            )
        try:
            parsed = parse_uri(options.uri)
        except _BAD_URI:
            # Neither this error nor its text may be shown: they quote the URI.
            raise BadAddress(f"--mongo-uri is not a valid MongoDB URI: {_defect(options.uri)}") from None
        for host, port in parsed["nodelist"]:
            try:
                host_name(host if port is not None else "")  # a Unix socket has no port
            except ValueError as error:
                raise BadAddress(f"--mongo-uri: {error}; {_EXPECTED}") from None
        self._uri = options.uri
        self._options = options
        self.hosts: list[Server] = parsed["nodelist"]
        self.has_user: bool = parsed["username"] is not None
        self.settings: Mapping[str, object] = {name.lower(): value for name, value in parsed["options"].items()}
        """The settings in the URI, by lower-case name."""

    def open(self) -> DriverClient:
        """Return a client of the replica set; it connects in the background."""
        return self._client(self._uri, {})

    def open_member(
        self, host: str, port: int | None, settings: Mapping[str, object] = MappingProxyType({})
    ) -> DriverClient:
        """Return a client of one member only, with the URI's user and settings, whichever set the member belongs to.

        `settings` are keywords of the driver, which override the URI.
        """
        parts = _URI.fullmatch(self._uri)
        if parts is None:
            raise BadAddress(f"--mongo-uri is not a valid MongoDB URI: {_EXPECTED}")
        uri = f"mongodb://{parts['user'] or ''}{node_name((host, port))}{parts['rest'] or ''}"
        direct = {"directConnection": True, "replicaSet": None, **self._srv_settings(parts["scheme"])}
        return self._client(uri, {**direct, **settings})

    def open_stranger(
        self, host: str, port: int | None, settings: Mapping[str, object] = MappingProxyType({})
    ) -> DriverClient:
        """Return a client of one server, as `open_member` does, that never sends it the user and the password.

        It is for servers that are not yet known to be of the set, and for `hello`, which needs no rights.
        """
        kept = {name: value for name, value in self.settings.items() if name.startswith("tls") or name in _TIME_OUTS}
        srv = {"tls": self.settings.get("tls", True)} if self._uri.startswith("mongodb+srv://") else {}
        return self._client(
            f"mongodb://{node_name((host, port))}/", {**kept, **srv, "directConnection": True, **settings}
        )

    def _srv_settings(self, scheme: str) -> Mapping[str, object]:
        """Return the settings that mongodb+srv implies: TLS, and the authentication database from DNS."""
        if scheme != "mongodb+srv://":
            return {}
        source = self.settings.get("authsource")
        return {"tls": self.settings.get("tls", True)} | ({"authSource": source} if source else {})

    def _client(self, uri: str, keywords: Mapping[str, object]) -> DriverClient:
        defaults = {name: value for name, value in self._defaults().items() if name.lower() not in self.settings}
        chosen = {} if self._options.retries is None else _retries(on=self._options.retries)
        if self._options.read_from in MODES:
            # Tags and maxStalenessSeconds of the URI then apply to this mode, or are refused by the driver.
            chosen = {**chosen, "readPreference": self._options.read_from}
        with _tls_settings(self._options.tls) as tls:
            settings = {"_pool_class": TimedPool, **defaults, **chosen, **tls, **keywords}
            try:
                return pymongo.MongoClient(uri, **settings)  # type: ignore[arg-type] # keywords
            except _BAD_URI:
                raise BadAddress(f"--mongo-uri cannot be used: {_defect(self._uri, settings)}") from None

    def _defaults(self) -> Mapping[str, object]:
        """Return our defaults for settings that are not in the URI.

        With the driver's own time-outs, writes took 12 s to resume after the primary was stopped; with these, 4 s.
        """
        timeout_ms = int(self._options.timeout_s * 1000)
        return {
            "appName": "stalewatch",
            "socketTimeoutMS": timeout_ms,
            "serverSelectionTimeoutMS": timeout_ms,
            "waitQueueTimeoutMS": int(CONNECTION_WAIT_S * 1000),
            "maxConnecting": max(CONNECTING, self._options.sessions // 100),
            "connectTimeoutMS": int(min(CONNECT_S, self._options.timeout_s / 2) * 1000),
            "heartbeatFrequencyMS": int(HEARTBEAT_S * 1000),
            "maxPoolSize": 0,  # no limit: sessions use one connection each, and under Locust their number may grow
            # Without a password, OpenSSL would ask for that of an encrypted key on the terminal.
            **({"tlsCertificateKeyFilePassword": ""} if "tlscertificatekeyfile" in self.settings else {}),
            **_retries(on=False),
        }


def _retries(*, on: bool) -> Mapping[str, object]:
    return {"retryWrites": on, "retryReads": on}


@contextmanager
def _tls_settings(files: TlsFiles) -> Iterator[Mapping[str, object]]:
    """Yield the driver's settings for TLS, valid inside the block: the driver takes certificate and key as one file."""
    if not any(files):
        yield {}
        return
    settings: dict[str, object] = {"tls": True}
    if files.ca:
        settings["tlsCAFile"] = files.ca
    if files.cert and not files.key:
        settings["tlsCertificateKeyFile"] = files.cert
    if not (files.cert and files.key):
        yield settings
        return
    with tempfile.NamedTemporaryFile(prefix="stalewatch-", suffix=".pem") as both:  # readable by its owner alone
        both.write(b"\n".join(Path(path).read_bytes() for path in (files.cert, files.key)))
        both.flush()
        yield {**settings, "tlsCertificateKeyFile": both.name}


def _defect(uri: str, settings: Mapping[str, object] = MappingProxyType({})) -> str:
    """Return what is wrong with a URI, or with it and other settings, without quoting its password.

    It is parsed again without the user. Only if that succeeds does the fault lie in the user or the password.
    """
    parts = _URI.fullmatch(uri)
    redacted = uri if parts is None else f"{parts['scheme']}{parts['hosts']}{parts['rest'] or ''}"
    if "@" in redacted or _SECRET_SETTINGS.search(redacted):
        return f"{_EXPECTED}, with / ? # @ % in a password written as %2F %3F %23 %40 %25"
    try:
        parse_uri(redacted)
    except _BAD_URI as error:
        said, setting = str(error).partition(" Did you mean")[0].rstrip("."), parts and _rejected_setting(parts)
        return f"{said}{f' ({setting})' if setting else ''}; {_EXPECTED}"
    return (
        _refused_settings(redacted, settings) or "in the user and the password, write / ? # @ % as %2F %3F %23 %40 %25"
    )


_READ_SETTINGS = re.compile("maxStalenessSeconds|tags", re.IGNORECASE)


def _refused_settings(redacted: str, settings: Mapping[str, object]) -> str | None:
    """Return why the driver refuses the settings of a URI, such as two that contradict each other; None if it does not.

    Some settings need a user, who takes part with a name and a password of no meaning.
    """
    scheme, _, rest = redacted.partition("://")
    try:
        pymongo.MongoClient(f"{scheme}://user:password@{rest}", **{**settings, "connect": False}).close()  # type: ignore[arg-type] # keywords
    except _BAD_URI as error:
        said = str(error).rstrip(".")
        advice = (
            "give --read-from secondary or nearest, or remove it from the URI; " if _READ_SETTINGS.search(said) else ""
        )
        return f"{advice}the driver said: {said}"
    return None


def _rejected_setting(parts: re.Match[str]) -> str | None:
    """Return the first setting of a URI that the driver rejects, since its message may not name it."""
    try:
        parse_uri(f"{parts['scheme']}{parts['hosts']}/")
    except _BAD_URI:
        return None  # the host is wrong
    for setting in (parts["rest"] or "").partition("?")[2].split("&"):
        try:
            parse_uri(f"{parts['scheme']}{parts['hosts']}/?{setting}")
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


class PrimaryNode:
    """The server that takes writes, as last seen by pymongo's monitors.

    An acknowledgement does not name its server, and a command listener that learns it costs more than the rest of the
    client.
    """

    def __init__(self, client: DriverClient) -> None:
        self._client = client
        self._seen: tuple[TopologyDescription | None, str | None] = (None, None)

    def now(self) -> str | None:
        """Return the server that a write would go to now, or None if there is none."""
        topology = self._client.topology_description
        seen, node = self._seen
        if topology is not seen:
            node = _writable(topology)
            self._seen = (topology, node)
        return node

    def since(self, before: str | None) -> str | None:
        """Return the server that took a write, given the primary at its start; None if two servers may have."""
        after = self.now()
        return after if before in (after, None) else None


def _writable(topology: TopologyDescription) -> str | None:
    servers = [address for address, server in topology.server_descriptions().items() if server.is_writable]
    return node_name(servers[0]) if len(servers) == 1 else None
