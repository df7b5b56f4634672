"""Undoes every fault, whatever happens to the process that began it, SIGKILL included.

The guardian is a small process of a session of its own, so that Ctrl-C in a terminal does not reach it. It reads from a
pipe which faults begin and which have ended. When the pipe closes, because the other end is done or is no more, it
undoes those that have not ended, and exits.
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
    from stalewatch.faults.protocol import Fault

_ROOT = Path(__file__).parents[2]
_LOOK_S = 0.5
_TRIES, _PAUSE_S = 3, 1.0
_CHUNK = 1 << 16


class NotUndone(ClusterError):
    """Faults could not be undone; the guardian said on standard error which, and why."""


class Guard:
    """Begins and ends faults, and lets the guardian know."""

    def __init__(self, pipe: int) -> None:
        self._pipe: int | None = pipe
        self._lock = threading.Lock()
        self.standing: dict[int, Fault] = {}

    def begin(self, fault: "Fault") -> None:
        """Begin a fault; it is undone at the end even where beginning it failed."""
        self.tell(
            {"begin": id(fault), "kind": fault.name, "nodes": list(fault.nodes), "parameters": dict(fault.parameters)}
        )
        self.standing[id(fault)] = fault
        fault.begin()

    def end(self, fault: "Fault") -> None:
        """Undo a fault; where that fails it is tried again at the end."""
        fault.end()
        self.tell({"end": id(fault)})
        self.standing.pop(id(fault), None)

    def tell(self, event: Mapping[str, Any]) -> None:
        """Let the guardian know of something; raise a `ClusterError` where it is no more."""
        try:
            with self._lock:
                if self._pipe is None:
                    raise BrokenPipeError
                # Before anything is done, and in one piece: a pipe takes a short line whole, for its reader.
                os.write(self._pipe, f"{json.dumps(event)}\n".encode())
        except BrokenPipeError:
            raise ClusterError(
                "the guardian that would undo faults has ended: nothing is broken without it; begin the drill again"
            ) from None

    def close(self) -> None:
        """Let the guardian undo what stands; whoever begins a fault after that is refused."""
        with self._lock:
            pipe, self._pipe = self._pipe, None
            if pipe is not None:
                os.close(pipe)


@contextmanager
def guarded(cluster: Cluster) -> Iterator[Guard]:
    """Start a guardian for faults of this cluster; at the end it undoes what stands, which is waited for.

    Raises `NotUndone` where it could not.
    """
    reading, writing = os.pipe()
    try:
        guardian = _start(reading)
    finally:
        os.close(reading)
    guard = Guard(writing)
    try:
        guard.tell(cluster.recipe()._asdict())
        yield guard
    finally:
        guard.close()
        # It goes on where waiting for it is interrupted.
        failed = guardian.wait()
    if failed and guard.standing:
        left = "; ".join(f"{fault.name} of {', '.join(fault.nodes)}" for fault in guard.standing.values())
        raise NotUndone(
            f"not every fault could be undone (there was {left}): `stalewatch cluster up` mends the cluster"
        )


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
    """Follow the events until the pipe closes, then undo what stands; return 1 where something could not be undone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    recipe, standing = _follow(_events(pipe, parent))
    return _undo(recipe, standing) if standing else 0


def _events(pipe: int, parent: int) -> Iterator[dict[str, Any]]:
    rest = b""
    while True:
        ready, _, _ = select.select([pipe], [], [], _LOOK_S)
        if not ready and os.getppid() != parent:
            return  # a child of the one that is gone still holds the pipe open
        chunk = os.read(pipe, _CHUNK) if ready else None
        if chunk == b"":
            return
        *lines, rest = (rest + (chunk or b"")).split(b"\n")
        yield from map(json.loads, lines)


def _follow(events: Iterator[dict[str, Any]]) -> tuple[Recipe | None, list[dict[str, Any]]]:
    first = next(events, None)
    standing: dict[int, dict[str, Any]] = {}
    for event in events:
        if "begin" in event:
            standing[event["begin"]] = event
        else:
            standing.pop(event["end"], None)
    return (Recipe(**first) if first else None), list(standing.values())


def _undo(recipe: Recipe | None, standing: list[dict[str, Any]]) -> int:
    # Imported here only, for it takes longer than all else, and is needed when something went wrong.
    from stalewatch.faults.kinds import FAULTS  # noqa: PLC0415

    assert recipe  # noqa: S101 # comes before every fault
    cluster, failed = recipe.make(), False
    for event in reversed(standing):  # what came last was done to what the others had left
        _say(f"undoing {event['kind']} of {', '.join(event['nodes'])}")
        fault = FAULTS[event["kind"]].make(cluster, event["nodes"], event["parameters"])
        failed |= not _ended(fault)
    return int(failed)


def _ended(fault: "Fault") -> bool:
    for _ in range(_TRIES):
        try:
            fault.end()
        except Exception as error:  # noqa: BLE001 # whatever it is, those that were put on before are undone too
            _say(str(error) or type(error).__name__)
            time.sleep(_PAUSE_S)
        else:
            return True
    return False


def _say(line: str) -> None:
    with suppress(OSError):  # whoever read it may be gone
        sys.stderr.write(f"stalewatch: {line}\n")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
