"""CPU time per operation of the bench, relative to a bare driver loop of the same concurrency on the same servers.

    python -m benchmarks.overhead [mongo|cassandra] ...

The bare loop uses the bench's driver settings (a socket time-out alone costs a timer per answer). All run in processes
of their own, alternately, so that noise of the machine affects all alike; a ratio is the median over the pairs.

cassandra-driver's own event loop costs more than ours (`stalewatch.clients.cassandra.event_loop`). So there are two
bare loops: the driver as it comes, and the driver with our event loop, which shows what the rest of the bench costs.
"""

import subprocess
import sys
from collections.abc import Mapping
from typing import NamedTuple

from benchmarks.tables import median_and_range, median_difference, median_ratio, print_table
from stalewatch.clusters.local_clusters import addresses

ROUNDS = 5
OPERATIONS = 10_000
USERS = 20

MONGO = """
import sys
from gevent import monkey; monkey.patch_all()
import threading, time, resource, random
import pymongo
from pymongo.read_preferences import ReadPreference
uri, users, operations = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
client = pymongo.MongoClient(uri, retryReads=False, retryWrites=False, w=1, wTimeoutMS=1800, maxPoolSize=40,
    socketTimeoutMS=2000, serverSelectionTimeoutMS=2000, waitQueueTimeoutMS=2000, connectTimeoutMS=1000,
    heartbeatFrequencyMS=1000)
writes = client.bench.bare
reads = writes.with_options(read_preference=ReadPreference.SECONDARY)
keys = [f"bare-{n}" for n in range(1000)]
writes.delete_many({})
writes.with_options(write_concern=pymongo.WriteConcern("majority")).insert_many(
    [{"_id": key, "d": {"v": 0, "author": ""}} for key in keys])
left, newest = [operations], [0]  # one counter: a $max below what stands writes nothing, and costs less
def work():
    while left[0] > 0:
        left[0] -= 1
        key = keys[int(random.random() * 1000)]
        if random.random() < 0.3:
            newest[0] += 1
            writes.update_one({"_id": key}, {"$max": {"d": {"v": newest[0], "author": "s"}}})
        else:
            list(reads.find({"_id": key}, limit=-1))
threads = [threading.Thread(target=work) for _ in range(users)]
before = time.process_time()
for thread in threads: thread.start()
for thread in threads: thread.join()
print((time.process_time() - before) / operations * 1e6)
writes.drop()
"""

CASSANDRA = """
import sys
from gevent import monkey; monkey.patch_all()
import threading, time, random
from cassandra import ConsistencyLevel
from cassandra.cluster import Cluster, ExecutionProfile, EXEC_PROFILE_DEFAULT
from cassandra.policies import ConstantReconnectionPolicy, FallthroughRetryPolicy, RoundRobinPolicy
from cassandra.query import tuple_factory
hosts, users, operations = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
loop = {}
if sys.argv[4:] == ["ours"]:
    from stalewatch.clients.cassandra.event_loop import GreenletConnection
    loop["connection_class"] = GreenletConnection
points = [(host, int(port)) for host, port in (one.split(":") for one in hosts.split(","))]
profile = ExecutionProfile(load_balancing_policy=RoundRobinPolicy(), retry_policy=FallthroughRetryPolicy(),
    request_timeout=3.0, row_factory=tuple_factory)
cluster = Cluster(points, execution_profiles={EXEC_PROFILE_DEFAULT: profile}, idle_heartbeat_interval=5.0,
    reconnection_policy=ConstantReconnectionPolicy(0.5, None), schema_metadata_enabled=False,
    token_metadata_enabled=False, **loop)
session = cluster.connect()
session.use_client_timestamp = False
session.execute("CREATE TABLE IF NOT EXISTS bench.bare (k text PRIMARY KEY, "
    "d frozen<tuple<bigint, text, text, bigint, text, text>>) WITH speculative_retry = 'NEVER'", timeout=30)
cluster.control_connection.wait_for_schema_agreement(wait_time=20)
write = session.prepare("INSERT INTO bench.bare (k, d) VALUES (?, ?) USING TIMESTAMP ?")
read = session.prepare("SELECT d FROM bench.bare WHERE k = ?")
write.consistency_level = read.consistency_level = ConsistencyLevel.ONE
keys = [f"bare-{n}" for n in range(1000)]
for key in keys: session.execute(write, (key, (0, "", None, None, None, None), time.time_ns() // 1000))
left, newest = [operations], [0]
def work():
    while left[0] > 0:
        left[0] -= 1
        key = keys[int(random.random() * 1000)]
        if random.random() < 0.3:
            newest[0] += 1
            value = (newest[0], "s", None, None, None, None)
            session.execute_async(write, (key, value, time.time_ns() // 1000)).result()
        else:
            session.execute_async(read, (key,)).result().one()
threads = [threading.Thread(target=work) for _ in range(users)]
before = time.process_time()
for thread in threads: thread.start()
for thread in threads: thread.join()
print((time.process_time() - before) / operations * 1e6)
"""

