"""Replicas without a leader: any of them coordinates, and reads and writes wait for as many as asked."""

from stalewatch.clients.protocol import Answer
from stalewatch.simulator.errors import TooFewReplicas
from stalewatch.simulator.faults import HELD, NEVER, hold, release
from stalewatch.simulator.log import Log, Write
from stalewatch.simulator.options import MemoryOptions, Outage
from stalewatch.simulator.store import Store


class QuorumStore(Store):
    """Replicas that each keep the newest version they have met; a lost one is sent what it missed when it is back."""

    def __init__(self, options: MemoryOptions) -> None:
        super().__init__(options)
        self._write_acks = options.count(options.write_acks)
        self._read_acks = options.count(options.read_acks)

    def perform(self, moment: int, write: Write) -> None:
        """Have the coordinator take a write and send it to all replicas, each on its own."""
        self._require(self._write_acks, moment)
        write.node = node = self.locate(self.options.writes_at, write.key, moment)
        self._require_joined(self._write_acks, node)
        log = self.log(write.key)
        shown = self.version(write.key, node, moment)
        write.succeed(shown)
        write.superseded = write.item is None and shown >= write.value.version
        arrivals = [self._arrival(other, moment + self._lag()) for other in range(len(self.nodes))]
        if self.broken:
            arrivals = [arrival if self.broken.joined(node, other) else HELD for other, arrival in enumerate(arrivals)]
        arrivals[node] = moment
        write.acked_at = sorted(arrivals)[self._write_acks - 1]
        log.insert(write, arrivals)
        if len(log.writes) >= log.prune_at:
            self._prune(log, moment)

    def read(self, key: str, moment: int, now: int) -> Answer:
        """Return the newest version that the coordinator and the others it asks showed at `moment`."""
        moment = max(moment, self.floor)
        self._require(self._read_acks, moment)
        node = self.locate(self.options.reads_at, key, moment)
        self._check_connection(node, moment, now)
        self._require_joined(self._read_acks, node)
        log = self.logs.get(key)
        asked = self._asked(node, moment)
        place = -1 if log is None else _newest(log, asked, moment)
        if log is None or place < 0:
            return Answer("ok", 0, self.nodes[node])
        if self._read_acks > 1 and self.options.read_repair:
            _repair(log, asked, place, now)
        value = log.writes[place].value
        return Answer("ok", value.version, self.nodes[node], None, value.depends)

    def version(self, key: str, node: int, moment: int) -> int:
        """Return the version that one replica showed; what a read repaired since then counts as late as it was."""
        log = self._log_at(key, moment)
        place = -1 if log is None else _newest(log, [node], moment)
        return 0 if log is None or place < 0 else log.writes[place].value.version

    def ready(self, now: int) -> int:
        """Wait until all replicas are up, and joined."""
        if self.broken:
            return HELD
        return max(self._back(node, now) for node in range(len(self.nodes)))

    def lose(self, node: int, moment: int, until: int, outage: Outage) -> None:
        """Empty the lost node's disk, if it is to lose its writes; what it was about to send is gone with it."""
        if outage.writes == "keeps":
            return
        self._archive(moment, self.logs)
        for log in self.logs.values():
            _empty(log, node, moment)
            kept = [place for place in range(len(log.writes)) if any(column[place] < NEVER for column in log.applied)]
            if len(kept) < len(log.writes):
                self.lost += log.keep(kept)

    def rethink(self, moment: int) -> None:
        """Hold what a coordinator cannot send, as a hint, and send what was held and can be."""
        hold(self.logs.values(), moment, self._reaches, self._write_acks)
        arrivals = [moment + self._lag() for _ in self.nodes]
        release(self.logs.values(), moment, self._reaches, arrivals, self._write_acks)

    @property
    def wipeable(self) -> bool:
        """Every replica can lose its disk."""
        return True

    def wipe(self, node: int, moment: int) -> None:
        """Empty the disk of a node that has just left: what it held is not sent again."""
        self.lose(node, moment, HELD, Outage(0))

    def _reaches(self, write: Write, node: int) -> bool:
        return self.broken.joined(write.node, node)

    def _require_joined(self, acks: int, node: int) -> None:
        if self.broken:
            joined = sum(self.broken.joined(node, other) for other in range(len(self.nodes)))
            if joined < acks:
                raise TooFewReplicas(f"{self.nodes[node]} reaches {joined} of the replicas, {acks} have to answer")

    def _require(self, acks: int, moment: int) -> None:
        if self._faulty:
            alive = sum(self.up(node, moment) for node in range(len(self.nodes)))
            if alive < acks:
                raise TooFewReplicas(f"{alive} of {len(self.nodes)} replicas are up, {acks} have to answer")

    def _asked(self, node: int, moment: int) -> list[int]:
        """Return the coordinator and the next replicas that are up, as many as have to answer."""
        if self._read_acks == 1:
            return [node]
        ring = ((node + step) % len(self.nodes) for step in range(len(self.nodes)))
        return [
            other for other in ring if not self._faulty or (self.up(other, moment) and self.broken.joined(node, other))
        ][: self._read_acks]


def _newest(log: Log, asked: list[int], moment: int) -> int:
    """Return the place of the newest write that one of those replicas had; -1 for none."""
    columns = [log.applied[node] for node in asked]
    for place in range(len(log.writes) - 1, -1, -1):
        for column in columns:
            if column[place] <= moment:
                return place
    return -1


def _repair(log: Log, asked: list[int], place: int, now: int) -> None:
    for node in asked:
        log.applied[node][place] = min(log.applied[node][place], now)


def _empty(log: Log, node: int, moment: int) -> None:
    for place, write in enumerate(log.writes):
        if log.applied[node][place] <= moment:
            log.applied[node][place] = NEVER
        for column in log.applied if write.node == node else ():
            if column[place] > moment:
                column[place] = NEVER
