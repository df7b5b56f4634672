"""The client of a simulated replicated store, and the truth about that store beyond what its sessions see.

What can be configured is in `stalewatch.simulator.options`, and the errors are in `stalewatch.simulator.store`.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import NamedTuple

from stalewatch.clients.errors import BadAddress, ClientError, Failure, classify
from stalewatch.clients.protocol import DOCUMENT_SEPARATOR, Answer, Levels, Value
from stalewatch.clients.read_strategies import Reads, recorded_times
from stalewatch.history.clock import Clock
from stalewatch.history.operation import replace
from stalewatch.simulator.leaderless import LeaderlessStore
from stalewatch.simulator.multi_leader import MultiLeaderStore
from stalewatch.simulator.options import MemoryOptions
from stalewatch.simulator.reading import reads
from stalewatch.simulator.simulated_time import DISTRIBUTIONS, SimulatedClock, probability_pending, sampler
from stalewatch.simulator.single_leader import SingleLeaderStore
from stalewatch.simulator.state import HELD, NEVER, LoggedWrite
from stalewatch.simulator.store import (
    AS_CONFIGURED,
    ERRORS,
    RECORDED_NAMES,
    MemoryStoreError,
    NodeSilent,
    OperationRefused,
    ReadChoice,
    Store,
    Timeout,
    TooFewReplicas,
    nanoseconds,
)

STORES: Mapping[str, type[Store]] = {
    "linearizable": SingleLeaderStore,
    "leader": SingleLeaderStore,
    "quorum": LeaderlessStore,
    "multi-leader": MultiLeaderStore,
}
"""The store of each topology; a linearizable one is a leader without followers."""

Plan = tuple[int, int, MemoryStoreError | None]
"""When an operation reaches its node (`NEVER`: not at all), when the client's call ends, and its error, if any."""


class MemorySession:
    """One session of the simulated store: reads, writes, appends to lists, and draws of ids."""

    def __init__(self, store: Store, clock: Clock, name: str) -> None:
        options = store.options
        random = Random(f"{options.seed}/session/{name}")
        self._store = store
        self._clock = clock
        self._name = name
        self._random = random.random
        self._service = sampler(options.service, random, options.service_s)
        self._timeout_ns = nanoseconds(options.timeout_s)
        self._refusals = options.refusals
        self._failures = options.refusals + options.timeouts
        self._applied = options.timeouts_applied
        self._reads: Reads | None = None
        if options.read_strategy != "plain":
            self._reads = reads(self._ask, store, clock, Random(f"{options.seed}/reads/{name}"), explain)
        self.times = None if self._reads is None else recorded_times(self._reads)

    def read(self, key: str) -> Answer:
        """Read a register as the read strategy says; raise a `MemoryStoreError`."""
        return self._ask(key, AS_CONFIGURED) if self._reads is None else self._reads.read(key)

    def _ask(self, key: str, choice: ReadChoice) -> Answer:
        """Read a register once; raise a `MemoryStoreError`."""
        start = self._clock.now()
        moment, end, error = self._plan(start)
        self._sleep_until(end)
        if error is not None:
            raise error
        try:
            with self._store.lock:
                now = self._clock.now()
                self._store.advance(now)
                answer = self._store.read(key, moment, now, choice)
                return self._with_document(key, answer, moment) if DOCUMENT_SEPARATOR in key else answer
        except NodeSilent as silence:
            raise self._timed_out(start) from silence

    def _with_document(self, key: str, answer: Answer, moment: int) -> Answer:
        """Add the versions of all registers of the document, as the same node showed them at the same moment."""
        store, node = self._store, self._store.index(answer.node or "")
        moment, keys = max(moment, store.read_floor), store.documents[key.partition(DOCUMENT_SEPARATOR)[0]]
        return replace(answer, beside={one: store.version(one, node, moment) for one in keys})

    def write(self, key: str, value: Value) -> Answer:
        """Raise a register to the value's version; raise a `MemoryStoreError`."""
        if self._reads is None:
            return self._send(LoggedWrite(key, value))
        answer = None
        try:
            answer = self._send(LoggedWrite(key, value))
        finally:
            self._reads.wrote(key, value.version, answer)
        return answer

    def append(self, key: str, item: str | int) -> Answer:
        """Append an item to a list; raise a `MemoryStoreError`."""
        return self._send(LoggedWrite(key, Value(0, self._name), item=item))

    def draw(self, key: str) -> Answer:
        """Draw an id, the answer's version, from a counter; raise a `MemoryStoreError`."""
        return self._send(LoggedWrite(key, Value(0, self._name), draws=True))

    def _send(self, write: LoggedWrite) -> Answer:
        with self._store.lock:
            # Under the lock, or another thread could advance the store beyond `moment` before this write is known.
            start = self._clock.now()
            moment, end, error = self._plan(start)
            if moment < NEVER:
                self._store.submit(moment, write)
        self._sleep_until(end)
        if error is not None:
            raise error
        try:
            return self._await_acknowledgement(write, end - moment, start + self._timeout_ns)
        except NodeSilent as silence:
            raise self._timed_out(start) from silence

    def _await_acknowledgement(self, write: LoggedWrite, response_ns: int, deadline: int) -> Answer:
        """Wait until the required nodes have the write, and for the response, which takes `response_ns` from then.

        Faults may postpone the acknowledgement while we wait.
        """
        while True:
            with self._store.lock:
                now = self._clock.now()
                self._store.advance(now)
                acknowledged = write.acked_at + response_ns
                if acknowledged <= now:
                    return self._store.acknowledge(write, now)
            if now >= deadline:
                raise Timeout("too few nodes acknowledged the write in time")
            self._sleep_until(min(acknowledged, deadline))

    def _timed_out(self, start: int) -> Timeout:
        """Wait until the client's timeout, and return the error."""
        self._sleep_until(start + self._timeout_ns)
        return Timeout("the node does not answer")

    def _plan(self, start: int) -> Plan:
        service = self._service()
        # Strictly within the operation, so that the order of two operations never depends on a tie at their ends.
        moment = start + min(service, 1 + int((service - 2) * self._random()))
        if self._failures:
            chance = self._random()
            if chance < self._refusals:
                return NEVER, start + service, OperationRefused("refused, as configured by --refusals")
            if chance < self._failures:
                return self._plan_timeout(start)
        if service > self._timeout_ns:
            return moment, start + self._timeout_ns, Timeout("the answer took too long")
        return moment, start + service, None

    def _plan_timeout(self, start: int) -> Plan:
        """Plan an operation that times out: it reaches its node before the timeout, after it, or never."""
        arrives = self._random() < self._applied
        moment = start + 1 + int(2 * self._timeout_ns * self._random()) if arrives else NEVER
        return moment, start + self._timeout_ns, Timeout("timed out, as configured by --timeouts")

    def _sleep_until(self, end: int) -> None:
        # In a loop, because an event loop's timer may fire slightly early.
        while (left := end - self._clock.now()) > 0:
            self._clock.sleep(left / 1e9)


