"""CPU time per operation of the whole bench, relative to a bare geventhttpclient loop with the same requests.

A write is a GET of the winner and a PUT on its revision, a read is a GET with conflicts. Both run in processes of their
own, alternately, so that noise of the machine affects both alike; the ratio is the median over the pairs. Writes go to
the home leader of each key, because the number of requests that a conflict takes depends on chance.
"""

import sys

from benchmarks.overhead import FULL, last_number, print_overhead
from stalewatch.clusters.local_clusters import addresses

ROUNDS = 5
OPERATIONS = 6_000
USERS = 20

BARE = """
import sys
from gevent import monkey; monkey.patch_all()
import base64, json, random, threading, time, zlib
from urllib.parse import urlsplit
from geventhttpclient import HTTPClient
users, operations = int(sys.argv[3]), int(sys.argv[4])
def client(url):
    parts = urlsplit(url)
    user = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()
    headers = {"Authorization": f"Basic {user}", "Content-Type": "application/json", "Accept": "application/json"}
    return HTTPClient(parts.hostname, parts.port, headers=headers, concurrency=users, network_timeout=5)
leaders = [client(url) for url in sys.argv[1:3]]
def ask(leader, method, path, body=b""):
    answer = leader.request(method, path, body)
    return json.loads(answer.read())
run = f"bare-{time.time_ns()}"
keys = [f"{run}-{n}" for n in range(1000)]
docs = [{"_id": key, "v": 0, "author": ""} for key in keys]
ask(leaders[0], "POST", "/bench/_bulk_docs", json.dumps({"docs": docs}))
def there():
    rows = ask(leaders[1], "POST", "/bench/_all_docs", json.dumps({"keys": keys}))["rows"]
    return not any("error" in row for row in rows)
while not there():
    time.sleep(0.1)
left = [operations]
def work():
    while left[0] > 0:
        left[0] -= 1
        key = keys[int(random.random() * 1000)]
        leader = leaders[zlib.crc32(key.encode()) & 1]
        if random.random() < 0.3:
            while True:
                body = ask(leader, "GET", f"/bench/{key}")
                put = json.dumps({"v": left[0], "author": "s", "_rev": body["_rev"]})
                if "error" not in ask(leader, "PUT", f"/bench/{key}", put):
                    break
        else:
            ask(leader, "GET", f"/bench/{key}?conflicts=true")
threads = [threading.Thread(target=work) for _ in range(users)]
before = time.process_time()
for thread in threads: thread.start()
for thread in threads: thread.join()
print((time.process_time() - before) / operations * 1e6)
rows = ask(leaders[0], "POST", "/bench/_all_docs", json.dumps({"keys": keys}))["rows"]
gone = [{"_id": row["id"], "_rev": row["value"]["rev"], "_deleted": True} for row in rows]
ask(leaders[0], "POST", "/bench/_bulk_docs", json.dumps({"docs": gone}))
"""


def main() -> None:
    """Print both costs, and how they compare."""
    local = addresses("couch", lambda line: print(line, file=sys.stderr))
    urls = [local["couch_a"], local["couch_b"]]
    bare, full = [], []
    for _ in range(ROUNDS):
        bare.append(last_number([sys.executable, "-c", BARE, *urls, str(USERS), str(OPERATIONS)], "stdout"))
        full.append(last_number([sys.executable, "-c", FULL, *_bench(urls)], "stderr"))
    print_overhead("couch", {"bare geventhttpclient": bare}, full)


def _bench(urls: list[str]) -> list[str]:
    return [
        *("couch", "--couch-a", urls[0], "--couch-b", urls[1], "--users", str(USERS), "--ops", str(OPERATIONS)),
        *("--write-to", "home", "--read-from", "same", "--history", "/dev/null"),
    ]


if __name__ == "__main__":
    main()
