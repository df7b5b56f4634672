"""Readings as prometheus_client exposes them, in Prometheus' text format or in OpenMetrics."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from stalewatch.metrics.families import BUILD_INFO, PREFIX, Family
from stalewatch.metrics.histogram import Histogram
from stalewatch.metrics.meter import Reading

Source = Callable[[], Iterable[Reading]]

_WITH_UNIT = ("seconds",)
"""Units that are part of the name, as OpenMetrics requires."""


class Exposition(Collector):
    """A collector that queries its sources at every scrape."""

    def __init__(self, *sources: Source) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """Yield every family that has a series."""
        found: defaultdict[Family, list[Reading]] = defaultdict(list)
        for source in self._sources:
            for reading in source():
                found[reading.family].append(reading)
        for family, readings in found.items():
            yield _metric(family, readings)


def registry(*sources: Source) -> CollectorRegistry:
    """Return a registry of these sources, of this process, and of the version."""
    made = CollectorRegistry()
    made.register(Exposition(*sources, _build))
    ProcessCollector(registry=made)
    return made


def _build() -> Iterator[Reading]:
    try:
        yield Reading(BUILD_INFO, (version("stalewatch"),), 1)
    except PackageNotFoundError:  # runs from a checkout that is not installed
        yield Reading(BUILD_INFO, ("unknown",), 1)


def _metric(family: Family, readings: Iterable[Reading]) -> Metric:
    name = f"{PREFIX}{family.name}"
    metric = Metric(name, family.help, family.kind, family.unit if family.unit in _WITH_UNIT else "")
    suffix = "_total" if family.kind == "counter" else ""
    for reading in readings:
        labels = dict(zip(family.label_names, reading.labels, strict=True))
        if isinstance(reading.value, Histogram):
            _add_histogram(metric, labels, reading.value)
        else:
            metric.add_sample(f"{name}{suffix}", labels, reading.value)
    return metric


def _add_histogram(metric: Metric, labels: dict[str, str], histogram: Histogram) -> None:
    count = 0
    for bound, count in histogram.buckets():  # the last bucket counts all values
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": bound}, count)
    metric.add_sample(f"{metric.name}_count", labels, count)
    metric.add_sample(f"{metric.name}_sum", labels, histogram.total)
