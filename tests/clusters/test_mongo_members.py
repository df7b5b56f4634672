import datetime as dt
from dataclasses import replace

import pytest

from stalewatch.clusters.local.mongo_members import (
    Document,
    MemberState,
    MemberView,
    TargetSet,
    delays,
    lag_s,
    next_step,
    primary_view,
)

ADDRESSES = {"mongo1": "h:1", "mongo2": "h:2", "mongo3": "h:3"}
EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)
NOW = EPOCH + dt.timedelta(days=1)
ROLES = ("PRIMARY", "SECONDARY", "SECONDARY")
SETTINGS = {
    "electionTimeoutMillis": 2000,
    "heartbeatIntervalMillis": 500,
    "chainingAllowed": False,
    "heartbeatTimeoutSecs": 10,
}


def config(hosts: tuple[str, ...] = ("h:1", "h:2", "h:3"), version: int = 1, delay: int = 0) -> Document:
    members: list[Document] = [{"_id": index, "host": host, "priority": 1} for index, host in enumerate(hosts)]
    members[-1]["secondaryDelaySecs"] = delay
    return {"_id": "rs0", "version": version, "members": members, "settings": SETTINGS}


def views(roles: tuple[str | None, ...] = ROLES, shared: Document | None = None) -> list[MemberView]:
    known = shared or config()
    addresses = [member["host"] for member in known["members"]]
    seen = {
        address: MemberState(role or "DOWN", role is not None, NOW)
        for address, role in zip(addresses, roles, strict=True)
    }
    return [
        MemberView(address, role, 1, known if role else None, seen if role else {})
        for address, role in zip(ADDRESSES.values(), roles, strict=True)
    ]


def test_a_complete_set_needs_no_step() -> None:
    assert next_step(TargetSet(ADDRESSES), views()) is None


def test_a_silent_member_is_waited_for() -> None:
    step = next_step(TargetSet(ADDRESSES), views((None, "SECONDARY", "SECONDARY")))
    assert step
    assert step.command is None
    assert "mongo1" in step.text


def test_a_new_set_is_initiated_with_a_short_election_timeout() -> None:
    empty = [MemberView(address, "UNINITIALIZED") for address in ADDRESSES.values()]
    step = next_step(TargetSet(ADDRESSES, 5), empty)
    assert step
    assert step.address == "h:1"
    assert step.command
    formed = step.command["replSetInitiate"]
    assert [member["host"] for member in formed["members"]] == ["h:1", "h:2", "h:3"]
    assert formed["settings"]["electionTimeoutMillis"] == 2000
    assert formed["members"][2] == {"_id": 2, "host": "h:3", "secondaryDelaySecs": 5, "priority": 0}


def test_the_settings_of_a_set_that_an_earlier_version_formed_are_updated() -> None:
    earlier = config() | {"settings": SETTINGS | {"chainingAllowed": True}}
    step = next_step(TargetSet(ADDRESSES), views(shared=earlier))
    assert step
    assert step.address == "h:1"
    assert step.command
    assert step.command["replSetReconfig"] == config(version=2)


def test_a_set_that_one_member_knows_is_not_initiated_again() -> None:
    half = [MemberView("h:1", "UNINITIALIZED"), MemberView("h:2", "UNINITIALIZED"), views()[2]]
    step = next_step(TargetSet(ADDRESSES), half)
    assert step
    assert step.command is None


def test_new_ports_are_set_by_a_forced_reconfiguration() -> None:
    old = [MemberView(address, "REMOVED", config=config(("h:7", "h:8", "h:3"), 4)) for address in ADDRESSES.values()]
    step = next_step(TargetSet(ADDRESSES), old)
    assert step
    assert step.command
    assert step.command["force"] is True
    moved = step.command["replSetReconfig"]
    assert [member["host"] for member in moved["members"]] == ["h:1", "h:2", "h:3"]
    assert moved["version"] == 5


def test_every_member_must_have_the_newest_config() -> None:
    behind, *others = views(shared=config(version=9))
    old = config(("h:7", "h:8", "h:9"), 3)
    step = next_step(TargetSet(ADDRESSES), [replace(behind, config=old), *others])
    assert step
    assert step.command is None
    assert "mongo1" in step.text


