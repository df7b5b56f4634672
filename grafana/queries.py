"""Query builders that the panels share. Every metric name comes from the table of families."""

from collections.abc import Iterable

from grafana.panels import Query
from stalewatch.metrics import families
from stalewatch.metrics.families import Family

RUN = 'run=~"$run",database=~"$database"'
TOTALS = f'job="stalewatch",{RUN}'
"""Series of the master: they are the verdict's, and do not fall when a worker leaves."""
WORKERS = f'job="stalewatch-workers",{RUN},worker=~"$worker"'
PROCESSES = 'job="stalewatch-workers",worker=~"$worker"'
RATE = "[$__rate_interval]"

LOST, RUNNING = 'state="lost"', 'state="running"'
NOT_OK = 'outcome!="ok"'
NOT_FRESH, AGED = 'fresh="false"', 'age!="+Inf"'

PERCENTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


def of(family: Family, *matchers: str) -> str:
    """Return a selector of a family's series."""
    return f"{family.full_name}{{{','.join(matchers)}}}"


def rate(family: Family, *matchers: str, by: str = "") -> str:
    """Return a counter's rate per second, summed."""
    return f"sum{f' by ({by})' if by else ''} (rate({of(family, *matchers)}{RATE}))"


def ratio(guarantee: str) -> str:
    """Return the share of the checked operations that violated a guarantee, over the rate interval."""
    which = f'guarantee="{guarantee}"'
    return f"{rate(families.VIOLATIONS, TOTALS, which)} / ({rate(families.CHECKED, TOTALS, which)} > 0)"


def percentile(family: Family, share: float, *matchers: str) -> str:
    """Return a percentile of a histogram, over the rate interval."""
    buckets = f"{family.full_name}_bucket{{{','.join(matchers)}}}"
    return f"histogram_quantile({share}, sum by (le) (rate({buckets}{RATE})))"


def percentiles(family: Family, legend: str, *matchers: str) -> Iterable[Query]:
    """Yield one query for each percentile."""
    for name, share in PERCENTILES:
        yield Query(percentile(family, share, *matchers), f"{legend} {name}")


def seconds_without_ok(operation: str) -> str:
    """Return for how many seconds no operation of this kind has succeeded; 0 if no users are active.

    The newest success counts, whether the master or a worker reports it.
    """
    which = f'operation="{operation}"'
    since = f"(time() - max({of(families.LAST_OK, RUN, which)}))"
    return f"{since} * (max({of(families.SESSIONS, TOTALS)}) > bool 0)"


def peaks(expr: str) -> str:
    """Return the highest value within each step: the peak of an outage can fall between two points of a chart."""
    return f"max_over_time(({expr})[$__interval:200ms])"


def increase(family: Family, *matchers: str, by: str) -> str:
    """Return the increase of a counter over the rate interval, including the first value of a new series.

    Prometheus' own `increase` treats a new series' first value as its zero, and so misses the first error of a class,
    which is what a failover shows first.
    """
    series = of(family, *matchers)
    return f"sum by ({by}) ({series} - {series} offset $__rate_interval or {series})"
