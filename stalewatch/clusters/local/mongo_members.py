"""Members of a MongoDB replica set: how to query and command them one by one, and how to assemble them into a set.

The next assembly step depends on nothing but the members' current views. So it does not matter whether an earlier start
was killed half-way, a member was, its data were deleted or its port has changed: the steps continue from there.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from stalewatch.clusters.local.programs import Lazy
from stalewatch.clusters.protocol import ClusterError

if TYPE_CHECKING:
    import pymongo
    from pymongo.database import Database
else:
    pymongo = Lazy("pymongo")

Document = dict[str, Any]

SET_NAME = "rs0"
SERVING = frozenset({"PRIMARY", "SECONDARY"})

_ROLES_WITHOUT_CONFIG = {93: "REMOVED", 94: "UNINITIALIZED"}
"""MongoDB's codes InvalidReplicaSetConfig (no config contains the member's own address) and NotYetInitialized."""

_VIEW_TIMEOUT_S = 1.5
_COMMAND_TIMEOUT_S = 20.0  # a step-down waits 10 s for a secondary, a reconfiguration for a majority

# With MongoDB's defaults (10 s and 2 s) every failover would take ten seconds longer. With chaining, a secondary may
# replicate from another one: if that one stalls, this one does too, and majority writes wait for both. Which member
# replicates from which depends on ping times, so the same drill would have different outcomes.
_SETTINGS = {"electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500, "chainingAllowed": False}

_LAST = -1  # the member that a start may delay
_STEP_DOWN_S = 20
_CATCH_UP_S = 10


class MemberUnreachable(ClusterError):
    """The member cannot be reached or does not answer in time."""


class MemberRefused(ClusterError):
    """The member answered with an error; `code` is MongoDB's."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class MemberState(NamedTuple):
    """One member as another one sees it; `optime` is that of its newest operation, in whole seconds."""

    role: str
    healthy: bool
    optime: datetime


@dataclass(frozen=True, slots=True)
class MemberView:
    """One member's answer: its role (None if it does not answer), its term and config, and every member's state."""

    address: str
    role: str | None = None
    term: int = -1
    config: Document | None = None
    members: Mapping[str, MemberState] = field(default_factory=dict)


def member_views(addresses: Iterable[str]) -> list[MemberView]:
    """Query members concurrently; the view of one that does not answer is empty."""
    asked = list(addresses)
    with ThreadPoolExecutor(max_workers=max(1, len(asked))) as pool:
        return list(pool.map(_member_view, asked))


def run_command(address: str, command: Document) -> Document:
    """Run an administrative command at one member, and return its answer.

    Raises `MemberRefused` or `MemberUnreachable`.
    """
    with _admin(address, _COMMAND_TIMEOUT_S) as admin:
        return dict(admin.command(command))


def primary_view(views: Iterable[MemberView]) -> MemberView | None:
    """Return the primary's view: of two primaries, that of the later term, which a majority elected."""
    claims = [view for view in views if view.role == "PRIMARY"]
    return max(claims, key=lambda view: view.term, default=None)


def lag_s(primary: MemberView | None, address: str) -> float | None:
    """Return a member's lag: the age of its newest operation relative to the primary's, as known to the primary."""
    if primary is None or address not in primary.members or primary.address not in primary.members:
        return None
    optime = primary.members[address].optime
    if not optime.timestamp():  # the primary does not know that of a member that is down
        return None
    return max(0.0, (primary.members[primary.address].optime - optime).total_seconds())


def is_healthy(view: MemberView, primary: MemberView | None) -> bool:
    """Return whether a member serves, and the primary agrees about its role."""
    seen = primary.members.get(view.address) if primary else None
    # A primary that was frozen still calls itself primary after another one has been elected. A member that was briefly
    # away knows its primary before the primary's next heartbeat notices its return, or that it leads no longer.
    return view.role in SERVING and seen is not None and seen.healthy and seen.role == view.role


