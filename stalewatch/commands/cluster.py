"""``stalewatch cluster up|down|status DATABASE``: arguments, what they do, exit codes."""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence

from stalewatch.clusters.local import home
from stalewatch.clusters.local.cluster import LocalCluster
from stalewatch.clusters.local_clusters import LOCAL, kind
from stalewatch.clusters.protocol import ClusterError, NodeStatus
from stalewatch.exit_codes import DONE, INTERRUPTED, UNREACHABLE

_LAB = (
    "the cluster in a network of its own, without a way out, whose links a drill can cut, slow and make to lose; needs "
    "root, and stands beside the one without"
)

_COLUMNS = ("NODE", "ADDRESS", "PID", "STATE", "ROLE", "HEALTHY", "LAG", "NOTE")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add actions and databases to the parser of ``stalewatch cluster``."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for action, (_, text) in _ACTIONS.items():
        databases = actions.add_parser(action, help=text, description=text).add_subparsers(
            dest="database", required=True, metavar="DATABASE"
        )
        for database, cluster in LOCAL.items():
            chosen = databases.add_parser(database, help=f"the local {database} cluster", description=text)
            _add_options(action, cluster, chosen)


def run(arguments: argparse.Namespace) -> int:
    """Do what the arguments say; the result goes to stdout, progress and errors to stderr.

    Returns 0 when done, 3 when the cluster could not be started or does not run, 130 after Ctrl-C.
    """
    act, _ = _ACTIONS[arguments.action]
    cluster = kind(arguments.database, lab=arguments.lab).from_options(arguments)
    try:
        return act(cluster, arguments)
    except ClusterError as error:
        _tell(f"stalewatch: {error}")
        return UNREACHABLE
    except KeyboardInterrupt:
        _tell(f"interrupted; what was started is found by: {_command('up', cluster)} (or down)")
        return INTERRUPTED


def _add_options(action: str, cluster: type[LocalCluster], parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lab", action="store_true", help=_LAB)
    if action == "up":
        cluster.add_options(parser)
    if action == "down":
        parser.add_argument("--wipe", action="store_true", help="also delete the data and the logs")


def _up(cluster: LocalCluster) -> int:
    cluster.start(_tell)
    for node in cluster.status():
        if node.note:
            _tell(f"{node.name} ({node.address}): {node.note}")
    _tell(f"{cluster.words()} runs under {home.shown(cluster.folder)}; {_command('down', cluster)} stops it")
    _say(cluster.uri())
    return DONE


def _down(cluster: LocalCluster, *, wipe: bool) -> int:
    cluster.stop(_tell, wipe=wipe)
    _say(f"{cluster.words()} is stopped" + (", its data are deleted" if wipe else ""))
    return DONE


def _status(cluster: LocalCluster) -> int:
    nodes = cluster.status()
    start = f"start it with: {_command('up', cluster)}"
    if all(node.state == "dead" for node in nodes):
        _say(f"{cluster.words()} is not running; {start}")
        return UNREACHABLE
    for line in table(nodes):
        _say(line)
    if not any(node.healthy for node in nodes):
        _say(f"no node serves; {start}")
        return UNREACHABLE
    _say(cluster.uri())
    return DONE


_ACTIONS: dict[str, tuple[Callable[[LocalCluster, argparse.Namespace], int], str]] = {
    "up": (
        lambda cluster, _: _up(cluster),
        "start a cluster on this machine, or mend the one that is there; prints its address",
    ),
    "down": (lambda cluster, arguments: _down(cluster, wipe=arguments.wipe), "stop it; its data stay"),
    "status": (lambda cluster, _: _status(cluster), "say how its nodes are"),
}


def table(nodes: Iterable[NodeStatus]) -> Sequence[str]:
    """Return the nodes as aligned lines under a heading, one each, whatever the terminal's width."""
    rows = [_COLUMNS, *(_row(node) for node in nodes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _row(node: NodeStatus) -> tuple[str, ...]:
    lag = "-" if node.lag_s is None else f"{node.lag_s:.0f} s"
    healthy = "yes" if node.healthy else "no"
    return (node.name, node.address, str(node.pid or "-"), node.state, node.role or "-", healthy, lag, node.note)


def _command(action: str, cluster: LocalCluster) -> str:
    return f"stalewatch cluster {action} {cluster.words()}"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
