"""Workers: whether the load generator itself keeps up."""

from grafana.panels import RED, YELLOW, Panel, Query
from grafana.queries import LOST, PROCESSES, RATE, RUNNING, TOTALS, WORKERS, of, percentile, rate
from stalewatch.metrics import families

_BY_WORKER = "worker {{worker}}"

PANELS = (
    Panel(
        kind="stat",
        title="Workers running",
        description="Workers of the run that have not finished.",
        unit="short",
        queries=(Query(f"max({of(families.WORKERS, TOTALS, RUNNING)})"),),
        width=6,
        height=4,
    ),
    Panel(
        kind="stat",
        title="Workers lost",
        description="Workers that have been silent for 10 s: the verdict will be incomplete.",
        unit="short",
        queries=(Query(f"max({of(families.WORKERS, TOTALS, LOST)})"),),
        steps={1: RED},
        width=6,
        height=4,
    ),
    Panel(
        kind="stat",
        title="Stalls",
        description="Stalls of workers in this run that lasted half a second or more.",
        unit="short",
        queries=(Query(f"max({of(families.WORKER_STALLS, TOTALS)})"),),
        steps={1: YELLOW},
        width=6,
        height=4,
    ),
    Panel(
        kind="stat",
        title="Operations without a latency",
        description="Ok operations left out of the latencies because their worker was stalled meanwhile.",
        unit="short",
        queries=(Query(f"max({of(families.STALLED_OPERATIONS, TOTALS)})"),),
        steps={1: YELLOW},
        width=6,
        height=4,
    ),
    Panel(
        kind="series",
        title="Scheduler lag",
        description="The longest delay of a worker's scheduler between two scrapes. Latencies may be too high by as "
        "much: above about 20 ms, add workers.",
        unit="s",
        queries=(Query(f"max by (worker) ({of(families.SCHEDULER_LAG, PROCESSES)})", _BY_WORKER),),
        steps={0.02: YELLOW, 0.5: RED},
    ),
    Panel(
        kind="series",
        title="CPU",
        description="Cores used by each worker. A worker at 1 is saturated.",
        unit="short",
        queries=(Query(f"sum by (worker) (rate(process_cpu_seconds_total{{{PROCESSES}}}{RATE}))", _BY_WORKER),),
        steps={0.8: RED},
    ),
    Panel(
        kind="series",
        title="Share of the load",
        description="Each worker's share of all operations: even, unless a worker is slower than the others.",
        unit="percentunit",
        queries=(
            Query(
                f"{rate(families.OPERATIONS, WORKERS, by='worker')} / scalar({rate(families.OPERATIONS, WORKERS)})",
                _BY_WORKER,
            ),
        ),
        stacked=True,
        maximum=1,
    ),
    Panel(
        kind="series",
        title="Operations",
        description="Operations per second of each worker.",
        unit="ops",
        queries=(Query(rate(families.OPERATIONS, WORKERS, by="worker"), _BY_WORKER),),
        stacked=True,
    ),
    Panel(
        kind="series",
        title="Service time p95 by worker",
        description="A worker that differs from the others is slow itself, or far from the database.",
        unit="s",
        queries=(
            Query(
                percentile(families.SERVICE_TIME, 0.95, WORKERS).replace("sum by (le)", "sum by (worker, le)"),
                _BY_WORKER,
            ),
        ),
    ),
    Panel(
        kind="series",
        title="Users by worker",
        description="Active simulated users of each worker.",
        unit="short",
        queries=(Query(f"sum by (worker) ({of(families.SESSIONS, WORKERS)})", _BY_WORKER),),
        stacked=True,
    ),
    Panel(
        kind="series",
        title="Memory",
        description="Resident memory of each worker and the master. It is bounded by keys, sessions and gaps.",
        unit="bytes",
        queries=(
            Query(f"max by (worker) (process_resident_memory_bytes{{{PROCESSES}}})", _BY_WORKER),
            Query('max(process_resident_memory_bytes{job="stalewatch"})', "master"),
        ),
    ),
    Panel(
        kind="series",
        title="Scrapes",
        description="How long Prometheus takes to scrape each process. A scrape blocks a worker for less than this.",
        unit="s",
        queries=(
            Query(f"max by (worker) (scrape_duration_seconds{{{PROCESSES}}})", _BY_WORKER),
            Query('max(scrape_duration_seconds{job="stalewatch"})', "master"),
        ),
    ),
)
