"""`bench.py mongo` on a real replica set."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from stalewatch.clusters.local.mongo import MongoCluster
from stalewatch.commands.check import judge_files
from stalewatch.engine.result import check_result
from stalewatch.history.operation import Read, Write
from stalewatch.history.reader import History
from tests.commands.benching import ROOT, SHAPES, TIMEOUT_S, bench, result_of
from tests.conftest import leading

pytestmark = pytest.mark.server


def test_weaker_levels_have_more_stale_reads(whole: MongoCluster, tmp_path: Path) -> None:
    """The three scenarios of the demo, with sessions that read back their writes at once."""
    rates = {}
    for write_concern, read_from in (("1", "secondary"), ("majority", "primary"), ("majority", "secondary")):
        report = tmp_path / "result.json"
        load = ("--ops", "1500", "--users", "4", "--write-ratio", "0.5", "--reread", "1")
        levels = ("--write-concern", write_concern, "--read-from", read_from)
        done = bench("mongo", "--mongo-uri", whole.uri(), *levels, *load, "--json", str(report))
        found = result_of(done, report)
        rates[write_concern, read_from] = found["guarantees"]["stale_reads"]["rate"]
        if read_from == "primary":
            assert found["verdict"] == "valid"
    assert rates["majority", "primary"] == 0
    assert rates["1", "secondary"] > rates["majority", "secondary"] > 0


@pytest.fixture
def delayed(whole: MongoCluster) -> Iterator[str]:
    """The address of a member that applies writes two seconds late."""
    MongoCluster(whole.home, delay_secondary_s=2).start(print)
    try:
        yield whole.nodes()[2]
    finally:
        MongoCluster(whole.home, delay_secondary_s=0).start(print)


def test_staleness_matches_the_delay_of_the_member_that_serves_reads(
    whole: MongoCluster, delayed: str, tmp_path: Path
) -> None:
    report, history = tmp_path / "result.json", tmp_path / "history.jsonl"
    load = ("--duration", "7", "--users", "4", "--rate", "300", "--keys", "5", "--reread", "0")
    outputs = ("--json", str(report), "--history", str(history))
    done = bench("mongo", "--mongo-uri", whole.uri(), "--write-concern", "1", "--read-from", delayed, *load, *outputs)
    stale = result_of(done, report)["guarantees"]["stale_reads"]
    assert stale["violated"] > 10
    assert 1.3 <= stale["staleness_s"]["p50"] <= 4  # optimes are whole seconds: a delay of 2 takes 1 to 2 and some more
    recomputed = sorted(staleness_from_recorded_times(history))
    assert len(recomputed) == stale["violated"]
    assert recomputed[-1] / 1e9 == pytest.approx(stale["staleness_s"]["max"], abs=1e-9)
    assert {operation.node for operation, _ in History([history]).operations() if isinstance(operation, Read)} == {
        delayed
    }


def staleness_from_recorded_times(path: Path) -> Iterator[int]:
    """Return the staleness of every stale read, by comparing each read with each write as the definition says."""
    operations = [operation for operation, _ in History([path]).operations()]
    writes: dict[str, list[tuple[int, int]]] = {}
    for write in operations:
        if isinstance(write, Write) and write.outcome == "ok" and write.end is not None and write.version is not None:
            writes.setdefault(write.key, []).append((write.version, write.end))
    for read in operations:
        if isinstance(read, Read) and read.outcome == "ok" and read.version is not None:
            newer = [end for version, end in writes.get(read.key, []) if version > read.version and end < read.start]
            if newer:
                yield read.start - min(newer)


@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_a_dead_or_frozen_primary_causes_errors_but_loses_no_majority_write(
    whole: MongoCluster, tmp_path: Path, fault: str, eventually: Callable[..., None]
) -> None:
    report, history = tmp_path / "result.json", tmp_path / "history.jsonl"
    command = [sys.executable, "bench.py", "mongo", "--mongo-uri", whole.uri(), "--write-concern", "majority"]
    load = ["--read-concern", "linearizable", "--duration", "11", "--users", "8", "--rate", "300"]
    running = subprocess.Popen([*command, *load, "--json", report, "--history", history], cwd=ROOT, text=True)
    try:
        eventually(lambda: history.exists() and history.stat().st_size > 20_000)
        getattr(whole, fault)(leading(whole))
        assert running.wait(TIMEOUT_S) == 0
    finally:
        running.kill()
        running.wait()
        whole.start(print)
    result = json.loads(report.read_text())
    assert {row["outcome"] for row in result["errors"]} <= {"fail", "unknown"}
    assert all(row["error"] for row in result["errors"])
    # Operations are due all the time, and an election takes longer than their time-out.
    assert sum(row["count"] for row in result["errors"]) > 0
    assert result["verdict"] == "valid", result["guarantees"]
    assert result["guarantees"]["lost_writes"]["checked"] > 0
    # The run continued: no session waited longer than a few time-outs of 2 s. (Successes can be further apart: a
    # majority needs the other secondary to stop replicating from the stopped primary first.)
    ends = [operation.end for operation, _ in History([history]).operations() if operation.end is not None]
    assert max(later - earlier for earlier, later in pairwise(ends)) < 8e9


@pytest.mark.parametrize(
    ("write_concern", "read_from"), [("1", "secondary"), ("majority", "primary"), ("majority", "secondary")]
)
def test_the_documented_command_lines_run_with_only_the_drivers(
    whole: MongoCluster, bare_python: Path, write_concern: str, read_from: str, tmp_path: Path
) -> None:
    history = tmp_path / "history.jsonl"
    line = (
        f"mongo --mongo-uri {whole.uri()} --db bench --coll kv --write-concern {write_concern} --read-from {read_from} "
        f"--ops 5000 --keys 1000 --write-ratio 0.3 --history {history}"
    )
    done = bench(*line.split(), "--ops", "500", python=bare_python, PYTHONPATH="", COLUMNS="40")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for shape, text in zip(SHAPES, lines, strict=False):
        assert re.fullmatch(shape, text)
    counted = re.search(r"\((\d+)/(\d+)", lines[2])
    assert counted is not None
    stale = check_result(judge_files([history]).findings())["guarantees"]["stale_reads"]
    assert (stale["violated"], stale["checked"]) == tuple(map(int, counted.groups()))


def test_greenlets_print_the_same_lines(whole: MongoCluster) -> None:
    done = bench("mongo", "--mongo-uri", whole.uri(), "--ops", "500")
    assert done.returncode == 0, done.stderr
    for shape, text in zip(SHAPES, done.stdout.splitlines(), strict=False):
        assert re.fullmatch(shape, text)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--write-ratio", "1.5"], 2, "--write-ratio"),
        (["--write-concern", "most"], 2, "--write-concern"),
        (["--read-concern", "vague"], 2, "--read-concern"),
        (["--mongo-uri", "mongo://user:secret@127.0.0.1/"], 2, "mongodb://"),
        (["--mongo-uri", "mongodb://127.0.0.1:9/?replicaSet=rs0", "--timeout", "0.5"], 3, "127.0.0.1:9"),
        (["--expect", "stale=0"], 2, "stale"),
    ],
)
def test_invalid_input_is_reported_in_one_line_with_its_exit_code(arguments: list[str], code: int, words: str) -> None:
    address = [] if "--mongo-uri" in arguments else ["--mongo-uri", "mongodb://127.0.0.1:9/?replicaSet=rs0"]
    done = bench("mongo", *address, *arguments)
    assert done.returncode == code, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("bench.py")]
    assert len(told) == 1
    assert words in told[0]
    assert "secret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_registers_lists_and_counters_run_together(whole: MongoCluster, tmp_path: Path) -> None:
    report, history = tmp_path / "result.json", tmp_path / "history.jsonl"
    load = ("--workload", "register,ledger,sequence", "--ops", "600", "--keys", "150")
    outputs = ("--json", str(report), "--history", str(history))
    done = bench("mongo", "--mongo-uri", whole.uri(), "--db", "mixed", "--write-concern", "majority", *load, *outputs)
    result = result_of(done, report)
    rows = result["guarantees"]
    assert (result["workloads"], result["lost_writes_exact"]) == (["ledger", "register", "sequence"], False)
    assert rows["unique_ids"]["checked"] > 100
    assert rows["lost_writes"]["checked"] + rows["unique_ids"]["checked"] == result["operations"]["write"]["ok"]
    assert rows["lost_writes"]["violated"] == rows["unique_ids"]["violated"] == 0
    assert "unique_id_violation_rate: 0.0000" in done.stdout
    assert check_result(judge_files([history]).findings())["guarantees"] == rows
    import pymongo  # noqa: PLC0415

    with pymongo.MongoClient(whole.uri()) as client:
        assert client["mixed"]["kv"].count_documents({}) == 0
        client.drop_database("mixed")


def test_a_missed_expectation_is_exit_code_1(whole: MongoCluster) -> None:
    done = bench("mongo", "--mongo-uri", whole.uri(), "--ops", "500", "--expect", "write.p95_ms<0.0001,lost_writes=0")
    assert done.returncode == 1
    assert "expected write.p95_ms<0.0001: it is" in done.stdout
    assert "expected lost_writes" not in done.stdout


def test_ctrl_c_prints_the_table_and_completes_the_history(
    whole: MongoCluster, tmp_path: Path, eventually: Callable[..., None]
) -> None:
    history = tmp_path / "history.jsonl"
    command = [sys.executable, "bench.py", "mongo", "--mongo-uri", whole.uri(), "--duration", "100"]
    running = subprocess.Popen([*command, "--history", history], cwd=ROOT, text=True, stdout=subprocess.PIPE)
    try:
        eventually(lambda: history.exists() and history.stat().st_size > 50_000)
        children = psutil.Process(running.pid).children(recursive=True)
        running.send_signal(signal.SIGINT)
        printed, _ = running.communicate(timeout=TIMEOUT_S)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 130
    assert "stale_read_rate" in printed
    counted = re.search(r"reads ok/fail/unknown: (\d+) / (\d+) / (\d+)", printed)
    assert counted is not None
    read = History([history])
    assert read.complete
    assert sum(isinstance(one, Read) for one, _ in read.operations()) == sum(map(int, counted.groups()))
    assert not [child for child in children if child.is_running()]


def test_a_run_deletes_its_documents_unless_told_to_keep_them(whole: MongoCluster) -> None:
    import pymongo  # noqa: PLC0415

    with pymongo.MongoClient(whole.uri()) as client:
        left = client["left_behind"]["kv"]
        for more, documents in (([], 0), (["--keep"], 20)):
            done = bench(
                "mongo", "--mongo-uri", whole.uri(), "--db", "left_behind", "--ops", "100", "--keys", "20", *more
            )
            assert done.returncode == 0, done.stderr
            assert left.count_documents({}) == documents
        client.drop_database("left_behind")
