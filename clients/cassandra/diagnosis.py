"""Diagnosis of a ring that cannot be used: what happened, where, and what to do next, in one line."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from cassandra import (
    AuthenticationFailed,
    DriverException,
    OperationTimedOut,
    RequestExecutionException,
    RequestValidationException,
    Timeout,
    Unauthorized,
    Unavailable,
    UnresolvableContactPoints,
)
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException
from cassandra.protocol import ErrorMessage
from cassandra.protocol import RequestValidationException as RefusedMessage

from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clients.errors import BadAddress, ClientError, Unreachable

START_LOCAL = "start a local ring with `stalewatch cluster up cassandra`"

_Diagnosis = Callable[[BaseException, CassandraClientOptions], ClientError]


@contextmanager
def explained(options: CassandraClientOptions) -> Iterator[None]:
    """Turn driver exceptions raised inside the block into a `ClientError` that says what to do."""
    try:
        yield
    except (DriverException, NoHostAvailable, ConnectionException, ErrorMessage) as error:
        inner = _innermost(error)
        diagnose = next((_DIAGNOSES[kind] for kind in type(inner).__mro__ if kind in _DIAGNOSES), _no_answer)
        raise diagnose(inner, options) from error


def _innermost(error: BaseException) -> BaseException:
    """Return the error of one of the nodes that were tried; wrong credentials take precedence."""
    nested = error.errors if isinstance(error, NoHostAvailable) and isinstance(error.errors, dict) else {}
    found = [one for one in nested.values() if isinstance(one, BaseException)]
    return next((one for one in found if isinstance(one, AuthenticationFailed)), found[0] if found else error)


def _no_answer(error: BaseException, options: CassandraClientOptions) -> ClientError:
    center = f" in the data center {options.data_center}" if options.data_center else ""
    check = "--hosts, --port and --data-center" if center else "--hosts and --port"
    return Unreachable(
        f"no Cassandra node{center} answers at {options.hosts}; check {check}, and --tls-ca if the nodes use TLS, or "
        f"{START_LOCAL}; the driver said: {_line(error)}"
    )


def _timed_out(error: BaseException, options: CassandraClientOptions) -> ClientError:
    return Unreachable(
        f"Cassandra at {options.hosts} did not answer in time; check that its nodes are healthy, or give a longer "
        f"--timeout; the driver said: {_line(error)}"
    )


def _login_refused(error: BaseException, options: CassandraClientOptions) -> ClientError:
    user = f"the user {options.username}" if options.username else "connections without a user name"
    return Unreachable(
        f"Cassandra at {options.hosts} refuses {user}; give --username, and the password in "
        f"STALEWATCH_CASSANDRA_PASSWORD; it said: {_line(error)}"
    )


def _not_allowed(error: BaseException, options: CassandraClientOptions) -> ClientError:
    return Unreachable(
        f"Cassandra at {options.hosts} does not allow the user {options.username} to do this; grant CREATE, MODIFY and "
        f"SELECT on the keyspace {options.keyspace}; it said: {_line(error)}"
    )


def _too_few_replicas(error: BaseException, options: CassandraClientOptions) -> ClientError:
    return Unreachable(
        f"too few replicas of {options.keyspace}.{options.table} are up; start the nodes that are down, since keys are "
        f"created at consistency level ALL; Cassandra said: {_line(error)}"
    )


def _request_refused(error: BaseException, options: CassandraClientOptions) -> ClientError:
    return ClientError(f"Cassandra at {options.hosts} refused a request; it said: {_line(error)}")


def _server_error(error: BaseException, options: CassandraClientOptions) -> ClientError:
    return ClientError(
        f"Cassandra at {options.hosts} answered with an error, see also the logs of its nodes; it said: {_line(error)}"
    )


def _unknown_host(error: BaseException, options: CassandraClientOptions) -> ClientError:
    return BadAddress(f"--hosts {options.hosts}: none of these names resolves to an address here; {_line(error)}")


_DIAGNOSES: Mapping[type[BaseException], _Diagnosis] = {
    AuthenticationFailed: _login_refused,
    Unauthorized: _not_allowed,
    Unavailable: _too_few_replicas,
    Timeout: _timed_out,
    OperationTimedOut: _timed_out,
    RequestValidationException: _request_refused,
    RefusedMessage: _request_refused,  # such as a syntax error, which the driver passes on as a message
    RequestExecutionException: _server_error,
    ErrorMessage: _server_error,
    UnresolvableContactPoints: _unknown_host,
}


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
