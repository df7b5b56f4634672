"""The table of families follows conventions, and docs/metrics.md, which is generated from it, is up to date."""

from pathlib import Path

from stalewatch.metrics import reference
from stalewatch.metrics.families import FAMILIES

ROOT = Path(__file__).parents[2]


def test_metrics_md_is_up_to_date() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == reference.text(), "run `make reference`"


def test_families_follow_prometheus_conventions() -> None:
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)
    for family in FAMILIES:
        assert not family.name.endswith("_total"), "the suffix is added by the kind"
        assert family.name.endswith("_seconds") == (family.unit == "seconds"), family.name
        assert bool(family.bounds) == (family.kind == "histogram")
        assert list(family.bounds) == sorted(family.bounds)
        assert not {"key", "session", "message"} & set(family.labels)
        assert family.help.endswith(".")
