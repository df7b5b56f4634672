"""Every fault: what it does, what can be chosen about it, which clusters it can be done to. A new one is one row."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from stalewatch.clusters.protocol import Cluster, Disks, Hints, Lags, Links, Replication, Unable, UnknownNode
from stalewatch.faults.delay import Delay
from stalewatch.faults.hints import HintsOff
from stalewatch.faults.isolate import Isolate
from stalewatch.faults.kill import Kill
from stalewatch.faults.lag import Lag
from stalewatch.faults.link import WAYS, LinkDown
from stalewatch.faults.loss import Loss
from stalewatch.faults.pause import Pause
from stalewatch.faults.protocol import Fault, NoFault, Value
from stalewatch.faults.restart import Restart
from stalewatch.faults.wipe import Wipe


class BadParameter(ValueError):
    """A parameter that a fault does not have, or a value that it cannot have."""


class Parameter(NamedTuple):
    """What can be chosen about a fault; `fits` says which values make sense, in words and as a test."""

    default: Value
    unit: str
    help: str
    fits: tuple[str, Callable[[Any], bool]] = ("", lambda _: True)

    def read(self, name: str, given: object) -> Value:
        """Return a value, which may be text; raise `BadParameter` where it is none."""
        words, fits = self.fits
        try:
            value = _READ[type(self.default)](given)
        except (KeyError, TypeError, ValueError):
            value = None
        if value is None or not fits(value):
            raise BadParameter(f"{name}={given}: {words or f'like {self.default}'} is expected ({self.help})")
        return value


_READ: Mapping[type, Callable[[Any], Value]] = {
    float: float,
    bool: lambda given: {"yes": True, "no": False, "true": True, "false": False}[str(given).lower()],
    str: str,
}


def _is_whole(number: float) -> bool:
    return number > 0 and number.is_integer()


class Need(NamedTuple):
    """A power that not every cluster has: its protocol, what a cluster cannot do without it, and which one has it."""

    power: type
    cannot: str
    which: str


LINKS = Need(Links, "cannot break links", "start it with --lab (needs root)")
DISKS = Need(Disks, "cannot lose disks", "take a local one")
LAGS = Need(Lags, "has no followers that can be made to lag", "take a replica set (mongo)")
HINTS = Need(Hints, "keeps no hints", "take a ring (cassandra)")
REPLICATION = Need(Replication, "has no replication links to take down", "take leaders (couch)")


class Kind(NamedTuple):
    """One fault: what it does in a sentence, how it is made, what can be chosen, and what the cluster needs."""

    help: str
    build: Callable[[Any, Sequence[str], Mapping[str, Value]], Fault]
    parameters: Mapping[str, Parameter] = {}
    needs: Need | None = None

    def make(self, cluster: Cluster, nodes: Sequence[str], parameters: Mapping[str, object]) -> Fault:
        """Return the fault, ready to begin; what is not among `parameters` has its default.

        Raises `Unable` where the cluster cannot do it, `UnknownNode`, or `BadParameter`.
        """
        self._require(cluster, nodes)
        unknown = parameters.keys() - self.parameters.keys()
        if unknown:
            has = ", ".join(self.parameters) or "none"
            raise BadParameter(f"no parameter {', '.join(sorted(unknown))}: this fault has {has}")
        chosen = {name: one.read(name, parameters.get(name, one.default)) for name, one in self.parameters.items()}
        return self.build(cluster, nodes, chosen)

    def _require(self, cluster: Cluster, nodes: Sequence[str]) -> None:
        if self.needs and not isinstance(cluster, self.needs.power):
            raise Unable(f"this {cluster.database} cluster {self.needs.cannot}: {self.needs.which}")
        strangers = set(nodes) - set(cluster.nodes())
        if strangers:
            raise UnknownNode(
                f"{', '.join(sorted(strangers))}: no node of the {cluster.database} cluster, which has "
                f"{', '.join(cluster.nodes())}"
            )


FAULTS: Mapping[str, Kind] = {
    "none": Kind("nothing is done: the drill without its fault", lambda _, nodes, chosen: NoFault(nodes, chosen)),
    "kill": Kind("nodes end at once (SIGKILL), and are started again", Kill),
    "restart": Kind("nodes end in good order and start again, one after another", Restart),
    "pause": Kind("nodes stand still (SIGSTOP) and then go on as if no time had passed", Pause),
    "isolate": Kind(
        "nodes are cut off from the others: the network is split in two",
        Isolate,
        {"clients": Parameter(default=False, unit="", help="whether clients lose these nodes too")},
        LINKS,
    ),
    "delay": Kind(
        "all that goes to and from nodes takes longer",
        Delay,
        {
            "each_way_s": Parameter(
                0.05,
                "s",
                "by how much longer one way takes",
                ("a number above 0, up to 10", lambda s: 0 < s <= 10),  # noqa: PLR2004 # more is no link
            )
        },
        LINKS,
    ),
    "loss": Kind(
        "a share of all packets to and from nodes is dropped",
        Loss,
        {
            "share": Parameter(
                0.1, "", "of the packets of each way", ("a number above 0, up to 1", lambda p: 0 < p <= 1)
            )
        },
        LINKS,
    ),
    "lag": Kind(
        "followers apply everything late",
        Lag,
        {"behind_s": Parameter(3.0, "s", "how late", ("a whole number of seconds above 0", _is_whole))},
        LAGS,
    ),
    "hints": Kind("nodes no longer keep what another one missed", HintsOff, needs=HINTS),
    "link": Kind(
        "leaders no longer send each other what was written to them",
        LinkDown,
        {"way": Parameter("both", "", "which links of the nodes", (" or ".join(WAYS), WAYS.__contains__))},
        REPLICATION,
    ),
    "wipe": Kind("nodes end, lose their disks, and are started again with nothing", Wipe, needs=DISKS),
}
"""By the names that drills, histories and metrics know them by."""
