"""Parts of queries that several panels share. Every name of a metric comes from the table of families."""

from collections.abc import Iterable

from grafana.panels import Query
from stalewatch.metrics import families
from stalewatch.metrics.families import Family

RUN = 'run=~"$run",database=~"$database"'
TOTALS = f'job="stalewatch",{RUN}'
"""The master's: they are the verdict's, and do not fall when a worker leaves."""
WORKERS = f'job="stalewatch-workers",{RUN},worker=~"$worker"'
PROCESSES = 'job="stalewatch-workers",worker=~"$worker"'
RATE = "[$__rate_interval]"

LOST, RUNNING = 'state="lost"', 'state="running"'
NOT_OK = 'outcome!="ok"'
NOT_FRESH, AGED = 'fresh="false"', 'age!="+Inf"'

PERCENTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


def of(family: Family, *matchers: str) -> str:
    """Return the selector of a family's series."""
    return f"{family.full_name}{{{','.join(matchers)}}}"


def rate(family: Family, *matchers: str, by: str = "") -> str:
    """Return how much a second a counter rises, summed up."""
    return f"sum{f' by ({by})' if by else ''} (rate({of(family, *matchers)}{RATE}))"


def ratio(guarantee: str) -> str:
    """Return the share of the checked operations that broke a guarantee, within the rate's interval."""
    which = f'guarantee="{guarantee}"'
    return f"{rate(families.VIOLATIONS, TOTALS, which)} / ({rate(families.CHECKED, TOTALS, which)} > 0)"


def percentile(family: Family, share: float, *matchers: str) -> str:
    """Return a percentile of a histogram, within the rate's interval."""
    buckets = f"{family.full_name}_bucket{{{','.join(matchers)}}}"
    return f"histogram_quantile({share}, sum by (le) (rate({buckets}{RATE})))"


def percentiles(family: Family, legend: str, *matchers: str) -> Iterable[Query]:
    """Yield a query a percentile."""
    for name, share in PERCENTILES:
        yield Query(percentile(family, share, *matchers), f"{legend} {name}")


def without_ok(operation: str) -> str:
    """Return for how many seconds no operation of that kind has succeeded, 0 where no user is at work.

    Of master and workers whoever knows of the newest success is believed.
    """
    which = f'operation="{operation}"'
    since = f"(time() - max({of(families.LAST_OK, RUN, which)}))"
    return f"{since} * (max({of(families.SESSIONS, TOTALS)}) > bool 0)"


def peaks(expr: str) -> str:
    """Return the highest value within each step: the peak of an outage falls between two points of a chart."""
    return f"max_over_time(({expr})[$__interval:200ms])"


def newly(family: Family, *matchers: str, by: str) -> str:
    """Return how much a counter rose within the rate's interval, also where it was not there before.

    Prometheus' own `increase` takes what a series begins with for its zero. An error of a class that was not seen
    before is what a failover shows first.
    """
    series = of(family, *matchers)
    return f"sum by ({by}) ({series} - {series} offset $__rate_interval or {series})"
