"""Operations per second that one core of a load worker can generate, by database; docs/scale-out.md builds on it.

    python -m benchmarks.per_core [DATABASE ...]     # default: all

The limit of the database, which shares the cores here, is not measured: the figure follows from a worker's CPU time per
operation, with all checks on, from two seconds after its start.
"""

import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.tables import median_and_range, print_table
from stalewatch.clusters.local_clusters import addresses

ROUNDS = 3
SECONDS = 15
USERS = 20
CLASSES = {"mongo": "MongoUser", "cassandra": "CassandraUser", "couch": "CouchUser", "memory": "MemoryUser"}


def main(databases: Sequence[str]) -> None:
    """Print CPU microseconds per operation, and operations per second and core, by database."""
    rows = []
    for database in databases:
        if database != "memory":
            addresses(database, lambda line: print(line, file=sys.stderr))
        costs = [_cost(CLASSES[database]) for _ in range(ROUNDS)]
        rows.append((database, median_and_range(costs), f"{1e6 / statistics.median(costs):,.0f}"))
    print_table("load per core", ("database", "us CPU per operation", "operations/s per core"), rows)


def _cost(users: str) -> float:
    measured = str(Path(__file__).with_name("measured_users.py"))
    load = ("--headless", "--only-summary", "-u", str(USERS), "-r", "100", "-t", f"{SECONDS}s", "--keys", "1000")
    command = [sys.executable, "-m", "locust", "-f", measured, *load, users]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("cpu_us_per_operation: "))
    return float(line.split()[1])


if __name__ == "__main__":
    main(sys.argv[1:] or list(CLASSES))
