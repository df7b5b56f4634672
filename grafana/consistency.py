"""Consistency: how often each guarantee is violated, and how stale the stale reads are."""

from grafana.panels import RED, YELLOW, Panel, Query
from grafana.queries import (
    AGED,
    NOT_FRESH,
    PERCENTILES,
    RATE,
    TOTALS,
    WORKERS,
    of,
    percentile,
    percentiles,
    rate,
    ratio,
)
from stalewatch.metrics import families

_STATS = (
    ("stale_reads", "Stale reads", "Reads that returned less than the newest write acknowledged to any session."),
    ("read_your_writes", "Own writes missed", "Reads that missed a write of their own session."),
    ("monotonic_reads", "Back in time", "Reads that returned an older version than their session had read before."),
)
_BY_AGE = "sum by (age) (increase({}[$__range]))"

PANELS = (
    *(
        Panel(
            kind="stat",
            title=title,
            description=f"{text} Share of the reads that could be checked.",
            unit="percentunit",
            queries=(Query(ratio(guarantee)),),
            steps={0.001: YELLOW, 0.05: RED},
            width=5,
            height=4,
        )
        for guarantee, title, text in _STATS
    ),
    Panel(
        kind="stat",
        title="Lost writes",
        description="Acknowledged writes that the final reads did not find. Known at the end of the run.",
        unit="short",
        queries=(Query(f"max({of(families.LOST_WRITES, TOTALS)})"),),
        steps={1: RED},
        width=5,
        height=4,
    ),
    Panel(
        kind="stat",
        title="Open conflicts",
        description="Keys whose last read returned concurrent versions.",
        unit="short",
        queries=(Query(f"sum({of(families.OPEN_CONFLICTS, WORKERS)})"),),
        steps={1: YELLOW},
        width=4,
        height=4,
    ),
    Panel(
        kind="series",
        title="Violation rate by guarantee",
        description="Share of the checked operations that violated each guarantee. A guarantee without a line was not "
        "checked: there is no evidence.",
        unit="percentunit",
        queries=(
            Query(
                f"{rate(families.VIOLATIONS, TOTALS, by='guarantee')} / "
                f"({rate(families.CHECKED, TOTALS, by='guarantee')} > 0)",
                "{{guarantee}}",
            ),
        ),
    ),
    Panel(
        kind="series",
        title="Violations",
        description="Operations per second that violated a guarantee.",
        unit="ops",
        queries=(Query(rate(families.VIOLATIONS, TOTALS, by="guarantee"), "{{guarantee}}"),),
    ),
    Panel(
        kind="series",
        title="Staleness",
        description="Of stale reads: how long before the read started a newer write had been acknowledged.",
        unit="s",
        queries=tuple(percentiles(families.STALENESS, "staleness", TOTALS)),
        log=True,
    ),
    Panel(
        kind="heatmap",
        title="Staleness, every stale read",
        description="Number of stale reads per step and staleness. The upper edge of a cell is its bucket's bound.",
        unit="s",
        queries=(
            Query(
                f"sum by (le) (increase({families.STALENESS.full_name}_bucket{{{TOTALS}}}{RATE}))",
                "{{le}}",
                buckets=True,
            ),
        ),
    ),
    Panel(
        kind="bars",
        title="Probability of a stale read by time since the write",
        description="Share of the reads that missed their key's newest acknowledged write, by how long before the read "
        "that write had ended: less than so many seconds, and no less than the bar to the left. A user who waits until "
        "this falls to 0 sees fresh data.",
        unit="percentunit",
        queries=(
            Query(
                f"{_BY_AGE.format(of(families.READS_AFTER_WRITE, WORKERS, AGED, NOT_FRESH))} / "
                f"({_BY_AGE.format(of(families.READS_AFTER_WRITE, WORKERS, AGED))} > 0)",
                "{{age}}",
                instant=True,
            ),
        ),
        width=8,
    ),
    Panel(
        kind="stat",
        title="Fresh after",
        description="How long after a write 99 % and 99.9 % of the reads of its key are fresh, with 95 % confidence. "
        "Empty while too many reads are stale, or too few were checked to tell.",
        unit="s",
        queries=(Query(f"max by (percentage) ({of(families.FRESH_AFTER, TOTALS)})", "{{percentage}} %"),),
        width=4,
    ),
    Panel(
        kind="series",
        title="Versions behind",
        description="Of stale reads: the newest version acknowledged before the read, minus the version it returned.",
        unit="short",
        queries=tuple(Query(percentile(families.VERSIONS_BEHIND, share, TOTALS), name) for name, share in PERCENTILES),
    ),
    Panel(
        kind="series",
        title="Conflicts",
        description="Keys whose last read returned concurrent versions, and such reads per second. Only databases with "
        "several leaders have conflicts.",
        unit="short",
        queries=(
            Query(f"sum({of(families.OPEN_CONFLICTS, WORKERS)})", "open"),
            Query(rate(families.VIOLATIONS, TOTALS, 'guarantee="conflicts"'), "reads with a conflict per second"),
        ),
    ),
    Panel(
        kind="series",
        title="Checked",
        description="Operations per second on which each guarantee could be checked: the evidence behind the rates.",
        unit="ops",
        queries=(Query(rate(families.CHECKED, TOTALS, by="guarantee"), "{{guarantee}}"),),
    ),
)
