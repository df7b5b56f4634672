"""Locust's two ports: bound to loopback by default, and checked before anything starts.

Locust itself would fail in the middle of its start: with a traceback and, for the web page, exit code 0. Workers that
it had forked would join whatever master holds the port.
"""

import errno
import ipaddress
import os
import socket
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import Any, NamedTuple

import psutil

from stalewatch.exit_codes import USAGE

LOOPBACK = "127.0.0.1"

HELP = {
    "--web-host": "address to bind the web page to; * for all interfaces",
    "--master-bind-host": "address that the master listens on for workers; * for all interfaces",
}

_checked: set[int] = set()
"""The processes that have checked their ports; Locust parses its command line several times."""


class BoundPort(NamedTuple):
    """A port that Locust listens on, and the flag that sets it."""

    flag: str
    host: str
    port: int

    def problem(self) -> str | None:
        """Return why nothing can listen there, and who does; None if the port is free."""
        try:
            self._bind()
        except socket.gaierror:
            return None  # Locust names the host that it cannot resolve
        except OSError as error:
            place = f"port {self.port} ({self.flag})"
            if error.errno != errno.EADDRINUSE:
                return f"cannot listen on {self.host or '*'}, {place}: {error.strerror}"
            return f"{place} is in use by {_listener(self.port)}: stop that, or choose another port with {self.flag}"
        return None

    def _bind(self) -> None:
        host = None if self.host in {"", "*"} else self.host
        family, kind, _, _, address = socket.getaddrinfo(
            host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Locust does, for ports just given up
            probe.bind(address)


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, by its loopback interface."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def guard(
    parser: Any,  # noqa: ANN401 # Locust's parser is not typed
    others: Callable[[Namespace], Iterator[str]],
    before_fork: Callable[[Namespace], None],
) -> None:
    """Bind to loopback by default, say so in the help, and let parsing the command line of Locust check the ports.

    `others` yields other problems for which Locust must not start; without any, `before_fork` is called.

    Nothing else of ours runs before Locust forks its workers and binds the master's port.
    """
    parser.set_defaults(web_host=LOOPBACK, master_bind_host=LOOPBACK)
    for flag, text in HELP.items():
        parser._option_string_actions[flag].help = f"{text} (default {LOOPBACK})"  # noqa: SLF001 # as in options.py
    parse = parser.parse_args

    def parse_args(*arguments: Any, **keywords: Any) -> Namespace:  # noqa: ANN401 # argparse's
        namespace: Namespace = parse(*arguments, **keywords)
        if "locust.main" in sys.modules and not _checked:  # not `run_single_user`, which listens nowhere
            _checked.add(os.getpid())
            ports = (port.problem() for port in _ports(namespace))
            for problem in filter(None, (*others(namespace), *ports)):
                parser.exit(USAGE, f"locust: {problem}\n")
            before_fork(namespace)
        return namespace

    parser.parse_args = parse_args


def _ports(namespace: Namespace) -> Iterator[BoundPort]:
    lists = (namespace.list_commands, namespace.show_task_ratio, namespace.show_task_ratio_json)
    if namespace.worker or any(lists):
        return
    if (namespace.master or namespace.processes) and namespace.master_bind_port:
        yield BoundPort("--master-bind-port", namespace.master_bind_host, namespace.master_bind_port)
    if not namespace.headless or namespace.headful:
        yield BoundPort("--web-port", namespace.web_host, namespace.web_port)


def _listener(port: int) -> str:
    """Return the process that listens on a port, as far as this user may see it.

    Of its command only the words before the options are shown, which may hold passwords.
    """
    try:
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.pid and one.laddr and one.laddr.port == port:
                words = takewhile(lambda word: not word.startswith("--"), psutil.Process(one.pid).cmdline())
                return f"process {one.pid} ({' '.join(words)})"
    except psutil.Error:
        pass
    return "a process that this user cannot see"
