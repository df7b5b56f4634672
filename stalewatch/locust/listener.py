"""Locust's receiver of messages, made to survive packets and messages that are malformed.

Locust 2.47 receives in one greenlet, which ends at the first packet that is not msgpack, or whose content is of another
shape than expected: from then on the master hears nobody, and all workers count as missing. It has no hook for this.
"""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, TypedDict

import msgspec
from locust import rpc
from locust.exception import RPCError, RPCReceiveError
from locust.runners import MasterRunner

from stalewatch.locust import messages
from stalewatch.locust.messages import Count

log = logging.getLogger("stalewatch")

Number = float | None

AWAITED = frozenset({messages.HELLO, messages.REPORT})
"""What Locust would warn of while the master does not listen yet; workers greet again when a test starts."""

MOST_STRANGERS = 1000
"""How many processes that have not joined are logged; more come and go only if somebody means harm."""

_STRANGERS: set[str] = set()


class Heartbeat(TypedDict):
    """A sign of life."""

    state: str
    current_cpu_usage: Number


class Spawned(TypedDict):
    """How many users a worker has, by class."""

    user_classes_count: dict[str, Count]
    user_count: Count


class EntryStats(TypedDict):
    """Locust's statistics of one kind of request."""

    name: str
    method: str
    last_request_timestamp: Number
    start_time: Number
    num_requests: Count
    num_none_requests: Count
    num_failures: Count
    total_response_time: Number
    max_response_time: Number
    min_response_time: Number
    total_content_length: Number
    response_times: dict[float, Count]
    num_reqs_per_sec: dict[float, Count]
    num_fail_per_sec: dict[float, Count]


class ErrorStats(TypedDict):
    """Locust's count of one error."""

    name: str
    method: str
    error: Any
    occurrences: Count


class Stats(Spawned):
    """Locust's statistics since the last message."""

    stats: list[EntryStats]
    stats_total: EntryStats
    errors: dict[str, ErrorStats]


class Logs(TypedDict):
    """What a worker has logged."""

    worker_id: str
    logs: list[str]


class UserException(TypedDict):
    """An exception in a user's task."""

    msg: str
    traceback: str


SHAPES: dict[str, Any] = {
    "client_ready": str | int,
    "locustfile": dict[str, Any],
    "heartbeat": Heartbeat,
    "spawning_complete": Spawned,
    "stats": Stats,
    "logs": Logs,
    "exception": UserException,
}
"""What Locust's own messages to a master contain, as far as it relies on it; the others are empty, or of others."""

JOINING = frozenset({"client_ready", "locustfile"})
"""What a process that has not joined may send."""


def guard() -> None:
    """Guard all runners of this process; call this once, before there is one."""
    base = rpc.rpc.BaseSocket
    for owner, name, guarded in (
        (base, "recv", _surviving(base.recv, RPCError)),
        (base, "recv_from_client", _surviving(base.recv_from_client, RPCReceiveError)),
        (MasterRunner, "handle_message", _guarded(MasterRunner.handle_message)),
    ):
        setattr(owner, name, guarded)


def _surviving(receive: Callable[[Any], Any], kind: type[Exception]) -> Callable[[Any], Any]:
    """Return the function with all errors of decoding as one that Locust's receivers handle."""

    @wraps(receive)
    def received(socket: Any) -> Any:  # noqa: ANN401 # Locust's socket, and what it receives
        try:
            found = receive(socket)
            message = found[1] if isinstance(found, tuple) else found
            if not isinstance(message.type, str):
                raise TypeError("the message has no type")
        except (RPCError, kind):
            raise
        except Exception as error:
            raise kind(f"ignored a malformed packet ({type(error).__name__}: {error})") from error
        return found

    return received


def _guarded(handle: Callable[..., None]) -> Callable[..., None]:
    """Return `handle_message` of the master for messages of joined workers, in which no exception ends the receiver."""

    @wraps(handle)
    def handle_message(runner: MasterRunner, client_id: str, message: Any) -> None:  # noqa: ANN401 # Locust's message
        try:
            _check(client_id, message)
            if message.type in AWAITED and message.type not in runner.custom_messages:
                return
            if client_id in runner.worker_indexes or message.type in JOINING:
                handle(runner, client_id, message)
            elif message.type == messages.REPORT:  # of an earlier run, whose worker is told so
                listener, _ = runner.custom_messages[message.type]  # Locust would give the process an index
                listener(environment=runner.environment, msg=message)
            else:
                _warn_of_stranger(client_id)
        except (ValueError, msgspec.ValidationError) as error:
            log.warning("ignored a malformed message (%.50s) of %.100s: %s", message.type, client_id, error)
        except Exception:  # whatever it is, the receiver has to go on
            log.exception("could not handle a message (%.50s) of %.100s", message.type, client_id)

    return handle_message


def _check(client_id: str, message: Any) -> None:  # noqa: ANN401 # Locust's message
    """Raise ValueError if a message is in the name of another process, or Locust could not handle it."""
    if message.node_id != client_id:
        raise ValueError(f"it is in the name of {message.node_id!r:.100}")
    if message.type in SHAPES:
        msgspec.convert(message.data, SHAPES[message.type])


def _warn_of_stranger(client_id: str) -> None:
    if client_id not in _STRANGERS and len(_STRANGERS) < MOST_STRANGERS:
        _STRANGERS.add(client_id)
        log.warning("ignored all messages of %.100s, which has not joined this master", client_id)
