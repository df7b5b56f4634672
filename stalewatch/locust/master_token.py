"""How a master and its workers know each other: a token that both have, and that is never sent.

ZeroMQ's CURVE derives from it whom to talk to: what passes is encrypted, and a process without the token gets not one
message from the other side. Locust itself talks to whatever holds the port.
"""

import logging
import os
import secrets
import signal
import struct
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import scrypt
from typing import Any, NamedTuple

import gevent
import zmq.green as zmq
from locust.rpc import zmqrpc
from zmq.utils import z85

from stalewatch.exit_codes import USAGE
from stalewatch.locust.bound_ports import is_loopback

log = logging.getLogger("stalewatch")

TOKEN = "STALEWATCH_MASTER_TOKEN"  # noqa: S105 # the variable's name
SHORTEST = 16
"""How many characters a token has at least: who records a connection can try out short ones."""

PARENT_S = 1.0
WARN_S = 10.0
FAILURES = 3
LEAVE_S = 20.0
"""How many connections in a row must fail, and for how long, before a worker says that it is refused and leaves.

A proxy in front of a master that is still starting may accept connections and close them at once.
"""

REFUSED = (
    "the master at {} does not have this worker's token, or one of the two has none: set the same "
    + TOKEN
    + " in the environment of both (a master with --processes has a token of its own unless it is given one)"
)
STRANGER = (
    "refused a connection to the workers' port: it comes from a process without this master's token; set the same "
    + TOKEN
    + " in the environment of master and workers, and use the same version of stalewatch"
)


class Keys(NamedTuple):
    """The key pairs of a master and of its workers."""

    master: tuple[bytes, bytes]
    worker: tuple[bytes, bytes]


_inherited: list[str] = []
"""The token that a master with `--processes` made up for the workers that it forks, if it was given none."""

_forks_for: list[int] = []
"""The process id of that master."""


def token(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the token of this process, if it has one."""
    return environ.get(TOKEN) or next(iter(_inherited), None)


def prepare(namespace: Namespace) -> Iterator[str]:
    """Make up a token before workers are forked; yield what is wrong with the one that was given."""
    given = os.environ.get(TOKEN)
    if given and len(given) < SHORTEST:
        yield f"{TOKEN}: a token has at least {SHORTEST} characters; make one with `openssl rand -hex 32`"
    if given and not zmq.has("curve"):
        yield f"{TOKEN}: this ZeroMQ cannot encrypt; install the pyzmq of PyPI"
    if namespace.processes and not namespace.worker:
        _forks_for.append(os.getpid())
        if not given and zmq.has("curve"):
            _inherited.append(secrets.token_hex(32))


def warn_of_open_port(host: str) -> None:
    """Say that everybody who reaches a master's port may join it, if so."""
    if not token() and not is_loopback(host):
        log.warning(
            "everybody who reaches the workers' port may join: set %s for master and workers (docs/security.md)", TOKEN
        )


def distrust(master_host: str) -> Iterator[str]:
    """Yield why a worker that has passwords must not join a master, if so."""
    if not token() and not is_loopback(master_host):
        yield (
            f"this worker has a database's password, and cannot tell whether the master at {master_host} is its own: "
            f"set the same {TOKEN} in the environment of both; make one with `openssl rand -hex 32`"
        )


@cache
def keys(shared: str) -> Keys:
    """Return the keys that follow from a token."""

    def pair(role: bytes) -> tuple[bytes, bytes]:
        secret = z85.encode(scrypt(shared.encode(), salt=b"stalewatch " + role, n=1 << 14, r=8, p=1, dklen=32))
        return zmq.curve_public(secret), secret

    return Keys(pair(b"master"), pair(b"worker"))


def install() -> None:
    """Make the sockets of Locust's master and workers use the token, and watch who is refused."""
    build = zmqrpc.BaseSocket.__init__

    def build_with_token(self: Any, kind: int, *arguments: Any) -> None:  # noqa: ANN401 # Locust is not typed
        build(self, kind, *arguments)  # type: ignore[no-untyped-call]
        is_master = kind == zmq.ROUTER
        if shared := token():
            _encrypt(self.socket, keys(shared), is_master=is_master)
        failed = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
        monitor = self.socket.get_monitor_socket(failed | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_MONITOR_STOPPED)
        gevent.spawn(_watch_strangers if is_master else _watch_master, monitor)
        if not is_master and _forks_for and os.getpid() not in _forks_for:
            gevent.spawn(_leave_with, _forks_for[0])

    zmqrpc.BaseSocket.__init__ = build_with_token  # type: ignore[method-assign] # it has no hook


def _encrypt(socket: Any, known: Keys, *, is_master: bool) -> None:  # noqa: ANN401 # not typed
    socket.curve_publickey, socket.curve_secretkey = known.master if is_master else known.worker
    if is_master:
        socket.curve_server = True
    else:
        socket.curve_serverkey, _ = known.master


def _handshakes(monitor: Any) -> Iterator[tuple[int, str]]:  # noqa: ANN401 # not typed
    """Yield how each connection began, as an event of ZeroMQ, and the address."""
    while True:
        event, address = monitor.recv_multipart()
        kind, _ = struct.unpack("=Hi", event)
        if kind == zmq.EVENT_MONITOR_STOPPED:
            monitor.close()
            return
        yield kind, address.decode(errors="replace").removeprefix("tcp://")


def _watch_strangers(monitor: Any) -> None:  # noqa: ANN401 # not typed
    warned = -WARN_S
    for event, _ in _handshakes(monitor):
        if event != zmq.EVENT_HANDSHAKE_SUCCEEDED and time.monotonic() - warned > WARN_S:
            warned = time.monotonic()
            log.warning(STRANGER)


def _watch_master(monitor: Any) -> None:  # noqa: ANN401 # not typed
    """End a worker that the master refuses: Locust would try again for five minutes without a word."""
    failed, since = 0, 0.0
    for event, address in _handshakes(monitor):
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            failed = 0
            continue
        failed, since = failed + 1, since if failed else time.monotonic()
        # After a failure of the protocol (only one of the two has a token), ZeroMQ itself does not try again.
        is_final = event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL or time.monotonic() - since > LEAVE_S
        if is_final or failed == FAILURES:
            log.error(REFUSED.format(address))
        if is_final:
            gevent.get_hub().handle_system_error(SystemExit, SystemExit(USAGE))


def _leave_with(master: int) -> None:
    """End this worker, which was forked, once its master is gone: nobody else has its token."""
    while os.getppid() == master:
        gevent.sleep(PARENT_S)
    log.error("the master of this worker is gone: exiting")
    os.kill(os.getpid(), signal.SIGTERM)
