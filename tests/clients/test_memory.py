import subprocess
import sys
import threading
from dataclasses import replace
from typing import Any

import pytest

from clients import memory_errors
from clients.errors import BadAddress, ClientError
from clients.memory import STORES, MemoryClient
from clients.memory_errors import ERRORS, Disconnected, MemoryStoreError, NoLeader, Refused, Timeout
from clients.memory_options import TOPOLOGIES, MemoryOptions, Outage
from clients.protocol import Client, ClientSession, Depends, Value
from clients.simulated_time import SimulatedClock
from history.clock import RealClock

ALL = pytest.mark.parametrize("topology", TOPOLOGIES)


def open_client(**options: Any) -> MemoryClient:
    client = MemoryClient(MemoryOptions(**options), SimulatedClock())
    client.prepare()
    return client


@ALL
def test_it_is_a_client_like_any_other(topology: str) -> None:
    client: Client = open_client(topology=topology)
    session: ClientSession = client.session("s")
    client.preload(["k", "l"], "x")
    assert session.read("k").version == 0
    assert session.write("k", Value(1, "s")).outcome == "ok"
    answer = client.final("k")
    assert (answer.outcome, answer.version, answer.node in client.truth.nodes) == ("ok", 1, True)
    client.remove(["k", "l"])
    client.preload(["k"], "x")
    assert client.final("k").version == 0
    client.close()


@ALL
def test_preloading_a_key_that_exists_is_an_error_and_creates_nothing(topology: str) -> None:
    client = open_client(topology=topology)
    client.session("s").write("old", Value(1, "s"))
    with pytest.raises(ClientError, match="'old' exists already"):
        client.preload(["new", "old"], "")
    client.preload(["new"], "")


@ALL
def test_an_equal_or_newer_version_supersedes_a_write(topology: str) -> None:
    session = open_client(topology=topology, read_from="m1" if "leader" not in topology else "").session("s")
    assert not session.write("k", Value(2, "s")).superseded


@pytest.mark.parametrize("topology", ["linearizable", "leader"])
def test_a_write_never_undoes_a_newer_one(topology: str) -> None:
    client = open_client(topology=topology)
    session = client.session("s")
    superseded = [session.write("k", Value(version, "s")).superseded for version in (2, 1, 2, 3)]
    assert superseded == [False, True, True, False]
    assert (session.read("k").version, client.final("k").version) == (3, 3)


@ALL
def test_a_read_says_what_the_value_depends_on(topology: str) -> None:
    session = open_client(topology=topology, lag_s=0).session("s")
    depends = Depends(key="l", version=4)
    session.write("k", Value(1, "s", depends))
    assert session.read("k").depends == depends


@ALL
def test_a_list_holds_every_acknowledged_item(topology: str) -> None:
    client = open_client(topology=topology)
    session = client.session("s")
    for number in range(40):
        session.append("list", f"s-{number}")
    assert sorted(client.final("list").items or [], key=str) == sorted(f"s-{number}" for number in range(40))


@pytest.mark.parametrize("topology", ["linearizable", "leader"])
def test_ids_drawn_from_one_leader_rise(topology: str) -> None:
    session = open_client(topology=topology).session("s")
    assert [session.draw("ids").version for _ in range(5)] == [1, 2, 3, 4, 5]


def test_two_leaders_draw_the_same_id_twice() -> None:
    client = open_client(topology="multi-leader", lag_s=10)
    session = client.session("s")
    ids = [session.draw("ids").version for _ in range(20)]
    assert len(set(ids)) < len(ids)


def test_operations_take_their_service_time() -> None:
    client = open_client(service="constant", service_s=0.004)
    session, start = client.session("s"), client.clock.now()
    session.read("k")
    session.write("k", Value(1, "s"))
    assert client.clock.now() - start == 8_000_000


def test_a_write_is_acknowledged_when_as_many_nodes_have_it_as_asked() -> None:
    took = {}
    for acks in (1, 2, "majority", "all"):
        client = open_client(service_s=0.001, service="constant", lag="constant", lag_s=0.1, write_acks=acks)
        start = client.clock.now()
        client.session("s").write("k", Value(1, "s"))
        took[acks] = client.clock.now() - start
    assert took == {1: 1_000_000, 2: 101_000_000, "majority": 101_000_000, "all": 101_000_000}


def test_a_write_that_waits_for_lost_nodes_times_out_though_the_leader_has_it() -> None:
    outages = tuple(Outage(at_s=0, for_s=60, node=node) for node in ("m2", "m3"))
    client = open_client(write_acks="majority", outages=outages, timeout_s=2)
    start = client.clock.now()
    with pytest.raises(Timeout):
        client.session("s").write("k", Value(1, "s"))
    assert client.clock.now() - start == 2_000_000_000
    assert client.final("k").version == 1


@ALL
def test_an_answer_later_than_the_time_out_is_a_time_out(topology: str) -> None:
    session = open_client(topology=topology, service="constant", service_s=2, timeout_s=1).session("s")
    with pytest.raises(Timeout):
        session.read("k")
    with pytest.raises(Timeout):
        session.write("k", Value(1, "s"))


@ALL
def test_refused_writes_are_never_applied(topology: str) -> None:
    client = open_client(topology=topology, refusals=0.5, lag_s=0)
    session, refused, accepted = client.session("s"), set(), set()
    for version in range(1, 200):
        try:
            session.append(f"list{version % 7}", version)
        except MemoryStoreError as error:
            assert client.explain(error).outcome == "fail"
            refused.add(version)
        else:
            accepted.add(version)
    client.clock.sleep(100)
    held = {item for number in range(7) for item in client.final(f"list{number}").items or []}
    assert held == accepted
    assert len(refused) > 50


@ALL
def test_timed_out_writes_are_sometimes_applied_and_some_of_them_after_the_time_out(topology: str) -> None:
    client = open_client(topology=topology, timeouts=1, timeouts_applied=0.5, lag_s=0)
    session, at_once = client.session("s"), 0
    for number in range(200):
        with pytest.raises(Timeout):
            session.append("list", number)
        at_once += number in (client.final("list").items or [])
    client.clock.sleep(100)
    in_the_end = len(client.final("list").items or [])
    assert 20 < at_once < in_the_end < 180
    assert in_the_end > at_once + 20


def test_timed_out_writes_are_not_applied_where_the_options_say_so() -> None:
    client = open_client(timeouts=1, timeouts_applied=0)
    with pytest.raises(Timeout):
        client.session("s").write("k", Value(1, "s"))
    client.clock.sleep(100)
    assert client.final("k").version == 0


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(Timeout("x"), "unknown"), (Disconnected("x"), "unknown"), (Refused("x"), "fail"), (NoLeader("x"), "fail")],
)
def test_errors_mean_what_the_table_says(error: Exception, outcome: str) -> None:
    assert open_client().explain(error).outcome == outcome


def test_every_error_of_the_store_has_a_row_or_a_base_with_one() -> None:
    kinds = [
        kind
        for kind in vars(memory_errors).values()
        if isinstance(kind, type) and kind.__module__ == memory_errors.__name__
    ]
    rows = [kind for kind in kinds if any(base in ERRORS for base in kind.__mro__)]
    assert set(kinds) - set(rows) == {MemoryStoreError}
    assert not any("MemoryStoreError" == type(kind).__name__ for kind in rows)
