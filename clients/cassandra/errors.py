"""What cassandra-driver's exceptions mean for the operation that they ended: ``fail`` only if it surely did nothing.

Read in the source of cassandra-driver 3.30, and tried on Cassandra 5.0. For reads the two mean the same.
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
    """Tell whether the driver tried a node without sending it anything.

    A lost connection (ConnectionShutdown, of the same family) may have carried the request.
    """
    if isinstance(error, pool.NoConnectionsAvailable | connection.ConnectionBusy):
        return True
    return type(error) is connection.ConnectionException and str(error).startswith(_NEVER_CONNECTED)


def _by_nested(error: BaseException) -> Outcome:
    """Tell by what befell each node that was tried: one that was sent the request may have applied it."""
    nested = getattr(error, "errors", None)
    tried = nested.values() if isinstance(nested, dict) else [None]
    return "fail" if all(isinstance(one, BaseException) and _never_sent(one) for one in tried) else "unknown"


ERRORS: ErrorTable = {
    # Everything that has no better row; the driver has no common base for all.
    DriverException: "unknown",
    RequestExecutionException: "unknown",
    # The coordinator looked for enough living replicas, found too few and sent none of them anything.
    Unavailable: "fail",
    # Some replicas may have applied it, hints may bring it to others.
    Timeout: "unknown",
    WriteTimeout: "unknown",  # of every type: a batch's log may be replayed, a proposal completed by the next one
    WriteFailure: "unknown",
    CoordinationFailure: "unknown",
    CDCWriteFailure: "unknown",  # on one replica; others may have had room
    # Of a plain write the servers never say so; the outcome of a read is its own.
    ReadTimeout: "unknown",
    ReadFailure: "unknown",
    # The client gave up waiting for an answer.
    OperationTimedOut: "unknown",
    # The server looked at the request and refused it.
    RequestValidationException: "fail",
    InvalidRequest: "fail",
    Unauthorized: "fail",
    ConfigurationException: "fail",
    AlreadyExists: "fail",
    FunctionFailure: "fail",
    # Raised before any request, or in place of one.
    AuthenticationFailed: "fail",
    UnsupportedOperation: "fail",
    UnresolvableContactPoints: "fail",
    DependencyException: "fail",
    metadata.NoMurmur3: "fail",
    cluster.UserTypeDoesNotExist: "fail",
    pool.NoConnectionsAvailable: "fail",
    connection.ConnectionBusy: "fail",
    # No node could be sent the request, or what the last one said stands inside.
    cluster.NoHostAvailable: _by_nested,
    cluster.QueryExhausted: "unknown",  # of asking for more rows than there are
    query.TraceUnavailable: "unknown",
    # A connection that was lost, or said what cannot be understood: an answer to something that was sent.
    connection.ConnectionException: "unknown",
    connection.ConnectionShutdown: "unknown",
    connection.CrcMismatchException: "unknown",
    segment.CrcException: "unknown",
    connection.ProtocolError: "unknown",
    connection.ProtocolVersionUnsupported: "fail",  # while the connection is set up
    protocol.NotSupportedError: "fail",
    protocol.InternalError: "unknown",
    # What servers say of which the driver makes no exception of its own: these are raised as they came.
    protocol.ErrorMessage: "unknown",  # among them 0x1700: the result of a conditional write is not known
    protocol.ErrorMessageSub: "unknown",
    protocol.RequestExecutionException: "unknown",
    protocol.ServerError: "unknown",
    protocol.OverloadedErrorMessage: "unknown",  # hints that cannot be kept: other replicas have been written to
    protocol.TruncateError: "unknown",
    protocol.ClientWriteError: "unknown",
    protocol.CDCWriteException: "unknown",
    protocol.WriteTimeoutErrorMessage: "unknown",
    protocol.WriteFailureMessage: "unknown",
    protocol.ReadTimeoutErrorMessage: "unknown",
    protocol.ReadFailureMessage: "unknown",
    protocol.FunctionFailureMessage: "fail",
    protocol.UnavailableErrorMessage: "fail",
    protocol.IsBootstrappingErrorMessage: "fail",  # a node that joins coordinates nothing yet
    protocol.ProtocolException: "fail",  # the request could not be read
    protocol.BadCredentials: "fail",
    protocol.RequestValidationException: "fail",
    protocol.SyntaxException: "fail",
    protocol.UnauthorizedErrorMessage: "fail",
    protocol.InvalidRequestException: "fail",
    protocol.ConfigurationException: "fail",
    protocol.AlreadyExistsException: "fail",
    protocol.PreparedQueryNotFound: "fail",  # the driver prepares it again; where that fails nothing ran
}

_LATE = (Unavailable, ReadTimeout, ReadFailure)


def explain(error: BaseException, *, lwt: bool = False, retries: bool = False) -> Failure:
    """Return what `error` means, labelled by its class and what is nested, such as ``WriteTimeout:SIMPLE``.

    With `lwt`, too few living replicas say nothing either: they may have died between the agreement and its commit.
    With the driver's `retries` on, the error may be that of the last attempt while an earlier one was applied.
    """
    outcome, label = classify(error, ERRORS)
    if retries or (lwt and isinstance(error, _LATE)):
        outcome = "unknown"
    detail = _detail(error)
    return Failure(outcome, f"{label}:{detail}" if detail else label)


def _detail(error: BaseException) -> str | None:
    """Return a word that tells apart what one class covers."""
    if isinstance(error, WriteTimeout | WriteFailure) and error.write_type is not None:
        kind = error.write_type
        return str(WriteType.value_to_name.get(kind, kind))
    if isinstance(error, protocol.ErrorMessage) and type(error) is protocol.ErrorMessage:
        return f"{error.code:04x}"
    if isinstance(error, cluster.NoHostAvailable) and isinstance(error.errors, dict):
        return ",".join(sorted({type(one).__name__ for one in error.errors.values()}))
    return None
