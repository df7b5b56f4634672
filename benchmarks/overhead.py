"""CPU an operation of the whole bench over a bare pymongo loop with the same concurrency, on the same replica set.

The bare loop has the driver settings that the bench has (a socket time-out alone costs a timer an answer). Both run in
processes of their own, in turns, so that noise of the machine hits both alike; the ratio is the median of the pairs'.
"""

import json
import statistics
import subprocess
import sys

from replication.local.mongo import ensure

ROUNDS = 5
OPERATIONS = 10_000
USERS = 20

BARE = """
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

FULL = """
import sys
from gevent import monkey; monkey.patch_all()
import time
import workloads.runner
load = workloads.runner.Run.load
def timed(self, report):
    before = time.process_time()
    load(self, report)
    print((time.process_time() - before) / self._options.operations * 1e6, file=sys.stderr)
workloads.runner.Run.load = timed
import bench
sys.exit(bench.main(sys.argv[1:]))
"""


def main() -> None:
    """Print both costs and their ratio."""
    uri = ensure(lambda line: print(line, file=sys.stderr))
    bare, full = [], []
    for _ in range(ROUNDS):
        bare.append(_last_number([sys.executable, "-c", BARE, uri, str(USERS), str(OPERATIONS)], "stdout"))
        full.append(_last_number([sys.executable, "-c", FULL, *_bench(uri)], "stderr"))
    ratio = statistics.median(ours / theirs for ours, theirs in zip(full, bare, strict=True))
    extra = statistics.median(ours - theirs for ours, theirs in zip(full, bare, strict=True))
    print(json.dumps({"bare_us": [round(one) for one in bare], "full_us": [round(one) for one in full]}))
    print(
        f"bench over bare pymongo, CPU an operation: x {ratio:.3f} ({extra:+.1f} on {statistics.median(bare):.0f} us)"
    )


def _bench(uri: str) -> list[str]:
    return [
        *("mongo", "--mongo-uri", uri, "--users", str(USERS), "--ops", str(OPERATIONS)),
        *("--read-from", "secondary", "--history", "/dev/null"),
    ]


def _last_number(command: list[str], stream: str) -> float:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(next(line for line in reversed(getattr(done, stream).splitlines()) if line.replace(".", "").isdigit()))


if __name__ == "__main__":
    main()
