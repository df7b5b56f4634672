"""Resolving conflicts at one leader: the leaves of a key become one.

The merge goes in the place of the winner, whose revision it names: had a writer replaced the winner meanwhile, the
server refuses it, and nothing is lost. Only then are the losers ended, each by its revision: a writer who replaced a
loser meanwhile, here or at another leader, leaves a live leaf beside the ended one, which is merged in the next round.
A resolver that dies between the two leaves losers that are merged once more. Two resolvers at two leaders that see the
same leaves write the same body on the same parent, which CouchDB takes for the same edit; where they see different
ones, their merges conflict, and are merged in turn.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from stalewatch.clients.couchdb.document import CREATED, Documents
from stalewatch.clients.protocol import Body, Resolved

BEGINNING = "0"

CHANGES = 500
"""How many changes are asked for at a time."""


class LeaderResolver:
    """The conflicts that one leader knows."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._since = BEGINNING  # where the leader does not even say what is now, all changes are looked at
        with suppress(Exception):
            self._since = documents.changed("now", 1)[1]

    def suspects(self) -> Iterable[str]:
        """Return the keys with changes since the last call that have several leaves, ended ones too."""
        found: dict[str, None] = {}
        while True:
            changes, self._since = self._documents.changed(self._since, CHANGES)
            found |= {key: None for key, leaves in changes if leaves > 1}
            if len(changes) < CHANGES:
                return found

    def resolve(self, key: str, merge: Callable[[Sequence[Body]], Body]) -> Resolved:
        """Replace all leaves of a key by one that holds what `merge` makes of them."""
        held = self._documents.read(key)
        if held is None or not held.siblings:
            return "single"
        merged = merge([held.body, *held.siblings.values()])
        if self._documents.put(key, held.rev, merged) != CREATED:
            return "disturbed"  # also where it was taken without a quorum: the losers stay until the merge is safe
        for rev in held.siblings:
            self._documents.delete(key, rev)
        return "merged"

    def close(self) -> None:
        """Drop the connection."""
        self._documents.close()
