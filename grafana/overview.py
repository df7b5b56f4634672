"""Overview: throughput, latency and errors."""

from grafana.panels import RED, YELLOW, Panel, Query
from grafana.queries import LOST, NOT_OK, PROCESSES, TOTALS, of, percentiles, rate, ratio
from stalewatch.metrics import families

PANELS = (
    Panel(
        kind="stat",
        title="Throughput",
        description="Operations per second of all workers, whatever their outcome.",
        unit="ops",
        queries=(Query(rate(families.OPERATIONS, TOTALS)),),
        width=5,
        height=4,
    ),
    Panel(
        kind="stat",
        title="Errors",
        description="Share of the operations that failed or whose outcome is unknown.",
        unit="percentunit",
        queries=(Query(f"{rate(families.OPERATIONS, TOTALS, NOT_OK)} / {rate(families.OPERATIONS, TOTALS)}"),),
        steps={0.001: YELLOW, 0.05: RED},
        width=5,
        height=4,
    ),
    Panel(
        kind="stat",
        title="Stale reads",
        description="Share of the checked reads that returned less than the newest acknowledged write.",
        unit="percentunit",
        queries=(Query(ratio("stale_reads")),),
        steps={0.001: YELLOW, 0.05: RED},
        width=5,
        height=4,
    ),
    Panel(
        kind="stat",
        title="Users",
        description="Active simulated users, as counted by the master.",
        unit="short",
        queries=(Query(f"max({of(families.SESSIONS, TOTALS)})"),),
        width=5,
        height=4,
    ),
    Panel(
        kind="stat",
        title="Workers lost",
        description="Workers that have been silent for 10 s: the verdict will be incomplete.",
        unit="short",
        queries=(Query(f"max({of(families.WORKERS, TOTALS, LOST)})"),),
        steps={1: RED},
        width=4,
        height=4,
    ),
    Panel(
        kind="series",
        title="Operations by outcome",
        description="ok: confirmed. fail: definitely not applied. unknown: may have been applied, now or later.",
        unit="ops",
        queries=(Query(rate(families.OPERATIONS, TOTALS, by="operation, outcome"), "{{operation}} {{outcome}}"),),
        stacked=True,
    ),
    Panel(
        kind="series",
        title="Errors by outcome",
        description="Operations per second that were not ok. An outage shows here first.",
        unit="ops",
        queries=(
            Query(rate(families.OPERATIONS, TOTALS, NOT_OK, by="operation, outcome"), "{{operation}} {{outcome}}"),
        ),
        stacked=True,
    ),
    *(
        Panel(
            kind="series",
            title=f"{operation.capitalize()} latency",
            description="Solid: service time, from request to answer. Dashed: response time, from when the operation "
            "was due, which includes how long users wait during an outage (with --rate only).",
            unit="s",
            queries=(
                *percentiles(families.SERVICE_TIME, "service", TOTALS, f'operation="{operation}"'),
                *percentiles(families.RESPONSE_TIME, "response", TOTALS, f'operation="{operation}"'),
            ),
            dashed="/^response/",
            log=True,
        )
        for operation in ("read", "write")
    ),
    Panel(
        kind="series",
        title="Users and workers",
        description="Users as counted by the master, and workers by state.",
        unit="short",
        queries=(
            Query(f"max({of(families.SESSIONS, TOTALS)})", "users"),
            Query(f"max by (state) ({of(families.WORKERS, TOTALS)})", "workers {{state}}"),
        ),
    ),
    Panel(
        kind="series",
        title="CPU by process",
        description="Cores used by each worker and the master. A worker at 1 is saturated: add workers, or you measure "
        "its own queue.",
        unit="short",
        queries=(
            Query(
                f"sum by (worker) (rate(process_cpu_seconds_total{{{PROCESSES}}}[$__rate_interval]))",
                "worker {{worker}}",
            ),
            Query('sum(rate(process_cpu_seconds_total{job="stalewatch"}[$__rate_interval]))', "master"),
        ),
        steps={0.8: RED},
    ),
)
