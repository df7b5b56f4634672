"""The final reads: what every written key holds at the end, read at the level that proves loss."""

from collections.abc import Callable, Sequence

from stalewatch.clients.protocol import Answer, Client
from stalewatch.engine.threads import Progress, Report, Threads
from stalewatch.recording.recorder import Recorder
from stalewatch.workloads import Workload

RECOVERY_S = 60.0
"""How long final reads are repeated before their keys go unchecked.

After an outage of 30 s it took CouchDB's replication 35 s to resume.
"""

RETRY_S = 0.5
READERS = 20


class FinalReads:
    """Reads the written keys of one workload with several readers, until `abandoned` returns True.

    A failed read is repeated until the servers have had time to recover; then its key goes unchecked.
    """

    def __init__(self, client: Client, recorder: Recorder, workload: Workload, abandoned: Callable[[], bool]) -> None:
        self._client = client
        self._clock = client.clock
        self._recorder = recorder
        self._workload = workload
        self._abandoned = abandoned
        self._keys = workload.written_keys()[::-1]
        self._total = len(self._keys)
        self._deadline_ns = self._clock.now() + round(RECOVERY_S * 1e9)
        self._given_up: Answer | None = None
        """The failure after which no more keys are tried."""
        self.unread = self._total
        """Keys that could not be read, or not yet."""

    def run(self, report: Report) -> None:
        """Read all keys and report the progress."""
        readers = {f"f{number}": self._work for number in range(min(READERS, self._total))}
        Threads(self._clock, self._abandoned).run(readers, lambda: report(self.progress()))

    def progress(self) -> Progress:
        """Return how many keys have been read, or are being read."""
        return Progress("final reads", self._total - len(self._keys), self._total, "keys")

    def _work(self) -> None:
        while not self._abandoned():
            try:
                key = self._keys.pop()
            except IndexError:
                return
            self._read(key)

    def _read(self, key: str) -> None:
        """Read a key until it succeeds; after the recovery time the first failure ends all tries."""
        while True:
            start = self._clock.now()
            answers = self._answers(key)
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

    def _answers(self, key: str) -> Sequence[tuple[str, Answer]]:
        if self._given_up:
            return [(key, self._given_up)]
        try:
            return self._workload.final(key)
        except Exception as error:  # noqa: BLE001 # whatever the error, the read did not succeed
            return [(key, Answer("unknown", error=self._client.explain(error).error))]
