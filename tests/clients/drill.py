"""A run on a real ring that lasts as long as the test wants, so that the test can break the ring meanwhile."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from stalewatch.checkers.judge import Judge
from stalewatch.checkers.verdict import Verdict, Violation
from stalewatch.clients.cassandra.client import CassandraDatabaseClient
from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clients.protocol import Value
from stalewatch.engine.database_run import DatabaseRun
from stalewatch.engine.process_run import ThreadedLoad
from stalewatch.history.clock import RealClock
from stalewatch.history.operation import Operation, Read, Write
from stalewatch.recording.recorder import Recorder
from stalewatch.workloads.options import LoadOptions

ENDLESS_S = 600.0


class Drill:
    """One run: `load` runs sessions during a block, `end` makes the final reads and judges."""

    def __init__(self, hosts: str, name: str, load: LoadOptions | None = None, **chosen: object) -> None:
        options = CassandraClientOptions(**{"hosts": hosts, "read_repair": "none", **chosen})  # type: ignore[arg-type]
        self.client = CassandraDatabaseClient(options, RealClock())
        self.client.prepare()
        self.recorder = Recorder(self.client.clock, Judge())
        self.operations: list[Operation] = []
        self.recorder.subscribe(self)
        load = load or LoadOptions(operations=None, duration_s=ENDLESS_S)
        self.run = ThreadedLoad(DatabaseRun(self.client, self.recorder, load, name))
        self.run.run.create_keys()
        self.keys = self.run.run.keys

    def on_operation(self, operation: Operation, _: Sequence[Violation]) -> None:
        self.operations.append(operation)

    def on_end(self, violations: Sequence[Violation]) -> None:
        """Note nothing more."""

    @contextmanager
    def load(self) -> Iterator[None]:
        """Run the sessions until the block ends."""
        sessions = threading.Thread(target=self.run.perform, args=(lambda _: None,))
        sessions.start()
        try:
            yield
        finally:
            self.run._deadline_ns = self.client.clock.now()
            sessions.join()

    def write(self, key: str, client: CassandraDatabaseClient | None = None) -> str:
        """Write the next version of a key, through another client if one is given; return the outcome."""
        write = self.recorder.begin_write("writer", key)
        session = (client or self.client).session("writer")
        answer = session.write(key, Value(write.version or 0, "writer", start_ns=write.start))
        self.recorder.end_write(write, answer)
        return answer.outcome

    def read(self, key: str, client: CassandraDatabaseClient) -> None:
        """Read one key through another client."""
        start = self.client.clock.now()
        self.recorder.end_read("reader", key, start, client.session("reader").read(key))

    def count(self, outcome: str) -> int:
        """Return the number of operations with that outcome so far."""
        return sum(isinstance(one, Read | Write) and one.outcome == outcome for one in list(self.operations))

    def errors(self) -> set[tuple[str, str]]:
        """Return the outcome and error of every operation that was not ok."""
        found = [one for one in list(self.operations) if isinstance(one, Read | Write) and one.outcome != "ok"]
        return {(one.outcome, one.error or "") for one in found}

    def end(self) -> dict[str, Verdict]:
        """Make the final reads, and return the verdicts by guarantee."""
        self.run.final_reads(lambda _: None)
        self.recorder.finish()
        self.run.run.remove_keys()
        self.client.close()
        return self.recorder.judge.verdicts()


def until(condition: Callable[[], object], timeout_s: float = 120.0, found: Callable[[], object] = str) -> float:
    """Wait until the condition holds; return how many seconds that took. If it never does, show what there is."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + timeout_s, f"still not true after {timeout_s:.0f} s: {found()}"
        time.sleep(0.05)
    return time.monotonic() - began
