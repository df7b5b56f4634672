"""Our tabs and our chart in Locust's web page, their CSV, its login, and the check of what it is sent."""

import csv
import hmac
import io
import ipaddress
import json
import os
import secrets
import socket
import time
from argparse import Namespace
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gevent
from flask import Response, jsonify, make_response, redirect, request, session
from flask_login import UserMixin, current_user, login_user
from jinja2.utils import htmlsafe_json_dumps
from locust import main
from locust.argument_parser import ui_extra_args_dict
from locust.env import Environment
from locust.util.timespan import parse_timespan
from locust.web import WebUI
from werkzeug.datastructures import ImmutableMultiDict
from werkzeug.wrappers import Response as Answer

from stalewatch.clients.errors import BadAddress, without_credentials
from stalewatch.locust import options
from stalewatch.locust.master import ENDING, Master
from stalewatch.locust.master_run import MasterRun
from stalewatch.locust.metrics import faults_of
from stalewatch.locust.tabs import (
    CONSISTENCY,
    TABS,
    WITNESSES,
    WORKERS,
    consistency_rows,
    stale_share,
    witness_rows,
    worker_rows,
)
from stalewatch.reports.words import GUARANTEE_WORDS

LAST_LOOK_S = 3.0
"""How long after the verdict the page is told that the test still runs. It polls every two seconds until the test is
over, and would never show the final reads."""

LOCUST_FIELDS = frozenset(
    {"user_count", "num_users", "spawn_rate", "host", "user_classes", "run_time", "profile", "shape_class"}
)
"""The fields of Locust's own form."""

CLASS_FIELDS = frozenset({"user_class_name", "weight", "fixed_count", "tasks"})
"""What the page may change of a user class; without a database it has a host too."""

USERNAME, PASSWORD = "STALEWATCH_WEB_USERNAME", "STALEWATCH_WEB_PASSWORD"
"""Environment variables for the login of `--web-login`, unless the locustfile has one of its own."""

WRONG_LOGIN_S = 1.0

SCRIPT = "stalewatch.js"
"""The path of the script that colors our tables and draws our chart."""

ENDED = frozenset({"stopping", "stopped", "cleanup", "ready"})


class KnownNames:
    """Refuses requests that another site's page made the user's browser send: Locust itself answers all of them.

    Their `Origin` is that page's. If the page's own name was made to lead here (DNS rebinding), the `Host` is that
    name. An address as `Host` is no such name.
    """

    def __init__(self, web_ui: WebUI, allowed: str) -> None:
        self._allowed = {name.strip().lower() for name in allowed.split(",")} - {""}
        self._names = {"localhost", socket.gethostname().lower(), (web_ui.host or "").lower(), *self._allowed} - {""}

    def check(self) -> Response | None:
        """Refuse a request of a foreign page."""
        host, origin = request.headers.get("Host", "").lower(), request.headers.get("Origin", "").lower()
        if host and not self._is_ours(_name(f"//{host}")):
            return self._refuse(f"requests to the host {host}")
        if origin and origin.partition("://")[2] != host and _name(origin) not in self._allowed:
            return self._refuse(f"requests of pages from {origin}")
        return None

    def _is_ours(self, name: str) -> bool:
        try:
            return bool(ipaddress.ip_address(name))
        except ValueError:
            return name in self._names

    @staticmethod
    def _refuse(what: str) -> Response:
        return make_response(
            f"stalewatch refuses {what}; if that is this page's own name, add --web-allowed-hosts", 403
        )


class HiddenLogins:
    """Hides the user and the password of hosts, as in `-H http://USER:PASSWORD@HOST`, in what users of HTTP see.

    Its form then holds the hidden form of a host, which stands for the host.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def _hosts(self) -> dict[str, str]:
        """Return the hosts with a user and a password, by what the page shows instead."""
        hosts = {self._environment.host, *(one.host for one in self._environment.user_classes)} - {None, ""}
        return {shown: str(host) for host in hosts if (shown := without_credentials(str(host))) != host}

    def restore(self) -> None:
        """Put the host into a form that was sent with what the page shows of it."""
        real = self._hosts().get(request.form.get("host", "")) if request.method == "POST" else None
        if real is not None:
            fields = [(name, real if name == "host" else text) for name, text in request.form.items(multi=True)]
            request.form = ImmutableMultiDict(fields)

    def hide(self, response: Response) -> Response:
        """Hide the logins in a page or in its data."""
        if response.direct_passthrough or response.mimetype not in {"text/html", "application/json"}:
            return response
        text = response.get_data(as_text=True)
        hidden = self._hidden(text)
        if hidden != text:
            response.set_data(hidden)
        return response

    def _hidden(self, text: str) -> str:
        for shown, host in self._hosts().items():
            for one, other in ((host, shown), (htmlsafe_json_dumps(host)[1:-1], htmlsafe_json_dumps(shown)[1:-1])):
                text = text.replace(one, other)
        return text

    def hide_in_report(self) -> None:
        """Hide them in the file of `--html` too, which Locust writes before it tells anybody that it ends."""
        report: Callable[..., str] = main.get_html_report  # type: ignore[attr-defined] # there is no public way
        main.get_html_report = lambda *given, **options: self._hidden(report(*given, **options))  # type: ignore[attr-defined]


def _name(url: str) -> str:
    """Return the host's name or address in a URL; nothing if there is none."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _numbers(form: Mapping[str, str]) -> dict[str, float]:
    """Return the values of Locust's own fields that have bounds; what is no number, Locust refuses itself."""
    found: dict[str, float] = {}
    for field, name, parse in (
        ("user_count", "num_users", int),
        ("spawn_rate", "spawn_rate", float),
        ("run_time", "run_time", parse_timespan),
    ):
        try:
            found[name] = parse(form[field])
        except (ValueError, KeyError):
            found[name] = 0
    return found


