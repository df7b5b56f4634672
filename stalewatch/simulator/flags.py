"""The simulated store's options as flags: ``python bench.py memory --topology quorum --read-acks 2 ...``."""

from dataclasses import replace
from typing import Literal, cast

from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import Option, chosen
from stalewatch.simulator.delays import DISTRIBUTIONS
from stalewatch.simulator.options import TOPOLOGIES, Acks, MemoryOptions, Outage


def acks(text: str) -> Acks:
    """Return how many nodes must confirm; raise ValueError for anything but a whole number, majority or all."""
    if text in {"majority", "all"}:
        return cast("Literal['majority', 'all']", text)
    if not text.isdecimal():
        raise ValueError("must be a number of nodes, majority or all")
    return int(text)


def outage(text: str) -> Outage:
    """Return an outage given as AT:FOR[:loses|keeps], in seconds; raise ValueError where it is none."""
    at_s, _, rest = text.partition(":")
    for_s, _, writes = rest.partition(":")
    try:
        lost = Outage(at_s=float(at_s), for_s=float(for_s))
    except ValueError:
        raise ValueError("must be AT:FOR[:loses|keeps] in seconds, such as 5:10:loses") from None
    if writes not in {"", "loses", "keeps"}:
        raise ValueError("what becomes of the lost leader's writes: loses or keeps")
    return replace(lost, writes=cast("Literal['loses', 'keeps']", writes)) if writes else lost


OPTIONS: tuple[Option, ...] = (
    Option("--topology", "kind of replication", default="leader", choices=tuple(TOPOLOGIES)),
    Option("--replicas", "nodes (default: the topology's own number)", default=0, parse=int),
    Option("--read-from", "primary, secondary, any, home or a node such as m2 (default: by topology)", default=""),
    Option("--write-to", "any, home or a node, where there are several leaders", default=""),
    Option("--write-acks", "nodes that confirm a write: a number, majority or all", default=1, parse=acks),
    Option("--read-acks", "nodes of a quorum that answer a read: a number, majority or all", default=1, parse=acks),
    Option("--read-repair", "whether reads of a quorum repair", default="on", choices=("on", "off")),
    Option("--lag", "mean seconds until a write is on another node", default=0.01, parse=float),
    Option("--lag-kind", "distribution of the lag", default="exponential", choices=tuple(DISTRIBUTIONS)),
    Option("--service", "mean seconds from request to answer", default=0.001, parse=float),
    Option("--timeout", "seconds until the client gives up", default=1.0, parse=float),
    Option("--timeouts", "share of operations that time out, applied or not", default=0.0, parse=float),
    Option("--refusals", "share of operations that are refused", default=0.0, parse=float),
    Option(
        "--outage",
        "lose the leader: AT:FOR[:loses|keeps] in seconds; a follower takes over after 1 s, if it is not back by then",
        parse=outage,
    ),
)


def options_from(namespace: object, seed: int) -> MemoryOptions:
    """Build the options from parsed arguments; raises `BadAddress` for a value that makes no sense."""
    values = chosen(OPTIONS, namespace)
    lost = values["outage"]
    if lost is not None and not isinstance(lost, Outage):
        raise BadAddress("--outage: must be AT:FOR[:loses|keeps]")
    return MemoryOptions(
        topology=str(values["topology"]),
        replicas=cast("int", values["replicas"]),
        seed=seed,
        service_s=cast("float", values["service"]),
        lag=str(values["lag_kind"]),
        lag_s=cast("float", values["lag"]),
        write_acks=cast("Acks", values["write_acks"]),
        write_to=str(values["write_to"]),
        read_from=str(values["read_from"]),
        read_acks=cast("Acks", values["read_acks"]),
        read_repair=values["read_repair"] == "on",
        timeout_s=cast("float", values["timeout"]),
        timeouts=cast("float", values["timeouts"]),
        refusals=cast("float", values["refusals"]),
        outages=() if lost is None else (lost,),
    )
