"""A mix of workloads: each step of a session is one of theirs, on keys of its own."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from random import Random

from stalewatch.clients.errors import ClientError
from stalewatch.clients.protocol import Answer, Client, ClientSession
from stalewatch.workloads.kinds import Session, Workload
from stalewatch.workloads.options import LoadOptions


class MixedSession:
    """One simulated user, who does one thing at a time: whose turn it is, is chosen by chance."""

    def __init__(self, sessions: Sequence[Session], random: Random) -> None:
        self._sessions = sessions
        self._random = random

    def step(self, due: int | None = None) -> None:
        """Do one operation of one of the workloads."""
        self._random.choice(self._sessions).step(due)


class Mix:
    """Several workloads side by side, on one client and one recorder."""

    def __init__(self, workloads: Sequence[Workload], client: Client, options: LoadOptions) -> None:
        self.keys = [key for workload in workloads for key in workload.keys]
        self._workloads = workloads
        self._owner = {key: workload for workload in workloads for key in workload.keys}
        self._client = client
        self._seed = options.seed

    def preload(self) -> None:
        """Create the keys of all; where that fails, take back what the first of them had created."""
        with ExitStack() as undo:
            for workload in self._workloads:
                workload.preload()
                undo.callback(_take_back, workload)
            undo.pop_all()

    def session(self, name: str, opened: ClientSession | None = None) -> Session:
        """Open a session, one for all."""
        opened = opened or self._client.session(name)
        sessions = [workload.session(name, opened) for workload in self._workloads]
        return MixedSession(sessions, Random(f"{self._seed}/{name}/mix"))

    def start_background(self) -> None:
        """Begin what goes on beside the sessions."""
        for workload in self._workloads:
            workload.start_background()

    def stop_background(self) -> None:
        """End what goes on beside the sessions."""
        for workload in self._workloads:
            workload.stop_background()

    def written_keys(self) -> list[str]:
        """Return the written keys of all."""
        return [key for workload in self._workloads for key in workload.written_keys()]

    def final(self, key: str) -> Sequence[tuple[str, Answer]]:
        """Read a key finally, as its workload does."""
        return self._owner[key].final(key)

    def remove(self) -> None:
        """Delete the keys of all, each whatever became of the others; raise the last failure."""
        with ExitStack() as all_of_them:
            for workload in self._workloads:
                all_of_them.callback(workload.remove)

    def extra_results(self) -> Mapping[str, object]:
        """Return what the workloads know beyond the guarantees."""
        return {name: value for workload in self._workloads for name, value in workload.extra_results().items()}


def _take_back(workload: Workload) -> None:
    with suppress(ClientError):  # what kept the others from being created is raised already
        workload.remove()
