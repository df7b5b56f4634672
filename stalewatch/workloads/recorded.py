"""A session whose writes are recorded however they end: what the sessions of all workloads have in common."""

from collections.abc import Callable

from stalewatch.clients.protocol import Answer, Client, ClientSession
from stalewatch.history.operation import Append, Draw, Write
from stalewatch.recording.recorder import Recorder

INTERRUPTED = Answer("unknown", error="interrupted")
"""What is recorded of an operation during which its session was killed."""


class RecordedSession:
    """One simulated user; `opened` is the database's session where another workload's of the same user opened it."""

    def __init__(self, name: str, client: Client, recorder: Recorder, opened: ClientSession | None = None) -> None:
        self.name = name
        self._client = client
        self._session = client.session(name) if opened is None else opened
        self._recorder = recorder

    def _perform(self, write: Write | Append | Draw, send: Callable[[], Answer]) -> Answer:
        """Send a write that has begun, and record how it ends."""
        answer = INTERRUPTED
        try:
            answer = send()
        except Exception as error:  # noqa: BLE001 # the client's table says what each means
            answer = self._failed(error)
        finally:  # whatever kills the session, a write that was sent is recorded
            self._recorder.end_write(write, answer)
        return answer

    def _failed(self, error: Exception) -> Answer:
        failure = self._client.explain(error)
        return Answer(failure.outcome, error=failure.error)