FULL = """
import sys
from gevent import monkey; monkey.patch_all()
import time
from stalewatch.engine.process_run import ThreadedLoad
perform = ThreadedLoad.perform
def timed(self, report):
    before = time.process_time()
    perform(self, report)
    print((time.process_time() - before) / self._options.operations * 1e6, file=sys.stderr)
ThreadedLoad.perform = timed
from stalewatch.commands.main import main
sys.exit(main(["bench", *sys.argv[1:]], prog="bench.py"))
"""


class Subject(NamedTuple):
    """A database to measure: its local cluster, the bare loop, variants of it by name, and arguments of the bench."""

    option: str
    bare: str
    variants: Mapping[str, tuple[str, ...]]
    bench: tuple[str, ...]


SUBJECTS = {
    "mongo": Subject("mongo_uri", MONGO, {"the bare driver": ()}, ("--read-from", "secondary", "--mongo-uri")),
    "cassandra": Subject(
        "hosts",
        CASSANDRA,
        {"the bare driver": (), "the bare driver with our event loop": ("ours",)},
        ("--write-cl", "ONE", "--read-cl", "ONE", "--hosts"),
    ),
}


def main() -> None:
    """Print the costs and ratios of each database."""
    for database in sys.argv[1:] or SUBJECTS:
        measure(database, SUBJECTS[database])


def measure(database: str, subject: Subject) -> None:
    """Print the CPU time per operation of the bare loops and the bench for one database, and the ratios."""
    address = addresses(database, lambda line: print(line, file=sys.stderr))[subject.option]
    load = ("--users", str(USERS), "--ops", str(OPERATIONS), "--history", "/dev/null")
    whole = [sys.executable, "-c", FULL, database, *subject.bench, address, *load]
    subprocess.run(whole, capture_output=True, check=True)  # warms up the servers, and creates the keyspace
    bare: dict[str, list[float]] = {name: [] for name in subject.variants}
    full: list[float] = []
    for _ in range(ROUNDS):
        for name, variant in subject.variants.items():
            loop = [sys.executable, "-c", subject.bare, address, str(USERS), str(OPERATIONS), *variant]
            bare[name].append(last_number(loop, "stdout"))
        full.append(last_number(whole, "stderr"))
    print_overhead(database, bare, full)


def print_overhead(database: str, bare: Mapping[str, list[float]], full: list[float]) -> None:
    """Print the costs of the bare loops, by name, and of the bench in microseconds, and how they compare."""
    rows = [
        (name, median_and_range(costs), f"{median_difference(full, costs):+.1f}", f"x {median_ratio(full, costs):.3f}")
        for name, costs in bare.items()
    ]
    rows.append(("bench", median_and_range(full), "", ""))
    columns = ("loop", "us CPU per operation", "bench adds, us", "bench / loop")
    print_table(f"bench over a bare loop: {database}", columns, rows)


def last_number(command: list[str], stream: str) -> float:
    """Run a program, and return the last number that it printed on a line of its own."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(next(line for line in reversed(getattr(done, stream).splitlines()) if line.replace(".", "").isdigit()))


if __name__ == "__main__":
    main()
