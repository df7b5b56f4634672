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
from stalewatch.simulator import errors as memory_errors
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.errors import ERRORS, Disconnected, MemoryStoreError, NoLeader, Refused, Timeout
from stalewatch.simulator.options import TOPOLOGIES, MemoryOptions, Outage
from stalewatch.simulator.simulated_time import SimulatedClock

ALL = pytest.mark.parametrize("topology", TOPOLOGIES)


def opened(options: MemoryOptions) -> MemoryClient:
    client = MemoryClient(options, SimulatedClock())
    client.prepare()
    return client


@ALL
def test_it_is_a_client_like_any_other(topology: str) -> None:
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
def test_preloading_a_key_that_exists_is_an_error_and_creates_nothing(topology: str) -> None:
    client = opened(MemoryOptions(topology=topology))
    client.session("s").write("old", Value(1, "s"))
    with pytest.raises(ClientError, match="'old' exists already"):
        client.preload(["new", "old"], "")
    client.preload(["new"], "")


@pytest.mark.parametrize("topology", ["linearizable", "leader"])
def test_a_write_never_undoes_a_newer_one(topology: str) -> None:
    client = opened(MemoryOptions(topology=topology))
    session = client.session("s")
    superseded = [session.write("k", Value(version, "s")).superseded for version in (2, 1, 2, 3)]
    assert superseded == [False, True, True, False]
    assert (session.read("k").version, client.final("k").version) == (3, 3)


@ALL
def test_a_read_says_what_the_value_depends_on(topology: str) -> None:
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
def test_ids_drawn_from_one_leader_rise(topology: str) -> None:
    session = opened(MemoryOptions(topology=topology)).session("s")
    assert [session.draw("ids").version for _ in range(5)] == [1, 2, 3, 4, 5]


def test_two_leaders_draw_the_same_id_twice() -> None:
    client = opened(MemoryOptions(topology="multi-leader", lag_s=10))
    session = client.session("s")
    ids = [session.draw("ids").version for _ in range(20)]
    assert len(set(ids)) < len(ids)


def test_operations_take_their_service_time() -> None:
    client = opened(MemoryOptions(service="constant", service_s=0.004))
    session, start = client.session("s"), client.clock.now()
    session.read("k")
    session.write("k", Value(1, "s"))
    assert client.clock.now() - start == 8_000_000


def test_a_write_is_acknowledged_when_as_many_nodes_have_it_as_asked() -> None:
    took = {}
    for acks in (1, 2, "majority", "all"):
        client = opened(MemoryOptions(service_s=0.001, service="constant", lag="constant", lag_s=0.1, write_acks=acks))
        start = client.clock.now()
        client.session("s").write("k", Value(1, "s"))
        took[acks] = client.clock.now() - start
    assert took == {1: 1_000_000, 2: 101_000_000, "majority": 101_000_000, "all": 101_000_000}


def test_a_write_that_waits_for_lost_nodes_times_out_though_the_leader_has_it() -> None:
    outages = tuple(Outage(at_s=0, for_s=60, node=node) for node in ("m2", "m3"))
    client = opened(MemoryOptions(write_acks="majority", outages=outages, timeout_s=2))
    start = client.clock.now()
    with pytest.raises(Timeout):
        client.session("s").write("k", Value(1, "s"))
    assert client.clock.now() - start == 2_000_000_000
    assert client.final("k").version == 1


@ALL
def test_an_answer_later_than_the_time_out_is_a_time_out(topology: str) -> None:
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
        with suppress(Refused):
            session.append("list", number)
            accepted.append(number)
    client.clock.sleep(100)
    assert client.final("list").items == accepted
    assert 50 < len(accepted) < 150


@ALL
def test_timed_out_writes_are_sometimes_applied_and_some_of_them_after_the_time_out(topology: str) -> None:
    client = opened(MemoryOptions(topology=topology, timeouts=1, timeouts_applied=0.5, lag_s=0))
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
    client = opened(MemoryOptions(timeouts=1, timeouts_applied=0))
    with pytest.raises(Timeout):
        client.session("s").write("k", Value(1, "s"))
    client.clock.sleep(100)
    assert client.final("k").version == 0


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(Timeout("x"), "unknown"), (Disconnected("x"), "unknown"), (Refused("x"), "fail"), (NoLeader("x"), "fail")],
)
def test_errors_mean_what_the_table_says(error: Exception, outcome: str) -> None:
    assert opened(MemoryOptions()).explain(error).outcome == outcome


def test_every_error_of_the_store_has_a_row_in_the_table_or_a_base_with_one() -> None:
    own = [kind for kind in vars(memory_errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    unmapped = {kind for kind in own if not any(base in ERRORS for base in kind.__mro__)}
    assert unmapped == {MemoryStoreError}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"topology": "ring"}, "no topology 'ring'"),
        ({"replicas": -1}, "-1 replicas"),
        ({"topology": "multi-leader", "replicas": 3}, "has 2 node"),
        ({"topology": "linearizable", "replicas": 3}, "has 1 node"),
        ({"lag": "gauss"}, "no distribution 'gauss' for lag"),
        ({"service_s": -1}, "service_s is -1"),
        ({"lag_s": float("nan")}, "lag_s is nan"),
        ({"timeout_s": 0}, "timeout_s is 0"),
        ({"timeout_s": float("inf")}, "timeout_s is inf"),
        ({"timeouts": 1.5}, "timeouts is 1.5"),
        ({"timeouts": 0.6, "refusals": 0.6}, "more than all"),
        ({"write_acks": 4}, "write_acks is 4"),
        ({"write_acks": "most"}, "write_acks is most"),
        ({"topology": "multi-leader", "write_acks": "all"}, "write_acks is all"),
        ({"read_from": "m9"}, "read_from is 'm9'; for leader: leader, follower, any, m1, m2, m3"),
        ({"topology": "quorum", "read_from": "primary"}, "read_from is 'leader'"),
        ({"topology": "linearizable", "read_from": "secondary"}, "read_from is 'follower'"),
        ({"write_to": "m2"}, "write_to is 'm2'"),
        ({"lag_order": "none"}, "lag_order is 'none'"),
        ({"outages": (Outage(at_s=1, node="m9"),)}, "no node 'm9' to lose"),
        ({"topology": "quorum", "outages": (Outage(at_s=1),)}, "no node 'leader' to lose"),
        ({"outages": (Outage(at_s=-1),)}, "an outage at"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(BadAddress, match="memory store: .*" + re.escape(complaint)):
        MemoryOptions(**options)  # type: ignore[arg-type] # wrong on purpose


def test_operations_that_take_no_time_are_refused_where_time_passes_only_by_operations() -> None:
    with pytest.raises(BadAddress, match="service_s is 0"):
        MemoryClient(MemoryOptions(service_s=0), SimulatedClock())


def test_other_databases_words_for_places_are_understood() -> None:
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
from stalewatch.simulator.errors import MemoryStoreError
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


def test_a_seeded_run_is_the_same_every_time_with_threads_and_with_greenlets() -> None:
    pytest.importorskip("gevent")
    once = seeded_run("threads")
    assert len(set(once)) == 4
    assert seeded_run("threads") == once
    assert seeded_run("greenlets") == once
