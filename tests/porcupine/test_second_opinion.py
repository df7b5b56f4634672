"""Porcupine, a checker by others, finds exactly the keys not linearizable on which one of three guarantees is violated.

That is the theorem of docs/consistency.md ("Linearizability"), for registers that grow and whose write starts rise with
their versions. The histories reach porcupine as `stalewatch history export` writes them.
"""

import gzip
import json
import os
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from stalewatch.checkers.judge import Judge
from stalewatch.commands.main import main
from stalewatch.history.exchange.files import export_history
from stalewatch.history.operation import Final, Operation, Read, Write, replace
from stalewatch.history.reader import History
from tests.checkers.histories import history_text, random_growing_register
from tests.checkers.oracle import File

HERE = Path(__file__).parent
THREE = {"stale_reads", "read_regressions", "phantom_reads"}
GENERATED = 2000
RECORDED = HERE.parent / "checkers" / "recorded.json.gz"

Opinions = Callable[[Sequence[Path]], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def porcupine(tmp_path_factory: pytest.TempPathFactory) -> Opinions:
    """A function that returns porcupine's verdicts on histories, after an export."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed (Debian: golang-go)")
    folder = tmp_path_factory.mktemp("porcupine")
    settings = {"GOFLAGS": "-mod=readonly -buildvcs=false", "GOTOOLCHAIN": "local"}
    subprocess.run([go, "build", "-o", folder / "judge", "."], cwd=HERE, check=True, env={**os.environ, **settings})

    def opinions(histories: Sequence[Path]) -> list[dict[str, Any]]:
        exported = [folder / f"{number}.json" for number, _ in enumerate(histories)]
        for history, target in zip(histories, exported, strict=True):
            export_history(history, target, "json", lambda _count: None)
        paths = "".join(f"{path}\n" for path in exported)
        done = subprocess.run([folder / "judge"], input=paths, check=True, capture_output=True, text=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    return opinions


def violated_keys(operations: Iterable[Operation]) -> set[str]:
    """Return the keys with a read that violates one of the three guarantees; porcupine knows no final reads."""
    judge = Judge()
    found = [
        violation
        for operation in operations
        if not isinstance(operation, Final)
        for violation in judge.observe(operation)
    ]
    found += judge.finish()
    return {str(getattr(one.operations[-1], "key", "")) for one in found if one.guarantee in THREE}


def keys_of(operations: Iterable[Operation]) -> set[str]:
    return {one.key for one in operations if isinstance(one, Read | Write)}


def has_rising_starts(operations: Iterable[Operation]) -> bool:
    starts = defaultdict[str, list[tuple[int, int]]](list)
    for one in operations:
        if isinstance(one, Write) and one.version is not None:
            starts[one.key].append((one.version, one.start))
    return all(
        [start for _, start in sorted(writes)] == sorted(start for _, start in writes) for writes in starts.values()
    )


def agree(paths: Sequence[Path], porcupine: Opinions) -> tuple[int, int]:
    """Compare the opinions key by key; return how many keys are linearizable, and how many are not."""
    keys = broken = 0
    for path, opinion in zip(paths, porcupine(paths), strict=True):
        operations = [operation for operation, _ in History([path]).operations()]
        assert opinion["timed_out"] == []
        assert set(opinion["illegal"]) == violated_keys(operations), path
        keys += len(keys_of(operations))
        broken += len(opinion["illegal"])
    return keys - broken, broken


def test_it_agrees_on_generated_registers(tmp_path: Path, porcupine: Opinions) -> None:
    """All registers are keys of one history, which keeps their times."""
    operations: list[Operation] = []
    for seed in range(GENERATED):
        for one in random_growing_register(seed, size=3 + seed % 14)[0].operations:
            assert isinstance(one, Read | Write)
            operations.append(replace(one, key=f"k{seed}", session=f"{seed}-{one.session}"))
    operations.sort(key=lambda one: one.start if one.end is None else one.end)
    path = tmp_path / "generated.jsonl"
    path.write_text(history_text(File(operations)))
    assert len(keys_of(operations)) == GENERATED
    linearizable, broken = agree([path], porcupine)
    assert min(linearizable, broken) > GENERATED / 5


def test_it_agrees_on_recorded_runs(tmp_path: Path, porcupine: Opinions) -> None:
    paths = []
    for number, case in enumerate(json.loads(gzip.decompress(RECORDED.read_bytes()))["histories"]):
        path = tmp_path / f"{number}.jsonl"
        path.write_text(case["files"][0])
        history = History([path])
        operations = [operation for operation, _ in history.operations()]
        foreign = any(isinstance(one, Read) and one.owner is not None for one in operations)
        fits = history.complete and not history.sources[0].overwriting and has_rising_starts(operations) and not foreign
        if fits and len(case["files"]) == 1:
            paths.append(path)
    assert len(paths) >= 40
    linearizable, broken = agree(paths, porcupine)
    assert min(linearizable, broken) > 50


RUNS = [
    "--topology leader --read-from secondary --lag 0.01 --timeouts 0.02 --outage 0.2:2:loses",
    "--topology quorum --read-acks 1 --write-acks 1 --timeouts 0.05 --refusals 0.05",
    "--topology linearizable --timeouts 0.05 --refusals 0.05",
]


def test_it_agrees_on_fresh_runs(tmp_path: Path, porcupine: Opinions) -> None:
    paths = [tmp_path / f"{number}.jsonl" for number, _ in enumerate(RUNS)]
    for path, options in zip(paths, RUNS, strict=True):
        load = ["--ops", "1500", "--users", "6", "--keys", "30", "--write-ratio", "0.4", "--history", str(path)]
        assert main(["bench", "memory", *options.split(), *load]) == 0
    opinions = [agree([path], porcupine) for path in paths]
    assert opinions[0][1] > 0 < opinions[1][1]
    assert opinions[2] == (30, 0)
