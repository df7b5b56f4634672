"""The health check of the image: `python -m stalewatch.locust.health [PID]` (default: the container's first process).

A master listens for workers, and a worker is connected to its master. What takes no part in a distributed run, such as
a bench, is well as long as it is there.
"""

import argparse
import sys
from collections.abc import Sequence

import psutil

LOCUSTS_PORT = "5557"


def trouble(pid: int) -> str | None:
    """Return what is wrong with a process and those that it started, in words; None where nothing is."""
    try:
        first = psutil.Process(pid)
        processes = [first, *first.children(recursive=True)]
        parts = [part for part in map(_part, processes) if part.master or part.worker]
        return _trouble(parts[0], processes) if parts else None
    except psutil.NoSuchProcess as error:
        return f"process {error.pid} is gone"


def _part(process: psutil.Process) -> argparse.Namespace:
    """Return which part a process plays, by its command line."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--master", action="store_true")
    parser.add_argument("--worker", action="store_true")
    parser.add_argument("--master-bind-port", default=LOCUSTS_PORT)
    parser.add_argument("--master-port", default=LOCUSTS_PORT)
    return parser.parse_known_args(process.cmdline())[0]


def _trouble(part: argparse.Namespace, processes: Sequence[psutil.Process]) -> str | None:
    connections = [one for process in processes for one in process.net_connections("tcp")]
    if part.master:
        port = int(part.master_bind_port)
        listens = any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in connections)
        return None if listens else f"the master does not listen for workers on port {port}"
    port = int(part.master_port)
    talks = any(one.status == psutil.CONN_ESTABLISHED and one.raddr.port == port for one in connections)
    return None if talks else f"the worker has no connection to its master's port {port}"


def main(arguments: Sequence[str]) -> int:
    """Say what is wrong, and return 1 then."""
    found = trouble(int(arguments[0]) if arguments else 1)
    if found:
        print(found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
