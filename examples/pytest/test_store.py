"""Does a session see its own writes? Yes, if it reads from the primary; the test of the replica fails and says why."""

import pytest
from store import TinyRedis

import stalewatch


def use(store: TinyRedis, watch: stalewatch.Watch, read_from: str) -> None:
    """Let two users write and read a few keys, and read in the end what the primary holds."""
    users = [watch.session("alice"), watch.session("bob")]
    for number in range(40):
        user, key = users[number % 2], f"profile-{number % 3}"
        with user.write(key) as write:
            store.set(key, {"version": write.version})
        with user.read(key) as read:
            value = store.get(key, read_from)
            read.saw(value["version"] if value else 0, node=read_from)
    for key in watch.keys:
        with watch.final_read(key) as final:
            final.saw((store.get(key) or {"version": 0})["version"])


@pytest.mark.stalewatch(expect="read_your_writes=0,lost_writes=0")
@pytest.mark.parametrize("read_from", ["primary", "replica"])
def test_users_see_their_own_writes(watch: stalewatch.Watch, read_from: str) -> None:
    """Store the version of each write with its value, and tell the watch which version each read returned."""
    use(TinyRedis(), watch, read_from)
