"""A leader that takes every write, and followers that apply them later; without followers, a linearizable store."""

from bisect import bisect_right
from functools import partial
from operator import itemgetter, le

from stalewatch.clients.protocol import Answer
from stalewatch.simulator.options import MemoryOptions, Outage
from stalewatch.simulator.state import HELD, Log, LoggedWrite, reroute
from stalewatch.simulator.store import AS_CONFIGURED, NoLeader, ReadChoice, Store, nanoseconds


class SingleLeaderStore(Store):
    """A leader, and followers that apply its writes in its order."""

    def __init__(self, options: MemoryOptions) -> None:
        super().__init__(options)
        self.moments: list[int] = []
        """When the leader accepted each write that it logged; kept only with `MemoryOptions.remember`."""

        self.failover = Outage(0)
        """What follows when a command takes the leader down or cuts it off: `takeover_s` and `writes`."""

        self.wipeable = len(self.nodes) > 1  # wiping a single node would prove nothing about replication
        self._acks = options.count(options.write_acks)
        self._reads_at = options.reads_at
        self._leader: int | None = 0
        self._leaders: list[tuple[int, int | None]] = [(0, 0)]
        """Every leader so far (None: there was none), and when it took over."""

        self._last = [0] * len(self.nodes) if options.lag_order == "store" else None
        self._former: int | None = None
        """The last leader, if a command left the store without one; it leads again if it returns in time."""

        self._elections = 0
        self._election_pending = False
        self._election_failed = False
        """Whether the last election found no new leader."""

        self._locators = {"any": self._any_node, "leader": self._leader_at, "follower": self._follower_at}

    def apply(self, moment: int, write: LoggedWrite) -> None:
        """Log a write at the leader, and decide when followers apply it, unless there is a newer one."""
        leader = self._leader
        if leader is None:
            raise NoLeader("there is no leader")
        self._require_responsive(leader, moment)
        write.node = leader
        log = self.log(write.key)
        write.draw_after(log.newest())
        if write.item is None and log.writes and log.newest() >= write.value.version:
            self._supersede(moment, write, log)
            return
        arrivals = self._replicate(moment, leader, log)
        write.acked_at = moment if self._acks == 1 else sorted(arrivals)[self._acks - 1]
        log.add(write, arrivals)
        if len(log.writes) >= log.prune_at:
            self._prune(log, moment)

    def read(self, key: str, moment: int, now: int, choice: ReadChoice = AS_CONFIGURED) -> Answer:
        """Return what the chosen node showed at `moment`."""
        moment = max(moment, self.read_floor)
        node = self.locate(choice.location or self._reads_at, key, moment)
        self._require_connection(node, moment, now)
        log = self.logs.get(key)
        write = None if log is None else _shown(log, node, moment)
        if write is None:
            return Answer("ok", 0, self.nodes[node])
        return Answer("ok", write.value.version, self.nodes[node], None, write.value.depends)

    def version(self, key: str, node: int, moment: int) -> int:
        """Return the version that a node showed; with `MemoryOptions.remember`, before a failover too."""
        log = self._log_at(key, moment)
        write = None if log is None else _shown(log, node, moment)
        return 0 if write is None else write.value.version

    def readable(self, moment: int) -> list[int]:
        """Return the nodes that may answer reads and can: only the leader, or all but the leader, if so configured."""
        nodes, leader = super().readable(moment), self._past_leader(moment)
        only = {"leader": lambda node: node == leader, "follower": lambda node: node != leader}.get(self._reads_at)
        return nodes if only is None else list(filter(only, nodes))

    def ready(self, now: int) -> int:
        """Wait for a leader that will not be replaced."""
        if self._leader is not None:
            return now if not self.faults or self._has_majority(self._leader) else HELD
        return self._next_event()

    def node_lost(self, node: int, moment: int, until: int, outage: Outage) -> None:
        """Replace a lost leader by a follower, or by itself if it returns before the takeover."""
        if node != self._leader:
            return
        takeover = moment + nanoseconds(outage.takeover_s)
        successor = self._successor(moment, takeover)
        self._set_leader(None, moment)
        if until <= takeover or successor is None:
            self._schedule(until, partial(self._set_leader, node))
            return
        if outage.writes == "loses":
            self._fall_back(successor, moment)
        else:
            self._catch_up(successor, moment, takeover)
        self._schedule(takeover, partial(self._set_leader, successor))

    def leading(self) -> int | None:
        """Return the leader."""
        return self._leader

    def faults_changed(self, moment: int) -> None:
        """Depose or restore the leader, and hold or release its messages, after nodes or links changed."""
        away = self.faults.away
        if self._leader in away:
            self._former = self._leader
            self._set_leader(None, moment)
            self._call_election(moment)
        elif self._leader is None and self._former is not None and self._former not in away:
            self._set_leader(self._former, moment)
            self._election_pending = False
        elif self._leader is None and self._election_failed:
            self._elect(self._elections, moment)
        if self._deposed() and not self._election_pending:
            self._call_election(moment)
        self._update_messages(moment)

    def wipe(self, node: int, moment: int) -> None:
        """Erase the disk of a node that was just taken down; it is sent everything when it returns."""
        del moment
        if self._former == node:
            self._former = None
        for log in self.logs.values():
            log.applied[node] = [HELD] * len(log.writes)

    def _update_messages(self, moment: int) -> None:
        """Hold what the leader cannot send, and deliver what was held and can be sent."""
        arrivals = [moment if node == self._leader else moment + self._lag() for node in range(len(self.nodes))]
        reroute(self.logs.values(), moment, self._reaches, arrivals, self._acks)
        if self._last is not None:
            self._last = [max(last, arrival) for last, arrival in zip(self._last, arrivals, strict=True)]

    def _reaches(self, _write: LoggedWrite, node: int) -> bool:
        """Return whether the leader, which sends all writes, is connected to a node."""
        return self._leader is not None and self.faults.connected(self._leader, node)

    def _has_majority(self, node: int) -> bool:
        """Return whether a node is connected to a majority of nodes, itself included."""
        return 2 * sum(self.faults.connected(node, other) for other in range(len(self.nodes))) > len(self.nodes)

    def _deposed(self) -> bool:
        """Return whether the leader has lost its majority and another node has one, so that there is an election."""
        if self._leader is None or not self.faults or self._has_majority(self._leader):
            return False
        return any(self._has_majority(node) for node in range(len(self.nodes)) if node not in self.faults.away)

    def _call_election(self, moment: int) -> None:
        """Schedule an election; one that was scheduled before is canceled."""
        self._elections += 1
        self._election_pending, self._election_failed = True, False
        self._schedule(moment + nanoseconds(self.failover.takeover_s), partial(self._elect, self._elections))

    def _elect(self, election: int, moment: int) -> None:
        """Make the node leader that a majority votes for, if there is one."""
        if election != self._elections:
            return
        self._election_pending = False
        if self._leader is not None and not self._deposed():
            return
        successor = self._elected(moment)
        self._election_failed = successor is None
        if successor is None:
            return
        self._gather(successor, moment)
        if self.failover.writes == "loses":
            self._fall_back(successor, moment)
        else:
            self._catch_up(successor, moment, moment)
        self._former = None
        self._set_leader(successor, moment)
        self._update_messages(moment)

    def _elected(self, moment: int) -> int | None:
        """Return the node that wins an election; as in Raft, no node votes for one that lacks any of its own writes.

        So the new leader has every write that a majority had: at least one of its voters had it. If writes are in order
        only key by key, two nodes may each lack a write of the other's, and neither would win. Then every node votes,
        and the new leader first gathers what its voters have.
        """
        living = self._living()
        held = {node: [bisect_right(log.applied[node], moment) for log in self.logs.values()] for node in living}

        def votes(candidate: int) -> int:
            voters = [node for node in living if self.faults.connected(candidate, node)]
            return sum(self._last is None or all(map(le, held[node], held[candidate])) for node in voters)

        best = max((node for node in living if node != self._leader), key=votes, default=None)
        return best if best is not None and 2 * votes(best) > len(self.nodes) else None

    def _living(self) -> list[int]:
        return [node for node in range(len(self.nodes)) if node not in self.faults.away]

    def _gather(self, successor: int, moment: int) -> None:
        """Give the successor what the nodes that voted for it have; with one order of all writes, it has it."""
        voters = [node for node in self._living() if self.faults.connected(successor, node)]
        for log in self.logs.values():
            column = log.applied[successor]
            first = bisect_right(column, moment)
            last = max(bisect_right(log.applied[node], moment) for node in voters)
            column[first:last] = [moment] * (last - first)

    def _final_node(self, key: str, now: int) -> int:
        return self._leader_at(key, now)

    def _set_leader(self, leader: int | None, moment: int) -> None:
        """Make a node leader, or none; a node that is down again by then leads as soon as it returns."""
        back = moment if leader is None else self._up_again(leader, moment)
        if back > moment:
            self._schedule(back, partial(self._set_leader, leader))
            return
        self._leader = leader
        self._leaders.append((moment, leader))

    def _past_leader(self, moment: int) -> int | None:
        if len(self._leaders) == 1:
            return self._leader
        return self._leaders[bisect_right(self._leaders, moment, key=itemgetter(0)) - 1][1]

    def _leader_at(self, _key: str, moment: int) -> int:
        leader = self._past_leader(moment)
        if leader is None:
            raise NoLeader("there is no leader")
        return leader

    def _follower_at(self, _key: str, moment: int) -> int:
        leader = self._past_leader(moment)
        return self._pick([node for node in range(len(self.nodes)) if node != leader and self.up(node, moment)])

    def _replicate(self, moment: int, leader: int, log: Log) -> list[int]:
        """Return when each node applies a write; a follower applies it after all that the leader accepted before."""
        last = log.last if self._last is None else self._last
        arrivals = [moment] * len(self.nodes)
        for node in range(len(arrivals)):
            if not self.faults.connected(leader, node):
                arrivals[node] = HELD
            elif node != leader:
                arrival = self._delivery(last[node], moment)
                arrivals[node] = last[node] = self._arrival(node, arrival) if self._faulty else arrival
        if self.options.remember:
            self.moments.append(moment)
        return arrivals

    def _supersede(self, moment: int, write: LoggedWrite, log: Log) -> None:
        """Keep the newer version; the older write is acknowledged once the required number of nodes have that one."""
        write.superseded = True
        write.acked_at = max(moment, sorted(column[-1] for column in log.applied)[self._acks - 1])
        if self._faulty:
            log.shadowed.append(write)

    def _successor(self, moment: int, takeover: int) -> int | None:
        """Return the most advanced follower that is up at both times."""
        followers = (node for node in range(len(self.nodes)) if node != self._leader)
        candidates = [node for node in followers if self.up(node, moment) and self.up(node, takeover)]

        def advance(node: int) -> int:
            return sum(bisect_right(log.applied[node], moment) for log in self.logs.values())

        return max(candidates, key=advance, default=None)

    def _fall_back(self, successor: int, moment: int) -> None:
        """Keep only what the successor has applied; what is on its way to it never arrives."""
        self._archive(moment, self.logs)
        for log in self.logs.values():
            self.lost += log.truncate(bisect_right(log.applied[successor], moment))
            self.lost += [write for write in log.shadowed if write.value.version > log.newest()]
            log.shadowed.clear()

    def _catch_up(self, successor: int, moment: int, takeover: int) -> None:
        """Give the successor everything that the lost leader had, before it takes over."""
        for log in self.logs.values():
            column = log.applied[successor]
            first = bisect_right(column, moment)
            column[first:] = [min(arrival, takeover) for arrival in column[first:]]


def _shown(log: Log, node: int, moment: int) -> LoggedWrite | None:
    """Return the newest write that a node had applied; its column is ascending because it applies in order."""
    column = log.applied[node]
    if column and column[-1] <= moment:
        return log.writes[-1]
    index = bisect_right(column, moment)
    return log.writes[index - 1] if index else None
