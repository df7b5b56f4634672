"""A program for tests of the driver's event loop under gevent: `python -m ... killed|one HOSTS`."""

import sys

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402 # after the patch
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
"""Of values, in letters: less than the driver reads at a time, more, and more than a socket takes at once."""

ASKING = 40
ASKING_S = 6.0


def ask_and_be_killed(session: Session) -> dict[str, object]:
    """Let greenlets write and read values of many sizes, and kill one after another in the middle of that."""
    write = session.prepare("INSERT INTO greenlets.kept (k, v) VALUES (?, ?)")
    read = session.prepare("SELECT k, v FROM greenlets.kept WHERE k = ?")
    connections = sorted(id(pool._connection) for pool in session.get_pools())
    found = Counter({"right": 0, "wrong": 0, "killed": 0})
    failed = Counter[str]()

    def ask(number: int) -> None:
        while True:
            key = f"{number}-{random.randrange(5)}"  # no secret
            value = key + "x" * random.choice(SIZES)  # as above
            try:
                session.execute(write, (key, value))
                row = session.execute(read, (key,)).one()
            except Exception as error:  # noqa: BLE001 # counted
                failed[type(error).__name__] += 1
                gevent.sleep(0.05)  # where no node can be asked, nothing else would come to its turn
                continue
            if row is not None:  # at ONE another replica may have been asked; and which size it is nobody can tell
                right = row[0] == key and row[1].startswith(key) and not row[1][len(key) :].strip("x")
                found["right" if right else "wrong"] += 1

    greenlets = [gevent.spawn(ask, number) for number in range(ASKING)]
    end = time.monotonic() + ASKING_S
    while time.monotonic() < end:
        gevent.sleep(random.random() * 0.02)  # no secret
        number = random.randrange(ASKING)  # as above
        greenlets[number].kill()
        greenlets[number] = gevent.spawn(ask, number)
        found["killed"] += 1
    gevent.killall(greenlets)
    same = connections == sorted(id(pool._connection) for pool in session.get_pools())
    return {**found, "failed": failed, "same_connections": same}


def ask_one_node(session: Session, name: str) -> dict[str, object]:
    """Ask that node and another one ten times each, all at once; say how the requests ended, and after how long."""
    hosts = session.cluster.metadata.all_hosts()
    one = next(host for host in hosts if f"{host.endpoint.address}:{host.endpoint.port}" == name)
    other = next(host for host in hosts if host is not one)
    asked = [_asked(session, one) for _ in range(10)]
    print("asked", flush=True)
    of_other = _endings([_asked(session, other) for _ in range(10)])
    return {"one": _endings(asked), "other": of_other}


def _asked(session: Session, host: Host) -> tuple[float, ResponseFuture]:
    return time.monotonic(), session.execute_async("SELECT key FROM system.local", host=host)


def _endings(asked: list[tuple[float, ResponseFuture]]) -> list[tuple[str, float]]:
    endings = []
    for begin, future in asked:
        try:
            future.result()
            ending = "ok"
        except Exception as error:  # noqa: BLE001 # it is what the test asks for
            ending = type(error).__name__
        endings.append((ending, time.monotonic() - begin))
    return endings


def main() -> None:
    """Print what was found as JSON: of the greenlets that are killed, or of each node that a line of input names."""
    what, hosts = sys.argv[1:]
    cluster = open_cluster(CassandraClientOptions(hosts=hosts, timeout_s=2))
    session = cluster.connect()
    while len(session.get_pool_state()) < len(cluster.metadata.all_hosts()):
        time.sleep(0.05)  # the driver goes on when it has reached one node
    if what == "killed":
        session.execute(KEYSPACE, timeout=30)
        session.execute("CREATE TABLE IF NOT EXISTS greenlets.kept (k text PRIMARY KEY, v text)", timeout=30)
        print(json.dumps(ask_and_be_killed(session)), flush=True)
        return
    while name := gevent.get_hub().threadpool.apply(sys.stdin.readline).strip():
        print(json.dumps(ask_one_node(session, name)), flush=True)


if __name__ == "__main__":
    main()
