"""`bench.py cassandra` on a real ring."""

import json
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stalewatch.clusters.local.cassandra import CassandraCluster
from stalewatch.commands.check import judge_files
from stalewatch.engine.result import check_result
from stalewatch.history.operation import Read, Write
from stalewatch.history.reader import History
from tests.commands.benching import ROOT, SHAPES, TIMEOUT_S, bench, result_of

pytestmark = pytest.mark.server


def stale_reads(ring: CassandraCluster, folder: Path, write_cl: str, read_cl: str, operations: int) -> dict[str, Any]:
    """Return what a load found whose sessions read back their writes at once."""
    report = folder / "result.json"
    load = ("--ops", str(operations), "--users", "6", "--keys", "200", "--write-ratio", "0.5", "--reread", "1")
    levels = ("--write-cl", write_cl, "--read-cl", read_cl, "--read-repair", "none")
    found = result_of(bench("cassandra", "--hosts", ring.uri(), *levels, *load, "--json", str(report)), report)
    stale: dict[str, Any] = found["guarantees"]["stale_reads"]
    return stale


@pytest.mark.parametrize(("write_cl", "read_cl"), [("ONE", "ALL"), ("QUORUM", "QUORUM")])
def test_overlapping_quorums_have_no_stale_reads(
    ring: CassandraCluster, tmp_path: Path, write_cl: str, read_cl: str
) -> None:
    stale = stale_reads(ring, tmp_path, write_cl, read_cl, 200)
    assert stale["verdict"] == "holds"
    assert stale["checked"] > 20


@pytest.mark.soak  # how far replicas are behind depends on the machine; tests of hints show the same with a dead node
def test_weaker_levels_have_stale_reads(ring: CassandraCluster, tmp_path: Path) -> None:
    # The weaker one runs last: the difference is clearer once the servers are warm.
    quorum, one = (stale_reads(ring, tmp_path, write_cl, "ONE", 2000) for write_cl in ("QUORUM", "ONE"))
    assert min(quorum["rate"], one["rate"]) > 0
    assert one["interval"][1] > quorum["interval"][0], "ONE/ONE has significantly fewer stale reads than QUORUM/ONE"


def test_registers_lists_and_counters_run_together(ring: CassandraCluster, tmp_path: Path) -> None:
    report, history = tmp_path / "result.json", tmp_path / "history.jsonl"
    load = ("--workload", "register,ledger,sequence", "--ops", "300", "--users", "6", "--keys", "100")
    levels = ("--write-cl", "QUORUM", "--read-cl", "QUORUM")
    outputs = ("--json", str(report), "--history", str(history))
    result = result_of(bench("cassandra", "--hosts", ring.uri(), *levels, *load, *outputs), report)
    rows = result["guarantees"]
    assert rows["unique_ids"]["checked"] > 40
    assert rows["lost_writes"]["checked"] + rows["unique_ids"]["checked"] == result["operations"]["write"]["ok"]
    assert result["verdict"] == "valid"
    assert check_result(judge_files([history]).findings())["guarantees"] == rows


def test_the_documented_command_line_runs_with_only_the_drivers(
    ring: CassandraCluster, bare_python: Path, tmp_path: Path
) -> None:
    """`stalewatch check` finds the same in the history."""
    history, report = tmp_path / "history.jsonl", tmp_path / "result.json"
    line = (
        f"cassandra --hosts {ring.uri()} --keyspace bench --table kv --rf 3 --write-cl QUORUM --read-cl ONE "
        f"--ops 5000 --keys 1000 --write-ratio 0.3 --history {history} --json {report}"
    )
    done = bench(*line.split(), "--ops", "400", "--keys", "100", python=bare_python, PYTHONPATH="", COLUMNS="40")
    result = result_of(done, report)
    for shape, text in zip(SHAPES, done.stdout.splitlines(), strict=False):
        assert re.fullmatch(shape, text)
    assert result["options"]["driver"]["reactor"] != "GreenletConnection"
    checked = check_result(judge_files([history]).findings())["guarantees"]
    assert checked == result["guarantees"]
    assert checked["stale_reads"]["checked"] > 100
    operations = [operation for operation, _ in History([history]).operations()]
    nodes = {operation.node for operation in operations if isinstance(operation, Read | Write)}
    assert nodes == set(ring.nodes())


def test_greenlets_print_the_same_lines(ring: CassandraCluster, tmp_path: Path) -> None:
    report = tmp_path / "result.json"
    load = ("--ops", "200", "--keys", "20", "--lwt", "--write-cl", "quorum", "--read-cl", "serial")
    done = bench("cassandra", "--hosts", ring.uri(), *load, "--json", str(report))
    result = result_of(done, report)
    for shape, text in zip(SHAPES, done.stdout.splitlines(), strict=False):
        assert re.fullmatch(shape, text)
    assert (result["verdict"], result["options"]["driver"]["reactor"]) == ("valid", "GreenletConnection")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--write-cl", "MOST"], 2, "--write-cl"),
        (["--timestamps", "skewed:soon"], 2, "--timestamps"),
        (["--coordinator", "near"], 2, "--coordinator"),
        (["--hosts", "cassandra://me:secret@127.0.0.1"], 2, "--hosts"),
        (["--username", "me"], 2, "password"),
        (["--timeout", "1"], 3, "127.0.0.1:9"),
    ],
)
def test_invalid_input_is_reported_in_one_line_with_its_exit_code(arguments: list[str], code: int, words: str) -> None:
    address = [] if "--hosts" in arguments else ["--hosts", "127.0.0.1:9"]
    done = bench("cassandra", *address, *arguments)
    assert done.returncode == code, done.stderr
    (told,) = (line for line in done.stderr.splitlines() if line != "preparing cassandra")
    assert words in told
    assert "secret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_prints_the_table_and_leaves_no_keys(
    ring: CassandraCluster, tmp_path: Path, eventually: Callable[..., None]
) -> None:
    history, table = tmp_path / "history.jsonl", f"t{secrets.token_hex(4)}"
    load = ("--duration", "100", "--keys", "50", "--rate", "200")
    command = [sys.executable, "bench.py", "cassandra", "--hosts", ring.uri(), "--table", table, *load]
    running = subprocess.Popen([*command, "--history", history], cwd=ROOT, text=True, stdout=subprocess.PIPE)
    try:
        eventually(lambda: history.exists() and history.stat().st_size > 50_000)
        running.send_signal(signal.SIGINT)
        printed, _ = running.communicate(timeout=TIMEOUT_S)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 130
    assert "stale_read_rate" in printed
    assert History([history]).complete
    report = tmp_path / "result.json"
    again = ("--table", table, "--ops", "10", "--keys", "5", "--keep", "--json", str(report))
    result_of(bench("cassandra", "--hosts", ring.uri(), *again), report)
    assert rows(ring, table) == 5
    assert json.loads(report.read_text())["database"] == "cassandra"


def rows(ring: CassandraCluster, table: str) -> int:
    """Return the number of rows in a table, and drop it."""
    from cassandra.cluster import Cluster  # noqa: PLC0415

    host, _, port = ring.nodes()[0].rpartition(":")
    with Cluster([(host, int(port))], protocol_version=5) as cluster:
        session = cluster.connect("bench")
        count = len(list(session.execute(f"SELECT k FROM {table}")))  # noqa: S608 # a name chosen by this test
        session.execute(f"DROP TABLE {table}", timeout=30)
    return count
