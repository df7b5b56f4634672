"""Creating and deleting many keys: the batches, and the cleanup if a run's keys cannot all be created.

A client creates the keys of `preload`, `create_lists` and `create_counters` inside `removed_on_failure`, so that a run
that cannot start leaves nothing in somebody's database, and never deletes a key that it did not create.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from stalewatch.clients.errors import ClientError

BATCH_KEYS = 1000
BATCH_CHARACTERS = 1_000_000


def batches(keys: Sequence[str], payload: str = "") -> Iterator[Sequence[str]]:
    """Return the keys in batches: at most `BATCH_KEYS` keys and about `BATCH_CHARACTERS` characters of payload each."""
    size = min(BATCH_KEYS, max(1, BATCH_CHARACTERS // (len(payload) + 1)))
    return (keys[start : start + size] for start in range(0, len(keys), size))


@contextmanager
def removed_on_failure(remove: Callable[[Sequence[str]], None]) -> Iterator[list[str]]:
    """Yield a list for the keys as they are created; remove those keys if the block raises a `ClientError`.

    The error is raised again. If the keys cannot be removed either, an error of the same class says both.
    """
    created: list[str] = []
    try:
        yield created
    except ClientError as failure:
        try:
            remove(created)
        except ClientError as error:
            raise type(failure)(
                f"{failure}; up to {len(created)} keys created before are left behind: {error}"
            ) from failure
        raise


def key_exists(key: str, place: str, flag: str) -> ClientError:
    """Return the error for a key that another run left in `place`, which the option `flag` selects."""
    return ClientError(
        f"key {key!r} already exists in {place}, probably left by another run: delete it, or choose another {flag}"
    )


RUN_KEY = r"^(\d{14}[0-9a-f]{4})-w\d+-\d+"
"""How keys of runs begin: the run's name (its start, and four digits that tell runs of one second apart), the worker's
number, and the key's."""


def run_of(key: object) -> str | None:
    """Return the name of the run that created a key, or None for a key of somebody else's."""
    found = re.match(RUN_KEY, key) if isinstance(key, str) else None
    return found[1] if found else None
