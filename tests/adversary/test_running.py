"""A bench whose servers turn hostile while it runs, and signals in each of its phases, ends in order and in time."""

import json
import signal
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.adversary.running import AT_A_TIME, MOST_BYTES, Ended, Started
from tests.adversary.two_faced import Hostile, TwoFacedCouch, byte_by_byte, never, saying, without_end

LOAD = ("--users", "2", "--keys", "2", "--duration", "1")

HOSTILE: Mapping[str, tuple[str, Hostile]] = {
    "slow reads": ("read", byte_by_byte),
    "endless reads": ("read", without_end),
    "slow writes": ("write", byte_by_byte),
    "endless writes": ("write", without_end),
    "no object": ("read", saying([1, 2])),
    "no revision": ("read", saying({"v": 0})),
    "no version": ("read", saying({"_rev": "1-a"})),
    "version of text": ("read", saying({"_rev": "1-a", "v": "soon"})),
    "conflicts of another type": ("read", saying({"_rev": "1-a", "v": 0, "_conflicts": 5})),
}
ENDS_S = 60.0


class Run(NamedTuple):
    """A bench that has ended, and its result."""

    ended: Ended
    result: dict[str, object]


def hostile_run(folder: Path, kind: str, answer: Hostile) -> Run:
    """Run a bench during whose load, not in its final reads, requests of a kind are answered so."""
    with TwoFacedCouch() as couch:
        couch.hostile[kind] = answer
        given = (*couch.arguments, *LOAD, "--timeout", "1", "--json", str(folder / "result.json"))
        started = Started(folder, "bench.py", *given)
        deadline = time.monotonic() + ENDS_S
        while not couch.counts.get(kind) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(2.5)  # the load is over: its second, and the time-out of its last operations
        couch.hostile.clear()
        ended = started.ended()
        return Run(ended, json.loads((folder / "result.json").read_text()))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    folder = tmp_path_factory.mktemp("hostile")
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        begun = {name: pool.submit(hostile_run, folder / name, *hostile) for name, hostile in HOSTILE.items()}
        yield {name: one.result() for name, one in begun.items()}


def test_a_load_on_hostile_servers_ends_in_time_and_in_bounded_memory(runs: dict[str, Run]) -> None:
    assert {name: run.ended.err for name, run in runs.items() if run.ended.code not in {0, 3}} == {}
    assert {name: run.ended.took_s for name, run in runs.items() if run.ended.took_s > ENDS_S} == {}
    assert {name: run.ended.peak_bytes for name, run in runs.items() if run.ended.peak_bytes > MOST_BYTES} == {}
    assert {name: run.ended.err for name, run in runs.items() if "Traceback" in run.ended.err} == {}


def test_what_hostile_servers_answer_is_unknown_and_named(runs: dict[str, Run]) -> None:
    for name, run in runs.items():
        kind = HOSTILE[name][0]
        operations, errors = run.result["operations"], run.result["errors"]
        assert isinstance(operations, dict)
        assert isinstance(errors, list)
        assert operations[kind]["ok"] == 0, (name, operations)
        assert operations[kind]["fail"] == 0, (name, operations)
        named = {error["error"] for error in errors}
        assert named <= {"MalformedAnswer", "AnswerTooLarge", "TimeoutError", "HTTP 200"}, name
        assert named, name


class Phase(NamedTuple):
    """A phase of a bench: the kind of request that is never answered then, and how many of them are before."""

    kind: str
    before: str = ""
    after_s: float = 0.0


PHASES: Mapping[str, Phase] = {
    "connecting": Phase("set-up"),
    "creating keys": Phase("create"),
    "load": Phase("read"),
    "final reads": Phase("read", before="read", after_s=2.5),
    "deleting keys": Phase("delete"),
}


def stopped(folder: Path, phase: Phase, *, times: int) -> Ended:
    """Send SIGTERM to a bench that waits for an answer, once or twice, and return what became of it since then."""
    with TwoFacedCouch() as couch:
        if not phase.before:
            couch.hostile[phase.kind] = never
        timeout_s = "60" if times > 1 else "1"
        started = Started(folder, "bench.py", *couch.arguments, *LOAD, "--timeout", timeout_s)
        await_count(couch, phase.before or phase.kind)
        if phase.before:
            couch.hostile["look"] = couch.hostile[phase.kind] = never  # in the load's last moment, or later
            time.sleep(phase.after_s)
        begin = time.monotonic()
        for number in range(times):
            if number:
                time.sleep(0.3)
            started.send(signal.SIGTERM)
        return started.ended()._replace(took_s=time.monotonic() - begin)


def await_count(couch: TwoFacedCouch, kind: str) -> None:
    deadline = time.monotonic() + ENDS_S
    while not couch.counts.get(kind):
        assert time.monotonic() < deadline, f"no request to {kind}"
        time.sleep(0.02)


@pytest.fixture(scope="module", params=[1, 2], ids=["once", "twice"])
def stops(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    folder = tmp_path_factory.mktemp("stops")
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        begun = {
            name: pool.submit(stopped, folder / name, phase, times=request.param) for name, phase in PHASES.items()
        }
        return {name: one.result() for name, one in begun.items()}


def test_sigterm_in_any_phase_ends_a_bench_in_time(stops: dict[str, Ended]) -> None:
    codes = {name: 128 - one.code if one.code < 0 else one.code for name, one in stops.items()}  # as a shell shows it
    assert codes == dict.fromkeys(PHASES, 128 + signal.SIGTERM)
    assert {name: one.err for name, one in stops.items() if "Traceback" in one.err or "stopping" not in one.err} == {}
    assert {name: one.took_s for name, one in stops.items() if one.took_s > ENDS_S} == {}