def _add_login(web_ui: WebUI, base: str) -> None:
    """Set up Locust's login page for the one user of the environment."""
    user, password = os.environ.get(USERNAME, "stalewatch"), os.environ[PASSWORD]
    app = web_ui.app
    assert app is not None  # noqa: S101 # as above

    def load(name: str) -> UserMixin | None:
        return _user(name) if name == user else None

    def submit() -> Answer:
        given = (request.form.get("username", ""), request.form.get("password", ""))
        right = [hmac.compare_digest(a.encode(), b.encode()) for a, b in zip(given, (user, password), strict=True)]
        if all(right):
            session["auth_error"] = None
            login_user(_user(user))
            return redirect(f"{base}/")
        gevent.sleep(WRONG_LOGIN_S)
        session["auth_error"] = "wrong user or password"
        return redirect(f"{base}/login")

    app.config.update(
        SECRET_KEY=secrets.token_hex(32), SESSION_COOKIE_SAMESITE="Lax", SESSION_COOKIE_SECURE=bool(web_ui.tls_cert)
    )
    web_ui.login_manager.user_loader(load)
    web_ui.auth_args = {"username_password_callback": f"{base}/login_submit"}
    app.add_url_rule(f"{base}/login_submit", "stalewatch_login", submit, methods=["POST"])


def _user(name: str) -> UserMixin:
    user = UserMixin()
    user.id = name
    return user


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
            extended_tabs=[{"title": tab.title, "key": tab.key} for tab in TABS],
            extended_tables=[{"key": tab.key, "structure": tab.structure} for tab in TABS],
            extended_csv_files=[{"href": "./consistency.csv", "title": "Download consistency CSV"}],
        )
        app = web_ui.app
        assert app is not None  # noqa: S101 # it is None only after the page has been shut down
        app.before_request(KnownNames(web_ui, (namespace.web_allowed_hosts if namespace else "") or "").check)
        logins = HiddenLogins(self._environment)
        app.before_request(logins.restore)
        app.after_request(logins.hide)
        app.before_request(self._check_form)
        app.after_request(self._add_tables)
        app.after_request(self._note_run_time)
        if web_ui.web_login and os.environ.get(PASSWORD):
            _add_login(web_ui, self._base)
        for path, answer in (
            ("consistency.csv", self._csv),
            ("stale-share.json", self._stale_share),
            (SCRIPT, self._script),
        ):
            app.add_url_rule(f"{self._base}/{path}", f"stalewatch_{path}", web_ui.auth_required_if_enabled(answer))
        app.after_request(self._add_script)

    def _check_form(self) -> Response | None:
        """Reject a form with invalid options, with the reason, before anything starts."""
        if request.method != "POST" or not self._is_authenticated():
            return None
        if request.path == f"{self._base}/user":
            return self._check_class()
        if request.path != f"{self._base}/swarm":
            return None
        reason = ENDING if self._master.is_ending else self._objection()
        if reason is None:
            return None
        return jsonify({"success": False, "message": reason, "host": self._environment.host})

    def _check_class(self) -> Response | None:
        """Reject other changes of a user class than those that the page offers: Locust would set any attribute."""
        settings = request.get_json(force=True, silent=True)
        classes = self._environment.available_user_classes or {}
        if not isinstance(settings, dict) or (found := classes.get(str(settings.get("user_class_name")))) is None:
            return make_response("no such user class", 400)
        foreign = settings.keys() - CLASS_FIELDS - (set() if hasattr(found, "database") else {"host"})
        return make_response(f"cannot be set on the page: {', '.join(sorted(foreign))}", 400) if foreign else None

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
        databases = self._databases(request.form.getlist("user_classes"))
        if fixed := options.not_on_page(namespace, databases, given):
            return f"cannot be set on the page, only on the command line: {', '.join(fixed)}"
        vars(namespace).update(given, **_numbers(request.form))
        try:
            options.check(namespace, databases)
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
            {"key": WORKERS.key, "data": worker_rows(run)},
        ]
        if run is not None and run.ending and data.get("state") in ENDED and self._is_news(run):
            data["state"] = "running"
        response.set_data(json.dumps(data))
        return response

    def _add_script(self, response: Response) -> Response:
        """Add the script to Locust's page; without it, the tables are there, but plain."""
        if request.path == f"{self._base}/" and response.mimetype == "text/html" and not response.is_streamed:
            tag = f'<script src="./{SCRIPT}" defer></script></body>'
            response.set_data(response.get_data(as_text=True).replace("</body>", tag))
        return response

    @staticmethod
    def _script() -> Response:
        promises = json.dumps({name: words.promise for name, words in GUARANTEE_WORDS.items()})
        script = Path(__file__).with_name("tabs.js").read_text(encoding="utf-8")
        return Response(f"const PROMISES = {promises};\n{script}", mimetype="text/javascript")

    def _stale_share(self) -> Response:
        return jsonify(stale_share(self._master.run, faults_of(self._environment).times)._asdict())

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