def test_a_delay_is_in_force_only_once_the_member_has_the_config() -> None:
    first, second, third = views(shared=config(version=2, delay=3))
    step = next_step(TargetSet(ADDRESSES, 3), [first, second, replace(third, config=config(version=1))])
    assert step
    assert step.command is None


@pytest.mark.parametrize(
    "roles",
    [
        ("SECONDARY", "SECONDARY", "SECONDARY"),
        ("PRIMARY", "SECONDARY", "STARTUP2"),
        ("PRIMARY", "SECONDARY", "RECOVERING"),
    ],
)
def test_an_election_or_initial_sync_is_waited_for(roles: tuple[str, ...]) -> None:
    step = next_step(TargetSet(ADDRESSES), views(roles))
    assert step
    assert step.command is None
    assert f"mongo3 {roles[2]}" in step.text


def test_a_secondary_of_another_primary_is_waited_for() -> None:
    first, second, third = views()
    elsewhere = {"h:2": MemberState("PRIMARY", healthy=True, optime=NOW)}
    step = next_step(TargetSet(ADDRESSES), [first, second, replace(third, members=elsewhere)])
    assert step
    assert step.command is None


def test_a_member_that_the_primary_does_not_see_is_waited_for() -> None:
    first, *others = views()
    unseen = {**first.members, "h:3": MemberState("(not reachable/healthy)", healthy=False, optime=EPOCH)}
    step = next_step(TargetSet(ADDRESSES), [replace(first, members=unseen), *others])
    assert step
    assert step.command is None


def test_a_primary_that_was_restarted_as_a_secondary_is_waited_for_until_the_new_one_has_noticed() -> None:
    first, *others = views()
    stale = {**first.members, "h:3": MemberState("PRIMARY", healthy=True, optime=NOW)}
    step = next_step(TargetSet(ADDRESSES), [replace(first, members=stale), *others])
    assert step
    assert step.command is None


def test_a_delay_is_set_at_the_primary() -> None:
    step = next_step(TargetSet(ADDRESSES, 3), views())
    assert step
    assert step.address == "h:1"
    assert step.command
    assert step.command["replSetReconfig"]["members"][2]["secondaryDelaySecs"] == 3
    assert step.command["replSetReconfig"]["members"][2]["priority"] == 0


def test_a_delay_is_turned_off() -> None:
    delayed = views(shared=config(delay=3))
    assert delays(delayed) == {"h:3": 3}
    step = next_step(TargetSet(ADDRESSES, 0), delayed)
    assert step
    assert step.command
    assert step.command["replSetReconfig"]["members"][2]["secondaryDelaySecs"] == 0
    assert step.command["replSetReconfig"]["members"][2]["priority"] == 1


def test_an_unspecified_delay_is_kept() -> None:
    assert next_step(TargetSet(ADDRESSES), views(shared=config(delay=3))) is None
    assert next_step(TargetSet(ADDRESSES, 3), views(shared=config(delay=3))) is None


def test_a_primary_steps_down_before_it_is_delayed() -> None:
    step = next_step(TargetSet(ADDRESSES, 3), views(("SECONDARY", "SECONDARY", "PRIMARY")))
    assert step
    assert step.address == "h:3"
    assert step.command
    assert "replSetStepDown" in step.command


def test_choosing_a_step_does_not_modify_the_config() -> None:
    shared = config()
    next_step(TargetSet(ADDRESSES, 3), views(shared=shared))
    assert shared == config()


def test_of_two_primaries_the_later_elected_one_counts() -> None:
    old, new = MemberView("h:1", "PRIMARY", term=4), MemberView("h:2", "PRIMARY", term=5)
    assert primary_view([old, new]) == primary_view([new, old]) == new
    assert primary_view([MemberView("h:1"), MemberView("h:2", "SECONDARY")]) is None


def test_lag_is_relative_to_the_primary() -> None:
    behind = MemberState("SECONDARY", healthy=True, optime=NOW - dt.timedelta(seconds=2))
    down = MemberState("(not reachable/healthy)", healthy=False, optime=EPOCH)
    own = MemberState("PRIMARY", healthy=True, optime=NOW)
    primary = MemberView("h:1", "PRIMARY", members={"h:1": own, "h:2": behind, "h:3": down})
    assert [lag_s(primary, address) for address in ADDRESSES.values()] == [0.0, 2.0, None]
    assert lag_s(None, "h:1") is None
