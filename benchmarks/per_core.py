"""How many operations a second one core of load carries on each database: what docs/scale-out.md multiplies.

    python -m benchmarks.per_core [DATABASE ...]     # default: all

Not how many the database carries, which has the same cores here: it is reckoned from the CPU that a worker spends on an
operation, with all checks on, from two seconds after its start.
"""

import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from stalewatch.clusters.local_clusters import addresses

ROUNDS = 3
SECONDS = 15
USERS = 20
CLASSES = {"mongo": "MongoUser", "cassandra": "CassandraUser", "couch": "CouchUser", "memory": "MemoryUser"}


def main(databases: Sequence[str]) -> None:
    """Print the CPU an operation, and operations a second for a core, by database."""
    for database in databases:
        if database != "memory":
            addresses(database, lambda line: print(line, file=sys.stderr))
        costs = [_cost(CLASSES[database]) for _ in range(ROUNDS)]
        cost = statistics.median(costs)
        print(f"{database}: {cost:.0f} us an operation ({min(costs):.0f}-{max(costs):.0f}), {1e6 / cost:.0f}/s a core")


def _cost(users: str) -> float:
    measured = str(Path(__file__).with_name("measured_users.py"))
    load = ("--headless", "--only-summary", "-u", str(USERS), "-r", "100", "-t", f"{SECONDS}s", "--keys", "1000")
    command = [sys.executable, "-m", "locust", "-f", measured, *load, users]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("cpu_us_per_operation: "))
    return float(line.split()[1])


if __name__ == "__main__":
    main(sys.argv[1:] or list(CLASSES))