def _member_view(address: str) -> MemberView:
    try:
        with _admin(address, _VIEW_TIMEOUT_S) as admin:
            try:
                return _parse_view(address, admin.command("replSetGetStatus"), _config(admin))
            except pymongo.errors.OperationFailure as error:
                if error.code not in _ROLES_WITHOUT_CONFIG:
                    raise
                return MemberView(address, role=_ROLES_WITHOUT_CONFIG[error.code], config=_config(admin))
    except (MemberUnreachable, MemberRefused):
        return MemberView(address)


def _parse_view(address: str, status: Document, config: Document | None) -> MemberView:
    members = {
        member["name"]: MemberState(member["stateStr"], bool(member["health"]), member["optimeDate"])
        for member in status["members"]
    }
    own = next(member["stateStr"] for member in status["members"] if member.get("self"))
    return MemberView(address, own, status["term"], config, members)


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
    connect_ms = int(_VIEW_TIMEOUT_S * 1000)
    client: pymongo.MongoClient[Document] = pymongo.MongoClient(
        f"mongodb://{address}/",
        directConnection=True,
        serverSelectionTimeoutMS=connect_ms,
        connectTimeoutMS=connect_ms,
        socketTimeoutMS=int(timeout_s * 1000),
        retryReads=False,
    )
    try:
        with client:
            yield client.admin
    except pymongo.errors.OperationFailure as error:
        message = error.details and error.details.get("errmsg")
        raise MemberRefused(f"{address} refused the command: {message}", error.code) from error
    except pymongo.errors.PyMongoError as error:
        raise MemberUnreachable(f"{address} does not answer: {error}") from error


class AssemblyStep(NamedTuple):
    """The next step, as text, and a command for the member at `address`; without a command it is to wait."""

    text: str
    address: str = ""
    command: Document | None = None


class TargetSet(NamedTuple):
    """The desired set: every member's address by name, in order, and the delay of the last one in whole seconds.

    A delay of None leaves the member's delay as it is.
    """

    addresses: Mapping[str, str]
    delay_s: int | None = None


def next_step(target: TargetSet, views: Sequence[MemberView]) -> AssemblyStep | None:
    """Return the next step, or None if the set is as desired and every member serves."""
    for stage in _STAGES:
        step = stage(target, views)
        if step:
            return step
    return None


def delays(views: Sequence[MemberView]) -> Mapping[str, int]:
    """Return the delay in seconds of every delayed member, according to the newest config."""
    config = newest_config(views)
    members = config["members"] if config else ()
    return {str(member["host"]): delay for member in members if (delay := int(member.get("secondaryDelaySecs", 0)))}


def lag_step(views: Sequence[MemberView], address: str, seconds: int) -> AssemblyStep | None:
    """Return the next step to delay one member, which must not be the primary; None if it is done."""
    config, primary = newest_config(views), primary_view(views)
    if config is None or primary is None:
        return AssemblyStep(f"waiting for a primary to set the delay of {address} to {seconds} s")
    if delays(views).get(address, 0) != seconds:
        changed = _copy_of(config)
        _set_delay(changed, _hosts(config).index(address), seconds)
        text = f"setting the delay of {address} to {seconds} s"
        return AssemblyStep(text, primary.address, {"replSetReconfig": changed})
    member = next(view for view in views if view.address == address)
    if member.config is None or member.config["version"] == config["version"]:  # it is down, or has the config
        return None
    return AssemblyStep(f"waiting for {address} to receive the newest config")


def newest_config(views: Sequence[MemberView]) -> Document | None:
    """Return the config with the highest version, which all members will adopt."""
    configs = [view.config for view in views if view.config]
    return max(configs, key=lambda config: int(config["version"]), default=None)


def _await_answers(target: TargetSet, views: Sequence[MemberView]) -> AssemblyStep | None:
    silent = [name for name, view in zip(target.addresses, views, strict=True) if view.role is None]
    return AssemblyStep(f"waiting for {', '.join(silent)} to answer") if silent else None


def _initiate(target: TargetSet, views: Sequence[MemberView]) -> AssemblyStep | None:
    if newest_config(views):
        return None
    members = [{"_id": index, "host": address} for index, address in enumerate(target.addresses.values())]
    config = {"_id": SET_NAME, "members": members, "settings": _SETTINGS}
    _set_delay(config, _LAST, target.delay_s or 0)
    return AssemblyStep(f"initiating the replica set {SET_NAME}", views[0].address, {"replSetInitiate": config})


