"""The register workload: its mix of operations, rereads, values and determinism."""

from collections import Counter
from dataclasses import replace

import pytest

from stalewatch.clients.protocol import Answer, Value
from stalewatch.history.operation import Read, Write
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.options import MemoryOptions
from stalewatch.simulator.simulated_time import SimulatedClock
from stalewatch.workloads.options import LoadOptions
from stalewatch.workloads.register import OWN_KEYS, RegisterSession, Uniform, payload
from tests.engine.running import Played, assert_share, given_to, play, recorder_of, simulated

LOAD = LoadOptions(users=4, operations=3000, keys=200, seed=5)


def played(load: LoadOptions) -> Played:
    return play(simulated(topology="linearizable"), load)


def choices(load: LoadOptions) -> dict[str, list[tuple[type, str]]]:
    """Return the operations of each session, in their order."""
    done: dict[str, list[tuple[type, str]]] = {}
    for operation in played(load).loaded:
        done.setdefault(operation.session, []).append((type(operation), operation.key))
    return done


@pytest.mark.parametrize("ratio", [0.0, 0.05, 0.3, 0.95, 1.0])
def test_the_fraction_of_writes_is_as_configured(ratio: float) -> None:
    assert_share(len(played(replace(LOAD, write_ratio=ratio)).writes), LOAD.operations or 0, ratio)


def steps_back(load: LoadOptions) -> Counter[int | None]:
    """Count reads by how many of its own writes the session went back; None: to none of the recent ones."""
    own: dict[str, list[str]] = {}
    found: Counter[int | None] = Counter()
    for operation in played(load).loaded:
        mine = own.setdefault(operation.session, [])
        if isinstance(operation, Write):
            mine.insert(0, operation.key)
        elif len(mine) >= OWN_KEYS:
            found[mine.index(operation.key) if operation.key in mine[:OWN_KEYS] else None] += 1
    return found


def test_rereads_return_to_each_own_write_half_as_often_as_to_the_next_one() -> None:
    found = steps_back(replace(LOAD, keys=5000, reread=1.0))
    reads = found.total()
    assert found[None] == 0
    for step in range(OWN_KEYS - 1):
        assert_share(found[step], reads, 0.5 ** (step + 1))
    assert_share(found[OWN_KEYS - 1], reads, 0.5 ** (OWN_KEYS - 1))


@pytest.mark.parametrize("reread", [0.0, 0.3, 0.8])
def test_the_fraction_of_rereads_is_as_configured(reread: float) -> None:
    keys = 5000
    found = steps_back(replace(LOAD, keys=keys, reread=reread))
    by_chance = (1 - reread) * OWN_KEYS / keys
    assert_share(found.total() - found[None], found.total(), reread + by_chance)


def test_a_session_that_has_not_written_reads_any_key() -> None:
    reads = played(replace(LOAD, write_ratio=0.0, reread=1.0)).reads
    assert len({read.key for read in reads}) > 190


def test_the_same_seed_gives_the_same_run() -> None:
    assert played(LOAD).given == played(LOAD).given


def test_sessions_and_seeds_make_different_choices() -> None:
    one, other = choices(LOAD), choices(replace(LOAD, seed=6))
    firsts = [tuple(done[:20]) for done in (*one.values(), *other.values())]
    assert len(set(firsts)) == 2 * LOAD.users


def test_the_choices_of_a_session_do_not_depend_on_answers() -> None:
    load = replace(LOAD, users=1)
    slow = play(simulated(topology="quorum", refusals=0.3, timeouts=0.1, seed=9), load).loaded
    assert [(type(one), one.key) for one in slow] == choices(load)["s0"]


class RecordingClient(MemoryClient):
    """A client that keeps the values it is given."""

    def __init__(self) -> None:
        super().__init__(MemoryOptions(), SimulatedClock())
        self.values: list[Value] = []

    def session(self, name: str) -> "RecordingClient":  # type: ignore[override] # it is its own session
        return self

    def read(self, key: str) -> Answer:
        return Answer(version=0)

    def write(self, key: str, value: Value) -> Answer:
        self.values.append(value)
        return Answer()


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_values_carry_their_version_author_and_configured_padding(size: int) -> None:
    client = RecordingClient()
    session = RegisterSession("s3", client, recorder_of(client.clock), Uniform(["k"]), LoadOptions(value_size=size))
    session.write("k")
    session.write("k")
    assert [(value.version, value.author, len(value.payload)) for value in client.values] == [
        (1, "s3", size),
        (2, "s3", size),
    ]


def test_padding_is_ascii_and_depends_only_on_the_seed() -> None:
    padding = payload(LoadOptions(value_size=5000, seed=1))
    assert len(padding.encode()) == 5000
    assert padding == payload(LoadOptions(value_size=5000, seed=1, users=3))
    assert padding != payload(LoadOptions(value_size=5000, seed=2))
    assert len(set(padding)) == 36


def test_the_answer_of_the_database_is_recorded() -> None:
    class AnsweringClient(RecordingClient):
        def read(self, key: str) -> Answer:
            return Answer("ok", 3, "b", siblings=[1, 2])

        def write(self, key: str, value: Value) -> Answer:
            return Answer("ok", None, "a", superseded=True)

    client = AnsweringClient()
    recorder = recorder_of(client.clock)
    session = RegisterSession("s0", client, recorder, Uniform(["k"]), LoadOptions())
    session.write("k", due=7)
    session.read("k", due=8)
    start = client.clock.now()
    about = {"session": "s0", "key": "k", "start": start, "end": start, "outcome": "ok"}
    assert given_to(recorder) == [
        Write(**about, version=1, node="a", superseded=True, due=7),  # type: ignore[arg-type] # the fields of both
        Read(**about, version=3, node="b", siblings=[1, 2], due=8),  # type: ignore[arg-type] # the fields of both
    ]


def test_a_session_rereads_keys_that_it_failed_to_write_too() -> None:
    run = play(simulated(refusals=1.0), replace(LOAD, users=1, operations=200, reread=1.0, keys=5000))
    written = {write.key for write in run.writes}
    first = next(index for index, one in enumerate(run.loaded) if isinstance(one, Write))
    assert {read.key for read in run.loaded[first:]} <= written
