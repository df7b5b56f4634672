"""``stalewatch cluster up|down|status DATABASE``: its arguments, actions and exit codes."""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence

from stalewatch.clusters.local import home
from stalewatch.clusters.local.cluster import LocalCluster
from stalewatch.clusters.local_clusters import LOCAL, cluster_class
from stalewatch.clusters.protocol import ClusterError, NodeStatus
from stalewatch.exit_codes import DONE, INTERRUPTED, UNREACHABLE

_LAB = (
    "use the cluster in an isolated network, whose links a drill can cut, delay and make lossy; needs root, and can "
    "run alongside the cluster on loopback"
)

_COLUMNS = ("NODE", "ADDRESS", "PID", "STATE", "ROLE", "HEALTHY", "LAG", "NOTE")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``stalewatch cluster``: an action and a database."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for action, (_, text) in _ACTIONS.items():
        databases = actions.add_parser(action, help=text, description=text).add_subparsers(
            dest="database", required=True, metavar="DATABASE"
        )
        for database, cluster in LOCAL.items():
            chosen = databases.add_parser(database, help=f"the local {database} cluster", description=text)
            _add_options(action, cluster, chosen)


def run(arguments: argparse.Namespace) -> int:
    """Run the action: its result goes to stdout, progress and errors to stderr.

    Returns 0 if it succeeded, 3 if the cluster cannot be started or is not running, and 130 after Ctrl-C.
    """
    act, _ = _ACTIONS[arguments.action]
    cluster = cluster_class(arguments.database, lab=arguments.lab).from_options(arguments)
    try:
        return act(cluster, arguments)
    except ClusterError as error:
        _report(f"stalewatch: {error}")
        return UNREACHABLE
    except (KeyboardInterrupt, SystemExit) as stop:
        _report(f"interrupted; to finish or stop what was started: {_command('up', cluster)} (or down)")
        return stop.code if isinstance(stop, SystemExit) and isinstance(stop.code, int) else INTERRUPTED


def _add_options(action: str, cluster: type[LocalCluster], parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lab", action="store_true", help=_LAB)
    if action == "up":
        cluster.add_options(parser)
    if action == "down":
        parser.add_argument("--wipe", action="store_true", help="also delete its data and logs")


def _up(cluster: LocalCluster) -> int:
    cluster.start(_report)
    for node in cluster.status():
        if node.note:
            _report(f"{node.name} ({node.address}): {node.note}")
    where = home.shown(cluster.folder)
    _report(f"{cluster.cli_name()} is running in {where}; stop it with: {_command('down', cluster)}")
    _print(cluster.uri())
    return DONE


def _down(cluster: LocalCluster, *, wipe: bool) -> int:
    cluster.stop(_report, wipe=wipe)
    _print(f"{cluster.cli_name()} is stopped" + (", its data are deleted" if wipe else ""))
    return DONE


def _status(cluster: LocalCluster) -> int:
    nodes = cluster.status()
    how_to_start = f"start it with: {_command('up', cluster)}"
    if all(node.state == "dead" for node in nodes):
        _print(f"{cluster.cli_name()} is not running; {how_to_start}")
        return UNREACHABLE
    for line in table(nodes):
        _print(line)
    if not any(node.healthy for node in nodes):
        _print(f"no node serves; {how_to_start}")
        return UNREACHABLE
    _print(cluster.uri())
    return DONE


_ACTIONS: dict[str, tuple[Callable[[LocalCluster, argparse.Namespace], int], str]] = {
    "up": (lambda cluster, _: _up(cluster), "start or repair a cluster on this machine, and print its address"),
    "down": (lambda cluster, arguments: _down(cluster, wipe=arguments.wipe), "stop a cluster; its data are kept"),
    "status": (lambda cluster, _: _status(cluster), "show the status of a cluster's nodes"),
}


def table(nodes: Iterable[NodeStatus]) -> Sequence[str]:
    """Return a table of the nodes as aligned lines, independent of the terminal's width."""
    rows = [_COLUMNS, *(_row(node) for node in nodes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _row(node: NodeStatus) -> tuple[str, ...]:
    lag = "-" if node.lag_s is None else f"{node.lag_s:.0f} s"
    healthy = "yes" if node.healthy else "no"
    return (node.name, node.address, str(node.pid or "-"), node.state, node.role or "-", healthy, lag, node.note)


def _command(action: str, cluster: LocalCluster) -> str:
    return f"stalewatch cluster {action} {cluster.cli_name()}"


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _report(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
