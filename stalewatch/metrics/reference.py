"""docs/metrics.md, made of the table of families: `python -m stalewatch.metrics.reference > docs/metrics.md`."""

from collections.abc import Iterator

from stalewatch.metrics.families import FAMILIES, RUN_LABELS, Family

_HEAD = """\
# Metrics

Made of `metrics/families.py` by `make reference`; a test compares the two. How to look at them:
[docs/watching-a-drill.md](docs/watching-a-drill.md).

The master (or `bench.py`) serves the totals of the run at `/metrics`, and the workers to scrape at `/sd`; every worker
serves what it did itself. The master's totals are those of the verdict, and never fall during a run; the workers' are
for comparing workers, and for what only they know. A sum over workers falls when one leaves: use `sum(rate(...))`.
"""


def text() -> str:
    """Return docs/metrics.md."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield _HEAD
    yield f"All but {_list(family.full_name for family in FAMILIES if not family.of_a_run)} also have the labels"
    yield f"{_list(RUN_LABELS)}; where the users of several databases run side by side, the master's `database` names"
    yield "them all, as the verdict does."
    yield ""
    yield "| metric | type | labels | unit | served by | what it says |"
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
    name, labels = f"`{family.full_name}`", _list(family.labels)
    return f"| {name} | {family.kind} | {labels} | {family.unit} | {family.served_by} | {family.help} |"


def _list(names: Iterator[str] | tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    print(text(), end="")
