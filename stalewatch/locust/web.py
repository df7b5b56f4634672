"""The Consistency and Witnesses tabs of Locust's web page, their CSV, and the check of its form."""

import csv
import io
import json
import time
from argparse import Namespace
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

from flask import Response, jsonify, make_response, request
from flask_login import current_user
from locust.argument_parser import ui_extra_args_dict
from locust.env import Environment
from locust.web import WebUI

from stalewatch.checkers.verdict import Distribution, Verdict, Violation, overall
from stalewatch.clients.errors import BadAddress
from stalewatch.locust import options
from stalewatch.locust.master import ENDING, Master
from stalewatch.locust.master_run import MasterRun
from stalewatch.locust.result import unchecked
from stalewatch.recording.totals import Totals, no_totals
from stalewatch.reports.words import proof_words

LAST_LOOK_S = 3.0
"""How long after the verdict the page is told that the test still runs. It polls every two seconds until the test is
over, and would never show the final reads."""

LOCUST_FIELDS = frozenset(
    {"user_count", "num_users", "spawn_rate", "host", "user_classes", "run_time", "profile", "shape_class"}
)
"""The fields of Locust's own form."""

ENDED = frozenset({"stopping", "stopped", "cleanup", "ready"})


class Tab(NamedTuple):
    """A tab of the page: its title and key, and the columns of its table."""

    title: str
    key: str
    structure: list[dict[str, str]]


def _columns(**titles: str) -> list[dict[str, str]]:
    return [{"key": key, "title": title} for key, title in titles.items()]


CONSISTENCY = Tab(
    "Consistency",
    "consistency",
    _columns(
        guarantee="Guarantee",
        checked="# Checked",
        violated="# Violated",
        rate="Rate",
        interval="95 % interval",
        verdict="Verdict",
        staleness="Staleness p50 / p95 / max (ms)",
        witness="Newest witness",
    ),
)
WITNESSES = Tab(
    "Witnesses",
    "witnesses",
    _columns(guarantee="Guarantee", cause="Cause", staleness="Staleness (ms)", proof="Operations that prove it"),
)

TabRow = dict[str, str | int]


class ConsistencyPages:
    """Adds the tabs to the page of a master, or of a process that is its own master."""

    def __init__(self, web_ui: WebUI, master: Master, databases_of: Callable[[Environment], Collection[str]]) -> None:
        self._environment = web_ui.environment
        self._master = master
        self._databases_of = databases_of
        self._web_ui = web_ui
        self._fields = LOCUST_FIELDS | ui_extra_args_dict().keys()
        namespace = self._environment.parsed_options
        self._base = (namespace.web_base_path if namespace else "") or ""
        web_ui.template_args.update(
            extended_tabs=[{"title": tab.title, "key": tab.key} for tab in (CONSISTENCY, WITNESSES)],
            extended_tables=[{"key": tab.key, "structure": tab.structure} for tab in (CONSISTENCY, WITNESSES)],
            extended_csv_files=[{"href": "./consistency.csv", "title": "Download consistency CSV"}],
        )
        app = web_ui.app
        assert app is not None  # noqa: S101 # it is None only after the page has been shut down
        app.before_request(self._check_form)
        app.after_request(self._add_tables)
        app.add_url_rule(f"{self._base}/consistency.csv", "stalewatch_csv", web_ui.auth_required_if_enabled(self._csv))

    def _check_form(self) -> Response | None:
        """Reject a form with invalid options, with the reason, before anything starts."""
        if request.method != "POST" or request.path != f"{self._base}/swarm" or not self._is_authenticated():
            return None
        reason = ENDING if self._master.is_ending else self._objection()
        if reason is None:
            return None
        return jsonify({"success": False, "message": reason, "host": self._environment.host})

    def _is_authenticated(self) -> bool:
        """Return whether the request is authenticated, if it has to be; Locust rejects the others itself."""
        return not self._web_ui.web_login or bool(current_user.is_authenticated)

    def _objection(self) -> str | None:
        """Return what is wrong with the form, if anything is.

        Locust accepts every option from the form, from any page that the browser shows. So a page could set an address,
        to which the password would be sent, or a file, which would be written.
        """
        namespace = Namespace(**vars(self._environment.parsed_options or Namespace()))
        given = {name: value for name, value in request.form.items() if hasattr(namespace, name)}
        if foreign := given.keys() - self._fields:
            return f"cannot be set on the page: {', '.join(sorted(foreign))}"
        vars(namespace).update(given)
        try:
            options.check(namespace, self._databases(request.form.getlist("user_classes")))
        except BadAddress as error:
            return str(error)
        return None

    def _databases(self, picked: list[str]) -> Collection[str]:
        """Return the databases of the classes picked in the form; of the current classes if none are."""
        available = self._environment.available_user_classes or {}
        found = {getattr(available[name], "database", None) for name in picked if name in available}
        return sorted(database for database in found if database) or self._databases_of(self._environment)

    def _add_tables(self, response: Response) -> Response:
        if request.path != f"{self._base}/stats/requests" or not response.is_json:
            return response
        data: dict[str, Any] = json.loads(response.get_data())
        run = self._master.run
        data["extended_stats"] = [
            {"key": CONSISTENCY.key, "data": consistency_rows(run)},
            {"key": WITNESSES.key, "data": witness_rows(run)},
        ]
        if run is not None and run.ending and data.get("state") in ENDED and self._is_news(run):
            data["state"] = "running"
        response.set_data(json.dumps(data))
        return response

    @staticmethod
    def _is_news(run: MasterRun) -> bool:
        """Return whether the page may not have shown the verdict yet."""
        return run.decided is None or time.monotonic() - run.decided < LAST_LOOK_S

    def _csv(self) -> Response:
        text = io.StringIO()
        writer = csv.writer(text)
        names = [column["key"] for column in CONSISTENCY.structure]
        writer.writerow(names)
        writer.writerows([row[name] for name in names] for row in consistency_rows(self._master.run))
        response = make_response(text.getvalue())
        response.headers["Content-Type"] = "text/csv"
        response.headers["Content-Disposition"] = "attachment; filename=consistency.csv"
        return response


