"""A failover drill on the dashboards: each of their queries, on a real Prometheus, over a real run."""

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from grafana import failover
from grafana.build import ANNOTATIONS, DASHBOARDS
from grafana.panels import Query
from stalewatch.clusters.local import ports
from stalewatch.clusters.local.mongo import MongoCluster
from stalewatch.history.operation import Write
from stalewatch.history.reader import History
from tests.locust.conftest import Swarm
from tests.metrics import dashboard_page
from tests.metrics.conftest import ROOT, Prometheus, Series

pytestmark = pytest.mark.server

SECONDS = 21
USERS = "locustfiles/mongo_users.py"
FAULT = ("--drill", "kill-primary", "--at", "6", "--for", "7")
# Few keys, each written often: a follower that is two milliseconds behind then returns old values every second.
LOAD = ("-u", "20", "-r", "100", "-t", f"{SECONDS}s", "--keys", "5", "--reread", "0.8", "--rate", "400")
LEVELS = ("--write-concern", "1", "--read-from", "secondary")
SETTLE_S = 3
"""How long Prometheus may take to evaluate its rules, which it does every second."""


class Drill(NamedTuple):
    """A finished run: its metrics in Prometheus, its verdict and its history files."""

    prometheus: Prometheus
    begin: float
    end: float
    result: dict[str, Any]
    histories: Path

    def asked(self, query: str) -> str:
        """Return a dashboard's query with its variables filled in."""
        values = {
            "$__rate_interval": "4s",
            "$__interval": "1s",
            "$__range": f"{self.end - self.begin:.0f}s",
            "$run": self.result["run"],
        }
        for name, value in {**values, "$database": ".*", "$worker": ".*"}.items():
            query = query.replace(name, value)
        assert "$" not in query
        return query

    def range(self, query: str, step: float = 1) -> list[Series]:
        return self.prometheus.range(self.asked(query), self.begin, self.end, step)


@pytest.fixture(scope="module")
def drill(
    shared_cluster: MongoCluster, scrape: Callable[[int], Prometheus], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Drill]:
    shared_cluster.start(print)
    swarm = Swarm(tmp_path_factory.mktemp("drill"))
    (metrics_port,) = ports.free(1)
    prometheus, begin = scrape(metrics_port), time.time()
    try:
        env = {"STALEWATCH_HOME": str(shared_cluster.home)}
        options = ("--headless", "--expect-workers", "2", "--metrics-port", str(metrics_port), *LEVELS, *LOAD, *FAULT)
        master = swarm.master(*options, locustfile=USERS, env=env)
        for _ in range(2):
            swarm.worker(locustfile=USERS, env=env)
        assert swarm.code(master) == 0, swarm.log(master)
        end = time.time()
        time.sleep(SETTLE_S)
        yield Drill(prometheus, begin, end, swarm.result(), swarm.histories)
    finally:
        swarm.end()


PANELS = [
    pytest.param(
        "short" if query.buckets else panel.unit,
        query.expr,
        query.instant,
        id=f"{board}: {panel.title}: {query.legend or 'value'}",
    )
    for board, (_, _, panels) in DASHBOARDS.items()
    for panel in panels
    for query in panel.queries
]
(TIMES_WITHOUT,) = (panel.queries for panel in failover.PANELS if panel.title == "Time without a successful operation")
MAGNITUDES = {
    "percentunit": (0, 1),
    # Below 0: a scrape has the time of its start, and may include an operation that ended later.
    "s": (
        -1,
        2 * SECONDS,
    ),  # a quantile may lie anywhere in its bucket, and each bucket is about twice as wide as the one before
    "ops": (0, 10_000),
    "short": (0, 10_000),
    "bytes": (10 << 20, 2 << 30),
}
"""The range of the numbers in such a run, by unit."""


@pytest.mark.parametrize(("unit", "expr", "instant"), PANELS)
def test_every_panel_shows_the_drill_in_its_unit(drill: Drill, unit: str, expr: str, instant: bool) -> None:  # noqa: FBT001
    found = drill.prometheus.instant(drill.asked(expr), drill.end) if instant else drill.range(expr)
    values = [value for series in found for value in series.finite]
    assert values
    low, high = MAGNITUDES[unit]
    assert low <= min(values) <= max(values) <= high


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_every_annotation_marks_some_of_the_run_but_not_all(drill: Drill, name: str) -> None:
    _, title, expr = ANNOTATIONS[name]
    found = drill.range(expr)
    assert found
    for series in found:
        assert {value for _, value in series.values} == {1}, "Grafana marks where the value is 1"
        assert len(series.values) < drill.end - drill.begin - 5
        assert all(label in series.labels for label in re.findall(r"{{(\w+)}}", title))


