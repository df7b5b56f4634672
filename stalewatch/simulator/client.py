"""A simulated replicated store whose truth is known: the database that needs no server.

What it can be and what can go wrong in it: `stalewatch.simulator.options`. What its errors mean: `stalewatch.simulator.errors`.
What is known about it beyond what its sessions see: `stalewatch.simulator.truth`.
"""

from collections.abc import Mapping, Sequence
from random import Random

from stalewatch.clients.errors import BadAddress, ClientError, Failure, classify
from stalewatch.clients.protocol import Answer, Levels, Value
from stalewatch.history.clock import Clock
from stalewatch.simulator.delays import sampler
from stalewatch.simulator.errors import ERRORS, MemoryStoreError, NoAnswer, Refused, Timeout, TooFewReplicas
from stalewatch.simulator.faults import HELD, NEVER
from stalewatch.simulator.leaderless import QuorumStore
from stalewatch.simulator.log import Write
from stalewatch.simulator.multi_leader import LeadersStore
from stalewatch.simulator.options import MemoryOptions
from stalewatch.simulator.simulated_time import SimulatedClock
from stalewatch.simulator.single_leader import LeaderStore
from stalewatch.simulator.store import Store, nanoseconds
from stalewatch.simulator.truth import Truth

STORES: Mapping[str, type[Store]] = {
    "linearizable": LeaderStore,
    "leader": LeaderStore,
    "quorum": QuorumStore,
    "multi-leader": LeadersStore,
}
"""The store of each topology; a linearizable one is a leader alone."""

Plan = tuple[int, int, MemoryStoreError | None]
"""When an operation reaches its node (`NEVER`: not at all), when the client hears of it, and what, if no answer."""


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
        self._patience = nanoseconds(options.timeout_s)
        self._refusals = options.refusals
        self._mishaps = options.refusals + options.timeouts
        self._applied = options.timeouts_applied

    def read(self, key: str) -> Answer:
        """Read a register where the options say; raise a `stalewatch.simulator.errors.MemoryStoreError`."""
        start = self._clock.now()
        moment, end, error = self._plan(start)
        self._sleep_until(end)
        if error is not None:
            raise error
        try:
            with self._store.lock:
                now = self._clock.now()
                self._store.settle(now)
                return self._store.read(key, moment, now)
        except NoAnswer as silence:
            raise self._out_of_time(start) from silence

    def write(self, key: str, value: Value) -> Answer:
        """Raise a register to the value's version; raise a `stalewatch.simulator.errors.MemoryStoreError`."""
        return self._send(Write(key, value))

    def append(self, key: str, item: str | int) -> Answer:
        """Append an item to a list; raise a `stalewatch.simulator.errors.MemoryStoreError`."""
        return self._send(Write(key, Value(0, self._name), item=item))

    def draw(self, key: str) -> Answer:
        """Draw an id, the answer's version, from a counter; raise a `stalewatch.simulator.errors.MemoryStoreError`."""
        return self._send(Write(key, Value(0, self._name), draws=True))

    def _send(self, write: Write) -> Answer:
        with self._store.lock:
            # Under the lock, or another thread could settle past the moment before this write is known.
            start = self._clock.now()
            moment, end, error = self._plan(start)
            if moment < NEVER:
                self._store.submit(moment, write)
        self._sleep_until(end)
        if error is not None:
            raise error
        try:
            return self._await(write, end - moment, start + self._patience)
        except NoAnswer as silence:
            raise self._out_of_time(start) from silence

    def _await(self, write: Write, back: int, deadline: int) -> Answer:
        """Wait for the nodes that have to have the write too; the way `back` begins with the last one's word.

        A fault may put that off while we wait.
        """
        while True:
            with self._store.lock:
                now = self._clock.now()
                self._store.settle(now)
                acknowledged = write.acked_at + back
                if acknowledged <= now:
                    return self._store.confirm(write, now)
            if now >= deadline:
                raise Timeout("too few nodes confirmed the write in time")
            self._sleep_until(min(acknowledged, deadline))

    def _out_of_time(self, start: int) -> Timeout:
        """Wait for the answer that does not come, as long as the client does."""
        self._sleep_until(start + self._patience)
        return Timeout("the node does not answer")

    def _plan(self, start: int) -> Plan:
        service = self._service()
        # Strictly inside the operation, so that which of two operations is earlier never hangs on a tie at its ends.
        moment = start + min(service, 1 + int((service - 2) * self._random()))
        if self._mishaps:
            chance = self._random()
            if chance < self._refusals:
                return NEVER, start + service, Refused("the store was told to refuse a share of operations")
            if chance < self._mishaps:
                return self._delay(start)
        if service > self._patience:
            return moment, start + self._patience, Timeout("the answer took too long")
        return moment, start + service, None

    def _delay(self, start: int) -> Plan:
        """Return the plan of an operation that times out: it never arrives, or before the time-out, or after it."""
        arrives = self._random() < self._applied
        moment = start + 1 + int(2 * self._patience * self._random()) if arrives else NEVER
        return moment, start + self._patience, Timeout("the store was told to let a share of operations time out")

    def _sleep_until(self, end: int) -> None:
        # In a loop, because a timer of an event loop may fire a little early.
        while (left := end - self._clock.now()) > 0:
            self._clock.sleep(left / 1e9)


