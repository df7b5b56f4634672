"""Dashboards and rules, checked against the table of families, Grafana's schema and its linter's rules."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana import build
from stalewatch.metrics.families import FAMILIES

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "grafana" / "dashboards").glob("*.json"))
SUFFIXES = {"histogram": ("_bucket", "_count", "_sum")}
NAMES = {f"{family.full_name}{suffix}" for family in FAMILIES for suffix in SUFFIXES.get(family.kind, ("",))}
LABELS = {
    *(label for family in FAMILIES for label in family.label_names),
    *("job", "worker", "instance", "le", "state"),
}


def board(path: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(path.read_text())
    return made


def queries(made: dict[str, Any]) -> Iterator[str]:
    for panel in made["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (annotation["expr"] for annotation in made["annotations"]["list"])
    yield from (variable["query"]["query"] for variable in made["templating"]["list"] if variable["type"] == "query")


def test_the_json_is_up_to_date() -> None:
    assert {path.name: path.read_text() for path in FILES} == build.texts(), "run `make reference`"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_grafana_types_accept_every_field(path: Path) -> None:
    made = board(path)
    read = json.loads(json.dumps(Dashboard.from_json(made), default=lambda one: one.to_json()))
    assert read["panels"] == made["panels"]
    assert read["templating"] == made["templating"]


def names_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w:])stalewatch_\w+", text))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_metric_and_label_in_a_dashboard_exists(path: Path) -> None:
    for query in queries(board(path)):
        assert names_in(query) <= NAMES, query
        matched = re.findall(r"(\w+)(?:=~?|!=)\"", query)
        grouped = re.findall(r"by \(([^)]+)\)", query)
        assert {*matched, *(label.strip() for group in grouped for label in group.split(","))} <= LABELS, query


def test_every_metric_in_the_rules_exists() -> None:
    text = "".join((ROOT / "rules" / name).read_text() for name in ("recording.yml", "alerts.yml"))
    assert names_in(text)
    assert names_in(text) <= NAMES


def test_every_family_except_build_info_is_used() -> None:
    """A metric without a use is not worth its series."""
    texts = "".join(path.read_text() for path in [*FILES, *(ROOT / "rules").glob("*.yml")])
    unused = {family.full_name for family in FAMILIES if family.full_name not in texts}
    assert unused == {"stalewatch_build_info"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_dashboards_follow_the_rules_of_the_grafana_linter(path: Path) -> None:
    made = board(path)
    variables = {variable["name"]: variable for variable in made["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert {"database", "run", "worker"} <= variables.keys()
    assert made["uid"]
    assert made["title"]
    assert made["tags"]
    assert not made["editable"]
    assert len({panel["id"] for panel in made["panels"]}) == len(made["panels"])
    assert len({panel["title"] for panel in made["panels"]}) == len(made["panels"])
    for panel in made["panels"]:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["targets"]
        unit = panel["options"].get("yAxis", {}).get("unit") or panel["fieldConfig"]["defaults"].get("unit")
        assert unit, panel["title"]
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]
            assert len(panel["targets"]) == 1 or target["legendFormat"], panel["title"]
            for call in re.findall(r"(?:rate|increase)\((.*?)\[([^\]]+)\]", target["expr"]):
                assert call[1] in {"$__rate_interval", "$__range"}, (
                    "a fixed window breaks when the scrape interval grows"
                )
                assert re.search(r"_total|_bucket", call[0]), "only counters have a rate"
            summed = r"sum(?: by \([^)]*\))? \(?(?!rate|increase)(stalewatch_\w+_total)(?!.* offset )"
            for counter in re.findall(summed, target["expr"]):
                assert counter == "stalewatch_primary_changes_total", "a sum of counters falls when a worker leaves"
            assert "$run" in target["expr"] or "stalewatch_" not in target["expr"].replace("stalewatch_scheduler", "")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_panels_fill_the_grid_without_overlaps_or_gaps(path: Path) -> None:
    cells = [
        (x, y)
        for panel in board(path)["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert {x for x, _ in cells} == set(range(24))
    assert len(cells) == 24 * (1 + max(y for _, y in cells))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_annotations_are_queried_every_second(path: Path) -> None:
    for annotation in board(path)["annotations"]["list"]:
        assert annotation["step"] == "1s"
        assert annotation["titleFormat"]


def test_provisioning_matches_the_configuration() -> None:
    sources = yaml.safe_load((ROOT / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    scraped = yaml.safe_load((ROOT / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert [source["jsonData"]["timeInterval"] for source in sources] == [scraped]
    providers = yaml.safe_load((ROOT / "grafana/provisioning/dashboards/stalewatch.yml").read_text())["providers"]
    assert [provider["type"] for provider in providers] == ["file"]


@pytest.fixture
def promtool() -> str:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    return program


@pytest.mark.parametrize(
    "arguments", [("check", "config", "prometheus.yml"), ("test", "rules", "tests/metrics/alerts.yml")], ids=" ".join
)
def test_prometheus_accepts_the_configuration_and_the_rules(promtool: str, arguments: tuple[str, ...]) -> None:
    done = subprocess.run([promtool, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    alerts = {
        rule["alert"]
        for group in yaml.safe_load((ROOT / "rules" / "alerts.yml").read_text())["groups"]
        for rule in group["rules"]
    }
    tests = yaml.safe_load((ROOT / "tests" / "metrics" / "alerts.yml").read_text())["tests"]
    fires = {one["alertname"] for test in tests for one in test.get("alert_rule_test", ()) if one["exp_alerts"]}
    assert fires == alerts
