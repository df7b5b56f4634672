"""A process that undoes every fault, whatever happens to the process that began it, including SIGKILL.

The guardian runs in a session of its own, so that Ctrl-C in a terminal does not reach it. It reads from a pipe which
faults begin and which have ended. When the pipe closes, because the other process is done or dead, it undoes the faults
that have not ended, and exits.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stalewatch.clusters.protocol import Cluster, ClusterError, Recipe

if TYPE_CHECKING:
    from stalewatch.faults.catalogue import PlannedFault

_ROOT = Path(__file__).parents[2]
_POLL_S = 0.5
_TRIES, _PAUSE_S = 3, 1.0
_CHUNK = 1 << 16


class NotUndone(ClusterError):
    """Faults could not be undone; the guardian has reported which, and why, on standard error."""


class Guard:
    """Begins and ends faults, and tells the guardian."""

    def __init__(self, pipe: int) -> None:
        self._pipe: int | None = pipe
        self._lock = threading.Lock()
        self.active: dict[int, PlannedFault] = {}

    def begin(self, fault: "PlannedFault") -> None:
        """Begin a fault; even if this fails, the guardian undoes it later."""
        self.send(
            {"begin": id(fault), "kind": fault.name, "nodes": list(fault.nodes), "parameters": dict(fault.parameters)}
        )
        self.active[id(fault)] = fault
        fault.begin()

    def end(self, fault: "PlannedFault") -> None:
        """Undo a fault; if this fails, the guardian tries again later."""
        fault.end()
        self.send({"end": id(fault)})
        self.active.pop(id(fault), None)

    def send(self, event: Mapping[str, Any]) -> None:
        """Send an event to the guardian; raise a `ClusterError` if it has died."""
        try:
            with self._lock:
                if self._pipe is None:
                    raise BrokenPipeError
                # Before anything is done, and atomically: writes of a short line to a pipe are not split.
                os.write(self._pipe, f"{json.dumps(event)}\n".encode())
        except BrokenPipeError:
            raise ClusterError(
                "the guardian, which undoes faults, has died: nothing is broken without it; start the drill again"
            ) from None

    def close(self) -> None:
        """Let the guardian undo active faults; no fault can begin afterwards."""
        with self._lock:
            pipe, self._pipe = self._pipe, None
            if pipe is not None:
                os.close(pipe)


@contextmanager
def guarded(cluster: Cluster) -> Iterator[Guard]:
    """Run a guardian for faults of this cluster during the block; then wait until it has undone active faults.

    Raises `NotUndone` if it could not.
    """
    reading, writing = os.pipe()
    try:
        guardian = _start(reading)
    finally:
        os.close(reading)
    guard = Guard(writing)
    try:
        guard.send(cluster.recipe()._asdict())
        yield guard
    finally:
        guard.close()
        # If this wait is interrupted, the guardian goes on.
        failed = guardian.wait()
    if failed and guard.active:
        left = "; ".join(f"{fault.name} of {', '.join(fault.nodes)}" for fault in guard.active.values())
        raise NotUndone(f"not all faults could be undone ({left}): `stalewatch cluster up` repairs the cluster")


def _start(reading: int) -> "subprocess.Popen[bytes]":
    paths = filter(None, (str(_ROOT), os.environ.get("PYTHONPATH")))
    return subprocess.Popen(  # noqa: S603 -- this file
        [sys.executable, "-P", "-m", "stalewatch.faults.guardian", str(reading), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[reading],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        start_new_session=True,
    )


def main(pipe: int, parent: int) -> int:
    """Read events until the pipe closes, then undo active faults; return 1 if one could not be undone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    recipe, active = _read_all(_events(pipe, parent))
    return _undo_all(recipe, active) if active else 0


def _events(pipe: int, parent: int) -> Iterator[dict[str, Any]]:
    rest = b""
    while True:
        ready, _, _ = select.select([pipe], [], [], _POLL_S)
        if not ready and os.getppid() != parent:
            return  # a child of the dead process still holds the pipe open
        chunk = os.read(pipe, _CHUNK) if ready else None
        if chunk == b"":
            return
        *lines, rest = (rest + (chunk or b"")).split(b"\n")
        yield from map(json.loads, lines)


def _read_all(events: Iterator[dict[str, Any]]) -> tuple[Recipe | None, list[dict[str, Any]]]:
    """Return the cluster's recipe and the begin events of faults that have not ended."""
    first = next(events, None)
    active: dict[int, dict[str, Any]] = {}
    for event in events:
        if "begin" in event:
            active[event["begin"]] = event
        else:
            active.pop(event["end"], None)
    return (Recipe(**first) if first else None), list(active.values())


def _undo_all(recipe: Recipe | None, active: list[dict[str, Any]]) -> int:
    # Imported here, because it takes longer than everything else, and is only needed if something went wrong.
    from stalewatch.faults.catalogue import FAULTS  # noqa: PLC0415

    assert recipe  # noqa: S101 # sent before every fault
    cluster, failed = recipe.make(), False
    for event in reversed(active):  # a later fault began in a cluster with the earlier ones
        _report(f"undoing {event['kind']} of {', '.join(event['nodes'])}")
        fault = FAULTS[event["kind"]].make(cluster, event["nodes"], event["parameters"])
        failed |= not _undo(fault)
    return int(failed)


def _undo(fault: "PlannedFault") -> bool:
    """End a fault, and return whether that succeeded after a few tries."""
    for _ in range(_TRIES):
        try:
            fault.end()
        except Exception as error:  # noqa: BLE001 # whatever the error, the other faults are undone too
            _report(str(error) or type(error).__name__)
            time.sleep(_PAUSE_S)
        else:
            return True
    return False


def _report(line: str) -> None:
    with suppress(OSError):  # nobody may be left to read it
        sys.stderr.write(f"stalewatch: {line}\n")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