def explain(error: BaseException) -> Failure:
    """Return what an exception means for the operation that it ended."""
    failure = classify(error, ERRORS)
    return Failure(failure.outcome, RECORDED_NAMES.get(failure.error, failure.error))


class MemoryClient:
    """The client of a simulated store; every client has its own store.

    Raises `stalewatch.clients.errors.BadAddress` if operations take no time although the clock is simulated.
    """

    database = "memory"

    def __init__(self, options: MemoryOptions, clock: Clock) -> None:
        if options.service_s == 0 and isinstance(clock, SimulatedClock):
            raise BadAddress("memory store: --service is 0, but simulated time passes only during operations")
        self.clock = clock
        self.options = options
        self.store = STORES[options.topology](options)
        """For commands that inject faults; its methods need its lock."""
        self.truth = Truth(self.store, clock)
        self._prepared = False

    def prepare(self) -> None:
        """Start the clock of the planned outages."""
        with self.store.lock:
            if not self._prepared:
                self.store.begin(self.clock.now())
            self._prepared = True

    def preload(self, keys: Sequence[str], payload: str) -> None:
        """Create every key at version 0 (the payload is ignored); raise `ClientError` for a key that exists."""
        del payload
        with self.store.lock:
            existing = next((key for key in keys if key in self.store.logs), None)
            if existing is not None:
                raise ClientError(f"memory store: key {existing!r} exists already; every run needs its own keys")
            for key in keys:
                self.store.log(key)

    def create_documents(self, documents: Sequence[str], registers: Sequence[str], payload: str) -> None:
        """Create documents of several registers; raise `BadAddress` if a node may show their writes in any order."""
        options = self.options
        if not isinstance(self.store, SingleLeaderStore) or options.lag_order != "store":
            raise BadAddress(f"--co-locate: with --topology {options.topology} no order of writes is promised")
        for document in documents:
            keys = [f"{document}{DOCUMENT_SEPARATOR}{name}" for name in registers]
            self.preload(keys, payload)
            self.store.documents[document] = keys

    def remove_documents(self, documents: Sequence[str], registers: Sequence[str]) -> None:
        """Delete documents."""
        self.remove([f"{document}{DOCUMENT_SEPARATOR}{name}" for document in documents for name in registers])

    def session(self, name: str) -> MemorySession:
        """Open a session; its name and the seed determine its delays and failures."""
        return MemorySession(self.store, self.clock, name)

    def final(self, key: str) -> Answer:
        """Return everything that a key holds, once there is a leader, all replicas are up, or both leaders agree.

        Raises `TooFewReplicas` if that will never happen.
        """
        while True:
            with self.store.synchronized(self.clock) as now:
                ready = self.store.ready(now)
                if ready <= now:
                    return self.store.final(key, now)
            if ready >= HELD:
                raise TooFewReplicas("nodes that a final read needs are down or cut off")
            self.clock.sleep((ready - now) / 1e9)

    def create_lists(self, keys: Sequence[str]) -> None:
        """Create empty lists; raise `ClientError` for a key that exists."""
        self.preload(keys, "")

    create_counters = create_lists
    final_items = final

    def explain(self, error: BaseException) -> Failure:
        """Return what an exception means for the operation that it ended."""
        return explain(error)

    def settings(self) -> dict[str, object]:
        """Return the topology, and where sessions read and write."""
        options = self.store.options
        return {"topology": options.topology, "reads_at": options.reads_at, "writes_at": options.writes_at}

    def levels(self) -> Levels:
        """Return the number of nodes that acknowledge a write, and the nodes that answer reads."""
        options = self.store.options
        read = f"r={options.read_acks}" if options.topology == "quorum" else options.reads_at
        return Levels(f"w={options.write_acks}", read)

    def remove(self, keys: Sequence[str]) -> None:
        """Delete keys."""
        with self.store.lock:
            for key in keys:
                self.store.remove(key)

    remove_lists = remove_counters = remove

    def close(self) -> None:
        """Do nothing: there is no connection."""


