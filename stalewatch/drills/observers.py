"""What watches the servers while a drill breaks them: who says that it leads, and when all replicas agree again."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import ClientError
from stalewatch.drills import convergence
from stalewatch.drills.primaries import PrimaryWatch
from stalewatch.drills.recovery import NS
from stalewatch.history.clock import Clock

AGREE_S = 60.0
"""How long replicas have to agree once the load is over."""


UNSEEN: Mapping[str, Any] = {"probed": False, "two_primaries_s": None, "converged_s": None}
"""What is known where nothing watched."""


class Observers:
    """Open from before the load until after it; `heal` tells that nothing is broken any more."""

    def __init__(
        self,
        database: str,
        options: object,
        nodes: Sequence[str],
        run: str,
        clock: Clock,
        tell: Callable[[str], None],
    ) -> None:
        """Connect; raises a `ClientError` where that fails."""
        self._tell = tell
        self._healed: int | None = None
        with ExitStack() as undo:
            claims = DATABASES[database].claims
            self._watch = None if claims is None else PrimaryWatch(claims(options), clock)
            if self._watch is not None:
                undo.callback(self._watch.close)
                self._watch.open()
            self._probe = convergence.opened(database, options, nodes, run, clock, undo)
            if self._probe is not None:
                self._probe.open()
            self._connections = undo.pop_all()

    def rest(self) -> None:
        """Write nothing more that could hide what a node missed: a fault is about to be undone."""
        if self._probe is not None:
            self._probe.rest()

    def heal(self, moment: int | None) -> None:
        """Look from now on whether the replicas agree; nothing is broken since that moment (None: nothing ever was)."""
        self._healed = moment
        if self._probe is not None:
            self._probe.heal()

    def close(self, hurried: Callable[[], bool]) -> None:
        """Wait until the replicas agree, unless somebody is in a hurry, and drop the connections."""
        try:
            if self._probe is not None:
                patience_s = 0.0 if self._healed is None else AGREE_S
                self._probe.close(patience_s, hurried, self._tell)
        except ClientError as error:
            self._tell(f"keys of the probe are left behind: {error}")
        finally:
            self._connections.close()

    def figures(self) -> Mapping[str, Any]:
        """Return what was seen, by the fields of a drill's result."""
        agreed = self._probe.converged if self._probe else None
        known = agreed is not None and self._healed is not None
        return {
            "probed": self._probe is not None,
            "two_primaries_s": list(self._watch.bounds()) if self._watch else None,
            "converged_s": max(0, agreed - self._healed) / NS if known else None,  # type: ignore[operator] # `known`
        }
