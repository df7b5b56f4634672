"""Failover drill: for how long nobody could write, who leads, and what is lost."""

from grafana.panels import RED, YELLOW, Panel, Query
from grafana.queries import NOT_OK, TOTALS, newly, of, peaks, percentile, rate, without_ok
from stalewatch.metrics import families

PANELS = (
    *(
        Panel(
            kind="stat",
            title=f"Without a successful {operation}",
            description=f"Seconds since the newest {operation} that the database confirmed, of all users.",
            unit="s",
            queries=(Query(without_ok(operation)),),
            steps={1.5: YELLOW, 5: RED},
            width=5,
            height=5,
        )
        for operation in ("write", "read")
    ),
    Panel(
        kind="stat",
        title="Not ok",
        description="Operations a second that failed or whose outcome nobody knows.",
        unit="ops",
        queries=(Query(rate(families.OPERATIONS, TOTALS, NOT_OK)),),
        steps={0.1: YELLOW, 10: RED},
        width=5,
        height=5,
    ),
    Panel(
        kind="stat",
        title="Primary changes",
        description="How often another server than before came to take the writes, in this run.",
        unit="short",
        queries=(Query(f"sum({of(families.PRIMARY_CHANGES, TOTALS)})"),),
        width=5,
        height=5,
    ),
    Panel(
        kind="stat",
        title="Lost writes",
        description="Acknowledged writes that the final reads did not find. Known when the run has ended.",
        unit="short",
        queries=(Query(f"max({of(families.LOST_WRITES, TOTALS)})"),),
        steps={1: RED},
        width=4,
        height=5,
    ),
    Panel(
        kind="series",
        title="Time without a successful operation",
        description="Rises by a second a second while nothing succeeds; its peak is the outage, to within a scrape.",
        unit="s",
        queries=tuple(Query(peaks(without_ok(operation)), operation) for operation in ("write", "read")),
        steps={5: RED},
    ),
    Panel(
        kind="series",
        title="Errors by class",
        description="Operations of the last few seconds that were not ok, by the driver's class of error. fail: "
        "certainly not applied. unknown: may have been.",
        unit="short",
        queries=(
            Query(
                newly(families.ERRORS, TOTALS, by="operation, outcome, error"), "{{operation}} {{outcome}}: {{error}}"
            ),
        ),
        stacked=True,
    ),
    Panel(
        kind="timeline",
        title="Who takes the writes",
        description="By the servers' own word, asked every second.",
        unit="short",
        queries=(Query(f"max by (node) ({of(families.PRIMARY, TOTALS)})", "{{node}}"),),
    ),
    Panel(
        kind="timeline",
        title="Who is in service",
        description="Servers that serve and that the others see.",
        unit="short",
        queries=(Query(f"max by (node) ({of(families.NODE_HEALTHY, TOTALS)})", "{{node}}"),),
    ),
    Panel(
        kind="series",
        title="Replication lag by node, and staleness as users saw it",
        description="Solid: how far each server was behind, by its own word. Dashed: how stale the stale reads were "
        "that users saw meanwhile (p95). A lag that users do not see was not read from.",
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
        description="Solid: service time. Dashed: response time, which counts the wait of operations that were due in "
        "the outage (with --rate only).",
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
        description="Guarantees broken a second: what failing over costs beside time.",
        unit="ops",
        queries=(Query(rate(families.VIOLATIONS, TOTALS, by="guarantee"), "{{guarantee}}"),),
    ),
    Panel(
        kind="series",
        title="Operations by outcome",
        description="What was done meanwhile. A partial outage has no gap, but a dent.",
        unit="ops",
        queries=(Query(rate(families.OPERATIONS, TOTALS, by="operation, outcome"), "{{operation}} {{outcome}}"),),
        stacked=True,
    ),
)
