"""What all simulated stores share: errors, a queue of events, nodes that go down and return, and a log per key.

No thread runs in the background. An operation decides at its start when it will reach its node, at a time between its
start and its end; the next caller processes all events that are due by then, in the order of their times. That is
sound because an operation that is not known yet starts later, and so reaches its node later, than every event processed
so far. The state of a follower is never stored: each write records when each node applies it, and a read looks up which
writes its node had applied by the time of the read.
"""

import threading
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import NamedTuple

from stalewatch.clients.errors import ErrorTable
from stalewatch.clients.protocol import Answer
from stalewatch.history.clock import Clock
from stalewatch.simulator.options import MemoryOptions, Outage
from stalewatch.simulator.simulated_time import DISTRIBUTIONS, sampler
from stalewatch.simulator.state import HELD, MIN_PRUNED, NEVER, CommandedFaults, Log, LoggedWrite, end_open_periods


class MemoryStoreError(Exception):
    """An operation that the simulated store did not confirm."""


class Timeout(MemoryStoreError):
    """No answer within the client's timeout."""


class Disconnected(MemoryStoreError):
    """The node went down after the operation had reached it and before it answered."""


class NodeSilent(MemoryStoreError):
    """The node is paused, or cut off from clients; the client does not notice until its timeout."""


class OperationRefused(MemoryStoreError):
    """The store rejected the operation."""


class NodeDown(OperationRefused):
    """The node is down, or there is no eligible node that is up."""


class NoLeader(OperationRefused):
    """There is no leader at the moment."""


class TooFewReplicas(OperationRefused):
    """Fewer replicas are available than have to answer, and the coordinator knows it in advance."""


ERRORS: ErrorTable = {
    # Nobody knows how far the operation got, or whether it is still under way.
    Timeout: "unknown",
    NodeSilent: "unknown",
    # It had been applied when the node went down; whether the successor has it depends on the failover.
    Disconnected: "unknown",
    # Rejected before any replica was changed; this includes the subclasses.
    OperationRefused: "fail",
}

RECORDED_NAMES: Mapping[str, str] = {"NodeSilent": "NoAnswer", "OperationRefused": "Refused"}
"""Error names in histories and results, which must not change; other classes are recorded under their own names."""


def nanoseconds(seconds: float) -> int:
    """Return `seconds` in nanoseconds; infinity is `NEVER`."""
    return NEVER if seconds * 1e9 >= NEVER else round(seconds * 1e9)


class ReadChoice(NamedTuple):
    """What a read strategy asks of one read: a location, a majority of the replicas, the version that must be shown.

    An empty location means that of the options. With several leaders, a sibling that is at least the version `seen` is
    shown if the winner is older.
    """

    location: str = ""
    majority: bool = False
    seen: int = 0


AS_CONFIGURED = ReadChoice()


