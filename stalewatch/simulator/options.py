"""How a simulated store is built and what goes wrong in it: the options, their defaults, and which of them fit."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, cast

from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import ON_OFF, number, option, whole_number
from stalewatch.simulator.delays import DISTRIBUTIONS

Acks = int | Literal["majority", "all"]

Objections = Iterator[tuple[bool, str]]
"""Whether something is wrong, and what to say if it is."""

ALIASES: Mapping[str, str] = {"primary": "leader", "secondary": "follower", "both": "any"}
"""Other databases' words for where a session reads and writes."""

MAX_REPLICAS = 99


class Topology(NamedTuple):
    """What a kind of replication allows; the first of `reads` and of `writes` is the default."""

    nodes: tuple[str, ...] | None
    """Their names where the number is fixed; else they are m1, m2, ..."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    """Where sessions read and write; ``node`` stands for any node by its name."""


TOPOLOGIES: Mapping[str, Topology] = {
    "linearizable": Topology(("m1",), ("leader", "any", "node"), ("leader",)),
    "leader": Topology(None, ("leader", "follower", "any", "node"), ("leader",)),
    "quorum": Topology(None, ("any", "node"), ("any", "node")),
    "multi-leader": Topology(("a", "b"), ("any", "home", "node"), ("any", "home", "node")),
}


@dataclass(frozen=True)
class Outage:
    """A node that is lost for a while, from `at_s` seconds after `prepare`.

    Where the lost node leads, the most advanced follower that is up takes over after `takeover_s`, unless the leader is
    back by then. `writes` says what becomes of the writes that the lost node alone has: with one leader ``loses`` means
    that the new leader has only what had reached it, in a quorum that the node comes back empty. The other topologies
    always keep them.
    """

    at_s: float
    for_s: float = 10.0
    node: str = "leader"
    """``leader`` is whichever leads at that time."""

    takeover_s: float = 1.0
    writes: Literal["loses", "keeps"] = "loses"

    def __str__(self) -> str:
        """Return it as `--outage` takes it."""
        return f"{self.at_s:g}:{self.for_s:g}:{self.writes}"


def _acks(text: str) -> Acks:
    if text in {"majority", "all"}:
        return cast("Literal['majority', 'all']", text)
    if not text.isdecimal():
        raise ValueError("must be a number of nodes, majority or all")
    return int(text)


def _outage(text: str) -> tuple[Outage, ...]:
    at_s, _, rest = text.partition(":")
    for_s, _, writes = rest.partition(":")
    if writes not in {"", "loses", "keeps"}:
        raise ValueError("what happens to the lost leader's writes: loses or keeps")
    try:
        lost = Outage(at_s=float(at_s), for_s=float(for_s))
    except ValueError:
        raise ValueError("must be AT:FOR[:loses|keeps] in seconds, such as 5:10:loses") from None
    return (replace(lost, writes=cast("Literal['loses', 'keeps']", writes)) if writes else lost,)


@dataclass(frozen=True)
class MemoryOptions:
    """A simulated store; raises `stalewatch.clients.errors.BadAddress` for options that make no sense together."""

    topology: str = option("--topology", "kind of replication", "leader", choices=tuple(TOPOLOGIES))
    replicas: int = option("--replicas", "nodes (default: the topology's own number)", 0, parse=whole_number)
    """0 is the topology's own number: 3, for linearizable 1, for multi-leader 2."""

    read_from: str = option(
        "--read-from", "primary, secondary, any, home or a node such as m2 (default: by topology)", ""
    )
    """leader, follower, any, home, or a node; in a quorum the coordinator, which answers first."""

    write_to: str = option("--write-to", "any, home or a node, if there are several leaders", "")
    """In a quorum the coordinator, with two leaders the leader: any, home (by the key), or a node."""

    write_acks: Acks = option(
        "--write-acks", "nodes that acknowledge a write: a number, majority or all", 1, parse=_acks
    )
    """How many nodes have a write before it is acknowledged."""

    read_acks: Acks = option(
        "--read-acks", "nodes of a quorum that answer a read: a number, majority or all", 1, parse=_acks
    )
    """How many replicas of a quorum answer a read."""

    read_repair: bool = option("--read-repair", "whether reads of a quorum repair", default=True, **ON_OFF)
    """Whether a quorum's read brings the replicas that it asked up to date before it answers."""

    lag_s: float = option("--lag", "mean seconds until a write is on another node", 0.01, parse=number)
    lag: str = option("--lag-kind", "distribution of the lag", "exponential", choices=tuple(DISTRIBUTIONS))
    """Distribution of the time that a write travels from the node that took it to another."""

    service_s: float = option("--service", "mean seconds from request to answer", 0.001, parse=number)
    """Its mean in seconds; with 0, on the real clock only, no operation sleeps."""

    timeout_s: float = option("--timeout", "seconds until the client gives up", 1.0, parse=number)
    timeouts: float = option("--timeouts", "share of operations that time out, applied or not", 0.0, parse=number)
    refusals: float = option("--refusals", "share of operations that are refused", 0.0, parse=number)
    """Share of operations that are refused before they touch anything."""

    outages: tuple[Outage, ...] = option(
        "--outage",
        "lose the leader: AT:FOR[:loses|keeps] in seconds; a follower takes over after 1 s, unless it is back by then",
        (),
        parse=_outage,
        show=lambda outages: ",".join(map(str, outages)) or None,
    )
    seed: int = 0
    service: str = "exponential"
    """Distribution of the time from request to answer, a name in `stalewatch.simulator.delays.DISTRIBUTIONS`."""

    lag_order: Literal["store", "key"] = "store"
    """Whether a follower applies all writes in the leader's order, or those of each key on its own.

    Either way a write waits for the ones before it: with a uniform or lognormal lag and many writes under way the mean
    becomes longer than `lag_s`. Constant and exponential lags stay as they are under any load.
    """

    timeouts_applied: float = 0.5
    """Share of the timed-out writes that are applied, at some moment up to one more timeout later."""

    remember: bool = False
    """Whether to keep the whole past for `stalewatch.simulator.truth`; the memory it takes grows with every write."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        for wrong, message in _objections(self):
            if wrong:
                raise BadAddress(f"memory store: {message}")

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes' names."""
        return TOPOLOGIES[self.topology].nodes or tuple(f"m{number + 1}" for number in range(self.replicas or 3))

    @property
    def reads_at(self) -> str:
        """Where sessions read: leader, follower, any, home, or a node's name."""
        return ALIASES.get(self.read_from, self.read_from) or TOPOLOGIES[self.topology].reads[0]

    @property
    def writes_at(self) -> str:
        """Where sessions write."""
        return ALIASES.get(self.write_to, self.write_to) or TOPOLOGIES[self.topology].writes[0]

    def count(self, acks: Acks) -> int:
        """Return how many nodes `acks` are."""
        words = {"majority": len(self.nodes) // 2 + 1, "all": len(self.nodes)}
        return acks if isinstance(acks, int) else words.get(acks, 0)


def _objections(options: MemoryOptions) -> Objections:
    """Yield what could be wrong, and whether it is; a later row may rely on the earlier ones."""
    known = ", ".join(TOPOLOGIES)
    yield options.topology not in TOPOLOGIES, f"no topology {options.topology!r}; there are {known}"
    yield from _numbers(options)
    yield from _places(options)
    yield from _outages(options)


def _numbers(options: MemoryOptions) -> Objections:
    fixed, replicas, nodes = TOPOLOGIES[options.topology].nodes, options.replicas, options.nodes
    yield not 0 <= replicas <= MAX_REPLICAS, f"{replicas} replicas; give 1 to {MAX_REPLICAS}"
    yield (
        bool(fixed and replicas not in {0, len(nodes)}),
        f"{options.topology} has {len(nodes)} node(s), not {replicas}",
    )
    for name in ("service", "lag"):
        kind = getattr(options, name)
        yield kind not in DISTRIBUTIONS, f"no distribution {kind!r} for {name}; there are {', '.join(DISTRIBUTIONS)}"
    for name in ("service_s", "lag_s", "timeout_s"):
        mean = getattr(options, name)
        yield not 0 <= mean < math.inf, f"{name} is {mean}; give seconds, 0 or more"
    yield options.timeout_s == 0, "timeout_s is 0; give seconds, more than 0"
    for name in ("timeouts", "timeouts_applied", "refusals"):
        yield not 0 <= getattr(options, name) <= 1, f"{name} is {getattr(options, name)}; give a share from 0 to 1"
    yield options.timeouts + options.refusals > 1, "timeouts and refusals make up more than all operations"
    for name in ("write_acks", "read_acks"):
        acks = getattr(options, name)
        limit = 1 if options.topology == "multi-leader" else len(nodes)
        bad = not 1 <= options.count(acks) <= limit
        yield bad, f"{name} is {acks}; with {len(nodes)} node(s) of {options.topology} give 1 to {limit}"
    yield options.lag_order not in {"store", "key"}, f"lag_order is {options.lag_order!r}; give store or key"


def _places(options: MemoryOptions) -> Objections:
    topology, nodes = TOPOLOGIES[options.topology], options.nodes
    rows = (("read_from", options.reads_at, topology.reads), ("write_to", options.writes_at, topology.writes))
    for name, place, allowed in rows:
        named = "node" in allowed and place in nodes
        choices = [word for word in allowed if word != "node"] + list(nodes if "node" in allowed else ())
        yield not named and place not in choices, f"{name} is {place!r}; for {options.topology}: {', '.join(choices)}"


def _outages(options: MemoryOptions) -> Objections:
    leads = "leader" in TOPOLOGIES[options.topology].reads
    nodes = options.nodes + (("leader",) if leads else ())
    for outage in options.outages:
        times = (outage.at_s, outage.for_s, outage.takeover_s)
        yield outage.node not in nodes, f"no node {outage.node!r} to lose; there are {', '.join(nodes)}"
        yield not all(time >= 0 for time in times), f"an outage at {times} s; give seconds, 0 or more"
        yield outage.writes not in {"loses", "keeps"}, f"an outage {outage.writes!r} writes; it loses or keeps them"
