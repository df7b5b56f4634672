"""Quorum reads and writes, read repair, and replicas that go down or lose their disks."""

from math import exp

import pytest

from stalewatch.clients.protocol import Value
from stalewatch.simulator.options import Acks, MemoryOptions, Outage
from stalewatch.simulator.store import NodeDown, TooFewReplicas
from tests.simulator.stores import opened, wilson

LAG_S = 0.05


@pytest.mark.parametrize("read_acks", [1, 2, 3])
def test_a_read_is_stale_as_often_as_the_lag_and_the_number_of_replicas_asked_predict(read_acks: int) -> None:
    client = opened(
        MemoryOptions(
            topology="quorum", lag_s=LAG_S, read_acks=read_acks, service="constant", service_s=1e-6, remember=True
        )
    )
    session, stale, trials = client.session("s"), 0, 4000
    for number in range(trials):
        session.write(f"k{number}", Value(1, "s"))
        client.clock.sleep(LAG_S / 2)
        stale += session.read(f"k{number}").version == 0
    low, high = wilson(stale, trials)
    rate = (1 - read_acks / 3) * exp(-0.5) ** read_acks
    assert low <= rate <= high
    written = client.truth.applied("k0", 1)
    moment = min(written.values()) + round(LAG_S / 2 * 1e9)
    assert client.truth.stale_probability("k0", 1, moment) == pytest.approx(rate)


@pytest.mark.parametrize(("writes", "reads"), [(1, "all"), ("majority", "majority"), ("all", 1), (2, 2)])
def test_overlapping_quorums_show_every_acknowledged_write(writes: Acks, reads: Acks) -> None:
    client = opened(
        MemoryOptions(topology="quorum", write_acks=writes, read_acks=reads, lag_s=LAG_S, read_repair=False)
    )
    session = client.session("s")
    for version in range(1, 300):
        session.write("k", Value(version, "s"))
        assert session.read("k").version == version


def test_quorums_without_overlap_miss_acknowledged_writes() -> None:
    client = opened(MemoryOptions(topology="quorum", lag_s=LAG_S))
    session = client.session("s")
    shown = [session.write("k", Value(version, "s")) and session.read("k").version for version in range(1, 100)]
    assert shown != list(range(1, 100))


def test_a_read_repairs_the_replicas_that_it_asked() -> None:
    for read_repair in (True, False):
        client = opened(
            MemoryOptions(
                topology="quorum", write_to="m1", read_from="m1", read_acks=2, lag_s=1e6, read_repair=read_repair
            )
        )
        client.session("s").write("k", Value(1, "s"))
        client.session("s").read("k")
        now = client.clock.now()
        shown = [client.truth.shown("k", node, now) for node in ("m1", "m2", "m3")]
        assert shown == [1, int(read_repair), 0]


def test_a_configured_coordinator_answers_or_the_operation_fails() -> None:
    client = opened(MemoryOptions(topology="quorum", read_from="m2", write_to="m3", outages=(Outage(1, 1, node="m2"),)))
    session = client.session("s")
    assert (session.write("k", Value(1, "s")).node, session.read("k").node) == ("m3", "m2")
    client.clock.sleep(1)
    with pytest.raises(NodeDown):
        session.read("k")


def test_too_few_replicas_refuse_and_apply_nothing() -> None:
    outages = (Outage(0, 1, node="m1"), Outage(0, 1, node="m2"))
    client = opened(MemoryOptions(topology="quorum", write_acks="majority", outages=outages))
    with pytest.raises(TooFewReplicas, match="1 of 3 replicas are up, 2 are required") as refusal:
        client.session("s").write("k", Value(1, "s"))
    assert client.explain(refusal.value).outcome == "fail"
    client.clock.sleep(2)
    assert client.final("k").version == 0


def test_a_replica_that_returns_gets_what_it_missed_and_a_final_read_waits_for_it() -> None:
    client = opened(MemoryOptions(topology="quorum", lag_s=0.001, outages=(Outage(0, 5, node="m2"),)))
    start = client.clock.now()
    client.session("s").write("k", Value(1, "s"))
    assert client.final("k").version == 1
    assert client.clock.now() - start == 5_000_000_000
    client.clock.sleep(1)
    assert client.truth.shown("k", "m2", client.clock.now()) == 1


def test_a_final_read_fails_if_a_replica_never_returns() -> None:
    client = opened(MemoryOptions(topology="quorum", outages=(Outage(0, float("inf"), node="m2"),)))
    with pytest.raises(TooFewReplicas):
        client.final("k")


@pytest.mark.parametrize("writes", ["loses", "keeps"])
def test_a_wiped_disk_loses_exactly_what_no_other_replica_had(writes: str) -> None:
    outage = Outage(at_s=0.3, for_s=0.1, node="m1", writes="loses" if writes == "loses" else "keeps")
    client = opened(MemoryOptions(topology="quorum", lag_s=LAG_S, remember=True, outages=(outage,)))
    session, acknowledged = client.session("s"), list[int]()
    end = client.clock.now() + 290_000_000
    while client.clock.now() < end:
        session.append("list", len(acknowledged))
        session.write(f"k{len(acknowledged)}", Value(1, "s"))
        acknowledged.append(len(acknowledged))
    client.clock.sleep(1)
    missing = set(acknowledged) - set(client.final("list").items or [])
    unwritten = {f"k{number}" for number in acknowledged if client.final(f"k{number}").version == 0}
    lost = client.truth.lost()
    assert missing == {write.item for write in lost if write.item is not None}
    assert unwritten == {write.key for write in lost if write.key != "list"}
    assert bool(missing) is bool(unwritten) is (writes == "loses")


def test_a_late_older_write_does_not_overwrite_a_newer_one() -> None:
    client = opened(MemoryOptions(topology="quorum", lag_s=0))
    session = client.session("s")
    session.write("k", Value(2, "s"))
    assert session.write("k", Value(1, "s")).superseded
    assert session.read("k").version == 2
