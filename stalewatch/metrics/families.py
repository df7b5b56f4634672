"""Every metric family in one table: docs/metrics.md is generated from it, and the dashboards may use no other.

Names lack the prefix. Metrics of a run also have the labels `run` and `database`. No label holds a key, a session or
the text of an error message, so a process has a few hundred series at most.
"""

from typing import Literal, NamedTuple

PREFIX = "stalewatch_"
RUN_LABELS = ("run", "database")

MetricType = Literal["counter", "gauge", "histogram"]
ServedBy = Literal["master and workers", "master", "workers"]


class Family(NamedTuple):
    """One family; `bounds` are the upper bounds of a histogram's buckets, in its unit."""

    name: str
    kind: MetricType
    labels: tuple[str, ...]
    unit: str
    help: str
    bounds: tuple[float, ...] = ()
    served_by: ServedBy = "master and workers"
    of_run: bool = True

    @property
    def label_names(self) -> tuple[str, ...]:
        """All labels."""
        return (*RUN_LABELS, *self.labels) if self.of_run else self.labels

    @property
    def full_name(self) -> str:
        """The name to query, without the suffixes of a histogram."""
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

OPERATIONS = Family(
    "operations",
    "counter",
    ("operation", "outcome"),
    "operations",
    "Reads and writes by outcome: ok, fail (definitely not applied) or unknown (may have been applied).",
)
ERRORS = Family(
    "errors",
    "counter",
    ("operation", "outcome", "error"),
    "operations",
    "Operations that were not ok, by class of error.",
)
LAST_OK = Family(
    "last_ok_timestamp_seconds",
    "gauge",
    ("operation",),
    "seconds",
    "When the newest ok operation ended, in seconds since the epoch.",
)
SERVICE_TIME = Family(
    "service_time_seconds",
    "histogram",
    ("operation",),
    "seconds",
    "Time from request to answer, of ok operations.",
    LATENCY_BOUNDS,
)
RESPONSE_TIME = Family(
    "response_time_seconds",
    "histogram",
    ("operation",),
    "seconds",
    "Time from when an operation was due to its answer, of ok operations in an open loop (--rate).",
    LATENCY_BOUNDS,
)
STALLED_OPERATIONS = Family(
    "stalled_operations",
    "counter",
    (),
    "operations",
    "Ok operations left out of the latencies because their process was stalled while they were in flight.",
)
CHECKED = Family(
    "checked",
    "counter",
    ("guarantee",),
    "operations",
    "Operations on which a guarantee could be checked.",
)
VIOLATIONS = Family(
    "violations",
    "counter",
    ("guarantee",),
    "operations",
    "Operations that violated a guarantee.",
)
STALENESS = Family(
    "staleness_seconds",
    "histogram",
    (),
    "seconds",
    "Of stale reads: how long before the read started a newer write had been acknowledged.",
    STALENESS_BOUNDS,
)
VERSIONS_BEHIND = Family(
    "versions_behind",
    "histogram",
    (),
    "versions",
    "Of stale reads: the newest version acknowledged before the read, minus the version it returned.",
    VERSIONS_BOUNDS,
)
READS_AFTER_WRITE = Family(
    "reads_after_write",
    "counter",
    ("age", "fresh"),
    "operations",
    "Reads that stale_reads checked, by the time since the newest acknowledged write of their key (age: less than so "
    "many seconds, and no less than the next smaller age) and by whether they returned at least that write (fresh).",
    served_by="workers",
)
FRESH_AFTER = Family(
    "fresh_after_seconds",
    "gauge",
    ("percentage",),
    "seconds",
    "How long after a write that percentage of the reads of its key are fresh, with 95 % confidence; no series while "
    "too many reads are stale or too few were checked.",
)
OPEN_CONFLICTS = Family(
    "open_conflicts",
    "gauge",
    (),
    "keys",
    "Keys whose last read returned concurrent versions.",
    served_by="workers",
)
LOST_WRITES = Family(
    "lost_writes",
    "gauge",
    (),
    "operations",
    "Acknowledged writes that the final reads did not find; known at the end of a run.",
    served_by="master",
)
REPLICATION_LAG = Family(
    "replication_lag_seconds",
    "gauge",
    ("node",),
    "seconds",
    "How much older the node's newest write is than the newest write of any node, as reported by the servers.",
    served_by="master",
)
PRIMARY = Family(
    "primary",
    "gauge",
    ("node",),
    "",
    "1 if the node takes writes, else 0.",
    served_by="master",
)
PRIMARY_CHANGES = Family(
    "primary_changes",
    "counter",
    (),
    "elections",
    "How often a different node was found to take writes.",
    served_by="master",
)
NODE_HEALTHY = Family(
    "node_healthy",
    "gauge",
    ("node",),
    "",
    "1 if the node serves requests and the other nodes see it, else 0.",
    served_by="master",
)
FAULT_ACTIVE = Family(
    "fault_active",
    "gauge",
    ("fault", "node"),
    "",
    "1 while a fault is active, 0 after it has ended.",
    served_by="master",
)
SESSIONS = Family(
    "sessions",
    "gauge",
    (),
    "sessions",
    "Active simulated users.",
)
WORKERS = Family(
    "workers",
    "gauge",
    ("state",),
    "workers",
    "Workers of the run by state: running, done, or lost (silent for 10 s).",
    served_by="master",
)
WORKER_STALLS = Family(
    "worker_stalls",
    "counter",
    (),
    "stalls",
    "Stalls of workers that lasted half a second or more.",
    served_by="master",
)
SCHEDULER_LAG = Family(
    "scheduler_lag_seconds",
    "gauge",
    (),
    "seconds",
    "The longest delay of this process's scheduler since the last scrape; operations are delayed by as much.",
    served_by="workers",
    of_run=False,
)
RUN_INFO = Family(
    "run_info",
    "gauge",
    (),
    "",
    "1 for the current run.",
    served_by="master",
)
BUILD_INFO = Family(
    "build_info",
    "gauge",
    ("version",),
    "",
    "1, with the version of stalewatch as a label.",
    of_run=False,
)

FAMILIES = tuple(value for value in tuple(globals().values()) if isinstance(value, Family))
"""Every family, in the order above, which is that of the reference."""
