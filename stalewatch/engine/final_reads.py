"""The final reads: what every written key holds at the end, read at the level that proves loss."""

import threading
from collections.abc import Callable, Sequence

from stalewatch.clients.errors import ClientError
from stalewatch.clients.protocol import Answer, Client, KnowsPermanence, SchedulesReplication
from stalewatch.engine.threads import Progress, Report, Threads
from stalewatch.recording.recorder import Recorder
from stalewatch.workloads import Workload

RECOVERY_S = 60.0
"""How long to wait for servers that recover, unless they say that it takes longer, or that no waiting helps.

After an outage of 30 s it took CouchDB's replication 35 s to resume.
"""

LONGEST_S = 600.0
"""The longest wait, whatever the servers say."""

RESUME_S = 20.0
"""How long replication may take to catch up once it is tried again."""

ASK_EVERY_S = 5.0

RETRY_S = 0.5
READERS = 20


class RecoveryWait:
    """A wait for servers to recover: a minute, and longer if they say when they will try again to replicate.

    It is over at once if they say that they never will.
    """

    def __init__(self, client: Client) -> None:
        self.said = ""
        """What the servers said last about replication that does not run."""
        self._client = client if isinstance(client, SchedulesReplication) else None
        self._clock = client.clock
        self._asking = threading.Lock()
        self._start_ns = self._clock.now()
        self._deadline_ns = self._start_ns + round(RECOVERY_S * 1e9)
        self._next_ns = self._start_ns + round(ASK_EVERY_S * 1e9)

    def over(self) -> bool:
        """Return whether the time is up; any thread may ask, and one at a time asks the servers."""
        if self._client is not None and self._clock.now() >= self._next_ns and self._asking.acquire(blocking=False):
            try:
                self._ask(self._client)
            finally:
                self._asking.release()
        return self._clock.now() >= self._deadline_ns

    def _ask(self, client: SchedulesReplication) -> None:
        try:
            paused = client.paused_replication()
        except ClientError:
            paused = None
        now = self._clock.now()
        self._next_ns = now + round(ASK_EVERY_S * 1e9)
        self.said = paused.said if paused else ""
        if paused and paused.retry_s is None:
            self._deadline_ns = now
        elif paused and paused.retry_s:
            latest = self._start_ns + round(LONGEST_S * 1e9)
            self._deadline_ns = max(self._deadline_ns, min(latest, now + round((paused.retry_s + RESUME_S) * 1e9)))

    @property
    def waited_s(self) -> float:
        """How long it has lasted."""
        return (self._clock.now() - self._start_ns) / 1e9

    @property
    def total_s(self) -> float:
        """How long it lasts at most, as far as is known."""
        return (self._deadline_ns - self._start_ns) / 1e9


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
        self._wait = RecoveryWait(client)
        self._permanent = client.permanent_errors if isinstance(client, KnowsPermanence) else ()
        self._given_up: Answer | None = None
        """The failure after which no more keys are tried."""
        self.unread = self._total
        """Keys that could not be read, or not yet."""
        self.error: str | None = None
        """The error of a key that could not be read, or not yet."""

    def run(self, report: Report) -> None:
        """Read all keys and report the progress."""
        readers = {f"f{number}": self._work for number in range(min(READERS, self._total))}
        Threads(self._clock, self._abandoned).run(readers, lambda: report(self.progress()))

    def progress(self) -> Progress:
        """Return how many keys have been read, or are being read; while replication does not run, the time."""
        if self._wait.said:
            return Progress("final reads: waiting for replication", self._wait.waited_s, self._wait.total_s, "s")
        left_s = max(0.0, self._wait.total_s - self._wait.waited_s)
        retrying = f" (trying again after {self.error}, for {left_s:.0f} s at most)" if self.error else ""
        return Progress(f"final reads{retrying}", self._total - len(self._keys), self._total, "keys")

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
            late = failed is not None and (self._given_up is not None or self._is_final(failed))
            if failed:
                self.error = "; ".join(filter(None, (failed.error, self._wait.said)))
                if late:
                    self._given_up = failed
            elif self._given_up is None:
                self.error = None
            if not failed or self._abandoned() or late:
                for name, answer in answers:
                    self._recorder.end_final(name, start, answer)
                self.unread -= not failed
                return
            self._clock.sleep(RETRY_S)

    def _is_final(self, failed: Answer) -> bool:
        """Return whether there is no point, or no time, to read again after this failure."""
        return failed.error in self._permanent or self._wait.over()

    def _answers(self, key: str) -> Sequence[tuple[str, Answer]]:
        if self._given_up:
            return [(key, self._given_up)]
        try:
            return self._workload.final(key)
        except Exception as error:  # noqa: BLE001 # whatever the error, the read did not succeed
            return [(key, Answer("unknown", error=self._client.explain(error).error))]
