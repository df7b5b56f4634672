"""What tests of all clients ask of an answer."""

from clients.protocol import Answer
from history.operation import Outcome


def shown(answer: Answer) -> tuple[Outcome, int | None]:
    """Return how it ended and which version, or id, it showed."""
    return answer.outcome, answer.version
