"""The error table of Cassandra: ``fail`` for an operation that was certainly not applied, else ``unknown``.

Taken from the source of cassandra-driver 3.30 and checked against Cassandra 5.0. For reads the two mean the same.
"""

from cassandra import (
    AlreadyExists,
    AuthenticationFailed,
    CDCWriteFailure,
    ConfigurationException,
    CoordinationFailure,
    DependencyException,
    DriverException,
    FunctionFailure,
    InvalidRequest,
    OperationTimedOut,
    ReadFailure,
    ReadTimeout,
    RequestExecutionException,
    RequestValidationException,
    Timeout,
    Unauthorized,
    Unavailable,
    UnresolvableContactPoints,
    UnsupportedOperation,
    WriteFailure,
    WriteTimeout,
    cluster,
    connection,
    metadata,
    pool,
    protocol,
    query,
    segment,
)
from cassandra.policies import WriteType

from stalewatch.clients.errors import ErrorTable, Failure, classify
from stalewatch.history.operation import Outcome

_NEVER_CONNECTED = ("Host has been marked down or removed", "Pool is shutdown")


def _never_sent(error: BaseException) -> bool:
    """Return whether the driver tried a node without sending it anything.

    A lost connection (ConnectionShutdown, a subclass of ConnectionException) may have carried the request.
    """
    if isinstance(error, pool.NoConnectionsAvailable | connection.ConnectionBusy):
        return True
    return type(error) is connection.ConnectionException and str(error).startswith(_NEVER_CONNECTED)


def _by_nested(error: BaseException) -> Outcome:
    """Return the outcome of trying several nodes: any that was sent the request may have applied it."""
    nested = getattr(error, "errors", None)
    tried = nested.values() if isinstance(nested, dict) else [None]
    return "fail" if all(isinstance(one, BaseException) and _never_sent(one) for one in tried) else "unknown"


ERRORS: ErrorTable = {
    # Bases, for anything without a row of its own; the driver's exceptions have no common base.
    DriverException: "unknown",
    RequestExecutionException: "unknown",
    # The coordinator found too few live replicas, and sent nothing to any of them.
    Unavailable: "fail",
    # Some replicas may have applied it, and hints may carry it to others.
    Timeout: "unknown",
    WriteTimeout: "unknown",  # of every type: the batch log may be replayed, a Paxos proposal completed by the next one
    WriteFailure: "unknown",
    CoordinationFailure: "unknown",
    CDCWriteFailure: "unknown",  # on one replica; others may have had space
    # Plain writes never get these, and for a read the outcome does not matter.
    ReadTimeout: "unknown",
    ReadFailure: "unknown",
    # The client stopped waiting for an answer.
    OperationTimedOut: "unknown",
    # The server rejected the request before executing it.
    RequestValidationException: "fail",
    InvalidRequest: "fail",
    Unauthorized: "fail",
    ConfigurationException: "fail",
    AlreadyExists: "fail",
    FunctionFailure: "fail",
    # Raised before or instead of sending a request.
    AuthenticationFailed: "fail",
    UnsupportedOperation: "fail",
    UnresolvableContactPoints: "fail",
    DependencyException: "fail",
    metadata.NoMurmur3: "fail",
    cluster.UserTypeDoesNotExist: "fail",
    pool.NoConnectionsAvailable: "fail",
    connection.ConnectionBusy: "fail",
    # No node could be sent the request, or the errors of those that were are nested.
    cluster.NoHostAvailable: _by_nested,
    cluster.QueryExhausted: "unknown",  # no more rows to fetch
    query.TraceUnavailable: "unknown",
    # A connection that was lost or received garbage, in either case after something was sent.
    connection.ConnectionException: "unknown",
    connection.ConnectionShutdown: "unknown",
    connection.CrcMismatchException: "unknown",
    segment.CrcException: "unknown",
    connection.ProtocolError: "unknown",
    connection.ProtocolVersionUnsupported: "fail",  # during the handshake
    protocol.NotSupportedError: "fail",
    protocol.InternalError: "unknown",
    # Server errors that the driver does not translate, but raises as they are.
    protocol.ErrorMessage: "unknown",  # such as 0x1700: the result of a conditional write is unknown
    protocol.ErrorMessageSub: "unknown",
    protocol.RequestExecutionException: "unknown",
    protocol.ServerError: "unknown",
    protocol.OverloadedErrorMessage: "unknown",  # no room for hints; other replicas have been written to
    protocol.TruncateError: "unknown",
    protocol.ClientWriteError: "unknown",
    protocol.CDCWriteException: "unknown",
    protocol.WriteTimeoutErrorMessage: "unknown",
    protocol.WriteFailureMessage: "unknown",
    protocol.ReadTimeoutErrorMessage: "unknown",
    protocol.ReadFailureMessage: "unknown",
    protocol.FunctionFailureMessage: "fail",
    protocol.UnavailableErrorMessage: "fail",
    protocol.IsBootstrappingErrorMessage: "fail",  # a joining node does not coordinate yet
    protocol.ProtocolException: "fail",  # the request could not be read
    protocol.BadCredentials: "fail",
    protocol.RequestValidationException: "fail",
    protocol.SyntaxException: "fail",
    protocol.UnauthorizedErrorMessage: "fail",
    protocol.InvalidRequestException: "fail",
    protocol.ConfigurationException: "fail",
    protocol.AlreadyExistsException: "fail",
    protocol.PreparedQueryNotFound: "fail",  # the driver prepares it again; if that fails, nothing ran
}

_UNCERTAIN_WITH_LWT = (Unavailable, ReadTimeout, ReadFailure)


PERMANENT = frozenset({"InvalidRequest", "hints_unknown"})
"""Labels of errors that no waiting ends: a table that is gone, and hints that this user or version cannot see.

A refused right is none of them, since nodes refuse it too while they cannot read who has it.
"""


def explain(error: BaseException, *, lwt: bool = False, retries: bool = False) -> Failure:
    """Return the outcome of an operation that ended with `error`, and a label such as ``WriteTimeout:SIMPLE``.

    With `lwt`, even too few live replicas prove nothing: they may have died between the agreement and its commit. With
    the driver's `retries` on, the error may be that of the last attempt although an earlier one was applied.
    """
    outcome, label = classify(error, ERRORS)
    if retries or (lwt and isinstance(error, _UNCERTAIN_WITH_LWT)):
        outcome = "unknown"
    detail = _detail(error)
    return Failure(outcome, f"{label}:{detail}" if detail else label)


def _detail(error: BaseException) -> str | None:
    """Return the detail that distinguishes errors of one class, if there is any."""
    if isinstance(error, WriteTimeout | WriteFailure) and error.write_type is not None:
        return str(WriteType.value_to_name.get(error.write_type, error.write_type))
    if isinstance(error, protocol.ErrorMessage) and type(error) is protocol.ErrorMessage:
        return f"{error.code:04x}"
    if isinstance(error, cluster.NoHostAvailable) and isinstance(error.errors, dict):
        return ",".join(sorted({type(one).__name__ for one in error.errors.values()}))
    return None
