"""Every metric family, in one table: docs/metrics.md is made of it, and the dashboards may name no other.

Names lack the prefix. What a run counts carries the labels `run` and `database` beside those of its row. There is no
key, session or text of an error's message in a label, so that a process has a few hundred series at the most.
"""

from typing import Literal, NamedTuple

PREFIX = "stalewatch_"
RUN_LABELS = ("run", "database")

Kind = Literal["counter", "gauge", "histogram"]
ServedBy = Literal["master and workers", "master", "workers"]


class Family(NamedTuple):
    """One family; `bounds` are the upper bounds of a histogram's buckets, in its unit."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    unit: str
    served_by: ServedBy
    help: str
    bounds: tuple[float, ...] = ()
    of_a_run: bool = True

    @property
    def label_names(self) -> tuple[str, ...]:
        """All of its labels."""
        return (*RUN_LABELS, *self.labels) if self.of_a_run else self.labels

    @property
    def full_name(self) -> str:
        """The name under which its samples are asked for, without a histogram's suffixes."""
        return f"{PREFIX}{self.name}{'_total' if self.kind == 'counter' else ''}"


LATENCY_BOUNDS = (
    *(0.0005, 0.001, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075),
    *(0.1, 0.15, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0),
)
STALENESS_BOUNDS = (
    *(0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0),
)
VERSIONS_BOUNDS = (1, 2, 3, 5, 10, 20, 50, 100, 1000)
AGE_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Where the ages of `reads_after_write` end; the last group has no end."""

OPERATIONS = Family(
    "operations",
    "counter",
    ("operation", "outcome"),
    "operations",
    "master and workers",
    "Reads and writes by how they ended: ok, fail (certainly not applied), unknown (may have been applied).",
)
ERRORS = Family(
    "errors",
    "counter",
    ("operation", "outcome", "error"),
    "operations",
    "master and workers",
    "Operations that were not ok, by the class of the error.",
)
SERVICE_TIME = Family(
    "service_time_seconds",
    "histogram",
    ("operation",),
    "seconds",
    "master and workers",
    "From request to answer, of ok operations.",
    LATENCY_BOUNDS,
)
RESPONSE_TIME = Family(
    "response_time_seconds",
    "histogram",
    ("operation",),
    "seconds",
    "master and workers",
    "From when the operation was due to the answer, of ok operations in an open loop (--rate).",
    LATENCY_BOUNDS,
)
STALLED_OPERATIONS = Family(
    "stalled_operations",
    "counter",
    (),
    "operations",
    "master and workers",
    "Ok operations whose times are left out, since their process stood still while they were under way.",
)
CHECKED = Family(
    "checked",
    "counter",
    ("guarantee",),
    "operations",
    "master and workers",
    "Operations that a guarantee had something to say about.",
)
VIOLATIONS = Family(
    "violations",
    "counter",
    ("guarantee",),
    "operations",
    "master and workers",
    "Operations that broke a guarantee.",
)
STALENESS = Family(
    "staleness_seconds",
    "histogram",
    (),
    "seconds",
    "master and workers",
    "Of stale reads: for how long, when the read started, something newer had been acknowledged.",
    STALENESS_BOUNDS,
)
VERSIONS_BEHIND = Family(
    "versions_behind",
    "histogram",
    (),
    "versions",
    "master and workers",
    "Of stale reads: the newest version acknowledged before the read, minus the one it showed.",
    VERSIONS_BOUNDS,
)
LAST_OK = Family(
    "last_ok_timestamp_seconds",
    "gauge",
    ("operation",),
    "seconds",
    "master and workers",
    "When the newest ok operation ended, in seconds since the epoch.",
)
SESSIONS = Family(
    "sessions",
    "gauge",
    (),
    "sessions",
    "master and workers",
    "Simulated users at work.",
)
RUN_INFO = Family(
    "run_info",
    "gauge",
    (),
    "",
    "master",
    "1 for the run that is shown.",
)
LOST_WRITES = Family(
    "lost_writes",
    "gauge",
    (),
    "operations",
    "master",
    "Acknowledged writes that the final reads did not find; known at the end of a run.",
)
WORKERS = Family(
    "workers",
    "gauge",
    ("state",),
    "workers",
    "master",
    "Workers of the run: running, done, or lost (silent for 10 s).",
)
WORKER_STALLS = Family(
    "worker_stalls",
    "counter",
    (),
    "stalls",
    "master",
    "How often a worker stood still for half a second or more.",
)
REPLICATION_LAG = Family(
    "replication_lag_seconds",
    "gauge",
    ("node",),
    "seconds",
    "master",
    "By how much a node's newest write is older than the newest of all nodes, by the servers' own word.",
)
PRIMARY = Family(
    "primary",
    "gauge",
    ("node",),
    "",
    "master",
    "1 where the node takes the writes, else 0.",
)
NODE_HEALTHY = Family(
    "node_healthy",
    "gauge",
    ("node",),
    "",
    "master",
    "1 where the node serves and the others see it, else 0.",
)
PRIMARY_CHANGES = Family(
    "primary_changes",
    "counter",
    (),
    "elections",
    "master",
    "How often another node than before was found to take the writes.",
)
FAULT_ACTIVE = Family(
    "fault_active",
    "gauge",
    ("fault", "node"),
    "",
    "master",
    "1 while a fault is on, 0 once it has ended.",
)
READS_AFTER_WRITE = Family(
    "reads_after_write",
    "counter",
    ("age", "fresh"),
    "operations",
    "workers",
    "Ok reads of a key that was written, by the time from the newest acknowledged write to the read's start (age: up "
    "to so many seconds), and by whether they showed at least that write (fresh).",
)
OPEN_CONFLICTS = Family(
    "open_conflicts",
    "gauge",
    (),
    "keys",
    "workers",
    "Keys whose last read showed concurrent versions side by side.",
)
SCHEDULER_LAG = Family(
    "scheduler_lag_seconds",
    "gauge",
    (),
    "seconds",
    "workers",
    "The longest that this process's scheduler was late since the last scrape; operations wait for as long.",
    of_a_run=False,
)
BUILD_INFO = Family(
    "build_info",
    "gauge",
    ("version",),
    "",
    "master and workers",
    "1, with the version of stalewatch.",
    of_a_run=False,
)

FAMILIES: tuple[Family, ...] = (
    OPERATIONS,
    ERRORS,
    LAST_OK,
    SERVICE_TIME,
    RESPONSE_TIME,
    STALLED_OPERATIONS,
    CHECKED,
    VIOLATIONS,
    STALENESS,
    VERSIONS_BEHIND,
    READS_AFTER_WRITE,
    OPEN_CONFLICTS,
    LOST_WRITES,
    REPLICATION_LAG,
    PRIMARY,
    PRIMARY_CHANGES,
    NODE_HEALTHY,
    FAULT_ACTIVE,
    SESSIONS,
    WORKERS,
    WORKER_STALLS,
    SCHEDULER_LAG,
    RUN_INFO,
    BUILD_INFO,
)
"""Every family, in the order in which one looks at them."""
