"""The dashboards' JSON: `python -m grafana.build` writes it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from grafana import consistency, failover, overview, workers
from grafana.panels import DATASOURCE, Panel, built
from grafana.queries import PROCESSES, TOTALS, of
from stalewatch.metrics import families

FOLDER = Path(__file__).parent / "dashboards"

DASHBOARDS: Mapping[str, tuple[str, str, tuple[Panel, ...]]] = {
    "failover": (
        "Failover drill",
        "How long writes were unavailable, which node is primary, and what was lost.",
        failover.PANELS,
    ),
    "consistency": (
        "Consistency",
        "How often each guarantee is violated, and how stale the stale reads are.",
        consistency.PANELS,
    ),
    "overview": ("Overview", "Throughput, latency and errors.", overview.PANELS),
    "workers": ("Workers", "Whether the load generator itself keeps up.", workers.PANELS),
}

_PRIMARY = of(families.PRIMARY, TOTALS)
ANNOTATIONS: Mapping[str, tuple[str, str, str]] = {
    "Faults": ("red", "{{fault}} {{node}}", f"max by (fault, node) ({of(families.FAULT_ACTIVE, TOTALS)}) == 1"),
    "Servers down": ("orange", "{{node}} is down", f"1 - max by (node) ({of(families.NODE_HEALTHY, TOTALS)}) == 1"),
    "New primary": (
        "blue",
        "{{node}} is primary",
        f"max by (node) ({_PRIMARY}) == 1 and max by (node) ({_PRIMARY} offset 2s) == 0",
    ),
}
"""By name: colour, text, and the query, which is 1 while the annotation applies."""


def texts() -> dict[str, str]:
    """Return every dashboard's JSON by file name."""
    return {f"{name}.json": _text(name, *parts) for name, parts in DASHBOARDS.items()}


def _text(name: str, title: str, description: str, panels: tuple[Panel, ...]) -> str:
    board = dashboard.Dashboard(f"stalewatch: {title}").uid(f"stalewatch-{name}").description(description)
    board.tags(["stalewatch"]).timezone("browser").refresh("5s").time("now-5m", "now").readonly()
    board.tooltip(models.DashboardCursorSync.CROSSHAIR)
    links = dashboard.DashboardLink("stalewatch").type(models.DashboardLinkType.DASHBOARDS).tags(["stalewatch"])
    board.link(links.include_vars(True).keep_time(True).as_dropdown(False))
    for variable in _variables():
        board.with_variable(variable)
    for label, (color, _, expr) in ANNOTATIONS.items():
        board.annotation(dashboard.AnnotationQuery().name(label).datasource(DATASOURCE).icon_color(color).expr(expr))
    for number, panel in enumerate(panels, start=1):
        board.with_panel(built(panel, number))
    made: dict[str, Any] = json.loads(json.dumps(board.build(), cls=JSONEncoder))
    for annotation in made["annotations"]["list"]:
        # Fields of the Prometheus data source, which the typed builder lacks; without a step it would be a minute.
        annotation |= {"step": "1s", "titleFormat": ANNOTATIONS[annotation["name"]][1]}
    return json.dumps(made, indent=2, sort_keys=True) + "\n"


def _variables() -> list[Any]:
    source = dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    database = _choice("database", f"label_values({families.OPERATIONS.full_name}, database)")
    chosen = 'database=~"$database"'
    runs = f"label_values({of(families.RUN_INFO, chosen)}, run)"
    run = _choice("run", runs, models.VariableSort.ALPHABETICAL_DESC)
    worker = _choice("worker", f"label_values({of(families.SCHEDULER_LAG, PROCESSES.partition(',')[0])}, worker)")
    return [source, _all(database), run, _all(worker.multi(True))]


def _choice(
    name: str, query: str, sort: models.VariableSort = models.VariableSort.ALPHABETICAL_ASC
) -> dashboard.QueryVariable:
    variable = dashboard.QueryVariable(name).label(name.capitalize()).datasource(DATASOURCE).sort(sort)
    return variable.query({"query": query, "refId": name}).refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)


def _all(variable: dashboard.QueryVariable) -> dashboard.QueryVariable:
    chosen = models.VariableOption(text="All", value="$__all", selected=True)
    return variable.include_all(True).all_value(".*").current(chosen)


if __name__ == "__main__":
    for file_name, text in texts().items():
        (FOLDER / file_name).write_text(text)
