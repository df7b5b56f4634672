"""What the simulated store raises, and what each error means for the operation that it ended."""

from stalewatch.clients.errors import ErrorTable


class MemoryStoreError(Exception):
    """The simulated store did not confirm an operation."""


class Timeout(MemoryStoreError):
    """No answer within the client's time-out."""


class Disconnected(MemoryStoreError):
    """The node was lost after the operation had reached it, and before it answered."""


class NoAnswer(MemoryStoreError):
    """The node that was asked is frozen, or cut off from clients; who asked learns it when its time is over."""


class Refused(MemoryStoreError):
    """The store turned the operation away."""


class NodeDown(Refused):
    """The node that was asked is lost, or no node of the kind asked for is left."""


class NoLeader(Refused):
    """There is no leader at the moment."""


class TooFewReplicas(Refused):
    """Fewer replicas are up than have to answer, and the coordinator knows it beforehand."""


ERRORS: ErrorTable = {
    # Nobody knows how far the operation came, or whether it is still on its way.
    Timeout: "unknown",
    NoAnswer: "unknown",
    # It had been applied when the node went; whether the successor has it depends on the failover.
    Disconnected: "unknown",
    # Turned away before any replica was touched; so are all the kinds of Refused.
    Refused: "fail",
}
