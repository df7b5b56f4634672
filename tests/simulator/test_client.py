"""The simulated store as a client: operations, errors, options and determinism."""

import itertools
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from stalewatch.clients.errors import BadAddress, ClientError
from stalewatch.clients.protocol import Client, ClientSession, Value
from stalewatch.history.clock import RealClock
from stalewatch.history.operation import Depends
from stalewatch.simulator import store as memory_errors
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.options import TOPOLOGIES, MemoryOptions, Outage
from stalewatch.simulator.simulated_time import SimulatedClock
from stalewatch.simulator.store import (
    ERRORS,
    Disconnected,
    MemoryStoreError,
    NodeSilent,
    NoLeader,
    OperationRefused,
    Timeout,
)
from tests.simulator.stores import opened

ALL = pytest.mark.parametrize("topology", TOPOLOGIES)


@ALL
def test_it_implements_the_client_protocol(topology: str) -> None:
    client: Client = opened(MemoryOptions(topology=topology))
    session: ClientSession = client.session("s")
    client.preload(["k", "l"], "x")
    assert session.read("k").version == 0
    assert session.write("k", Value(1, "s")).outcome == "ok"
    answer = client.final("k")
    assert (answer.outcome, answer.version, answer.node in MemoryOptions(topology=topology).nodes) == ("ok", 1, True)
    client.remove(["k", "l"])
    client.preload(["k"], "x")
    assert client.final("k").version == 0
    client.close()


@ALL
def test_preloading_an_existing_key_fails_and_creates_nothing(topology: str) -> None:
    client = opened(MemoryOptions(topology=topology))
    client.session("s").write("old", Value(1, "s"))
    with pytest.raises(ClientError, match="'old' exists already"):
        client.preload(["new", "old"], "")
    client.preload(["new"], "")


@pytest.mark.parametrize("topology", ["linearizable", "leader"])
def test_a_write_never_overwrites_a_newer_version(topology: str) -> None:
    client = opened(MemoryOptions(topology=topology))
    session = client.session("s")
    superseded = [session.write("k", Value(version, "s")).superseded for version in (2, 1, 2, 3)]
    assert superseded == [False, True, True, False]
    assert (session.read("k").version, client.final("k").version) == (3, 3)


@ALL
def test_a_read_returns_the_dependencies_of_the_value(topology: str) -> None:
    session = opened(MemoryOptions(topology=topology, lag_s=0)).session("s")
    depends = Depends(key="l", version=4)
    session.write("k", Value(1, "s", depends))
    assert session.read("k").depends == depends


@ALL
def test_a_list_holds_every_acknowledged_item(topology: str) -> None:
    client = opened(MemoryOptions(topology=topology))
    session = client.session("s")
    for number in range(40):
        session.append("list", f"s-{number}")
    assert sorted(client.final("list").items or [], key=str) == sorted(f"s-{number}" for number in range(40))


@pytest.mark.parametrize("topology", ["linearizable", "leader"])
def test_a_single_leader_draws_ascending_ids(topology: str) -> None:
    session = opened(MemoryOptions(topology=topology)).session("s")
    assert [session.draw("ids").version for _ in range(5)] == [1, 2, 3, 4, 5]


def test_two_leaders_draw_duplicate_ids() -> None:
    client = opened(MemoryOptions(topology="multi-leader", lag_s=10))
    session = client.session("s")
    ids = [session.draw("ids").version for _ in range(20)]
    assert len(set(ids)) < len(ids)


def test_operations_take_the_service_time() -> None:
    client = opened(MemoryOptions(service="constant", service_s=0.004))
    session, start = client.session("s"), client.clock.now()
    session.read("k")
    session.write("k", Value(1, "s"))
    assert client.clock.now() - start == 8_000_000


def test_a_write_is_acknowledged_once_the_required_number_of_nodes_have_it() -> None:
    took = {}
    for acks in (1, 2, "majority", "all"):
        client = opened(MemoryOptions(service_s=0.001, service="constant", lag="constant", lag_s=0.1, write_acks=acks))
        start = client.clock.now()
        client.session("s").write("k", Value(1, "s"))
        took[acks] = client.clock.now() - start
    assert took == {1: 1_000_000, 2: 101_000_000, "majority": 101_000_000, "all": 101_000_000}


