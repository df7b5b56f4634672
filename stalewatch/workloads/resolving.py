"""Resolvers that run beside the sessions, one a leader, as an application that cares for its conflicts has them."""

import random
import threading
from collections.abc import Collection

from stalewatch.clients.protocol import Resolver, Siblings
from stalewatch.history.clock import Clock
from stalewatch.workloads.merges import Merge

ROUND_S = 0.05
"""How long a resolver rests between two looks at what changed."""

STOP_S = 10.0


class Resolving:
    """Resolves the conflicts of a run's keys at every leader, from `start` to `stop`."""

    def __init__(self, client: Siblings, clock: Clock, keys: Collection[str], merge: Merge) -> None:
        self.merged = 0
        """How often leaves were merged."""
        self.errors = 0
        """How often a leader did not answer as it should; the keys are tried again."""
        self._client = client
        self._clock = clock
        self._keys = frozenset(keys)
        self._merge = merge
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin, with what changes from now on."""
        self._threads = [
            threading.Thread(target=self._work, args=(resolver,), name="resolver", daemon=True)
            for resolver in self._client.resolvers()
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, once each resolver has finished what it is at."""
        self._over.set()
        for thread in self._threads:
            thread.join(STOP_S)
        self._threads = []

    def _work(self, resolver: Resolver) -> None:
        pending: set[str] = set()
        while not self._over.is_set():
            try:
                pending |= self._keys.intersection(resolver.suspects())
                self._resolve(resolver, pending)
            except Exception:  # noqa: BLE001 # whatever it is, the leader may be back in the next round
                self.errors += 1
            self._clock.sleep(ROUND_S)
        resolver.close()

    def _resolve(self, resolver: Resolver, pending: set[str]) -> None:
        """Resolve what is pending; what others intervene in, or what fails, stays so.

        In an order of chance, so that one key which always fails, and ends the round, does not hold up the others.
        """
        for key in random.sample(sorted(pending), len(pending)):
            if self._over.is_set():
                return
            resolved = resolver.resolve(key, self._merge)
            if resolved != "disturbed":
                pending.discard(key)
            self.merged += resolved == "merged"
