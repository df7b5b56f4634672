"""How members become the replica set that is wanted, from any state: one step at a time, chosen from what they say.

The next step depends on nothing but the members' present views. So it does not matter whether an earlier start was
killed half-way, a member was, its data was deleted or its port has changed: the steps lead on from there.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from stalewatch.clusters.local.replica_set import SERVING, Document, View, leader

SET_NAME = "rs0"

# MongoDB's own defaults (10 s and 2 s) would make every failover a test of patience.
_SETTINGS = {"electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500}

_LAST = -1  # the member that a start may delay
_STEP_DOWN_S = 20
_CATCH_UP_S = 10


class Step(NamedTuple):
    """What comes next, in words; `command` for the member at `address`, or nothing but waiting."""

    text: str
    address: str = ""
    command: Document | None = None


class Wanted(NamedTuple):
    """The set to reach: every member's address by its name, in order, and the delay of the last in whole seconds.

    A delay of None leaves the member as it is.
    """

    addresses: Mapping[str, str]
    delay_s: int | None = None


def next_step(wanted: Wanted, views: Sequence[View]) -> Step | None:
    """Return what to do next, or None when the set is as wanted and every member serves."""
    for stage in _STAGES:
        step = stage(wanted, views)
        if step:
            return step
    return None


def delay_s(views: Sequence[View]) -> int:
    """Return the delay of the last member as the newest config says it."""
    config = newest_config(views)
    return int(config["members"][-1].get("secondaryDelaySecs", 0)) if config else 0


def delays(views: Sequence[View]) -> Mapping[str, int]:
    """Return by how many seconds members are late, as the newest config says it; those alone that are."""
    config = newest_config(views)
    members = config["members"] if config else ()
    return {str(member["host"]): late for member in members if (late := int(member.get("secondaryDelaySecs", 0)))}


def lag_step(views: Sequence[View], address: str, seconds: int) -> Step | None:
    """Return what comes next so that one member, which must not lead, is that late; None when it is."""
    config, led = newest_config(views), leader(views)
    if config is None or led is None:
        return Step(f"waiting for a primary, which is to let {address} be {seconds} s late")
    if delays(views).get(address, 0) != seconds:
        late = _changed(config)
        _set_delay(late, _hosts(config).index(address), seconds)
        return Step(f"letting {address} be {seconds} s late", led.address, {"replSetReconfig": late})
    member = next(view for view in views if view.address == address)
    if member.config is None or member.config["version"] == config["version"]:  # it is down, or knows
        return None
    return Step(f"waiting for {address} to take over the newest config")


def newest_config(views: Sequence[View]) -> Document | None:
    """Return the config with the highest version, which every member will take over."""
    configs = [view.config for view in views if view.config]
    return max(configs, key=lambda config: int(config["version"]), default=None)


def _await_answers(wanted: Wanted, views: Sequence[View]) -> Step | None:
    silent = [name for name, view in zip(wanted.addresses, views, strict=True) if view.role is None]
    return Step(f"waiting for {', '.join(silent)} to answer") if silent else None


def _initiate(wanted: Wanted, views: Sequence[View]) -> Step | None:
    if newest_config(views):
        return None
    members = [{"_id": index, "host": address} for index, address in enumerate(wanted.addresses.values())]
    config = {"_id": SET_NAME, "members": members, "settings": _SETTINGS}
    _set_delay(config, _LAST, wanted.delay_s or 0)
    return Step(f"forming the replica set {SET_NAME}", views[0].address, {"replSetInitiate": config})


def _move(wanted: Wanted, views: Sequence[View]) -> Step | None:
    # A member whose address is in no config takes part in nothing, and where two have moved nobody can be elected:
    # only a forced reconfiguration, of the member that knows the newest config, gets out of that.
    config = newest_config(views)
    if config is None or _hosts(config) == list(wanted.addresses.values()):
        return None
    moved = _changed(config)
    moved["members"] = _moved_members(config, wanted)
    holder = leader(views) or next(view for view in views if view.config == config)
    return Step("telling the replica set its new ports", holder.address, {"replSetReconfig": moved, "force": True})


def _await_primary(wanted: Wanted, views: Sequence[View]) -> Step | None:
    led = leader(views)
    if led and all(view.role in SERVING and _agree(view, led) for view in views):
        return None
    roles = (f"{name} {view.role}" for name, view in zip(wanted.addresses, views, strict=True))
    return Step(f"waiting for a primary and its secondaries: {', '.join(roles)}")


def _await_config(wanted: Wanted, views: Sequence[View]) -> Step | None:
    # A member hears of a new config with a heartbeat; until then it is not delayed.
    newest = newest_config(views)
    behind = [name for name, view in zip(wanted.addresses, views, strict=True) if view.config != newest]
    return Step(f"waiting for {', '.join(behind)} to take over the newest config") if behind else None


def _delay(wanted: Wanted, views: Sequence[View]) -> Step | None:
    config, led = newest_config(views), leader(views)
    if config is None or led is None or wanted.delay_s in {None, delay_s(views)}:
        return None
    if wanted.delay_s and led.address == _hosts(config)[-1]:
        down = {"replSetStepDown": _STEP_DOWN_S, "secondaryCatchUpPeriodSecs": _CATCH_UP_S}
        return Step(f"{led.address} leads and is to be delayed: asking it to step down", led.address, down)
    seconds = wanted.delay_s or 0
    delayed = _changed(config)
    _set_delay(delayed, _LAST, seconds)
    text = f"delaying {_hosts(config)[-1]} by {seconds} s" if seconds else f"{_hosts(config)[-1]} is no longer delayed"
    return Step(text, led.address, {"replSetReconfig": delayed})


_STAGES: tuple[Callable[[Wanted, Sequence[View]], Step | None], ...] = (
    _await_answers,
    _initiate,
    _move,
    _await_primary,
    _await_config,
    _delay,
)


def _hosts(config: Document) -> list[str]:
    return [str(member["host"]) for member in config["members"]]


def _changed(config: Document) -> Document:
    return {**copy.deepcopy(config), "version": config["version"] + 1}


def _moved_members(config: Document, wanted: Wanted) -> list[Document]:
    known = {member["_id"]: member for member in config["members"]}
    return [
        {**known.get(index, {"_id": index}), "host": address} for index, address in enumerate(wanted.addresses.values())
    ]


def _set_delay(config: Document, member: int, seconds: int) -> None:
    # MongoDB refuses a delayed member that could be elected; its vote is not touched.
    config["members"][member].update(secondaryDelaySecs=seconds, priority=0 if seconds else 1)


def _agree(view: View, led: View) -> bool:
    # A member that was away for a moment knows its primary before that one's next heartbeat knows of its return.
    primary, member = view.members.get(led.address), led.members.get(view.address)
    return bool(primary and primary.role == "PRIMARY" and member and member.healthy and member.role in SERVING)
