"""The Consistency and Witnesses tabs in Locust's web page, their CSV, and the check of its form."""

import csv
import io
import json
import time
from argparse import Namespace
from collections.abc import Callable, Collection
from typing import Any

from flask import Response, jsonify, make_response, request
from flask_login import current_user
from locust.argument_parser import ui_extra_args_dict
from locust.env import Environment
from locust.web import WebUI

from stalewatch.clients.errors import BadAddress
from stalewatch.locust import options
from stalewatch.locust.master import ENDING, Master
from stalewatch.locust.master_run import MasterRun
from stalewatch.locust.tabs import CONSISTENCY, WITNESSES, consistency_rows, witness_rows

LAST_LOOK_S = 3.0
"""How long after the verdict the page is told that the test still runs. It polls every two seconds until the test is
over, and would never show the final reads."""

LOCUST_FIELDS = frozenset(
    {"user_count", "num_users", "spawn_rate", "host", "user_classes", "run_time", "profile", "shape_class"}
)
"""The fields of Locust's own form."""

ENDED = frozenset({"stopping", "stopped", "cleanup", "ready"})


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
        app.after_request(self._note_run_time)
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
        run = self._master.run
        if run is not None and not run.ending and (changed := options.changed(run.options, run.databases, given)):
            return f"cannot be changed while a test runs, stop it first: {', '.join(changed)}"
        if self._is_other_host(given.get("host", "")):
            return "Host does not change the database's address: give it on the command line"
        vars(namespace).update(given)
        try:
            options.check(namespace, self._databases(request.form.getlist("user_classes")))
        except BadAddress as error:
            return str(error)
        return None

    def _is_other_host(self, host: str) -> bool:
        """Return whether a form has another host than the page showed, though no user would go there."""
        users = self._environment.user_classes
        shown = {"", self._environment.host, *(one.host for one in users)}
        return host not in shown and all(
            getattr(one, "database", options.OWN.name) != options.OWN.name for one in users
        )

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

    def _note_run_time(self, response: Response) -> Response:
        """Pass on the run time of an accepted form; only Locust's answer tells whether its timer is set."""
        if request.method == "POST" and request.path == f"{self._base}/swarm" and response.is_json:
            answer = json.loads(response.get_data())
            if answer.get("success"):
                self._master.limit(answer.get("run_time"))
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