class Store(ABC):
    """A simulated store. Every method except those that only read the options needs `lock`."""

    wipeable = False
    """Whether nodes can lose their disks."""

    def __init__(self, options: MemoryOptions) -> None:
        self.options = options
        self.nodes = options.nodes
        self.lock = threading.Lock()
        self.logs: dict[str, Log] = {}
        self.documents: dict[str, list[str]] = {}
        """The keys of the registers of each document that holds several."""

        self.lost: list[LoggedWrite] = []
        """The writes that a failover or a wiped disk lost, acknowledged or not, in the order of the loss."""

        self.archives: list[tuple[int, dict[str, Log]]] = []
        """The time of each loss, and the logs as they were before it; kept only with `MemoryOptions.remember`."""

        self.read_floor = 0
        """The earliest time that reads look at; a delayed thread may ask for a past that has been discarded."""

        self.faults = CommandedFaults(len(self.nodes))
        self._index: Mapping[str, int] = {name: index for index, name in enumerate(self.nodes)}
        self._locators: dict[str, Callable[[str, int], int]] = {"any": self._any_node, "home": self._home_node}
        self._down: list[list[tuple[int, int]]] = [[] for _ in self.nodes]
        self._faulty = bool(options.outages)
        self._gone: set[int] = set()
        """Nodes that never return."""

        self._events: list[tuple[int, int, LoggedWrite | Callable[[int], None]]] = []
        self._serial = 0
        self._random = Random(f"{options.seed}/store")
        self._lag = sampler(options.lag, self._random, options.lag_s)
        self._memoryless_lag = DISTRIBUTIONS[options.lag].memoryless
        self._retention_ns = 2 * nanoseconds(options.timeout_s)

    @abstractmethod
    def apply(self, moment: int, write: LoggedWrite) -> None:
        """Apply a write at the node that accepts it, or raise `OperationRefused`."""

    @abstractmethod
    def read(self, key: str, moment: int, now: int, choice: ReadChoice = AS_CONFIGURED) -> Answer:
        """Return the answer to a read that reached its node at `moment`; raise `OperationRefused` or `Disconnected`."""

    @abstractmethod
    def version(self, key: str, node: int, moment: int) -> int:
        """Return the version that a node showed at a time in the past; 0 for none."""

    def siblings(self, _key: str, _node: int, _moment: int) -> list[int]:
        """Return the siblings of the version that a node showed; only stores with several leaders have any."""
        return []

    @abstractmethod
    def ready(self, now: int) -> int:
        """Return the earliest time to try a final read: `now` if it is possible, `HELD` or later if it never is."""

    @abstractmethod
    def node_lost(self, node: int, moment: int, until: int, outage: Outage) -> None:
        """Handle the planned outage of a node that was up."""

    @abstractmethod
    def faults_changed(self, moment: int) -> None:
        """Hold or release messages, and review who leads, after nodes or links changed."""

    def wipe(self, node: int, moment: int) -> None:
        """Erase the disk of a node that was just taken down; only if the store is `wipeable`."""
        raise NotImplementedError

    def expect_faults(self) -> None:
        """Prepare for faults by command; call it before the first write, or losses are not known in full."""
        self._faulty = True

    def take_down(self, node: int, moment: int) -> None:
        """Take a node down until `bring_up`."""
        self._down[node].append((moment, HELD))
        self.faults.away.add(node)
        self.faults_changed(moment)

    def bring_up(self, node: int, moment: int) -> None:
        """Bring back a node that was taken down, with its data; do nothing if it is up."""
        end_open_periods(self._down[node], moment)
        self.faults.away.discard(node)
        self.faults_changed(moment)

    def final(self, key: str, now: int) -> Answer:
        """Return everything that a key holds once the store is ready; raise `OperationRefused`."""
        log, node = self.log(key), self._final_node(key, now)
        self._require_responsive(node, now)
        items = [write.item for write in log.writes if write.item is not None] if log.is_list else None
        return Answer("ok", log.newest(), self.nodes[node], items=items)

    def begin(self, now: int) -> None:
        """Schedule the planned outages; their times count from `now`."""
        for outage in self.options.outages:
            start = now + nanoseconds(outage.at_s)
            until = min(NEVER, start + nanoseconds(outage.for_s))
            if outage.node in self._index:
                self._down[self._index[outage.node]].append((start, until))
            self._schedule(start, partial(self._begin_outage, outage, until))
        for periods in self._down:
            periods.sort()

    def submit(self, moment: int, write: LoggedWrite) -> None:
        """Schedule the arrival of a write at its node; `moment` must not precede any event that was processed."""
        write.moment = moment
        self._schedule(moment, write)

    @contextmanager
    def synchronized(self, clock: Clock) -> Iterator[int]:
        """Hold the lock, process every event that is due, and yield the current time."""
        with self.lock:
            now = clock.now()
            self.advance(now)
            yield now

    def advance(self, now: int) -> None:
        """Process every event that is due by `now`."""
        events = self._events
        while events and events[0][0] <= now:
            moment, _, event = heappop(events)
            if not isinstance(event, LoggedWrite):
                event(moment)
                continue
            try:
                self.apply(moment, event)
            except (OperationRefused, NodeSilent) as error:
                event.error = error

    def acknowledge(self, write: LoggedWrite, now: int) -> Answer:
        """Return the answer to a write that was processed, or raise the error that the client gets instead."""
        if write.error is not None:
            raise write.error
        self._require_connection(write.node, write.moment, now)
        write.acknowledged = True
        version = write.value.version if write.draws else None
        return Answer("ok", version, self.nodes[write.node], superseded=write.superseded)

    def up(self, node: int, moment: int) -> bool:
        """Return whether a node is up at that time."""
        return not any(start <= moment < end for start, end in self._down[node])

    def index(self, node: str) -> int:
        """Return the index of a node; raise KeyError for an unknown name."""
        return self._index[node]

    def locate(self, location: str, key: str, moment: int) -> int:
        """Return the node that `location` stands for, or raise `OperationRefused`."""
        locator = self._locators.get(location)
        node = self._index[location] if locator is None else locator(key, moment)
        if self._faulty:
            self._require_responsive(node, moment)
            if not self.up(node, moment):
                raise NodeDown(f"{self.nodes[node]} is down")
        return node

    def readable(self, moment: int) -> list[int]:
        """Return the nodes that may answer reads and can; one that is home to some keys may answer all."""
        location = self.options.reads_at
        named = [self._index[location]] if location in self._index else range(len(self.nodes))
        return [node for node in named if self.up(node, moment) and not self.faults.unresponsive(node, moment)]

    def log(self, key: str) -> Log:
        """Return the log of a key; create it if there is none."""
        log = self.logs.get(key)
        if log is None:
            log = self.logs[key] = Log(len(self.nodes))
        return log

    def remove(self, key: str) -> None:
        """Delete a key."""
        self.logs.pop(key, None)

    def leading(self) -> int | None:
        """Return the node that takes all writes now; None if there is none, or if the store never has one."""
        return None

    def _schedule(self, moment: int, event: LoggedWrite | Callable[[int], None]) -> None:
        self._serial += 1
        heappush(self._events, (moment, self._serial, event))

    def _next_event(self) -> int:
        return self._events[0][0] if self._events else NEVER

    def _begin_outage(self, outage: Outage, until: int, moment: int) -> None:
        node = self.leading() if outage.node == "leader" else self._index[outage.node]
        if node is None:
            return
        if outage.node == "leader":
            self._down[node].append((moment, until))
        if until == NEVER:
            self._gone.add(node)
        self.node_lost(node, moment, until, outage)

    def _final_node(self, key: str, now: int) -> int:
        return self.locate("any", key, now)

    def _any_node(self, _key: str, moment: int) -> int:
        count = len(self.nodes)
        if not self._faulty:
            return int(self._random.random() * count)
        return self._pick([node for node in range(count) if self.up(node, moment)])

    def _pick(self, nodes: list[int]) -> int:
        if not nodes:
            raise NodeDown("no eligible node is up")
        return nodes[int(self._random.random() * len(nodes))]

    def _home_node(self, key: str, _moment: int) -> int:
        return zlib.crc32(key.encode()) % len(self.nodes)

    def _require_responsive(self, node: int, moment: int) -> None:
        if self.faults.unresponsive(node, moment):
            raise NodeSilent(f"{self.nodes[node]} does not answer")

    def _require_connection(self, node: int, since: int, until: int) -> None:
        if self._faulty and self.faults.stopped_responding(node, since, until):
            raise NodeSilent(f"{self.nodes[node]} stopped responding before it answered")
        if self._faulty and any(since < start <= until for start, _ in self._down[node]):
            raise Disconnected(f"{self.nodes[node]} went down before it answered")

    def _delivery(self, previous: int, moment: int) -> int:
        """Return when a write of `moment` is applied at a node that applies the write before it at `previous`.

        With a memoryless lag, it arrives together with the previous write if that one is still under way: the remaining
        lag of the previous write has the same distribution as a new lag. If each write drew its own lag and then waited
        for the earlier ones, lags would grow with the load.
        """
        return previous if self._memoryless_lag and previous > moment else max(previous, moment + self._lag())

    def _up_again(self, node: int, moment: int) -> int:
        """Return when a node that is down at `moment` returns; `moment` itself if it is up."""
        return max((end for start, end in self._down[node] if start <= moment < end), default=moment)

    def _arrival(self, node: int, moment: int) -> int:
        """Return when a message that would reach a node at `moment` reaches it, given the outages."""
        while (back := self._up_again(node, moment)) > moment:
            moment = back if back >= HELD else min(NEVER, back + self._lag())
        return moment

    def _archive(self, moment: int, logs: dict[str, Log]) -> None:
        """Archive the logs that are about to lose writes, and let no read look further back than the loss."""
        self.read_floor = max(self.read_floor, moment)
        if self.options.remember:
            self.archives.append((moment, {key: log.copy() for key, log in logs.items()}))

    def _log_at(self, key: str, moment: int) -> Log | None:
        """Return the log as it was at a time in the past."""
        archived = (logs[key] for until, logs in self.archives if moment < until and key in logs)
        return next(archived, None) or self.logs.get(key)

    def _prune(self, log: Log, now: int) -> None:
        """Drop what no read can ask for any more: no operation lasts longer than the client's timeout."""
        if self.options.remember or log.is_list:
            log.prune_at = NEVER
            return
        limit = now - self._retention_ns
        columns = [column for node, column in enumerate(log.applied) if node not in self._gone]
        shown = (
            index for index in reversed(range(len(log.writes))) if all(column[index] <= limit for column in columns)
        )
        if first := next(shown, 0):
            log.drop_before(first)
            self.read_floor = max(self.read_floor, limit)
        log.prune_at = max(MIN_PRUNED, 2 * len(log.writes))
