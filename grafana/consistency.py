"""Consistency: which guarantees break how often, and how stale what was shown is."""

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
    ("stale_reads", "Stale reads", "Reads that showed less than the newest acknowledged write of anybody."),
    ("read_your_writes", "Own writes missed", "Reads that did not show what the session itself had written before."),
    ("monotonic_reads", "Back in time", "Reads that showed less than the session had been shown before."),
)
_BY_AGE = "sum by (age) (increase({}[$__range]))"

PANELS = (
    *(
        Panel(
            kind="stat",
            title=title,
            description=f"{text} As a share of the reads that could have.",
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
        description="Acknowledged writes that the final reads did not find. Known when the run has ended.",
        unit="short",
        queries=(Query(f"max({of(families.LOST_WRITES, TOTALS)})"),),
        steps={1: RED},
        width=5,
        height=4,
    ),
    Panel(
        kind="stat",
        title="Open conflicts",
        description="Keys whose last read showed concurrent versions side by side.",
        unit="short",
        queries=(Query(f"sum({of(families.OPEN_CONFLICTS, WORKERS)})"),),
        steps={1: YELLOW},
        width=4,
        height=4,
    ),
    Panel(
        kind="series",
        title="Violation rate by guarantee",
        description="Share of the operations that a guarantee had something to say about which broke it. No line: "
        "nothing was checked, which is no evidence.",
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
        description="Operations a second that broke a guarantee.",
        unit="ops",
        queries=(Query(rate(families.VIOLATIONS, TOTALS, by="guarantee"), "{{guarantee}}"),),
    ),
    Panel(
        kind="series",
        title="Staleness",
        description="Of stale reads: for how long, when the read started, something newer had been acknowledged.",
        unit="s",
        queries=tuple(percentiles(families.STALENESS, "staleness", TOTALS)),
        log=True,
    ),
    Panel(
        kind="heatmap",
        title="Staleness, every stale read",
        description="How many stale reads a step there were of each staleness; the upper edge of a cell counts.",
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
        title="Probability of a stale read, by the time since the write",
        description="Of the reads of a key whose newest acknowledged write ended at most so many seconds before (and "
        "longer than the group to the left), how many did not show it. Where this falls to 0 is how long a user must "
        "wait.",
        unit="percentunit",
        queries=(
            Query(
                f"{_BY_AGE.format(of(families.READS_AFTER_WRITE, WORKERS, AGED, NOT_FRESH))} / "
                f"({_BY_AGE.format(of(families.READS_AFTER_WRITE, WORKERS, AGED))} > 0)",
                "{{age}}",
                instant=True,
            ),
        ),
    ),
    Panel(
        kind="series",
        title="Versions behind",
        description="Of stale reads: the newest version acknowledged before, minus the one shown.",
        unit="short",
        queries=tuple(Query(percentile(families.VERSIONS_BEHIND, share, TOTALS), name) for name, share in PERCENTILES),
    ),
    Panel(
        kind="series",
        title="Conflicts",
        description="Keys whose last read showed concurrent versions, and such reads a second. Leaders that take "
        "writes at the same time make them; a database with one leader has none.",
        unit="short",
        queries=(
            Query(f"sum({of(families.OPEN_CONFLICTS, WORKERS)})", "open"),
            Query(rate(families.VIOLATIONS, TOTALS, 'guarantee="conflicts"'), "reads with a conflict, a second"),
        ),
    ),
    Panel(
        kind="series",
        title="Checked",
        description="Operations a second that each guarantee had something to say about: the evidence behind the "
        "rates.",
        unit="ops",
        queries=(Query(rate(families.CHECKED, TOTALS, by="guarantee"), "{{guarantee}}"),),
    ),
)