def test_every_variable_has_choices(drill: Drill) -> None:
    for file in (ROOT / "grafana" / "dashboards").glob("*.json"):
        for variable in json.loads(file.read_text())["templating"]["list"]:
            if variable["type"] == "query":
                query, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
                found = drill.range(query)
                assert {series.labels[label] for series in found}, query
                assert label != "worker" or {series.labels[label] for series in found} == {"0", "1"}


def rules(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((ROOT / "rules" / f"{name}.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.mark.parametrize("rule", rules("recording"), ids=lambda rule: str(rule["record"]))
def test_every_recorded_series_exists(drill: Drill, rule: dict[str, Any]) -> None:
    assert any(series.finite for series in drill.range(rule["expr"]))
    assert any(series.finite for series in drill.range(rule["record"]))


@pytest.mark.parametrize("rule", rules("alerts"), ids=lambda rule: str(rule["alert"]))
def test_every_alert_uses_series_that_exist(drill: Drill, rule: dict[str, Any]) -> None:
    drill.range(rule["expr"])
    selectors = re.findall(r"(?:[\w:]*stalewatch_[\w:]+|\bup)(?:{[^}]*})?", rule["expr"])
    assert selectors
    for selector in selectors:
        assert any(series.finite for series in drill.range(selector)), selector


def test_the_alerts_of_this_drill_fired(drill: Drill) -> None:
    """NoPrimary is not expected: it waits for two seconds, and an election may be faster or slower."""
    fired = {series.labels["alertname"] for series in drill.range('ALERTS{alertstate="firing"}')}
    assert "ReadYourWritesBroken" in fired
    assert not fired & {"WorkerGone", "WorkerNotScraped", "OpenConflictsGrowing"}


def last(drill: Drill, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """Return the last value in Prometheus of each of the master's series."""
    selector = f'{name}{{job="stalewatch",run="{drill.result["run"]}"}}'
    found = drill.prometheus.instant(f"last_over_time({selector}[5m])")
    return {tuple(series.labels[label] for label in labels): series.values[-1][1] for series in found}


def test_counters_end_at_the_numbers_of_the_verdict(drill: Drill) -> None:
    operations = last(drill, "stalewatch_operations_total", "operation", "outcome")
    assert operations == {
        (kind, outcome): count
        for kind, outcomes in drill.result["operations"].items()
        for outcome, count in outcomes.items()
    }
    guarantees = drill.result["guarantees"]
    assert sum(row["violated"] for row in guarantees.values())
    for name, field in (("checked", "checked"), ("violations", "violated")):
        found = last(drill, f"stalewatch_{name}_total", "guarantee")
        assert found == {(guarantee,): row[field] for guarantee, row in guarantees.items()}
    assert last(drill, "stalewatch_lost_writes") == {(): guarantees["lost_writes"]["violated"]}
    errors = last(drill, "stalewatch_errors_total", "operation", "outcome", "error")
    assert errors == {(row["operation"], row["outcome"], row["error"]): row["count"] for row in drill.result["errors"]}
    assert last(drill, "stalewatch_staleness_seconds_count") == {(): guarantees["stale_reads"]["violated"]}


def test_counters_never_fell(drill: Drill) -> None:
    for name in ("operations_total", "checked_total", "violations_total", "service_time_seconds_bucket"):
        for series in drill.range(f'resets(stalewatch_{name}{{job="stalewatch",run="$run"}}[5m])'):
            assert not any(value for _, value in series.values), series.labels


def test_the_outage_is_shown_to_within_one_scrape(drill: Drill) -> None:
    before, after = longest_gap_of_writes(sorted(drill.histories.glob(f"{drill.result['run']}-*")))
    seconds = after - before
    assert seconds > 1, "a primary was killed"
    selector = f'stalewatch_last_ok_timestamp_seconds{{run="{drill.result["run"]}",operation="write"}}'
    known = drill.prometheus.instant(f"{selector}[5m]", drill.end)
    interval = max(
        later - earlier
        for series in known
        for (earlier, _), (later, _) in pairwise(series.values)
        if earlier < after + 1
    )
    shown = drill.range(next(query.expr for query in TIMES_WITHOUT if query.legend == "write"))
    peak = max(value for series in shown for at, value in series.values if before < at < after + 2 * interval + 2)
    print(f"outage {seconds:.2f} s by the histories, {peak:.2f} s by Prometheus; scrapes {interval:.2f} s apart")
    assert seconds - 0.2 <= peak <= seconds + interval + 0.3, "it is evaluated every 0.2 s"


def longest_gap_of_writes(files: Sequence[Path]) -> tuple[float, float]:
    """Return when the last write before the longest pause ended, and the first after it, in seconds."""
    ends = sorted(
        operation.end / 1e9
        for operation, _ in History(files).operations()
        if isinstance(operation, Write) and operation.outcome == "ok" and operation.end is not None
    )
    return max(pairwise(ends), key=lambda pair: pair[1] - pair[0])


def test_the_servers_report_the_failover(drill: Drill) -> None:
    assert last(drill, "stalewatch_primary_changes_total")[()] >= 1
    healthy = drill.range("stalewatch_node_healthy")
    (victim,) = (one.labels["node"] for one in drill.range("stalewatch_fault_active == 1"))
    assert len(healthy) == 3
    assert all((0 in series.finite) == (series.labels["node"] == victim) for series in healthy)
    led = {series.labels["node"] for series in drill.range("stalewatch_primary == 1")}
    assert victim in led
    assert len(led) >= 2


def test_reads_after_writes_add_up_to_what_was_checked(drill: Drill) -> None:
    """Workers are not scraped after their last operations, so those of the last seconds are missing."""
    selector = f'stalewatch_reads_after_write_total{{run="{drill.result["run"]}"}}'
    found = drill.prometheus.instant(f"sum(last_over_time({selector}[5m]))", drill.end)[0].values[-1][1]
    checked = drill.result["guarantees"]["stale_reads"]["checked"]
    assert 0.7 * checked <= found <= checked


def last_activity(drill: Drill) -> float:
    """Return when sessions were last active; the numbers above a dashboard's charts are of its end."""
    found = drill.range('max(stalewatch_sessions{run="$run",job="stalewatch"}) > 0')
    return max(at for series in found for at, _ in series.values)


def bands(drill: Drill) -> Iterator[dashboard_page.Band]:
    """Yield the periods that the annotations mark."""
    for name, (color, _, expr) in ANNOTATIONS.items():
        for series in drill.range(expr):
            times = [at for at, _ in series.values]
            cuts = [0, *(index for index, (one, two) in enumerate(pairwise(times), 1) if two - one > 1.5), len(times)]
            for first, after in pairwise(cuts):
                yield name, times[first], times[after - 1], color


PICTURES = "STALEWATCH_PICTURES"
"""Environment variable with a folder in which to keep the pictures of the dashboards, such as docs/."""


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_page_of_the_dashboard_is_drawn(drill: Drill, browser: webdriver.Chrome, tmp_path: Path, name: str) -> None:
    title, _, panels = DASHBOARDS[name]

    end = last_activity(drill)

    def ask(query: Query) -> list[Series]:
        asked = drill.asked(query.expr)
        if query.instant:
            return drill.prometheus.instant(asked, end)
        return drill.prometheus.range(asked, drill.begin, end)

    file = tmp_path / f"{name}.html"
    file.write_text(dashboard_page.page(title, panels, ask, list(bands(drill))))
    browser.get(file.as_uri())
    charts = [number for number, panel in enumerate(panels) if panel.kind != "stat"]
    script = "return [...document.querySelectorAll('.js-plotly-plot')].map(one => one.id)"
    WebDriverWait(browser, 30).until(lambda _: len(browser.execute_script(script)) == len(charts))
    path_counts = (
        "return [...document.querySelectorAll('.js-plotly-plot')].map(one => one.querySelectorAll('path').length)"
    )
    assert all(browser.execute_script(path_counts))
    assert len(browser.find_elements(By.CLASS_NAME, "value")) == len(panels) - len(charts)
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    height = browser.execute_script("return document.body.scrollHeight")
    browser.set_window_size(1600, height + 160)
    pictures = Path(os.environ.get(PICTURES) or tmp_path)
    assert browser.save_screenshot(str(pictures / f"{name}-dashboard.png"))
