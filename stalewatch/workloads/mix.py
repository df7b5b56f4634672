"""Workloads by name, and the mix of several: each step of a session is a step of one of them, on its own keys."""

import pkgutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from random import Random

from stalewatch.clients.errors import BadAddress, ClientError
from stalewatch.clients.protocol import Answer, Client, ClientSession, Counters, Ledger, Siblings
from stalewatch.recording.recorder import Recorder
from stalewatch.workloads import WORKLOADS, Perform, Session, Workload, workload_names
from stalewatch.workloads.options import LoadOptions

NEEDS: Mapping[str, tuple[type, str]] = {
    "ledger": (Ledger, "lists"),
    "sequence": (Counters, "counters"),
    "conflict": (Siblings, "siblings (couch)"),
}
"""What a workload needs of a client beyond registers, and what the database must have for that."""


def require_workloads(names: str, client: Client) -> None:
    """Raise `BadAddress` if the client's database cannot run one of the workloads; it need not be connected."""
    for name in workload_names(names):
        protocol, needed = NEEDS.get(name, (object, ""))
        if not isinstance(client, protocol):
            raise BadAddress(f"--workload {name} needs a database with {needed}; {client.database} has none")


def make_workload(
    names: str, client: Client, recorder: Recorder, keys: Sequence[str], options: LoadOptions
) -> Workload:
    """Return the workload of that name, or the mix of those names; raise `BadAddress` if the database has none."""
    require_workloads(names, client)
    classes = [pkgutil.resolve_name(WORKLOADS[name].workload) for name in workload_names(names)]
    workloads: list[Workload] = [cls(client, recorder, keys, options) for cls in classes]
    return workloads[0] if len(workloads) == 1 else Mix(workloads, client, options)


class MixedSession:
    """One simulated user, whose next operation is of a random workload."""

    def __init__(self, sessions: Sequence[Session], random: Random) -> None:
        self._sessions = sessions
        self._random = random

    def step(self, due: int | None = None) -> None:
        """Perform one operation of one of the workloads."""
        self._random.choice(self._sessions).step(due)

    def operations(self) -> Mapping[str, Perform]:
        """Return what the sessions of all workloads can do."""
        return {kind: perform for session in self._sessions for kind, perform in session.operations().items()}


class Mix:
    """Several workloads that share a client and a recorder."""

    def __init__(self, workloads: Sequence[Workload], client: Client, options: LoadOptions) -> None:
        self.keys = [key for workload in workloads for key in workload.keys]
        self._workloads = workloads
        self._owner = {key: workload for workload in workloads for key in workload.keys}
        self._client = client
        self._seed = options.seed

    def keys_by_kind(self) -> Mapping[str, Sequence[str]]:
        """Return the keys for each kind of operation, of all workloads."""
        return {kind: keys for workload in self._workloads for kind, keys in workload.keys_by_kind().items()}

    def preload(self) -> None:
        """Create the keys of all workloads; if one fails, delete what the others created."""
        with ExitStack() as undo:
            for workload in self._workloads:
                workload.preload()
                undo.callback(_undo_preload, workload)
            undo.pop_all()

    def session(self, name: str, opened: ClientSession | None = None) -> Session:
        """Open a session of every workload on one database session."""
        opened = opened or self._client.session(name)
        sessions = [workload.session(name, opened) for workload in self._workloads]
        return MixedSession(sessions, Random(f"{self._seed}/{name}/mix"))

    def start_background(self) -> None:
        """Start the background tasks of all workloads."""
        for workload in self._workloads:
            workload.start_background()

    def stop_background(self) -> None:
        """Stop the background tasks of all workloads."""
        for workload in self._workloads:
            workload.stop_background()

    def written_keys(self) -> list[str]:
        """Return the written keys of all workloads."""
        return [key for workload in self._workloads for key in workload.written_keys()]

    def final(self, key: str) -> Sequence[tuple[str, Answer]]:
        """Make the final read of a key as its workload does."""
        return self._owner[key].final(key)

    def remove(self) -> None:
        """Delete the keys of all workloads, even if some fail; raise the last failure."""
        with ExitStack() as removals:
            for workload in self._workloads:
                removals.callback(workload.remove)

    def extra_results(self) -> Mapping[str, object]:
        """Return the results of all workloads beyond the guarantees."""
        return {name: value for workload in self._workloads for name, value in workload.extra_results().items()}


def _undo_preload(workload: Workload) -> None:
    with suppress(ClientError):  # the failure that prevented the preload is already being raised
        workload.remove()
