"""How long after the heal it took until all replicas returned the same for every key probed.

The probe has keys of its own, which it writes until the first fault is undone and never after: the load's keys change
all the time, and what is written again when a node is back hides that it missed anything.
Each replica is asked by a client whose reads all go to that node, at the level at which it answers alone.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.options import with_values
from stalewatch.clients.protocol import Client, ClientSession, Value
from stalewatch.history.clock import Clock

KEYS = 20
WRITE_EVERY_S = 0.25
LOOK_EVERY_S = 0.1
ALONE: Mapping[str, Mapping[str, str]] = {
    "mongo": {"read_concern": "local"},
    "cassandra": {"read_cl": "ONE"},
    "couch": {},
}
"""By database, what makes one node answer by itself; what is not here cannot be asked node by node."""

SESSION = "probe"


class Probe:
    """Writes its keys from `open` until `rest`, and from `heal` on compares the replicas until they agree."""

    def __init__(self, client: Client, views: Sequence[Client], run: str) -> None:
        self.converged: int | None = None
        """When all replicas first returned the same."""
        self._client = client
        self._clock: Clock = client.clock
        self._views: list[tuple[Client, ClientSession]] = [(view, view.session(SESSION)) for view in views]
        self._keys = [f"{run}-probe-{number}" for number in range(KEYS)]
        self._written = False
        self._resting = threading.Event()
        self._healed = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)

    def open(self) -> None:
        """Create the keys and begin to write them (raises a `ClientError`)."""
        self._client.preload(self._keys, "")
        self._thread.start()

    def rest(self) -> None:
        """Write no more: what a node missed until now must reach it some other way than by being written again."""
        self._resting.set()

    def heal(self) -> None:
        """Compare from now on."""
        self._resting.set()
        self._healed.set()

    def close(self, patience_s: float, hurried: Callable[[], bool], tell: Callable[[str], None]) -> None:
        """Wait for agreement for so long, at the most, and delete the keys (raises a `ClientError`)."""
        if self._healed.is_set() and patience_s and self._thread.is_alive() and not hurried():
            tell(f"waiting until all replicas agree, {patience_s:.0f} s at the most")
        patience_ends = time.monotonic() + patience_s
        while self._thread.is_alive() and time.monotonic() < patience_ends and not hurried():
            self._thread.join(LOOK_EVERY_S)
        self._over.set()
        self._resting.set()
        self._healed.set()
        self._thread.join()
        self._client.remove(self._keys)

    def _run(self) -> None:
        version = 0
        session = self._client.session(SESSION)
        while not self._resting.wait(WRITE_EVERY_S):
            version += 1
            self._write(session, version)
        self._healed.wait()
        while self._written and not self._over.is_set():
            moment = self._clock.now()
            if self._agree():
                self.converged = moment
                return
            self._over.wait(LOOK_EVERY_S)

    def _write(self, session: ClientSession, version: int) -> None:
        for key in self._keys:
            if self._resting.is_set():
                return
            try:
                answer = session.write(key, Value(version, SESSION, start_ns=self._clock.now()))
                self._written = self._written or answer.outcome == "ok"
            except Exception as error:  # noqa: BLE001 # during an outage; a driver's exceptions are its own
                self._client.explain(error)

    def _agree(self) -> bool:
        with ThreadPoolExecutor(max(1, len(self._views))) as pool:
            seen = list(pool.map(self._seen, self._views))
        return None not in seen and all(one == seen[0] for one in seen)

    def _seen(self, view: tuple[Client, ClientSession]) -> list[object] | None:
        """Return what one replica shows of every key; None where it does not answer."""
        _, session = view
        try:
            return [self._shown(session, key) for key in self._keys]
        except Exception:  # noqa: BLE001 # whatever it is, this replica did not answer
            return None

    @staticmethod
    def _shown(session: ClientSession, key: str) -> object:
        answer = session.read(key)
        if answer.outcome != "ok":
            raise ConnectionError(answer.error)
        return answer.version, sorted(answer.siblings or ())


def opened(
    database: str, options: object, nodes: Sequence[str], run: str, clock: Clock, undo: ExitStack
) -> Probe | None:
    """Return a probe of these nodes, whose connections `undo` drops; None where nodes cannot be asked one by one."""
    alone = ALONE.get(database)
    if alone is None:
        return None

    def client(chosen: Mapping[str, str]) -> Client:
        opened = DATABASES[database].open(with_values(options, chosen), 2, 0, clock)
        undo.callback(opened.close)
        opened.prepare()
        return opened

    return Probe(client({}), [client({**alone, "read_from": node}) for node in nodes], run)
