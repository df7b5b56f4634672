"""Failover drill: how long writes were unavailable, which node is primary, and what was lost."""

from grafana.panels import RED, YELLOW, Panel, Query
from grafana.queries import NOT_OK, TOTALS, increase, of, peaks, percentile, rate, seconds_without_ok
from stalewatch.metrics import families

PANELS = (
    *(
        Panel(
            kind="stat",
            title=f"Time since the last successful {operation}",
            description=f"Seconds since the database last confirmed a {operation} of any user.",
            unit="s",
            queries=(Query(seconds_without_ok(operation)),),
            steps={1.5: YELLOW, 5: RED},
            width=5,
            height=5,
        )
        for operation in ("write", "read")
    ),
    Panel(
        kind="stat",
        title="Failed or unknown",
        description="Operations per second that failed or whose outcome is unknown.",
        unit="ops",
        queries=(Query(rate(families.OPERATIONS, TOTALS, NOT_OK)),),
        steps={0.1: YELLOW, 10: RED},
        width=5,
        height=5,
    ),
    Panel(
        kind="stat",
        title="Primary changes",
        description="How often a different node became primary in this run.",
        unit="short",
        queries=(Query(f"sum({of(families.PRIMARY_CHANGES, TOTALS)})"),),
        width=5,
        height=5,
    ),
    Panel(
        kind="stat",
        title="Lost writes",
        description="Acknowledged writes that the final reads did not find. Known at the end of the run.",
        unit="short",
        queries=(Query(f"max({of(families.LOST_WRITES, TOTALS)})"),),
        steps={1: RED},
        width=4,
        height=5,
    ),
    Panel(
        kind="series",
        title="Time without a successful operation",
        description="Rises steadily while nothing succeeds. Its peak is the length of the outage, to within a scrape.",
        unit="s",
        queries=tuple(Query(peaks(seconds_without_ok(operation)), operation) for operation in ("write", "read")),
        steps={5: RED},
    ),
    Panel(
        kind="series",
        title="Errors by class",
        description="Operations of the last few seconds that were not ok, by the driver's class of error. fail: "
        "definitely not applied. unknown: may have been applied.",
        unit="short",
        queries=(
            Query(
                increase(families.ERRORS, TOTALS, by="operation, outcome, error"),
                "{{operation}} {{outcome}}: {{error}}",
            ),
        ),
        stacked=True,
    ),
    Panel(
        kind="timeline",
        title="Primary",
        description="The node that takes writes, as reported by the servers every second.",
        unit="short",
        queries=(Query(f"max by (node) ({of(families.PRIMARY, TOTALS)})", "{{node}}"),),
    ),
    Panel(
        kind="timeline",
        title="Healthy nodes",
        description="Nodes that serve requests and that the other nodes see.",
        unit="short",
        queries=(Query(f"max by (node) ({of(families.NODE_HEALTHY, TOTALS)})", "{{node}}"),),
    ),
    Panel(
        kind="series",
        title="Replication lag by node, and staleness seen by users",
        description="Solid: how far each node was behind, as reported by the servers. Dashed: how stale the stale "
        "reads of users were (p95). If a node lags but users see no staleness, they did not read from it.",
        unit="s",
        queries=(
            Query(f"max by (node) ({of(families.REPLICATION_LAG, TOTALS)})", "lag {{node}}"),
            Query(percentile(families.STALENESS, 0.95, TOTALS), "staleness p95"),
        ),
        dashed="/^staleness/",
    ),
    Panel(
        kind="series",
        title="Latency p99",
        description="Solid: service time. Dashed: response time, which includes the wait of operations that were due "
        "during the outage (with --rate only).",
        unit="s",
        queries=tuple(
            Query(percentile(family, 0.99, TOTALS, f'operation="{operation}"'), f"{name} {operation}")
            for name, family in (("service", families.SERVICE_TIME), ("response", families.RESPONSE_TIME))
            for operation in ("read", "write")
        ),
        dashed="/^response/",
        log=True,
    ),
    Panel(
        kind="series",
        title="Violations",
        description="Operations per second that violated a guarantee: what a failover costs apart from time.",
        unit="ops",
        queries=(Query(rate(families.VIOLATIONS, TOTALS, by="guarantee"), "{{guarantee}}"),),
    ),
    Panel(
        kind="series",
        title="Operations by outcome",
        description="Operations per second. A partial outage shows as a dent rather than a gap.",
        unit="ops",
        queries=(Query(rate(families.OPERATIONS, TOTALS, by="operation, outcome"), "{{operation}} {{outcome}}"),),
        stacked=True,
    ),
)
