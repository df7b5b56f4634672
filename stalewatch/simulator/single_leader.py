"""One leader that takes every write, and followers that apply them later; with no follower, a linearizable store."""

from bisect import bisect_right
from functools import partial
from operator import itemgetter, le

from stalewatch.clients.protocol import Answer
from stalewatch.simulator.errors import NoLeader
from stalewatch.simulator.faults import HELD, hold, release
from stalewatch.simulator.log import Log, Write
from stalewatch.simulator.options import MemoryOptions, Outage
from stalewatch.simulator.store import Store, nanoseconds


class LeaderStore(Store):
    """A leader and its followers, which apply its writes in its order."""

    def __init__(self, options: MemoryOptions) -> None:
        super().__init__(options)
        self.moments: list[int] = []
        """When the leader took each write that it logged; kept only where the past is remembered."""

        self._acks = options.count(options.write_acks)
        self._place = options.reads_at
        self._leader: int | None = 0
        self._reigns: list[tuple[int, int | None]] = [(0, 0)]
        self._last = [0] * len(self.nodes) if options.lag_order == "store" else None
        self._may_lose = any(outage.writes == "loses" for outage in options.outages)
        self.failover = Outage(0)
        """What becomes of a leader that is lost, or cut off, by command: `takeover_s` and `writes`."""

        self._former: int | None = None
        """Who led last, where there is no leader for a fault by command; it leads again if it is back in time."""

        self._elections = 0
        self._called = False
        """Whether an election is to come."""
        self._vacant = False
        """Whether the last election found nobody to lead."""
        self._finders = {"any": self._any, "leader": self._leader_at, "follower": self._follower_at}

    def perform(self, moment: int, write: Write) -> None:
        """Log a write at the leader, unless a newer one stands; its followers' moments are settled with it."""
        leader = self._leader
        if leader is None:
            raise NoLeader("there is no leader")
        self._check_answers(leader, moment)
        write.node = leader
        log = self.log(write.key)
        write.succeed(log.newest())
        if write.item is None and log.writes and log.newest() >= write.value.version:
            self._supersede(moment, write, log)
            return
        arrivals = self._replicate(moment, leader, log)
        write.acked_at = moment if self._acks == 1 else sorted(arrivals)[self._acks - 1]
        log.add(write, arrivals)
        if len(log.writes) >= log.prune_at:
            self._prune(log, moment)

    def read(self, key: str, moment: int, now: int) -> Answer:
        """Return what the chosen node showed at `moment`."""
        moment = max(moment, self.floor)
        node = self.locate(self._place, key, moment)
        self._check_connection(node, moment, now)
        log = self.logs.get(key)
        write = None if log is None else _shown(log, node, moment)
        if write is None:
            return Answer("ok", 0, self.nodes[node])
        return Answer("ok", write.value.version, self.nodes[node], None, write.value.depends)

    def version(self, key: str, node: int, moment: int) -> int:
        """Return the version that a node showed, before a failover too if the past is remembered."""
        log = self._log_at(key, moment)
        write = None if log is None else _shown(log, node, moment)
        return 0 if write is None else write.value.version

    def ready(self, now: int) -> int:
        """Wait for a leader that is there to stay."""
        if self._leader is not None:
            return now if not self.broken or self._backed(self._leader) else HELD
        return self._next_event()

    def lose(self, node: int, moment: int, until: int, outage: Outage) -> None:
        """Lose a node; where it leads, a follower takes over, or the node itself when it is back sooner."""
        if node != self._leader:
            return
        takeover = moment + nanoseconds(outage.takeover_s)
        successor = self._successor(moment, takeover)
        self._reign(None, moment)
        if until <= takeover or successor is None:
            self._at(until, partial(self._reign, node))
            return
        if outage.writes == "loses":
            self._fall_back(successor, moment)
        else:
            self._catch_up(successor, moment, takeover)
        self._at(takeover, partial(self._reign, successor))

    def leading(self) -> int | None:
        """Return the leader."""
        return self._leader

    def expect_faults(self) -> None:
        """Get ready for faults that come by command."""
        super().expect_faults()
        self._may_lose = True

    def rethink(self, moment: int) -> None:
        """Hold what nodes that left, or links that were cut, keep from followers; let a leader go, or come back."""
        away = self.broken.away
        if self._leader in away:
            self._former = self._leader
            self._reign(None, moment)
            self._call_election(moment)
        elif self._leader is None and self._former is not None and self._former not in away:
            self._reign(self._former, moment)
            self._called = False
        elif self._leader is None and self._vacant:
            self._elect(self._elections, moment)
        if self._deposed() and not self._called:
            self._call_election(moment)
        self._pass_on(moment)

    @property
    def wipeable(self) -> bool:
        """Where a store has one node alone, an empty disk says nothing about replication."""
        return len(self.nodes) > 1

    def wipe(self, node: int, moment: int) -> None:
        """Empty the disk of a node that has just left; it is sent everything when it is back."""
        del moment
        if self._former == node:
            self._former = None
        for log in self.logs.values():
            log.applied[node] = [HELD] * len(log.writes)

    def _pass_on(self, moment: int) -> None:
        """Hold what the leader cannot send, and send what was held and can be."""
        hold(self.logs.values(), moment, self._reaches, self._acks)
        arrivals = [moment if node == self._leader else moment + self._lag() for node in range(len(self.nodes))]
        release(self.logs.values(), moment, self._reaches, arrivals, self._acks)
        if self._last is not None:
            self._last = [max(last, arrival) for last, arrival in zip(self._last, arrivals, strict=True)]

    def _reaches(self, _write: Write, node: int) -> bool:
        """Tell whether the leader, who sends all writes, gets them to a node."""
        return self._leader is not None and self.broken.joined(self._leader, node)

    def _backed(self, node: int) -> bool:
        """Tell whether a node reaches most nodes, itself among them."""
        return 2 * sum(self.broken.joined(node, other) for other in range(len(self.nodes))) > len(self.nodes)

    def _deposed(self) -> bool:
        """Tell whether the leader is cut off from most nodes and another is not: then there will be an election."""
        if self._leader is None or not self.broken or self._backed(self._leader):
            return False
        return any(self._backed(node) for node in range(len(self.nodes)) if node not in self.broken.away)

    def _call_election(self, moment: int) -> None:
        """Have another leader after a while; an election that was called before does not come about."""
        self._elections += 1
        self._called, self._vacant = True, False
        self._at(moment + nanoseconds(self.failover.takeover_s), partial(self._elect, self._elections))

    def _elect(self, election: int, moment: int) -> None:
        """Let the node lead that most nodes vote for, if there is one."""
        if election != self._elections:
            return
        self._called = False
        if self._leader is not None and not self._deposed():
            return
        successor = self._elected(moment)
        self._vacant = successor is None
        if successor is None:
            return
        if self.failover.writes == "loses":
            self._fall_back(successor, moment)
        else:
            self._catch_up(successor, moment, moment)
        self._former = None
        self._reign(successor, moment)
        self._pass_on(moment)

    def _elected(self, moment: int) -> int | None:
        """Return the node with most votes; none votes for a node that lacks what it has itself, as in Raft.

        So what most nodes had before is in what the new leader has: one of those who voted for it had it.
        """
        living = [node for node in range(len(self.nodes)) if node not in self.broken.away]
        held = {node: [bisect_right(log.applied[node], moment) for log in self.logs.values()] for node in living}

        def votes(candidate: int) -> int:
            voters = [node for node in living if self.broken.joined(candidate, node)]
            return sum(all(map(le, held[node], held[candidate])) for node in voters)

        best = max((node for node in living if node != self._leader), key=votes, default=None)
        return best if best is not None and 2 * votes(best) > len(self.nodes) else None

    def _final_node(self, key: str, now: int) -> int:
        return self._leader_at(key, now)

    def _reign(self, leader: int | None, moment: int) -> None:
        """Let a node lead from now on, or none; one that was lost again before its time leads once it is back."""
        back = moment if leader is None else self._back(leader, moment)
        if back > moment:
            self._at(back, partial(self._reign, leader))
            return
        self._leader = leader
        self._reigns.append((moment, leader))

    def _reign_at(self, moment: int) -> int | None:
        if len(self._reigns) == 1:
            return self._leader
        return self._reigns[bisect_right(self._reigns, moment, key=itemgetter(0)) - 1][1]

    def _leader_at(self, _key: str, moment: int) -> int:
        leader = self._reign_at(moment)
        if leader is None:
            raise NoLeader("there is no leader")
        return leader

    def _follower_at(self, _key: str, moment: int) -> int:
        leader = self._reign_at(moment)
        return self._pick([node for node in range(len(self.nodes)) if node != leader and self.up(node, moment)])

    def _replicate(self, moment: int, leader: int, log: Log) -> list[int]:
        """Return when each node applies a write; a follower takes no write before those that the leader took first."""
        last = log.last if self._last is None else self._last
        arrivals = [moment] * len(self.nodes)
        for node in range(len(arrivals)):
            if not self.broken.joined(leader, node):
                arrivals[node] = HELD
            elif node != leader:
                arrival = self._after(last[node], moment)
                arrivals[node] = last[node] = self._arrival(node, arrival) if self._faulty else arrival
        if self.options.remember:
            self.moments.append(moment)
        return arrivals

    def _supersede(self, moment: int, write: Write, log: Log) -> None:
        """Let the newer version stand; it must be on as many nodes before the older one counts as acknowledged."""
        write.superseded = True
        write.acked_at = max(moment, sorted(column[-1] for column in log.applied)[self._acks - 1])
        if self._may_lose:
            log.shadowed.append(write)

    def _successor(self, moment: int, takeover: int) -> int | None:
        """Return the follower that has most of the leader's writes, among those that are up all along."""
        followers = (node for node in range(len(self.nodes)) if node != self._leader)
        candidates = [node for node in followers if self.up(node, moment) and self.up(node, takeover)]

        def advance(node: int) -> int:
            return sum(bisect_right(log.applied[node], moment) for log in self.logs.values())

        return max(candidates, key=advance, default=None)

    def _fall_back(self, successor: int, moment: int) -> None:
        """Keep only what the successor has; what is on its way to it never arrives."""
        self._archive(moment, self.logs)
        for log in self.logs.values():
            self.lost += log.cut(bisect_right(log.applied[successor], moment))
            self.lost += [write for write in log.shadowed if write.value.version > log.newest()]
            log.shadowed.clear()

    def _catch_up(self, successor: int, moment: int, takeover: int) -> None:
        """Bring the successor up to all that the lost leader had, before it takes over."""
        for log in self.logs.values():
            column = log.applied[successor]
            first = bisect_right(column, moment)
            column[first:] = [min(arrival, takeover) for arrival in column[first:]]


def _shown(log: Log, node: int, moment: int) -> Write | None:
    """Return the newest write that a node had applied; its column rises, because it applies in order."""
    column = log.applied[node]
    if column and column[-1] <= moment:
        return log.writes[-1]
    place = bisect_right(column, moment)
    return log.writes[place - 1] if place else None
