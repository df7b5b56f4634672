"""The health check of the image: `python -m stalewatch.locust.health [PID]` (default: the container's first process).

A master is healthy if it listens for workers, a worker if it is connected to its master. A process that is neither,
such as a bench, is healthy as long as it exists.
"""

import argparse
import sys
from collections.abc import Sequence

import psutil

DEFAULT_PORT = "5557"


def problem(pid: int) -> str | None:
    """Return what is wrong with a process and its children; None if nothing is."""
    try:
        first = psutil.Process(pid)
        processes = [first, *first.children(recursive=True)]
        roles = [role for role in map(_role, processes) if role.master or role.worker]
        return _problem(roles[0], processes) if roles else None
    except psutil.NoSuchProcess as error:
        return f"process {error.pid} does not exist"


def _role(process: psutil.Process) -> argparse.Namespace:
    """Return the role of a process, from its command line."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--master", action="store_true")
    parser.add_argument("--worker", action="store_true")
    parser.add_argument("--master-bind-port", default=DEFAULT_PORT)
    parser.add_argument("--master-port", default=DEFAULT_PORT)
    return parser.parse_known_args(process.cmdline())[0]


def _problem(role: argparse.Namespace, processes: Sequence[psutil.Process]) -> str | None:
    connections = [one for process in processes for one in process.net_connections("tcp")]
    if role.master:
        port = int(role.master_bind_port)
        listens = any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in connections)
        return None if listens else f"the master does not listen for workers on port {port}"
    port = int(role.master_port)
    connected = any(one.status == psutil.CONN_ESTABLISHED and one.raddr.port == port for one in connections)
    return None if connected else f"the worker is not connected to its master's port {port}"


def main(arguments: Sequence[str]) -> int:
    """Print what is wrong, and return 1 if anything is."""
    found = problem(int(arguments[0]) if arguments else 1)
    if found:
        print(found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
