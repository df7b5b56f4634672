"""Talking to single members of a MongoDB replica set: what each sees, and orders to one of them."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from stalewatch.clusters.local.packages import Lazy
from stalewatch.clusters.protocol import ClusterError

if TYPE_CHECKING:
    import pymongo
    from pymongo.database import Database
else:
    pymongo = Lazy("pymongo")

Document = dict[str, Any]

SERVING = frozenset({"PRIMARY", "SECONDARY"})

_ROLES_WITHOUT_CONFIG = {93: "REMOVED", 94: "UNINITIALIZED"}
"""MongoDB's codes InvalidReplicaSetConfig (its own address is in no config) and NotYetInitialized."""

_LOOK_TIMEOUT_S = 1.5
_ORDER_TIMEOUT_S = 20.0  # a step-down waits 10 s for a secondary, a reconfiguration for a majority


class NoAnswer(ClusterError):
    """The member cannot be reached or does not answer in time."""


class Refused(ClusterError):
    """The member answered with an error; `code` is MongoDB's."""

    def __init__(self, message: str, code: int | None) -> None:
        super().__init__(message)
        self.code = code


class Member(NamedTuple):
    """One member as another one sees it; `optime` is that of its newest operation, in whole seconds."""

    role: str
    healthy: bool
    optime: datetime


@dataclass(frozen=True, slots=True)
class View:
    """What one member says: its role (None: nothing), its term, its config, and how it sees every member."""

    address: str
    role: str | None = None
    term: int = -1
    config: Document | None = None
    members: Mapping[str, Member] = field(default_factory=dict)


def look(addresses: Iterable[str]) -> list[View]:
    """Ask members what they see, all at once; a member that does not answer has an empty view."""
    asked = list(addresses)
    with ThreadPoolExecutor(max_workers=max(1, len(asked))) as pool:
        return list(pool.map(_look, asked))


def order(address: str, command: Document) -> None:
    """Have one member carry out an administrative command; raise `Refused` or `NoAnswer`."""
    with _admin(address, _ORDER_TIMEOUT_S) as admin:
        admin.command(command)


def leader(views: Iterable[View]) -> View | None:
    """Return the view of the primary: of two that claim to be, the one of the later term, which a majority elected."""
    claims = [view for view in views if view.role == "PRIMARY"]
    return max(claims, key=lambda view: view.term, default=None)


def lag_s(led: View | None, address: str) -> float | None:
    """Return by how many seconds the newest operation of a member is older than the primary's, as that one knows."""
    if led is None or address not in led.members or led.address not in led.members:
        return None
    optime = led.members[address].optime
    if not optime.timestamp():  # of a member that is down, the primary knows none
        return None
    return max(0.0, (led.members[led.address].optime - optime).total_seconds())


def _look(address: str) -> View:
    try:
        with _admin(address, _LOOK_TIMEOUT_S) as admin:
            try:
                return _view(address, admin.command("replSetGetStatus"), _config(admin))
            except pymongo.errors.OperationFailure as error:
                if error.code not in _ROLES_WITHOUT_CONFIG:
                    raise
                return View(address, role=_ROLES_WITHOUT_CONFIG[error.code], config=_config(admin))
    except (NoAnswer, Refused):
        return View(address)


def _view(address: str, status: Document, config: Document | None) -> View:
    members = {
        member["name"]: Member(member["stateStr"], bool(member["health"]), member["optimeDate"])
        for member in status["members"]
    }
    own = next(member["stateStr"] for member in status["members"] if member.get("self"))
    return View(address, own, status["term"], config, members)


def _config(admin: "Database[Document]") -> Document | None:
    try:
        config: Document = admin.command("replSetGetConfig")["config"]
    except pymongo.errors.OperationFailure as error:
        if error.code in _ROLES_WITHOUT_CONFIG:
            return None
        raise
    return config


@contextmanager
def _admin(address: str, timeout_s: float) -> "Iterator[Database[Document]]":
    milliseconds = int(timeout_s * 1000)
    client: pymongo.MongoClient[Document] = pymongo.MongoClient(
        f"mongodb://{address}/",
        directConnection=True,
        serverSelectionTimeoutMS=int(_LOOK_TIMEOUT_S * 1000),
        connectTimeoutMS=int(_LOOK_TIMEOUT_S * 1000),
        socketTimeoutMS=milliseconds,
        retryReads=False,
    )
    try:
        with client:
            yield client.admin
    except pymongo.errors.OperationFailure as error:
        raise Refused(f"{address} refused: {error.details and error.details.get('errmsg')}", error.code) from error
    except pymongo.errors.PyMongoError as error:
        raise NoAnswer(f"{address} does not answer: {error}") from error
