"""What pymongo's exceptions mean for the operation that they ended: ``fail`` only where it was certainly not applied.

Read in the source of pymongo 4.20, and tried on mongod 6.0. For reads the two mean the same.
"""

import socket

from bson import errors as bson_errors
from pymongo import errors as pymongo_errors

from stalewatch.clients.errors import ErrorTable, Failure, classify
from stalewatch.history.operation import Outcome

CODES: dict[int, Outcome] = {
    # The server looked at the command, refused it and wrote nothing.
    2: "fail",  # BadValue
    9: "fail",  # FailedToParse
    11: "fail",  # UserNotFound
    13: "fail",  # Unauthorized
    14: "fail",  # TypeMismatch
    18: "fail",  # AuthenticationFailed: raised while the connection is set up, before any operation
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
    8000: "fail",  # AtlasError: a hosted service's word for wrong credentials
    # The server tried, and undid what it had begun.
    24: "fail",  # LockTimeout: the lock comes before the write
    112: "fail",  # WriteConflict: the storage transaction was rolled back
    121: "fail",  # DocumentValidationFailure
    10334: "fail",  # BSONObjectTooLarge
    11000: "fail",  # DuplicateKey
    17280: "fail",  # KeyTooLong
    # No member was in a state to take it. The same words after a write was applied come as a WriteConcernError.
    133: "fail",  # FailedToSatisfyReadPreference
    134: "fail",  # ReadConcernMajorityNotAvailableYet
    10058: "fail",  # LegacyNotPrimary
    10107: "fail",  # NotWritablePrimary: tested before the write begins
    13435: "fail",  # NotPrimaryNoSecondaryOk
    13436: "fail",  # NotPrimaryOrSecondary: recovering
    # Stopped on the way: before the write, or after it while waiting for its confirmation.
    50: "unknown",  # MaxTimeMSExpired
    91: "unknown",  # ShutdownInProgress
    189: "unknown",  # PrimarySteppedDown
    262: "unknown",  # ExceededTimeLimit
    11600: "unknown",  # InterruptedAtShutdown
    11601: "unknown",  # Interrupted
    11602: "unknown",  # InterruptedDueToReplStateChange
    # Applied on the primary, not confirmed as asked for.
    64: "unknown",  # WriteConcernFailed
    100: "unknown",  # UnsatisfiableWriteConcern: checked after the write
    # A transaction that is gone may have been committed by an earlier attempt.
    251: "unknown",  # NoSuchTransaction
}
"""The server's error codes that were thought about; any other is ``unknown``."""


def _by_code(error: BaseException) -> Outcome:
    return CODES.get(server_code(error) or 0, "unknown")


def _lost_connection(error: BaseException) -> Outcome:
    """Tell a connection that was lost from one that was never made: only the first may have carried the operation.

    pymongo labels what fails before a new connection's handshake is done; a host name without an address is left out
    of that, and so is a pool that is paused because its server is down.
    """
    handshake = isinstance(error, pymongo_errors.PyMongoError) and error.has_error_label("SystemOverloadedError")
    cause = error.__cause__
    unresolved = isinstance(cause, socket.gaierror)
    paused = type(cause) is pymongo_errors.AutoReconnect and str(cause) == "connection pool paused"
    return "fail" if handshake or unresolved or paused else "unknown"


ERRORS: ErrorTable = {
    # Everything that has no better row.
    pymongo_errors.PyMongoError: "unknown",
    # The network. Never sent: no server was found, no connection got.
    pymongo_errors.ServerSelectionTimeoutError: "fail",
    pymongo_errors.WaitQueueTimeoutError: "fail",
    # Sent, perhaps: the answer is what is missing.
    pymongo_errors.ConnectionFailure: "unknown",
    pymongo_errors.AutoReconnect: _lost_connection,
    pymongo_errors.NetworkTimeout: _lost_connection,
    pymongo_errors.ProtocolError: "unknown",  # an answer that cannot be understood is an answer to something sent
    # The server answered. NotPrimaryError is both: rejected at the door, and thrown out in the middle.
    pymongo_errors.NotPrimaryError: _by_code,
    pymongo_errors.OperationFailure: _by_code,
    pymongo_errors.WriteError: _by_code,
    pymongo_errors.DuplicateKeyError: "fail",
    pymongo_errors.ExecutionTimeout: "unknown",  # out of time in the middle
    pymongo_errors.CursorNotFound: "fail",  # only a read has a cursor
    # Applied on the primary, in all cases; whether it stays is what the write concern would have told.
    pymongo_errors.WriteConcernError: "unknown",
    pymongo_errors.WTimeoutError: "unknown",
    # Some of several writes may have been applied.
    pymongo_errors.BulkWriteError: "unknown",
    pymongo_errors.ClientBulkWriteException: "unknown",
    # Refused by the driver before anything was sent.
    pymongo_errors.ConfigurationError: "fail",
    pymongo_errors.InvalidURI: "fail",
    pymongo_errors.InvalidName: "fail",
    pymongo_errors.InvalidOperation: "fail",  # of what we call, only a closed client raises it
    pymongo_errors.CollectionInvalid: "fail",
    pymongo_errors.DocumentTooLarge: "fail",
    bson_errors.InvalidDocument: "fail",
    bson_errors.InvalidStringData: "fail",
    bson_errors.InvalidId: "fail",
    # Raised when an answer is decoded as well.
    bson_errors.BSONError: "unknown",
    bson_errors.InvalidBSON: "unknown",
    pymongo_errors.EncryptionError: "unknown",
    pymongo_errors.EncryptedCollectionError: "unknown",
}


def explain(error: BaseException, *, retries: bool = False) -> Failure:
    """Return what `error` means, labelled by its public class and the server's code, such as ``WriteError:112``.

    With the driver's `retries` on, the error may be that of the last attempt while an earlier one was applied: only
    where pymongo vouches that there was none (it reports the first attempt's error instead) is it still ``fail``.
    """
    outcome, label = classify(error, ERRORS)
    if retries and not isinstance(error, pymongo_errors.ServerSelectionTimeoutError):
        outcome = "unknown"
    code = server_code(error)
    return Failure(outcome, label if code is None else f"{label}:{code}")


def server_code(error: BaseException) -> int | None:
    """Return the code that the server gave the error, if it did."""
    if isinstance(error, pymongo_errors.OperationFailure):
        return error.code
    if isinstance(error, pymongo_errors.NotPrimaryError) and isinstance(error.details, dict):
        code = error.details.get("code")
        return code if isinstance(code, int) else None
    return None
