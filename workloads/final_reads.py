"""The final reads: what every written key holds in the end, read at the level that proves loss."""

from collections.abc import Callable

from clients.protocol import Answer, Client
from workloads.progress import Progress
from workloads.recorder import Recorder

RECOVERY_S = 30.0
"""How long final reads are tried again before their keys go unchecked."""

RETRY_S = 0.5
READERS = 20


class FinalReads:
    """The written keys of one worker, read by `readers` threads that each run `work`, until `abandoned` says so.

    A read that fails is tried again until the servers had time to recover; then its key goes unchecked.
    """

    def __init__(self, client: Client, recorder: Recorder, abandoned: Callable[[], bool]) -> None:
        self._client = client
        self._clock = client.clock
        self._recorder = recorder
        self._abandoned = abandoned
        self._keys = recorder.written_keys()[::-1]
        self._total = len(self._keys)
        self._deadline_ns = self._clock.now() + round(RECOVERY_S * 1e9)
        self._given_up: Answer | None = None
        """The answer of the failure after which no more keys are tried."""
        self.readers = min(READERS, self._total)

    def progress(self) -> Progress:
        """Return how many keys have been read, or are being read."""
        return Progress("final reads", self._total - len(self._keys), self._total, "keys")

    def work(self) -> None:
        """Read keys until none is left."""
        while not self._abandoned():
            try:
                key = self._keys.pop()
            except IndexError:
                return
            self._read(key)

    def _read(self, key: str) -> None:
        """Read a key until it is read; once the servers had their time, the first failure is the end of all tries."""
        while True:
            start = self._clock.now()
            answer = self._given_up or self._asked(key)
            late = self._clock.now() >= self._deadline_ns
            if late and answer.outcome != "ok":
                self._given_up = answer
            if answer.outcome == "ok" or self._abandoned() or late:
                self._recorder.end_final(key, start, answer)
                return
            self._clock.sleep(RETRY_S)

    def _asked(self, key: str) -> Answer:
        try:
            return self._client.final(key)
        except Exception as error:  # noqa: BLE001 # whatever it is, the read did not succeed
            return Answer("unknown", error=self._client.explain(error).error)