def _move(target: TargetSet, views: Sequence[MemberView]) -> AssemblyStep | None:
    # A member whose address is in no config takes part in nothing, and if two have moved nobody can be elected: only a
    # forced reconfiguration, at the member that has the newest config, gets out of that.
    config = newest_config(views)
    if config is None or _hosts(config) == list(target.addresses.values()):
        return None
    moved = _copy_of(config)
    moved["members"] = _moved_members(config, target)
    holder = primary_view(views) or next(view for view in views if view.config == config)
    return AssemblyStep(
        "updating the ports in the replica set's config", holder.address, {"replSetReconfig": moved, "force": True}
    )


def _await_primary(target: TargetSet, views: Sequence[MemberView]) -> AssemblyStep | None:
    primary = primary_view(views)
    if primary and all(is_healthy(view, primary) and _knows(view, primary) for view in views):
        return None
    roles = (f"{name} {view.role}" for name, view in zip(target.addresses, views, strict=True))
    return AssemblyStep(f"waiting for a primary and its secondaries: {', '.join(roles)}")


def _await_config(target: TargetSet, views: Sequence[MemberView]) -> AssemblyStep | None:
    # A member receives a new config with a heartbeat; until then its delay is not in force.
    newest = newest_config(views)
    behind = [name for name, view in zip(target.addresses, views, strict=True) if view.config != newest]
    return AssemblyStep(f"waiting for {', '.join(behind)} to receive the newest config") if behind else None


def _apply_settings(_target: TargetSet, views: Sequence[MemberView]) -> AssemblyStep | None:
    config, primary = newest_config(views), primary_view(views)
    if config is None or primary is None or _SETTINGS.items() <= config.get("settings", {}).items():
        return None  # else an earlier version has formed the set
    changed = _copy_of(config)
    changed["settings"] = {**changed.get("settings", {}), **_SETTINGS}
    return AssemblyStep("updating the replica set's settings", primary.address, {"replSetReconfig": changed})


def _delay(target: TargetSet, views: Sequence[MemberView]) -> AssemblyStep | None:
    config, primary = newest_config(views), primary_view(views)
    if config is None or primary is None:
        return None
    last = _hosts(config)[_LAST]
    if target.delay_s in {None, delays(views).get(last, 0)}:
        return None
    if target.delay_s and primary.address == last:
        down = {"replSetStepDown": _STEP_DOWN_S, "secondaryCatchUpPeriodSecs": _CATCH_UP_S}
        return AssemblyStep(f"asking {last} to step down: a primary cannot be delayed", last, down)
    seconds = target.delay_s or 0
    changed = _copy_of(config)
    _set_delay(changed, _LAST, seconds)
    text = f"delaying {last} by {seconds} s" if seconds else f"turning off the delay of {last}"
    return AssemblyStep(text, primary.address, {"replSetReconfig": changed})


_STAGES: tuple[Callable[[TargetSet, Sequence[MemberView]], AssemblyStep | None], ...] = (
    _await_answers,
    _initiate,
    _move,
    _await_primary,
    _await_config,
    _apply_settings,
    _delay,
)


def _hosts(config: Document) -> list[str]:
    return [str(member["host"]) for member in config["members"]]


def _copy_of(config: Document) -> Document:
    return {**copy.deepcopy(config), "version": config["version"] + 1}


def _moved_members(config: Document, target: TargetSet) -> list[Document]:
    known = {member["_id"]: member for member in config["members"]}
    return [
        {**known.get(index, {"_id": index}), "host": address} for index, address in enumerate(target.addresses.values())
    ]


def _set_delay(config: Document, member: int, seconds: int) -> None:
    # MongoDB requires a delayed member to have priority 0; it keeps its vote.
    config["members"][member].update(secondaryDelaySecs=seconds, priority=0 if seconds else 1)


def _knows(view: MemberView, primary: MemberView) -> bool:
    seen = view.members.get(primary.address)
    return bool(seen and seen.role == "PRIMARY")
