import datetime as dt
from dataclasses import replace

import pytest

from stalewatch.clusters.local.assembly import Wanted, delay_s, next_step
from stalewatch.clusters.local.replica_set import Document, Member, View, lag_s, leader

ADDRESSES = {"mongo1": "h:1", "mongo2": "h:2", "mongo3": "h:3"}
EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)
NOW = EPOCH + dt.timedelta(days=1)
ROLES = ("PRIMARY", "SECONDARY", "SECONDARY")


def config(hosts: tuple[str, ...] = ("h:1", "h:2", "h:3"), version: int = 1, delay: int = 0) -> Document:
    members: list[Document] = [{"_id": index, "host": host, "priority": 1} for index, host in enumerate(hosts)]
    members[-1]["secondaryDelaySecs"] = delay
    return {"_id": "rs0", "version": version, "members": members}


def views(roles: tuple[str | None, ...] = ROLES, shared: Document | None = None) -> list[View]:
    known = shared or config()
    addresses = [member["host"] for member in known["members"]]
    seen = {
        address: Member(role or "DOWN", role is not None, NOW) for address, role in zip(addresses, roles, strict=True)
    }
    return [
        View(address, role, 1, known if role else None, seen if role else {})
        for address, role in zip(ADDRESSES.values(), roles, strict=True)
    ]


def test_a_whole_set_needs_nothing() -> None:
    assert next_step(Wanted(ADDRESSES), views()) is None


def test_a_member_that_does_not_answer_is_waited_for() -> None:
    step = next_step(Wanted(ADDRESSES), views((None, "SECONDARY", "SECONDARY")))
    assert step
    assert step.command is None
    assert "mongo1" in step.text


def test_a_set_that_was_never_formed_is_formed_with_a_short_election_timeout() -> None:
    empty = [View(address, "UNINITIALIZED") for address in ADDRESSES.values()]
    step = next_step(Wanted(ADDRESSES, 5), empty)
    assert step
    assert step.address == "h:1"
    assert step.command
    formed = step.command["replSetInitiate"]
    assert [member["host"] for member in formed["members"]] == ["h:1", "h:2", "h:3"]
    assert formed["settings"]["electionTimeoutMillis"] == 2000
    assert formed["members"][2] == {"_id": 2, "host": "h:3", "secondaryDelaySecs": 5, "priority": 0}


def test_a_set_that_one_member_remembers_is_not_formed_anew() -> None:
    half = [View("h:1", "UNINITIALIZED"), View("h:2", "UNINITIALIZED"), views()[2]]
    step = next_step(Wanted(ADDRESSES), half)
    assert step
    assert step.command is None


def test_members_on_new_ports_are_told_by_force() -> None:
    old = [View(address, "REMOVED", config=config(("h:7", "h:8", "h:3"), 4)) for address in ADDRESSES.values()]
    step = next_step(Wanted(ADDRESSES), old)
    assert step
    assert step.command
    assert step.command["force"] is True
    moved = step.command["replSetReconfig"]
    assert [member["host"] for member in moved["members"]] == ["h:1", "h:2", "h:3"]
    assert moved["version"] == 5


def test_the_newest_config_is_the_one_that_counts_and_every_member_is_to_have_it() -> None:
    behind, *others = views(shared=config(version=9))
    old = config(("h:7", "h:8", "h:9"), 3)
    step = next_step(Wanted(ADDRESSES), [replace(behind, config=old), *others])
    assert step
    assert step.command is None
    assert "mongo1" in step.text


def test_a_delay_is_in_force_when_the_delayed_member_knows_of_it() -> None:
    first, second, third = views(shared=config(version=2, delay=3))
    step = next_step(Wanted(ADDRESSES, 3), [first, second, replace(third, config=config(version=1))])
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
def test_an_election_or_a_synchronisation_is_waited_for(roles: tuple[str, ...]) -> None:
    step = next_step(Wanted(ADDRESSES), views(roles))
    assert step
    assert step.command is None
    assert f"mongo3 {roles[2]}" in step.text


def test_a_secondary_that_follows_another_primary_is_waited_for() -> None:
    first, second, third = views()
    elsewhere = {"h:2": Member("PRIMARY", healthy=True, optime=NOW)}
    step = next_step(Wanted(ADDRESSES), [first, second, replace(third, members=elsewhere)])
    assert step
    assert step.command is None


def test_a_member_that_the_primary_does_not_see_yet_is_waited_for() -> None:
    first, *others = views()
    unseen = {**first.members, "h:3": Member("(not reachable/healthy)", healthy=False, optime=EPOCH)}
    step = next_step(Wanted(ADDRESSES), [replace(first, members=unseen), *others])
    assert step
    assert step.command is None


def test_a_delay_is_set_at_the_primary() -> None:
    step = next_step(Wanted(ADDRESSES, 3), views())
    assert step
    assert step.address == "h:1"
    assert step.command
    assert step.command["replSetReconfig"]["members"][2]["secondaryDelaySecs"] == 3
    assert step.command["replSetReconfig"]["members"][2]["priority"] == 0


def test_a_delay_is_taken_away() -> None:
    delayed = views(shared=config(delay=3))
    assert delay_s(delayed) == 3
    step = next_step(Wanted(ADDRESSES, 0), delayed)
    assert step
    assert step.command
    assert step.command["replSetReconfig"]["members"][2]["secondaryDelaySecs"] == 0
    assert step.command["replSetReconfig"]["members"][2]["priority"] == 1


def test_a_delay_that_nobody_speaks_of_stays() -> None:
    assert next_step(Wanted(ADDRESSES), views(shared=config(delay=3))) is None
    assert next_step(Wanted(ADDRESSES, 3), views(shared=config(delay=3))) is None


def test_a_primary_that_is_to_be_delayed_steps_down_first() -> None:
    step = next_step(Wanted(ADDRESSES, 3), views(("SECONDARY", "SECONDARY", "PRIMARY")))
    assert step
    assert step.address == "h:3"
    assert step.command
    assert "replSetStepDown" in step.command


def test_choosing_a_step_changes_no_config() -> None:
    shared = config()
    next_step(Wanted(ADDRESSES, 3), views(shared=shared))
    assert shared == config()


def test_of_two_primaries_the_later_elected_one_leads() -> None:
    old, new = View("h:1", "PRIMARY", term=4), View("h:2", "PRIMARY", term=5)
    assert leader([old, new]) == leader([new, old]) == new
    assert leader([View("h:1"), View("h:2", "SECONDARY")]) is None


def test_lag_is_the_distance_to_the_primary() -> None:
    behind = Member("SECONDARY", healthy=True, optime=NOW - dt.timedelta(seconds=2))
    down = Member("(not reachable/healthy)", healthy=False, optime=EPOCH)
    led = View("h:1", "PRIMARY", members={"h:1": Member("PRIMARY", True, NOW), "h:2": behind, "h:3": down})  # noqa: FBT003
    assert [lag_s(led, address) for address in ADDRESSES.values()] == [0.0, 2.0, None]
    assert lag_s(None, "h:1") is None
