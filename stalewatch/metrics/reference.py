"""The text of docs/metrics.md: `python -m stalewatch.metrics.reference > docs/metrics.md`."""

from collections.abc import Iterator

from stalewatch.metrics.families import FAMILIES, RUN_LABELS, Family

_HEAD = """\
# Metrics

Generated from `stalewatch/metrics/families.py` by `make reference`; a test compares the two. How to use them:
[watching-a-drill.md](watching-a-drill.md).

The master (or `stalewatch bench`) serves the totals of the run at `/metrics` and the list of workers to scrape at
`/sd`; every worker serves its own counts. The master's totals are those of the verdict and never fall during a run. Use
the workers' metrics to compare workers, and for what only they know. A sum over workers falls when one leaves, so use
`sum(rate(...))`.
"""


def text() -> str:
    """Return docs/metrics.md."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield _HEAD
    without_run = " and ".join(f"`{family.full_name}`" for family in FAMILIES if not family.of_run)
    yield f"All metrics except {without_run} also have the labels `{RUN_LABELS[0]}`"
    yield f"and `{RUN_LABELS[1]}`. If users of several databases run side by side, the master's `database` label"
    yield "names all of them, as the verdict does."
    yield ""
    yield "| metric | type | labels | unit | served by | meaning |"
    yield "|---|---|---|---|---|---|"
    yield from map(_row, FAMILIES)
    yield ""
    yield "Each process also has Prometheus' own `process_cpu_seconds_total`, `process_resident_memory_bytes`, ..."
    yield ""
    for family in FAMILIES:
        if family.bounds:
            yield f"Buckets of `{family.full_name}`, {family.unit}: {', '.join(map(str, family.bounds))}."
            yield ""


def _row(family: Family) -> str:
    labels = ", ".join(f"`{name}`" for name in family.labels)
    return f"| `{family.full_name}` | {family.kind} | {labels} | {family.unit} | {family.served_by} | {family.help} |"


if __name__ == "__main__":
    print(text(), end="")
