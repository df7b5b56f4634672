"""Observers of the servers during a drill: which of them claim to be primary, and when all replicas agree again."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import ClientError
from stalewatch.clients.options import with_values
from stalewatch.clients.protocol import Client, ClientSession, Value
from stalewatch.drills.catalogue import defaults_of
from stalewatch.drills.primaries import PrimaryWatch
from stalewatch.drills.recovery import NS
from stalewatch.engine.final_reads import RecoveryWait
from stalewatch.history.clock import Clock

REPORT_EVERY_S = 10.0
KEYS = 20
WRITE_EVERY_S = 0.25
COMPARE_EVERY_S = 0.1
SESSION = "probe"


class ConvergenceProbe:
    """Measures when, after the faults, all replicas first return the same for every one of its keys.

    It has its own keys, which it writes until the first fault is undone and never after: the load's keys change all the
    time, and a write to a node that is back hides that the node missed earlier ones. Each replica is read through a
    client whose reads all go to that node, at the level at which it answers by itself.
    """

    def __init__(self, client: Client, replicas: Sequence[Client], run: str) -> None:
        self.converged_ns: int | None = None
        """When all replicas first returned the same."""
        self.waited_s: float | None = None
        """How long that was awaited after the load; None if the wait was cut short."""
        self._client = client
        self._clock: Clock = client.clock
        self._replicas = [replica.session(SESSION) for replica in replicas]
        self._keys = [f"{run}-probe-{number}" for number in range(KEYS)]
        self._written = False
        self._writes_over = threading.Event()
        self._healed = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)

    def open(self) -> None:
        """Create the keys and start to write them (raises a `ClientError`)."""
        self._client.preload(self._keys, "")
        self._thread.start()

    def stop_writes(self) -> None:
        """Stop writing: what a node has missed so far must reach it in some other way than by another write."""
        self._writes_over.set()

    def compare(self) -> None:
        """Compare the replicas from now on."""
        self._writes_over.set()
        self._healed.set()

    def close(self, hurried: Callable[[], bool], log: Callable[[str], None], *, wait: bool) -> None:
        """Wait until the replicas agree, as long as servers may take to recover, and delete the keys.

        Raises a `ClientError`.
        """
        if wait and self._healed.is_set() and self._written:
            self._await_agreement(hurried, log)
        self._over.set()
        self._writes_over.set()
        self._healed.set()
        self._thread.join()
        self._client.remove(self._keys)

    def _await_agreement(self, hurried: Callable[[], bool], log: Callable[[str], None]) -> None:
        recovery, report_at_s = RecoveryWait(self._client), 0.0
        while self._thread.is_alive() and not hurried() and not recovery.over():
            if recovery.waited_s >= report_at_s:
                said = f" ({recovery.said})" if recovery.said else ""
                log(f"waiting until all replicas agree: {recovery.waited_s:.0f}/{recovery.total_s:.0f} s{said}")
                report_at_s += REPORT_EVERY_S
            self._thread.join(COMPARE_EVERY_S)
        self.waited_s = None if hurried() else recovery.waited_s

    def _run(self) -> None:
        version = 0
        session = self._client.session(SESSION)
        while not self._writes_over.wait(WRITE_EVERY_S):
            version += 1
            self._write_keys(session, version)
        self._healed.wait()
        with ThreadPoolExecutor(max(1, len(self._replicas))) as pool:
            while self._written and not self._over.is_set():
                moment = self._clock.now()
                if self._replicas_agree(pool):
                    self.converged_ns = moment
                    return
                self._over.wait(COMPARE_EVERY_S)

    def _write_keys(self, session: ClientSession, version: int) -> None:
        for key in self._keys:
            if self._writes_over.is_set():
                return
            try:
                answer = session.write(key, Value(version, SESSION, start_ns=self._clock.now()))
                self._written = self._written or answer.outcome == "ok"
            except Exception as error:  # noqa: BLE001 # during an outage; each driver has its own exceptions
                self._client.explain(error)

    def _replicas_agree(self, pool: ThreadPoolExecutor) -> bool:
        """Compare key by key; the first one that differs suffices, and is the first to be compared the next time."""
        for number, key in enumerate(self._keys):
            contents = list(pool.map(partial(self._content, key), self._replicas))
            if None in contents or any(one != contents[0] for one in contents):
                self._keys.insert(0, self._keys.pop(number))
                return False
        return True

    @staticmethod
    def _content(key: str, replica: ClientSession) -> object:
        """Return what one replica returns for a key; None if it does not answer."""
        try:
            answer = replica.read(key)
        except Exception:  # noqa: BLE001 # whatever it is, this replica did not answer
            return None
        return (answer.version, sorted(answer.siblings or ())) if answer.outcome == "ok" else None


def _connected_probe(
    database: str, options: object, nodes: Sequence[str], run: str, clock: Clock, undo: ExitStack
) -> ConvergenceProbe | None:
    """Return a probe of these nodes, whose connections `undo` closes; None if nodes cannot be read one by one."""
    if defaults_of(database).single_node is None:
        return None

    def client(values: Mapping[str, str]) -> Client:
        opened = DATABASES[database].open(with_values(options, values), 2, 0, clock)
        undo.callback(opened.close)
        opened.prepare()
        return opened

    return ConvergenceProbe(client({}), [client(of_one_node(database, node)) for node in nodes], run)


def of_one_node(database: str, node: str) -> Mapping[str, str]:
    """Return the options, by name, with which one node answers by itself, whatever the read strategy of the load."""
    return {**(defaults_of(database).single_node or {}), "read_strategy": "plain", "read_from": node}


NOTHING_OBSERVED: Mapping[str, Any] = {
    "probed": False,
    "two_primaries_s": None,
    "convergence_wait_s": None,
    "converged_s": None,
}
"""The figures of a drill without observers."""


class Observers:
    """All observers of one drill, from before the load until after it."""

    def __init__(
        self,
        database: str,
        options: object,
        nodes: Sequence[str],
        run: str,
        clock: Clock,
        log: Callable[[str], None],
    ) -> None:
        """Connect to the servers; raises a `ClientError` if that fails."""
        self._log = log
        self._healed_ns: int | None = None
        with ExitStack() as undo:
            claims = DATABASES[database].claims
            self._watch = None if claims is None else PrimaryWatch(claims(options), clock)
            if self._watch is not None:
                undo.callback(self._watch.close)
                self._watch.open()
            self._probe = _connected_probe(database, options, nodes, run, clock, undo)
            if self._probe is not None:
                self._probe.open()
            self._connections = undo.pop_all()

    def before_healing(self) -> None:
        """Stop the probe's writes, which could hide what a node missed: a fault is about to be undone."""
        if self._probe is not None:
            self._probe.stop_writes()

    def healed(self, moment_ns: int | None) -> None:
        """Check from now on whether the replicas agree; the last fault ended at that moment (None: there was none)."""
        self._healed_ns = moment_ns
        if self._probe is not None:
            self._probe.compare()

    def close(self, hurried: Callable[[], bool]) -> None:
        """Wait until the replicas agree, unless `hurried` returns true, and close the connections."""
        try:
            if self._probe is not None:
                self._probe.close(hurried, self._log, wait=self._healed_ns is not None)
        except ClientError as error:
            self._log(f"the convergence probe left its keys in the database: {error}")
        finally:
            self._connections.close()

    def figures(self) -> Mapping[str, Any]:
        """Return what was observed, as fields of a drill's result."""
        agreed_ns, healed_ns = self._probe.converged_ns if self._probe else None, self._healed_ns
        known = agreed_ns is not None and healed_ns is not None
        return {
            "probed": self._probe is not None,
            "two_primaries_s": list(self._watch.bounds()) if self._watch else None,
            "convergence_wait_s": self._probe.waited_s if self._probe else None,
            "converged_s": max(0, agreed_ns - healed_ns) / NS if known else None,  # type: ignore[operator] # `known`
        }
