"""A short form of answers for the tests of all clients."""

from stalewatch.clients.protocol import Answer
from stalewatch.history.operation import Outcome


def shown(answer: Answer) -> tuple[Outcome, int | None]:
    """Return the outcome and the version, or the id."""
    return answer.outcome, answer.version
