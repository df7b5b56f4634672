"""The options of a simulated store: its topology, delays and failures, and the checks that they are consistent."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import MOST_SECONDS, ON_OFF, number, option, options_of, whole_number
from stalewatch.clients.read_strategies import Strategy, read_strategy_option, sticky_seconds_option
from stalewatch.simulator.simulated_time import DISTRIBUTIONS

Acks = int | Literal["majority", "all"]

Checks = Iterator[tuple[bool, str]]
"""Whether something is wrong, and the message if it is."""

ALIASES: Mapping[str, str] = {"primary": "leader", "secondary": "follower", "both": "any"}
"""Other databases' terms for where sessions read and write."""

MAX_REPLICAS = 99


class Topology(NamedTuple):
    """What a topology allows; the first of `reads` and of `writes` is the default."""

    nodes: tuple[str, ...] | None
    """Their names if the number is fixed; otherwise they are m1, m2, ..."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    """Where sessions can read and write; ``node`` stands for any node by its name."""


TOPOLOGIES: Mapping[str, Topology] = {
    "linearizable": Topology(("m1",), ("leader", "any", "node"), ("leader",)),
    "leader": Topology(None, ("leader", "follower", "any", "node"), ("leader",)),
    "quorum": Topology(None, ("any", "node"), ("any", "node")),
    "multi-leader": Topology(("a", "b"), ("any", "home", "node"), ("any", "home", "node")),
}


@dataclass(frozen=True)
class Outage:
    """A node that is down for a while, starting `at_s` seconds after `prepare`.

    If the node is the leader, the most advanced follower that is up takes over after `takeover_s`, unless the leader
    has returned by then. `writes` determines what happens to writes that only the lost node has. With a single leader,
    ``loses`` means that the new leader has only what had reached it; in a quorum, that the node returns with an empty
    disk. The other topologies always keep them.
    """

    at_s: float
    for_s: float = 10.0
    node: str = "leader"
    """``leader`` is the node that leads at that time."""

    takeover_s: float = 1.0
    writes: Literal["loses", "keeps"] = "loses"

    def __str__(self) -> str:
        """Return the outage in the format of `--outage`."""
        return f"{self.at_s:g}:{self.for_s:g}:{self.writes}"


_OUTAGE_WRITES: Mapping[str, Literal["loses", "keeps"]] = {"": "loses", "loses": "loses", "keeps": "keeps"}


def _acks(text: str) -> Acks:
    if text in {"majority", "all"}:
        return cast("Literal['majority', 'all']", text)
    if not text.isdecimal():
        raise ValueError("must be a number of nodes, majority or all")
    return int(text)


def _outage(text: str) -> tuple[Outage, ...]:
    at_s, _, rest = text.partition(":")
    for_s, _, writes = rest.partition(":")
    try:
        outage = Outage(at_s=float(at_s), for_s=float(for_s), writes=_OUTAGE_WRITES[writes])
    except (KeyError, ValueError):
        raise ValueError("must be AT:FOR[:loses|keeps] in seconds, such as 5:10:loses") from None
    return (outage,)


@dataclass(frozen=True)
class MemoryOptions:
    """The options of a simulated store; raises `stalewatch.clients.errors.BadAddress` if they are inconsistent."""

    topology: str = option("--topology", "replication topology", "leader", choices=tuple(TOPOLOGIES))
    replicas: int = option("--replicas", "number of nodes; 0: as many as the topology needs", 0, parse=whole_number)
    """0 means the topology's default: 3, for linearizable 1, for multi-leader 2."""

    read_from: str = option(
        "--read-from", "primary, secondary, any, home or a node such as m2 (default: depends on the topology)", ""
    )
    """leader, follower, any, home, or a node; in a quorum this is the coordinator, which always answers itself."""

    write_to: str = option("--write-to", "any, home or a node, if several nodes take writes", "")
    """The coordinator in a quorum, or the leader if there are two: any, home (determined by the key), or a node."""

    write_acks: Acks = option(  # returns a field
        "--write-acks", "nodes that must acknowledge a write: a number, majority or all", 1, parse=_acks
    )
    """How many nodes must have a write before it is acknowledged."""

    read_acks: Acks = option(  # returns a field
        "--read-acks", "replicas of a quorum that must answer a read: a number, majority or all", 1, parse=_acks
    )

    read_repair: bool = option("--read-repair", "whether quorum reads update stale replicas", default=True, **ON_OFF)
    """Whether a quorum read brings the replicas that it asked up to date before it answers."""

    read_strategy: Strategy = read_strategy_option(
        "the leader, a majority, or the leader that took the write",
        "again at the leader, a majority, or the other leader if older than what the session has seen",
        "one node per session",
    )
    sticky_seconds: float = sticky_seconds_option()

    lag_s: float = option("--lag", "mean seconds until a write reaches another node", 0.01, parse=number)
    lag: str = option("--lag-kind", "distribution of the lag", "exponential", choices=tuple(DISTRIBUTIONS))
    """The distribution of the time from a write's acceptance by a node to its arrival at another."""

    service_s: float = option("--service", "mean seconds from request to answer", 0.001, parse=number)
    """The mean service time; with 0, which only the real clock allows, no operation sleeps."""

    timeout_s: float = option("--timeout", "seconds until the client gives up", 1.0, parse=number)
    timeouts: float = option("--timeouts", "fraction of operations that time out, applied or not", 0.0, parse=number)
    refusals: float = option("--refusals", "fraction of operations that are refused", 0.0, parse=number)
    """Refused operations change nothing."""

    outages: tuple[Outage, ...] = option(
        "--outage",
        "take the leader down: AT:FOR[:loses|keeps] in seconds; a follower takes over if that is longer than 1 s",
        (),
        parse=_outage,
        show=lambda outages: ",".join(map(str, outages)) or None,
    )
    seed: int = 0
    service: str = "exponential"
    """The distribution of the time from request to answer, a name in `simulated_time.DISTRIBUTIONS`."""

    lag_order: Literal["store", "key"] = "store"
    """Whether a follower applies all writes in the leader's order, or only those of each key.

    Either way a write waits for earlier ones: with a uniform or lognormal lag and many writes under way, the mean grows
    beyond `lag_s`. Constant and exponential lags do not depend on the load.
    """

    timeouts_applied: float = 0.5
    """The fraction of timed-out writes that are applied, at any time up to one timeout after the timeout."""

    remember: bool = False
    """Whether to keep the entire past for `stalewatch.simulator.client.Truth`; memory use grows with every write."""

    def __post_init__(self) -> None:
        """Check the options."""
        for wrong, message in _checks(self):
            if wrong:
                raise BadAddress(f"memory store: {message}")

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes' names."""
        return TOPOLOGIES[self.topology].nodes or tuple(f"m{number + 1}" for number in range(self.replicas or 3))

    @property
    def reads_at(self) -> str:
        """Where sessions read: leader, follower, any, home, or a node."""
        return ALIASES.get(self.read_from, self.read_from) or TOPOLOGIES[self.topology].reads[0]

    @property
    def writes_at(self) -> str:
        """Where sessions write."""
        return ALIASES.get(self.write_to, self.write_to) or TOPOLOGIES[self.topology].writes[0]

    def count(self, acks: Acks) -> int:
        """Return how many nodes `acks` stands for; 0 for an unknown word."""
        words = {"majority": len(self.nodes) // 2 + 1, "all": len(self.nodes)}
        return acks if isinstance(acks, int) else words.get(acks, 0)


def _checks(options: MemoryOptions) -> Checks:
    """Yield everything that could be wrong; later checks rely on earlier ones."""
    known = ", ".join(TOPOLOGIES)
    yield options.topology not in TOPOLOGIES, f"unknown topology {options.topology!r}; choose one of {known}"
    yield from _numbers(options)
    yield from _locations(options)
    yield from _outages(options)


def _flag(field: str) -> str:
    """Return the flag of an option, or its name if it has no flag."""
    return next((one.flag for one in options_of(MemoryOptions) if one.field == field), field)


def _numbers(options: MemoryOptions) -> Checks:
    fixed, replicas = TOPOLOGIES[options.topology].nodes, options.replicas
    yield not 0 <= replicas <= MAX_REPLICAS, f"--replicas is {replicas}; choose 1 to {MAX_REPLICAS}"
    nodes = options.nodes
    yield (
        bool(fixed and replicas not in {0, len(nodes)}),
        f"{options.topology} has {len(nodes)} node(s), not {replicas}",
    )
    for name in ("service", "lag"):
        chosen = getattr(options, name)
        known = ", ".join(DISTRIBUTIONS)
        yield chosen not in DISTRIBUTIONS, f"unknown distribution {chosen!r} for {_flag(name)}; choose one of {known}"
    for name in ("service_s", "lag_s", "timeout_s"):
        mean = getattr(options, name)
        yield not 0 <= mean <= MOST_SECONDS, f"{_flag(name)} is {mean}; it must be from 0 to {MOST_SECONDS:.0f}"
    yield options.timeout_s == 0, "--timeout is 0; it must be above 0"
    for name in ("timeouts", "timeouts_applied", "refusals"):
        fraction = getattr(options, name)
        yield not 0 <= fraction <= 1, f"{_flag(name)} is {fraction}; it must be between 0 and 1"
    yield options.timeouts + options.refusals > 1, "--timeouts and --refusals add up to more than 1"
    for name in ("write_acks", "read_acks"):
        acks = getattr(options, name)
        limit = 1 if options.topology == "multi-leader" else len(nodes)
        bad = not 1 <= options.count(acks) <= limit
        yield bad, f"{_flag(name)} is {acks}; {options.topology} with {len(nodes)} node(s) allows 1 to {limit}"
    yield options.lag_order not in {"store", "key"}, f"lag_order is {options.lag_order!r}; choose store or key"


def _locations(options: MemoryOptions) -> Checks:
    topology, nodes = TOPOLOGIES[options.topology], options.nodes
    rows = (("read_from", options.reads_at, topology.reads), ("write_to", options.writes_at, topology.writes))
    for name, location, allowed in rows:
        choices = [word for word in allowed if word != "node"] + list(nodes if "node" in allowed else ())
        message = f"{_flag(name)} is {location!r}; {options.topology} allows {', '.join(choices)}"
        yield location not in choices, message


def _outages(options: MemoryOptions) -> Checks:
    leads = "leader" in TOPOLOGIES[options.topology].reads
    nodes = options.nodes + (("leader",) if leads else ())
    for outage in options.outages:
        times = (outage.at_s, outage.for_s, outage.takeover_s)
        yield outage.node not in nodes, f"--outage of unknown node {outage.node!r}; choose one of {', '.join(nodes)}"
        valid = all(0 <= time <= MOST_SECONDS or time == math.inf for time in times)  # an outage may never end
        yield not valid, f"--outage with times {times} s; all must be from 0 to {MOST_SECONDS:.0f}"
        yield outage.writes not in {"loses", "keeps"}, f"--outage that {outage.writes!r} writes; choose loses or keeps"
