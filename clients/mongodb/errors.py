"""MongoDB's error table: the outcome of an operation by pymongo's exception, ``fail`` only if nothing was applied.

Derived from the source of pymongo 4.20, and tested on mongod 6.0. For reads both outcomes mean the same.
"""

import socket

from bson import errors as bson_errors
from pymongo import errors as pymongo_errors

from stalewatch.clients.errors import ErrorTable, Failure, classify
from stalewatch.history.operation import Outcome

CODES: dict[int, Outcome] = {
    # The server rejected the command and wrote nothing.
    2: "fail",  # BadValue
    9: "fail",  # FailedToParse
    11: "fail",  # UserNotFound
    13: "fail",  # Unauthorized
    14: "fail",  # TypeMismatch
    18: "fail",  # AuthenticationFailed: raised during the connection's handshake, before any operation
    20: "fail",  # IllegalOperation, such as a transaction number on a standalone
    26: "fail",  # NamespaceNotFound
    52: "fail",  # DollarPrefixedFieldName
    53: "fail",  # InvalidIdField
    59: "fail",  # CommandNotFound
    66: "fail",  # ImmutableField
    72: "fail",  # InvalidOptions
    73: "fail",  # InvalidNamespace
    123: "fail",  # NotAReplicaSet
    391: "fail",  # ReauthenticationRequired
    8000: "fail",  # AtlasError: how a hosted service reports wrong credentials
    # The server started the write and rolled it back.
    24: "fail",  # LockTimeout: the lock comes before the write
    112: "fail",  # WriteConflict: the storage transaction was rolled back
    121: "fail",  # DocumentValidationFailure
    10334: "fail",  # BSONObjectTooLarge
    11000: "fail",  # DuplicateKey
    17280: "fail",  # KeyTooLong
    # No member could accept it. The same code after a write was applied comes as a WriteConcernError.
    133: "fail",  # FailedToSatisfyReadPreference
    134: "fail",  # ReadConcernMajorityNotAvailableYet
    10058: "fail",  # LegacyNotPrimary
    10107: "fail",  # NotWritablePrimary: checked before the write starts
    13435: "fail",  # NotPrimaryNoSecondaryOk
    13436: "fail",  # NotPrimaryOrSecondary: recovering
    # Interrupted: before the write, or after it while waiting for acknowledgements.
    50: "unknown",  # MaxTimeMSExpired
    91: "unknown",  # ShutdownInProgress
    189: "unknown",  # PrimarySteppedDown
    262: "unknown",  # ExceededTimeLimit
    11600: "unknown",  # InterruptedAtShutdown
    11601: "unknown",  # Interrupted
    11602: "unknown",  # InterruptedDueToReplStateChange
    # Applied on the primary, but not acknowledged as requested.
    64: "unknown",  # WriteConcernFailed
    100: "unknown",  # UnsatisfiableWriteConcern: checked after the write
    # A transaction that the server no longer knows may have been committed by an earlier attempt.
    251: "unknown",  # NoSuchTransaction
}
"""Outcomes by the server's error code; any other code is ``unknown``."""


PERMANENT = frozenset({"OperationFailure:13", "OperationFailure:18", "OperationFailure:8000"})
"""Labels of errors that no waiting ends: no right to read, and wrong credentials."""


def _by_code(error: BaseException) -> Outcome:
    return CODES.get(server_code(error) or 0, "unknown")


def _lost_connection(error: BaseException) -> Outcome:
    """Return ``unknown`` for a lost connection, which may have carried the operation, and ``fail`` for one never made.

    pymongo labels errors before the end of a new connection's handshake, but neither a host name that does not resolve
    nor a pool that is paused because its server is down.
    """
    handshake = isinstance(error, pymongo_errors.PyMongoError) and error.has_error_label("SystemOverloadedError")
    cause = error.__cause__
    unresolved = isinstance(cause, socket.gaierror)
    paused = type(cause) is pymongo_errors.AutoReconnect and str(cause) == "connection pool paused"
    return "fail" if handshake or unresolved or paused else "unknown"


ERRORS: ErrorTable = {
    # Whatever has no better row.
    pymongo_errors.PyMongoError: "unknown",
    # The network. Never sent: no server was found, or no connection was free.
    pymongo_errors.ServerSelectionTimeoutError: "fail",
    pymongo_errors.WaitQueueTimeoutError: "fail",  # our own limit: see MongoAddress
    # Possibly sent: only the answer is missing.
    pymongo_errors.ConnectionFailure: "unknown",
    pymongo_errors.AutoReconnect: _lost_connection,
    pymongo_errors.NetworkTimeout: _lost_connection,
    pymongo_errors.ProtocolError: "unknown",  # a malformed answer is an answer to something sent
    # The server answered. NotPrimaryError covers both rejection before the operation and interruption during it.
    pymongo_errors.NotPrimaryError: _by_code,
    pymongo_errors.OperationFailure: _by_code,
    pymongo_errors.WriteError: _by_code,
    pymongo_errors.DuplicateKeyError: "fail",
    pymongo_errors.ExecutionTimeout: "unknown",  # may have run out of time after the write
    pymongo_errors.CursorNotFound: "fail",  # only a read has a cursor
    # Applied on the primary in any case; the write concern would have said whether it stays.
    pymongo_errors.WriteConcernError: "unknown",
    pymongo_errors.WTimeoutError: "unknown",
    # Some of several writes may have been applied.
    pymongo_errors.BulkWriteError: "unknown",
    pymongo_errors.ClientBulkWriteException: "unknown",
    # Rejected by the driver before anything was sent.
    pymongo_errors.ConfigurationError: "fail",
    pymongo_errors.InvalidURI: "fail",
    pymongo_errors.InvalidName: "fail",
    pymongo_errors.InvalidOperation: "fail",  # of the calls used here, only those on a closed client raise it
    pymongo_errors.CollectionInvalid: "fail",
    pymongo_errors.DocumentTooLarge: "fail",
    bson_errors.InvalidDocument: "fail",
    bson_errors.InvalidStringData: "fail",
    bson_errors.InvalidId: "fail",
    # Also raised when an answer is decoded.
    bson_errors.BSONError: "unknown",
    bson_errors.InvalidBSON: "unknown",
    pymongo_errors.EncryptionError: "unknown",
    pymongo_errors.EncryptedCollectionError: "unknown",
}


def explain(error: BaseException, *, retries: bool = False) -> Failure:
    """Return the outcome, with the error's public class and the server's code as a label, such as ``WriteError:112``.

    If the driver's `retries` are on, the error may be that of the last attempt while an earlier one was applied. It is
    ``fail`` only if there was no earlier attempt: for server selection, pymongo reports the first attempt's error
    instead.
    """
    outcome, label = classify(error, ERRORS)
    if retries and not isinstance(error, pymongo_errors.ServerSelectionTimeoutError):
        outcome = "unknown"
    code = server_code(error)
    return Failure(outcome, label if code is None else f"{label}:{code}")


def server_code(error: BaseException) -> int | None:
    """Return the server's error code, if it gave one."""
    if isinstance(error, pymongo_errors.OperationFailure):
        return error.code
    if isinstance(error, pymongo_errors.NotPrimaryError) and isinstance(error.details, dict):
        code = error.details.get("code")
        return code if isinstance(code, int) else None
    return None
