"""Why a Cassandra cannot be used, in one line: what happened, where, and what to do next."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from cassandra import (
    AuthenticationFailed,
    DriverException,
    InvalidRequest,
    OperationTimedOut,
    Timeout,
    Unauthorized,
    Unavailable,
    UnresolvableContactPoints,
)
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException
from cassandra.protocol import ErrorMessage

from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clients.errors import BadAddress, ClientError, Unreachable

START_LOCAL = "start a local ring with `stalewatch cluster up cassandra`"

_Trouble = Callable[[BaseException, CassandraClientOptions], ClientError]


@contextmanager
def explained(options: CassandraClientOptions) -> Iterator[None]:
    """Turn what the driver raises inside into a `ClientError` that says what to do."""
    try:
        yield
    except (DriverException, NoHostAvailable, ConnectionException, ErrorMessage) as error:
        inner = _innermost(error)
        trouble = next((_TROUBLES[kind] for kind in type(inner).__mro__ if kind in _TROUBLES), _lost)
        raise trouble(inner, options) from error


def _innermost(error: BaseException) -> BaseException:
    """Return what befell one of the nodes that were tried: wrong credentials if it was that, else any."""
    nested = error.errors if isinstance(error, NoHostAvailable) and isinstance(error.errors, dict) else {}
    found = [one for one in nested.values() if isinstance(one, BaseException)]
    return next((one for one in found if isinstance(one, AuthenticationFailed)), found[0] if found else error)


def _lost(error: BaseException, options: CassandraClientOptions) -> ClientError:
    center = f" in the data center {options.data_center}" if options.data_center else ""
    check = "--hosts, --port and --data-center" if center else "--hosts and --port"
    return Unreachable(
        f"no Cassandra node{center} answers at {options.hosts} ({_words(error)}); check {check}, or {START_LOCAL}"
    )


def _late(error: BaseException, options: CassandraClientOptions) -> ClientError:
    return Unreachable(
        f"Cassandra at {options.hosts} did not answer in time ({_words(error)}); see that its nodes are well, or give "
        "a longer --timeout"
    )


def _wrong_user(error: BaseException, options: CassandraClientOptions) -> ClientError:
    user = f"the user {options.username}" if options.username else "whoever gives no name"
    return Unreachable(
        f"Cassandra at {options.hosts} refuses {user} ({type(error).__name__}): give --username, and the password in "
        "STALEWATCH_CASSANDRA_PASSWORD"
    )


def _no_rights(error: BaseException, options: CassandraClientOptions) -> ClientError:
    return Unreachable(
        f"Cassandra at {options.hosts} lets {options.username} in, but not do this ({_words(error)}): "
        f"grant CREATE, MODIFY and SELECT on the keyspace {options.keyspace}"
    )


def _too_few(error: BaseException, options: CassandraClientOptions) -> ClientError:
    return Unreachable(
        f"too few replicas of {options.keyspace}.{options.table} are alive ({_words(error)}): start the nodes that are "
        "down; keys are created at the level ALL"
    )


def _refused(error: BaseException, options: CassandraClientOptions) -> ClientError:
    return ClientError(f"Cassandra at {options.hosts} refused: {_words(error)}")


def _unknown_host(error: BaseException, options: CassandraClientOptions) -> ClientError:
    return BadAddress(f"--hosts {options.hosts}: none of these names has an address ({type(error).__name__})")


_TROUBLES: Mapping[type[BaseException], _Trouble] = {
    AuthenticationFailed: _wrong_user,
    Unauthorized: _no_rights,
    Unavailable: _too_few,
    Timeout: _late,
    OperationTimedOut: _late,
    InvalidRequest: _refused,
    UnresolvableContactPoints: _unknown_host,
}


def _words(error: BaseException) -> str:
    line = " ".join(str(error).split())
    return line or type(error).__name__
