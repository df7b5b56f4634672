"""The final reads: what every written key holds in the end, read at the level that proves loss."""

from collections.abc import Callable, Sequence

from stalewatch.clients.protocol import Answer, Client
from stalewatch.engine.progress import Progress
from stalewatch.recording.recorder import Recorder
from stalewatch.workloads import Workload

RECOVERY_S = 60.0
"""How long final reads are tried again before their keys go unchecked.

After an outage of 30 s CouchDB's replication took 35 s to go on.
"""

RETRY_S = 0.5
READERS = 20


class FinalReads:
    """The written keys of one worker, read by `readers` threads that each run `work`, until `abandoned` says so.

    A read that fails is tried again until the servers had time to recover; then its key goes unchecked.
    """

    def __init__(
        self, client: Client, recorder: Recorder, abandoned: Callable[[], bool], workload: Workload | None = None
    ) -> None:
        self._client = client
        self._clock = client.clock
        self._recorder = recorder
        self._abandoned = abandoned
        self._final = workload.final if workload else lambda key: [(key, client.final(key))]
        self._keys = (workload or recorder).written_keys()[::-1]
        self._total = len(self._keys)
        self._deadline_ns = self._clock.now() + round(RECOVERY_S * 1e9)
        self._given_up: Answer | None = None
        """The answer of the failure after which no more keys are tried."""
        self.readers = min(READERS, self._total)
        self.unread = self._total
        """Keys that could not be read, or not yet."""

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
            answers = self._asked(key)
            failed = next((answer for _, answer in answers if answer.outcome != "ok"), None)
            late = self._clock.now() >= self._deadline_ns
            if late and failed:
                self._given_up = failed
            if not failed or self._abandoned() or late:
                for name, answer in answers:
                    self._recorder.end_final(name, start, answer)
                self.unread -= not failed
                return
            self._clock.sleep(RETRY_S)

    def _asked(self, key: str) -> Sequence[tuple[str, Answer]]:
        if self._given_up:
            return [(key, self._given_up)]
        try:
            return self._final(key)
        except Exception as error:  # noqa: BLE001 # whatever it is, the read did not succeed
            return [(key, Answer("unknown", error=self._client.explain(error).error))]
