"""A program that test_cassandra_gevent.py runs under gevent: `python -m ... killed|one HOSTS`."""

import sys

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402 # must follow the patch
import random  # noqa: E402
import time  # noqa: E402
from collections import Counter  # noqa: E402

import gevent  # noqa: E402
from cassandra.cluster import ResponseFuture, Session  # noqa: E402
from cassandra.pool import Host  # noqa: E402

from stalewatch.clients.cassandra.connection import open_cluster  # noqa: E402
from stalewatch.clients.cassandra.options import CassandraClientOptions  # noqa: E402

KEYSPACE = """CREATE KEYSPACE IF NOT EXISTS greenlets
    WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}"""
SIZES = (0, 10, 5_000, 200_000)
"""Sizes of values in characters: below and above what the driver reads at once, and above what a socket buffers."""

GREENLETS = 40
READS, KILLS = 100, 60
"""The program ends after that many answered reads and that many killed greenlets."""


def query_while_killed(session: Session) -> dict[str, object]:
    """Write and read values of many sizes in greenlets, kill one greenlet after another, and return what they saw."""
    write = session.prepare("INSERT INTO greenlets.kept (k, v) VALUES (?, ?)")
    read = session.prepare("SELECT k, v FROM greenlets.kept WHERE k = ?")
    connections = sorted(id(pool._connection) for pool in session.get_pools())
    found = Counter({"right": 0, "wrong": 0, "killed": 0})
    failed = Counter[str]()

    def query(number: int) -> None:
        while True:
            key = f"{number}-{random.randrange(5)}"  # not a secret
            value = key + "x" * random.choice(SIZES)  # as above
            try:
                session.execute(write, (key, value))
                row = session.execute(read, (key,)).one()
            except Exception as error:  # noqa: BLE001 # counted
                failed[type(error).__name__] += 1
                gevent.sleep(0.05)  # if no node is reachable, no other greenlet would run
                continue
            if row is not None:  # at ONE another replica may have answered; the size is not known
                right = row[0] == key and row[1].startswith(key) and not row[1][len(key) :].strip("x")
                found["right" if right else "wrong"] += 1

    greenlets = [gevent.spawn(query, number) for number in range(GREENLETS)]
    ended = 0
    while found["right"] + found["wrong"] < READS or found["killed"] < KILLS:
        gevent.sleep(random.random() * 0.02)  # not a secret
        before, ended = ended, found["right"] + found["wrong"] + failed.total()
        if ended == before:
            continue  # on a slow machine no greenlet would live until its answer comes
        number = random.randrange(GREENLETS)  # as above
        greenlets[number].kill()
        greenlets[number] = gevent.spawn(query, number)
        found["killed"] += 1
    gevent.killall(greenlets)
    same = connections == sorted(id(pool._connection) for pool in session.get_pools())
    return {**found, "failed": failed, "same_connections": same}


def query_nodes(session: Session, name: str) -> dict[str, object]:
    """Query a node and another one ten times each, concurrently; return how each request ended, and when."""
    hosts = session.cluster.metadata.all_hosts()
    one = next(host for host in hosts if f"{host.endpoint.address}:{host.endpoint.port}" == name)
    other = next(host for host in hosts if host is not one)
    requests = [_send(session, one) for _ in range(10)]
    print("sent", flush=True)
    of_other = _endings([_send(session, other) for _ in range(10)])
    return {"one": _endings(requests), "other": of_other}


def _send(session: Session, host: Host) -> tuple[float, ResponseFuture]:
    return time.monotonic(), session.execute_async("SELECT key FROM system.local", host=host)


def _endings(requests: list[tuple[float, ResponseFuture]]) -> list[tuple[str, float]]:
    endings = []
    for begin, future in requests:
        try:
            future.result()
            ending = "ok"
        except Exception as error:  # noqa: BLE001 # the test checks it
            ending = type(error).__name__
        endings.append((ending, time.monotonic() - begin))
    return endings


def main() -> None:
    """Print results as JSON: of killed greenlets, or of each node named by a line of input."""
    what, hosts = sys.argv[1:]
    cluster = open_cluster(CassandraClientOptions(hosts=hosts, timeout_s=2))
    session = cluster.connect()
    while len(session.get_pool_state()) < len(cluster.metadata.all_hosts()):
        time.sleep(0.05)  # the driver waits only for the first node
    if what == "killed":
        session.execute(KEYSPACE, timeout=30)
        session.execute("CREATE TABLE IF NOT EXISTS greenlets.kept (k text PRIMARY KEY, v text)", timeout=30)
        print(json.dumps(query_while_killed(session)), flush=True)
        return
    while name := gevent.get_hub().threadpool.apply(sys.stdin.readline).strip():
        print(json.dumps(query_nodes(session, name)), flush=True)


if __name__ == "__main__":
    main()