class DroppedWrite(NamedTuple):
    """A write that the store had accepted, and that a failover or a wiped disk lost."""

    key: str
    version: int
    item: str | int | None
    superseded: bool


class Truth:
    """What one simulated store really did: the reference for measured rates.

    Nodes are given by name, times in nanoseconds since the epoch. The past is complete only with
    `MemoryOptions.remember`; otherwise the last two client timeouts are known.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def shown(self, key: str, node: str, moment: int) -> int:
        """Return the version that a node showed at a time in the past."""
        with self._store.synchronized(self._clock):
            return self._store.version(key, self._store.index(node), moment)

    def siblings(self, key: str, node: str, moment: int) -> list[int]:
        """Return the siblings of the version that one of two leaders showed."""
        with self._store.synchronized(self._clock):
            return self._store.siblings(key, self._store.index(node), moment)

    def lost(self) -> list[DroppedWrite]:
        """Return the acknowledged writes that were lost, in the order of their loss."""
        with self._store.synchronized(self._clock):
            lost = [write for write in self._store.lost if write.acknowledged]
        return [DroppedWrite(write.key, write.value.version, write.item, write.superseded) for write in lost]

    def applied(self, key: str, version: int) -> dict[str, int]:
        """Return when each node applied a version, or will; raise ValueError if the store does not hold it."""
        with self._store.synchronized(self._clock):
            write = self._find(key, version)
            log = self._store.logs[key]
            place = log.writes.index(write)
            return {node: log.applied[index][place] for index, node in enumerate(self._store.nodes)}

    def stale_probability(self, key: str, version: int, moment: int) -> float:
        """Return the probability that a read at `moment` shows neither a version nor a newer one.

        With a leader: a read of any one follower, given when the leader accepted its writes; for an exponential lag
        this is exp(-age / mean). In a quorum: a read at any coordinator, while the version is the newest. Both require
        `write_acks` of 1 (an acknowledgement by other nodes is information about their lag), no outages, and
        `remember`. Raises ValueError if the store does not hold the version.
        """
        options = self._store.options
        with self._store.synchronized(self._clock):
            ages = self._ages(key, self._find(key, version), moment)
            pending = probability_pending(options.lag, options.lag_s, ages)
        if not isinstance(self._store, LeaderlessStore):
            return pending
        replicas, asked = len(self._store.nodes), options.count(options.read_acks)
        return (1 - asked / replicas) * pending**asked

    def _find(self, key: str, version: int) -> LoggedWrite:
        log = self._store.logs.get(key)
        found = [write for write in log.writes if write.value.version == version] if log else []
        if not found:
            raise ValueError(f"the store holds no version {version} of {key!r}; older ones need MemoryOptions.remember")
        return found[0]

    def _ages(self, key: str, write: LoggedWrite, moment: int) -> Iterator[float]:
        """Yield how many seconds ago the write was accepted, and then those writes whose delays hold it up."""
        accepted = [write.moment]
        if isinstance(self._store, SingleLeaderStore) and not DISTRIBUTIONS[self._store.options.lag].memoryless:
            of_key = [other.moment for other in self._store.logs[key].writes]
            accepted = of_key if self._store.options.lag_order == "key" else self._store.moments
        for index in reversed(range(bisect_right(accepted, write.moment))):
            yield (moment - accepted[index]) / 1e9
