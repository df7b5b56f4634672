"""A leaderless store: any replica coordinates, and reads and writes wait for a quorum of replicas."""

from stalewatch.clients.protocol import Answer
from stalewatch.simulator.options import MemoryOptions, Outage
from stalewatch.simulator.state import HELD, NEVER, Log, LoggedWrite, reroute
from stalewatch.simulator.store import AS_CONFIGURED, ReadChoice, Store, TooFewReplicas


class LeaderlessStore(Store):
    """Replicas that each keep the newest version they have seen; one that returns is sent what it missed."""

    wipeable = True

    def __init__(self, options: MemoryOptions) -> None:
        super().__init__(options)
        self._write_acks = options.count(options.write_acks)
        self._read_acks = options.count(options.read_acks)
        self._majority = options.count("majority")

    def apply(self, moment: int, write: LoggedWrite) -> None:
        """Apply a write at the coordinator, which sends it to each replica independently."""
        self._require_up(self._write_acks, moment)
        write.node = node = self.locate(self.options.writes_at, write.key, moment)
        self._require_connected(self._write_acks, node)
        log = self.log(write.key)
        shown = self.version(write.key, node, moment)
        write.draw_after(shown)
        write.superseded = write.item is None and shown >= write.value.version
        arrivals = [self._arrival(other, moment + self._lag()) for other in range(len(self.nodes))]
        if self.faults:
            connected = self.faults.connected
            arrivals = [arrival if connected(node, other) else HELD for other, arrival in enumerate(arrivals)]
        arrivals[node] = moment
        write.acked_at = sorted(arrivals)[self._write_acks - 1]
        log.insert(write, arrivals)
        if len(log.writes) >= log.prune_at:
            self._prune(log, moment)

    def read(self, key: str, moment: int, now: int, choice: ReadChoice = AS_CONFIGURED) -> Answer:
        """Return the newest version that the coordinator and the replicas it asks showed at `moment`."""
        moment = max(moment, self.read_floor)
        acks = max(self._read_acks, self._majority) if choice.majority else self._read_acks
        self._require_up(acks, moment)
        node = self.locate(choice.location or self.options.reads_at, key, moment)
        self._require_connection(node, moment, now)
        self._require_connected(acks, node)
        log = self.logs.get(key)
        asked = self._asked(node, moment, acks)
        newest = -1 if log is None else _newest(log, asked, moment)
        if log is None or newest < 0:
            return Answer("ok", 0, self.nodes[node])
        if acks > 1 and self.options.read_repair:
            _repair(log, asked, newest, now)
        value = log.writes[newest].value
        return Answer("ok", value.version, self.nodes[node], None, value.depends)

    def version(self, key: str, node: int, moment: int) -> int:
        """Return the version that a replica showed; what a read has repaired since then counts from the repair."""
        log = self._log_at(key, moment)
        newest = -1 if log is None else _newest(log, [node], moment)
        return 0 if log is None or newest < 0 else log.writes[newest].value.version

    def ready(self, now: int) -> int:
        """Wait until all replicas are up and connected."""
        if self.faults:
            return HELD
        return max(self._up_again(node, now) for node in range(len(self.nodes)))

    def node_lost(self, node: int, moment: int, until: int, outage: Outage) -> None:
        """Erase the node's disk if the outage loses writes; what it was about to send is lost too."""
        if outage.writes == "keeps":
            return
        self._archive(moment, self.logs)
        for log in self.logs.values():
            _erase(log, node, moment)
            kept = [index for index in range(len(log.writes)) if any(column[index] < NEVER for column in log.applied)]
            if len(kept) < len(log.writes):
                self.lost += log.retain(kept)

    def faults_changed(self, moment: int) -> None:
        """Keep what a coordinator cannot send as hints, and deliver the hints that can be sent."""
        arrivals = [moment + self._lag() for _ in self.nodes]
        reroute(self.logs.values(), moment, self._reaches, arrivals, self._write_acks)

    def wipe(self, node: int, moment: int) -> None:
        """Erase the disk of a node that was just taken down; what it held is not sent to it again."""
        self.node_lost(node, moment, HELD, Outage(0))

    def _reaches(self, write: LoggedWrite, node: int) -> bool:
        return self.faults.connected(write.node, node)

    def _require_connected(self, acks: int, node: int) -> None:
        if self.faults:
            connected = sum(self.faults.connected(node, other) for other in range(len(self.nodes)))
            if connected < acks:
                raise TooFewReplicas(f"{self.nodes[node]} is connected to {connected} of the {acks} replicas required")

    def _require_up(self, acks: int, moment: int) -> None:
        if self._faulty:
            alive = sum(self.up(node, moment) for node in range(len(self.nodes)))
            if alive < acks:
                raise TooFewReplicas(f"{alive} of {len(self.nodes)} replicas are up, {acks} are required")

    def _asked(self, node: int, moment: int, acks: int) -> list[int]:
        """Return the coordinator and the next available replicas, as many as have to answer."""
        if acks == 1:
            return [node]
        ring = ((node + step) % len(self.nodes) for step in range(len(self.nodes)))
        return [
            other
            for other in ring
            if not self._faulty or (self.up(other, moment) and self.faults.connected(node, other))
        ][:acks]


def _newest(log: Log, asked: list[int], moment: int) -> int:
    """Return the index of the newest write that any of those replicas had applied; -1 for none."""
    columns = [log.applied[node] for node in asked]
    for index in range(len(log.writes) - 1, -1, -1):
        for column in columns:
            if column[index] <= moment:
                return index
    return -1


def _repair(log: Log, asked: list[int], index: int, now: int) -> None:
    for node in asked:
        log.applied[node][index] = min(log.applied[node][index], now)


def _erase(log: Log, node: int, moment: int) -> None:
    for index, write in enumerate(log.writes):
        if log.applied[node][index] <= moment:
            log.applied[node][index] = NEVER
        for column in log.applied if write.node == node else ():
            if column[index] > moment:
                column[index] = NEVER
