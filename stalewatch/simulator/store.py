"""What every simulated store has: a queue of events, nodes that are lost and come back, and a log a key.

No thread runs in the background. An operation says at its start when it will reach its node, a moment between its start
and its end; whoever comes next lets all happen that is due by then, in the order of those moments. That is sound
because an operation that is not known yet starts later, and so reaches its node later, than everything settled so far.
The state of a follower is never stored: each write carries the moments at which the nodes apply it, and a read asks
which writes had been applied at its node by its own moment.
"""

import threading
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from heapq import heappop, heappush
from random import Random

from stalewatch.clients.protocol import Answer
from stalewatch.simulator.delays import DISTRIBUTIONS, sampler
from stalewatch.simulator.errors import Disconnected, NoAnswer, NodeDown, Refused
from stalewatch.simulator.faults import HELD, NEVER, Broken, end_held
from stalewatch.simulator.log import SHORT, Log, Write
from stalewatch.simulator.options import MemoryOptions, Outage


def nanoseconds(seconds: float) -> int:
    """Return `seconds` in nanoseconds; infinity is `NEVER`."""
    return NEVER if seconds * 1e9 >= NEVER else round(seconds * 1e9)


class Store(ABC):
    """A simulated store; every method needs `lock`, but for those that only read the options."""

    def __init__(self, options: MemoryOptions) -> None:
        self.options = options
        self.nodes = options.nodes
        self.lock = threading.Lock()
        self.logs: dict[str, Log] = {}
        self.lost: list[Write] = []
        """What a failover or an empty disk took away, acknowledged or not, in the order of the loss."""

        self.fallen: list[tuple[int, dict[str, Log]]] = []
        """When that happened, and the logs as they were until then; kept only where the past is remembered."""

        self.floor = 0
        """Reads reach no further back; a thread that is held up may ask for a past that is gone."""

        self._index: Mapping[str, int] = {name: index for index, name in enumerate(self.nodes)}
        self._finders: dict[str, Callable[[str, int], int]] = {"any": self._any, "home": self._home}
        self._down: list[list[tuple[int, int]]] = [[] for _ in self.nodes]
        self._faulty = bool(options.outages)
        self.broken = Broken(len(self.nodes))
        self._gone: set[int] = set()
        self._events: list[tuple[int, int, Write | Callable[[int], None]]] = []
        self._serial = 0
        self._random = Random(f"{options.seed}/store")
        self._lag = sampler(options.lag, self._random, options.lag_s)
        self._rides = DISTRIBUTIONS[options.lag].memoryless
        self._patience = 2 * nanoseconds(options.timeout_s)

    @abstractmethod
    def perform(self, moment: int, write: Write) -> None:
        """Take a write at its node, or raise `Refused`."""

    @abstractmethod
    def read(self, key: str, moment: int, now: int) -> Answer:
        """Return what a read that reached its node at `moment` shows; raise `Refused` or `Disconnected`."""

    @abstractmethod
    def version(self, key: str, node: int, moment: int) -> int:
        """Return the version that a node showed at a moment that is past; 0 for none."""

    def siblings(self, _key: str, _node: int, _moment: int) -> list[int]:
        """Return the versions beside the one that a node showed; only two leaders have any."""
        return []

    @abstractmethod
    def ready(self, now: int) -> int:
        """Return when a final read is worth trying: `now` when it can be had, `NEVER` when it cannot."""

    @abstractmethod
    def lose(self, node: int, moment: int, until: int, outage: Outage) -> None:
        """Lose a node that is up until now."""

    def expect_faults(self) -> None:
        """Get ready for faults that come by command; before the first write, or what was lost is not known in full."""
        self._faulty = True

    def leave(self, node: int, moment: int) -> None:
        """Lose a node until `come_back`."""
        self._down[node].append((moment, HELD))
        self.broken.away.add(node)
        self.rethink(moment)

    def come_back(self, node: int, moment: int) -> None:
        """Have a node back that was lost by command, with all that it had; nothing where it was not."""
        end_held(self._down[node], moment)
        self.broken.away.discard(node)
        self.rethink(moment)

    @abstractmethod
    def rethink(self, moment: int) -> None:
        """Hold or let go what is on its way, after nodes or links changed; see what that means for who leads."""

    @property
    def wipeable(self) -> bool:
        """Whether nodes can lose their disks."""
        return False

    def wipe(self, node: int, moment: int) -> None:
        """Empty the disk of a node that has just left, in a store that is wipeable."""
        raise Refused(f"{self.nodes[node]} of a {self.options.topology} store cannot be wiped at {moment}")

    def final(self, key: str, now: int) -> Answer:
        """Return all that the key holds, once it is ready; raise `Refused`."""
        log, node = self.log(key), self._final_node(key, now)
        self._check_answers(node, now)
        items = [write.item for write in log.writes if write.item is not None] if log.ledger else None
        return Answer("ok", log.newest(), self.nodes[node], items=items)

    def begin(self, now: int) -> None:
        """Count the outages' times from `now`."""
        for outage in self.options.outages:
            start = now + nanoseconds(outage.at_s)
            until = min(NEVER, start + nanoseconds(outage.for_s))
            if outage.node in self._index:
                self._down[self._index[outage.node]].append((start, until))
            self._at(start, partial(self._begin_outage, outage, until))
        for outages in self._down:
            outages.sort()

    def submit(self, moment: int, write: Write) -> None:
        """Have a write reach its node at `moment`, which must not lie before anything settled."""
        write.moment = moment
        self._at(moment, write)

    def settle(self, now: int) -> None:
        """Let everything happen that is due by `now`."""
        events = self._events
        while events and events[0][0] <= now:
            moment, _, event = heappop(events)
            if not isinstance(event, Write):
                event(moment)
                continue
            try:
                self.perform(moment, event)
            except (Refused, NoAnswer) as error:
                event.refused = error

    def confirm(self, write: Write, now: int) -> Answer:
        """Return the answer to a settled write, or raise what the client gets instead."""
        if write.refused is not None:
            raise write.refused
        self._check_connection(write.node, write.moment, now)
        write.acknowledged = True
        version = write.value.version if write.draws else None
        return Answer("ok", version, self.nodes[write.node], superseded=write.superseded)

    def up(self, node: int, moment: int) -> bool:
        """Say whether a node is up at a moment."""
        return not any(start <= moment < end for start, end in self._down[node])

    def index(self, node: str) -> int:
        """Return a node's place; KeyError for a name that is none."""
        return self._index[node]

    def locate(self, place: str, key: str, moment: int) -> int:
        """Return the node that `place` means, or raise `Refused`."""
        finder = self._finders.get(place)
        node = self._index[place] if finder is None else finder(key, moment)
        if self._faulty:
            self._check_answers(node, moment)
            if not self.up(node, moment):
                raise NodeDown(f"{self.nodes[node]} is down")
        return node

    def log(self, key: str) -> Log:
        """Return the key's log, made at need."""
        log = self.logs.get(key)
        if log is None:
            log = self.logs[key] = Log(len(self.nodes))
        return log

    def remove(self, key: str) -> None:
        """Forget a key."""
        self.logs.pop(key, None)

    def _at(self, moment: int, event: Write | Callable[[int], None]) -> None:
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
        self.lose(node, moment, until, outage)

    def _final_node(self, key: str, now: int) -> int:
        return self.locate("any", key, now)

    def leading(self) -> int | None:
        """Return the node that takes all writes now; None where there is none, or never one."""
        return None

    def _any(self, _key: str, moment: int) -> int:
        count = len(self.nodes)
        if not self._faulty:
            return int(self._random.random() * count)
        return self._pick([node for node in range(count) if self.up(node, moment)])

    def _pick(self, nodes: list[int]) -> int:
        if not nodes:
            raise NodeDown("no node to ask is up")
        return nodes[int(self._random.random() * len(nodes))]

    def _home(self, key: str, _moment: int) -> int:
        return zlib.crc32(key.encode()) % len(self.nodes)

    def _check_answers(self, node: int, moment: int) -> None:
        if self.broken.silent(node, moment):
            raise NoAnswer(f"{self.nodes[node]} does not answer")

    def _check_connection(self, node: int, since: int, until: int) -> None:
        if self._faulty and self.broken.fell_silent(node, since, until):
            raise NoAnswer(f"{self.nodes[node]} fell silent before it answered")
        if self._faulty and any(since < start <= until for start, _ in self._down[node]):
            raise Disconnected(f"{self.nodes[node]} was lost before it answered")

    def _after(self, last: int, moment: int) -> int:
        """Return when a write of `moment` is applied where the one before it is at `last`.

        Where lags have no memory, it rides with the one before it that is still on its way: that lag is as likely as
        one of its own. Were each to draw its own and wait for those before it, lags would grow with the load.
        """
        return last if self._rides and last > moment else max(last, moment + self._lag())

    def _back(self, node: int, moment: int) -> int:
        """Return when a node that is down at `moment` is back; `moment` itself if it is up."""
        return max((end for start, end in self._down[node] if start <= moment < end), default=moment)

    def _arrival(self, node: int, moment: int) -> int:
        """Return when what would reach a node at `moment` reaches it, outages considered."""
        while (back := self._back(node, moment)) > moment:
            moment = back if back >= HELD else min(NEVER, back + self._lag())
        return moment

    def _archive(self, moment: int, logs: dict[str, Log]) -> None:
        """Keep the logs that are about to lose writes, and let no read reach behind the loss."""
        self.floor = max(self.floor, moment)
        if self.options.remember:
            self.fallen.append((moment, {key: log.copy() for key, log in logs.items()}))

    def _log_at(self, key: str, moment: int) -> Log | None:
        """Return the log as it was at a moment that is past."""
        fallen = (logs[key] for until, logs in self.fallen if moment < until and key in logs)
        return next(fallen, None) or self.logs.get(key)

    def _prune(self, log: Log, now: int) -> None:
        """Forget what no read can ask for any more: no operation lasts longer than the client's time-out."""
        if self.options.remember or log.ledger:
            log.prune_at = NEVER
            return
        limit = now - self._patience
        living = [column for node, column in enumerate(log.applied) if node not in self._gone]
        shown = (
            place for place in reversed(range(len(log.writes))) if all(column[place] <= limit for column in living)
        )
        if first := next(shown, 0):
            log.forget(first)
            self.floor = max(self.floor, limit)
        log.prune_at = max(SHORT, 2 * len(log.writes))