def test_a_write_that_waits_for_nodes_that_are_down_times_out_although_the_leader_has_it() -> None:
    outages = tuple(Outage(at_s=0, for_s=60, node=node) for node in ("m2", "m3"))
    client = opened(MemoryOptions(write_acks="majority", outages=outages, timeout_s=2))
    start = client.clock.now()
    with pytest.raises(Timeout):
        client.session("s").write("k", Value(1, "s"))
    assert client.clock.now() - start == 2_000_000_000
    assert client.final("k").version == 1


@ALL
def test_an_answer_after_the_timeout_is_a_timeout(topology: str) -> None:
    session = opened(MemoryOptions(topology=topology, service="constant", service_s=2, timeout_s=1)).session("s")
    with pytest.raises(Timeout):
        session.read("k")
    with pytest.raises(Timeout):
        session.write("k", Value(1, "s"))


@ALL
def test_refused_writes_are_never_applied(topology: str) -> None:
    client = opened(MemoryOptions(topology=topology, refusals=0.5, lag_s=0))
    session, accepted = client.session("s"), []
    for number in range(200):
        with suppress(OperationRefused):
            session.append("list", number)
            accepted.append(number)
    client.clock.sleep(100)
    assert client.final("list").items == accepted
    assert 50 < len(accepted) < 150


@ALL
def test_some_timed_out_writes_are_applied_and_some_of_those_after_the_timeout(topology: str) -> None:
    client = opened(MemoryOptions(topology=topology, timeouts=1, timeouts_applied=0.5, lag_s=0))
    session, before_timeout = client.session("s"), 0
    for number in range(200):
        with pytest.raises(Timeout):
            session.append("list", number)
        before_timeout += number in (client.final("list").items or [])
    client.clock.sleep(100)
    eventually = len(client.final("list").items or [])
    assert 20 < before_timeout < eventually < 180
    assert eventually > before_timeout + 20


def test_timed_out_writes_are_never_applied_if_the_options_say_so() -> None:
    client = opened(MemoryOptions(timeouts=1, timeouts_applied=0))
    with pytest.raises(Timeout):
        client.session("s").write("k", Value(1, "s"))
    client.clock.sleep(100)
    assert client.final("k").version == 0


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(Timeout, "unknown"), (Disconnected, "unknown"), (OperationRefused, "fail"), (NoLeader, "fail")],
)
def test_an_error_has_the_outcome_in_the_table(error: type[MemoryStoreError], outcome: str) -> None:
    assert opened(MemoryOptions()).explain(error("x")).outcome == outcome


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (Timeout, "Timeout"),
        (Disconnected, "Disconnected"),
        (NodeSilent, "NoAnswer"),
        (OperationRefused, "Refused"),
        (NoLeader, "Refused"),
    ],
)
def test_an_error_is_recorded_under_its_established_name(error: type[MemoryStoreError], name: str) -> None:
    assert opened(MemoryOptions()).explain(error("x")).error == name