class MemoryClient:
    """The simulated store of one process, with its truth; every client has a store of its own.

    Raises `stalewatch.clients.errors.BadAddress` for operations that take no time on a simulated clock.
    """

    database = "memory"

    def __init__(self, options: MemoryOptions, clock: Clock) -> None:
        if options.service_s == 0 and isinstance(clock, SimulatedClock):
            raise BadAddress("memory store: service_s is 0; simulated time passes only while operations take some")
        self.clock = clock
        self.options = options
        self.store = STORES[options.topology](options)
        """For who breaks it by command; its methods need its lock."""
        self._prepared = False
        self.truth = Truth(self.store, clock)
        """What is known about the store beyond what its sessions see."""

    def prepare(self) -> None:
        """Start the outages' clock."""
        with self.store.lock:
            if not self._prepared:
                self.store.begin(self.clock.now())
            self._prepared = True

    def preload(self, keys: Sequence[str], payload: str) -> None:
        """Create every key at version 0 (its payload is not kept); raise `ClientError` for a key that exists."""
        del payload
        with self.store.lock:
            existing = next((key for key in keys if key in self.store.logs), None)
            if existing is not None:
                raise ClientError(f"memory store: key {existing!r} exists already; give the run keys of its own")
            for key in keys:
                self.store.log(key)

    def session(self, name: str) -> MemorySession:
        """Open a session; its name and the seed decide what befalls it."""
        return MemorySession(self.store, self.clock, name)

    def final(self, key: str) -> Answer:
        """Return all that the key holds, once there is a leader, all replicas are up, or both leaders agree.

        Raises `TooFewReplicas` when that will never be.
        """
        while True:
            with self.store.lock:
                now = self.clock.now()
                self.store.settle(now)
                ready = self.store.ready(now)
                if ready <= now:
                    return self.store.final(key, now)
            if ready >= HELD:
                raise TooFewReplicas("nodes that a final read needs are lost, or cut off")
            self.clock.sleep((ready - now) / 1e9)

    def create_lists(self, keys: Sequence[str]) -> None:
        """Create empty lists; raise `ClientError` for a key that exists."""
        self.preload(keys, "")

    create_counters = create_lists
    final_items = final

    def explain(self, error: BaseException) -> Failure:
        """Say what an exception means for the operation that it ended."""
        return classify(error, ERRORS)

    def settings(self) -> dict[str, object]:
        """Return what kind of store it is and where its sessions read and write."""
        options = self.store.options
        return {"topology": options.topology, "reads_at": options.reads_at, "writes_at": options.writes_at}

    def levels(self) -> Levels:
        """Return the nodes that confirm a write, and who answers reads."""
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