def consistency_rows(run: MasterRun | None) -> list[TabRow]:
    """Return a row for each guarantee, one for the whole run, and one for each worker with a problem.

    The page sorts rows by `name` until a column heading is clicked.
    """
    totals = _shown(run)
    newest = {violation.guarantee: violation for violation in _newest(run)}
    rows = [
        _row(
            guarantee=verdict.name,
            verdict=verdict.verdict.replace("_", " "),
            witness=proof(newest[verdict.name], run) if verdict.name in newest else "",
            **_figures(verdict),
        )
        for verdict in totals.findings.verdicts.values()
    ]
    whole = overall(totals.findings.verdicts, complete=run is None or run.complete)
    rows.append(_row(guarantee="whole run", verdict=whole, witness=f"{totals.operations} operations"))
    rows += _worker_rows(run)
    return [{"name": f"{number:04}", **row} for number, row in enumerate(rows)]


def _shown(run: MasterRun | None) -> Totals:
    if run is None:
        return no_totals()
    return run.outcome.totals if run.outcome is not None and not run.reset else run.shown


def _row(**cells: str | int) -> TabRow:
    return {**{column["key"]: "" for column in CONSISTENCY.structure}, **cells}


def _figures(verdict: Verdict) -> TabRow:
    figures: TabRow = {"checked": verdict.checked, "violated": verdict.violated}
    if verdict.rate is not None and verdict.interval is not None:
        low, high = verdict.interval
        figures |= {"rate": f"{verdict.rate:.4f}", "interval": f"{low:.4f}-{high:.4f}"}
    if verdict.staleness.count:
        figures["staleness"] = _quantiles(verdict.staleness)
    return figures


def _quantiles(staleness: Distribution) -> str:
    p50, p95 = staleness.quantiles_ns(0.50, 0.95)
    return " / ".join(f"{ns / 1e6:.1f}" for ns in (p50, p95, staleness.max_ns))


def _worker_rows(run: MasterRun | None) -> Iterator[TabRow]:
    if run is None:
        return
    for worker in run.workers:
        notes = [f"stalled for {worker.stalled_ns / 1e9:.1f} s"] if worker.stalled_ns else []
        if worker.failure:
            notes.append(worker.failure)
        if worker.lost or (run.outcome is not None and not worker.complete):
            notes.append(unchecked(worker) or "")
        if notes:
            name, witness = f"worker {worker.worker}", "; ".join(notes)
            yield _row(guarantee=name, checked=worker.operations, verdict=worker.state, witness=witness)


def witness_rows(run: MasterRun | None) -> list[TabRow]:
    """Return the newest violations, the newest first."""
    return [
        {
            "name": f"{number:04}",
            "guarantee": violation.guarantee,
            "cause": violation.cause or "",
            "staleness": "" if violation.staleness_ns is None else f"{violation.staleness_ns / 1e6:.1f}",
            "proof": proof(violation, run),
        }
        for number, violation in enumerate(reversed(_newest(run)))
    ]


def _newest(run: MasterRun | None) -> list[Violation]:
    """Return the newest violations in the order in which they were seen."""
    return sorted(run.newest if run else (), key=lambda violation: violation.operations[-1].end or 0)


def proof(violation: Violation, run: MasterRun | None = None) -> str:
    """Return the operations that prove a violation in words.

    Keys are shown without the name of the run, with which they all start.
    """
    words = proof_words(violation)
    return words if run is None else words.replace(f"{run.name}-", "")