def test_every_error_class_or_one_of_its_bases_is_in_the_table() -> None:
    own = [kind for kind in vars(memory_errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    unmapped = {kind for kind in own if not any(base in ERRORS for base in kind.__mro__)}
    assert unmapped == {MemoryStoreError}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"topology": "ring"}, "unknown topology 'ring'"),
        ({"replicas": -1}, "--replicas is -1"),
        ({"topology": "multi-leader", "replicas": 3}, "has 2 node"),
        ({"topology": "linearizable", "replicas": 3}, "has 1 node"),
        ({"lag": "gauss"}, "unknown distribution 'gauss' for --lag-kind"),
        ({"service_s": -1}, "--service is -1"),
        ({"lag_s": float("nan")}, "--lag is nan"),
        ({"timeout_s": 0}, "--timeout is 0"),
        ({"timeout_s": float("inf")}, "--timeout is inf"),
        ({"timeouts": 1.5}, "--timeouts is 1.5"),
        ({"timeouts": 0.6, "refusals": 0.6}, "add up to more than 1"),
        ({"write_acks": 4}, "--write-acks is 4"),
        ({"write_acks": "most"}, "--write-acks is most"),
        ({"topology": "multi-leader", "write_acks": "all"}, "--write-acks is all"),
        ({"read_from": "m9"}, "--read-from is 'm9'; leader allows leader, follower, any, m1, m2, m3"),
        ({"topology": "quorum", "read_from": "primary"}, "--read-from is 'leader'"),
        ({"topology": "linearizable", "read_from": "secondary"}, "--read-from is 'follower'"),
        ({"write_to": "m2"}, "--write-to is 'm2'"),
        ({"lag_order": "none"}, "lag_order is 'none'"),
        ({"outages": (Outage(at_s=1, node="m9"),)}, "--outage of unknown node 'm9'"),
        ({"topology": "quorum", "outages": (Outage(at_s=1),)}, "--outage of unknown node 'leader'"),
        ({"outages": (Outage(at_s=-1),)}, "--outage with times"),
    ],
)
def test_invalid_options_are_rejected(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(BadAddress, match="memory store: .*" + re.escape(complaint)):
        MemoryOptions(**options)  # type: ignore[arg-type] # wrong on purpose


def test_operations_without_service_time_are_rejected_in_simulated_time() -> None:
    with pytest.raises(BadAddress, match="--service is 0"):
        MemoryClient(MemoryOptions(service_s=0), SimulatedClock())


def test_other_databases_terms_for_locations_are_accepted() -> None:
    assert MemoryOptions(read_from="secondary").reads_at == "follower"
    assert MemoryOptions(read_from="primary").reads_at == "leader"
    assert MemoryOptions(topology="multi-leader", write_to="both").writes_at == "any"


def test_it_runs_on_the_real_clock_with_real_threads() -> None:
    client = MemoryClient(MemoryOptions(service_s=0.0002, write_acks="majority", lag_s=0.0002), RealClock())
    client.prepare()
    client.preload(["k"], "")
    versions, turn = itertools.count(1), threading.Lock()

    def body(name: str) -> None:
        session, seen = client.session(name), 0
        for _ in range(50):
            with turn:
                version = next(versions)
            session.write("k", Value(version, name))
            shown = session.read("k").version or 0
            assert shown >= max(seen, version)
            seen = shown

    with ThreadPoolExecutor(8) as threads:
        for ended in [threads.submit(body, f"s{number}") for number in range(8)]:
            ended.result()
    assert client.final("k").version == 400


def test_without_service_time_nothing_sleeps() -> None:
    class Sleepless(RealClock):
        def sleep(self, seconds: float) -> None:
            raise AssertionError(f"slept {seconds} s")

    client = MemoryClient(MemoryOptions(service_s=0), Sleepless())
    client.prepare()
    session = client.session("s")
    session.write("k", Value(1, "s"))
    assert session.read("k").version == 1


SEEDED_RUN = """
import sys
if sys.argv[1] == "greenlets":
    from gevent import monkey
    monkey.patch_all()
import hashlib
from random import Random
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.store import MemoryStoreError
from stalewatch.simulator.options import MemoryOptions, Outage
from stalewatch.clients.protocol import Value
from stalewatch.simulator.simulated_time import SimulatedClock, run_sessions

def history(topology, outages, **options):
    clock = SimulatedClock()
    chances = dict(timeouts=0.01, refusals=0.01)
    client = MemoryClient(MemoryOptions(topology, seed=7, outages=outages, **chances, **options), clock)
    client.prepare()
    versions, operations = {}, []

    def perform(session, random, key):
        if random.random() < 0.6:
            return session.read(key)
        versions[key] = versions.get(key, 0) + 1
        return session.write(key, Value(versions[key], ""))

    def body(name):
        session, random = client.session(name), Random(name)
        for _ in range(120):
            key = f"k{random.randrange(5)}"
            try:
                answer = perform(session, random, key)
            except MemoryStoreError as error:
                answer = repr(error)
            operations.append((clock.now(), name, key, answer))

    run_sessions(clock, {f"s{number}": lambda name=f"s{number}": body(name) for number in range(12)})
    finals = [client.final(key) for key in sorted(versions)]
    return hashlib.sha256(repr((operations, finals, client.truth.lost())).encode()).hexdigest()

failover = (Outage(0.03, for_s=0.05, takeover_s=0.01),)
print(history("leader", failover, write_acks=2, read_from="follower", lag="lognormal"))
print(history("linearizable", failover))
print(history("quorum", (Outage(0.03, 0.05, node="m2"),), read_acks=2, service="uniform"))
print(history("multi-leader", (Outage(0.03, 0.05, node="b"),)))
"""


def seeded_run(kind: str) -> list[str]:
    run = [sys.executable, "-c", SEEDED_RUN, kind]
    return subprocess.run(run, capture_output=True, text=True, check=True, timeout=60).stdout.split()


def test_a_seeded_run_is_identical_every_time_with_threads_and_with_greenlets() -> None:
    pytest.importorskip("gevent")
    once = seeded_run("threads")
    assert len(set(once)) == 4
    assert seeded_run("threads") == once
    assert seeded_run("greenlets") == once
