"""What tests of all clients ask of an answer."""

from stalewatch.clients.protocol import Answer
from stalewatch.history.operation import Outcome


def shown(answer: Answer) -> tuple[Outcome, int | None]:
    """Return how it ended and which version, or id, it showed."""
    return answer.outcome, answer.version
