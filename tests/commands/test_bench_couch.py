"""`bench.py couch` on two real leaders."""

import json
import os
import re
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from stalewatch.clusters.local.couch import CouchCluster
from stalewatch.clusters.local.couch_leaders import url
from stalewatch.commands.check import judge_files
from stalewatch.engine.result import check_result
from stalewatch.history.operation import Final, Read, Write
from stalewatch.history.reader import History
from tests.clients.couchdb_traits import CouchProxy, paired

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 240

pytestmark = pytest.mark.server


def addresses(cluster: CouchCluster) -> list[str]:
    a, b = cluster.nodes()
    return ["--couch-a", url(a), "--couch-b", url(b)]


def bench(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "bench.py", "couch", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def run(cluster: CouchCluster, folder: Path, *arguments: str) -> dict[str, Any]:
    """Return the result of a run that must succeed, including the printed lines."""
    report = folder / "result.json"
    done = bench(*addresses(cluster), *arguments, "--json", str(report))
    assert done.returncode == 0, done.stderr
    assert "admin:pass" not in done.stdout + done.stderr + report.read_text()
    return {**json.loads(report.read_text()), "lines": done.stdout.splitlines()}


def rate(result: dict[str, Any], guarantee: str) -> float:
    return float(result["guarantees"][guarantee]["rate"])


def violated(result: dict[str, Any], guarantee: str) -> int:
    return int(result["guarantees"][guarantee]["violated"])


def test_two_leaders_draw_the_same_ids_but_lose_no_item(leaders: CouchCluster, tmp_path: Path) -> None:
    load = ("--workload", "ledger,sequence", "--ops", "240", "--users", "8", "--keys", "60")
    history = tmp_path / "history.jsonl"
    result = run(leaders, tmp_path, *load, "--write-to", "both", "--history", str(history))
    assert (result["workloads"], result["lost_writes_exact"]) == (["ledger", "sequence"], True)
    assert result["guarantees"]["lost_writes"]["checked"] > 60
    assert violated(result, "lost_writes") == result["duplicate_items"] == result["phantom_items"] == 0
    assert violated(result, "unique_ids") > 10
    again = check_result(judge_files([history]).findings())
    assert again["guarantees"] == result["guarantees"]
    result = run(leaders, tmp_path, *load, "--write-to", "home")
    assert (result["guarantees"]["unique_ids"]["verdict"], result["verdict"]) == ("holds", "valid")


def final_states(history: Path) -> list[tuple[str, int | None, list[int]]]:
    finals = [one for one, _ in History([history]).operations() if isinstance(one, Final)]
    assert {one.outcome for one in finals} == {"ok"}
    return [(one.key, one.version, sorted(one.siblings or ())) for one in finals]


SHAPES = (
    r"write avg/p95 ms: \d+\.\d+ / \d+\.\d+",
    r"read avg/p95 ms: \d+\.\d+ / \d+\.\d+",
    r"stale_read_rate: \d\.\d{4} \(\d+/\d+, 95% \d\.\d{4}-\d\.\d{4}\)",
    r"ryw_violation_rate: \d\.\d{4} \(\d+/\d+, 95% \d\.\d{4}-\d\.\d{4}\)",
    r"monotonic_violation_rate: \d\.\d{4} \(\d+/\d+, 95% \d\.\d{4}-\d\.\d{4}\)",
    r"conflicts: \d+",
)


@pytest.mark.parametrize(
    "line",
    [
        "--db bench --write-to both --read-from a --ops 5000 --keys 1000 --write-ratio 0.3",
        pytest.param(
            "--db bench --write-to b --read-from a --ops 5000 --keys 500 --write-ratio 0.5", marks=pytest.mark.soak
        ),
    ],
)
def test_the_documented_command_lines_run(leaders: CouchCluster, line: str, tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    result = run(leaders, tmp_path, *line.split(), "--ops", "500", "--keys", "150", "--history", str(history))
    for shape, text in zip(SHAPES, result["lines"], strict=False):
        assert re.fullmatch(shape, text)
    assert result["operations"]["write"]["fail"] == result["operations"]["read"]["fail"] == 0
    assert violated(result, "lost_writes") == 0
    assert violated(result, "phantom_reads") == 0
    assert (violated(result, "conflicts") > 0) == ("both" in line)
    judged = check_result(judge_files([history]).findings())["guarantees"]
    for name, row in judged.items():
        assert (row["checked"], row["violated"]) == tuple(
            result["guarantees"][name][count] for count in ("checked", "violated")
        )


HOT = ("--ops", "500", "--users", "8", "--keys", "30", "--write-ratio", "0.5")


def test_two_leaders_conflict_and_converge_but_home_routing_avoids_conflicts(
    leaders: CouchCluster, tmp_path: Path
) -> None:
    history = tmp_path / "history.jsonl"
    both = run(leaders, tmp_path, "--write-to", "both", "--read-from", "a", *HOT, "--history", str(history))
    assert violated(both, "conflicts") > 0
    finals = final_states(history)  # both leaders agree on each: winner and siblings
    assert any(siblings for _, _, siblings in finals)
    causes = both["guarantees"]["stale_reads"]["causes"]
    assert causes["conflict"] > 0
    assert causes["lag"] > 0
    home = run(leaders, tmp_path, "--write-to", "home", "--read-from", "same", *HOT)
    assert violated(home, "conflicts") == 0
    assert violated(home, "stale_reads") == 0


def test_only_the_leader_that_does_not_take_the_writes_is_stale(leaders: CouchCluster, tmp_path: Path) -> None:
    rates = [
        rate(run(leaders, tmp_path, "--write-to", place, "--read-from", "a", *HOT), "stale_reads") for place in "ab"
    ]
    assert rates[0] == 0
    assert rates[1] > 0.01


def test_a_stale_read_is_attributed_to_a_conflict_only_if_a_sibling_is_newer(
    leaders: CouchCluster, tmp_path: Path
) -> None:
    """Recounts the causes from the history, as the definition says."""
    history = tmp_path / "history.jsonl"
    result = run(leaders, tmp_path, "--write-to", "both", "--read-from", "b", *HOT, "--history", str(history))
    operations = [one for one, _ in History([history]).operations()]
    writes = [one for one in operations if isinstance(one, Write) and one.outcome == "ok"]
    causes = {"lag": 0, "conflict": 0}
    for read in (one for one in operations if isinstance(one, Read) and one.outcome == "ok"):
        before = [
            write.version or 0
            for write in writes
            if write.key == read.key and write.end is not None and write.end < read.start
        ]
        floor = max(before, default=0)
        if (read.version or 0) < floor:
            causes["conflict" if any(one >= floor for one in read.siblings or ()) else "lag"] += 1
    assert result["guarantees"]["stale_reads"]["causes"] == {name: count for name, count in causes.items() if count}


EDITS = ("--workload", "conflict", "--write-to", "both", "--ops", "600", "--users", "8", "--keys", "10")


@pytest.mark.parametrize(
    ("strategy", "keeps", "loses"),
    [
        ("none", ("register", "basket", "count", "fields"), ()),
        ("lww", ("register",), ("basket", "count", "fields")),
        pytest.param("max", ("register",), ("basket", "count", "fields"), marks=pytest.mark.soak),
        ("union", ("register", "basket"), ("count", "fields")),
        pytest.param("sum", ("register", "count"), ("basket", "fields"), marks=pytest.mark.soak),
        ("fields", ("register", "fields"), ("basket", "count")),
    ],
)
def test_each_resolution_strategy_loses_what_it_cannot_merge(
    leaders: CouchCluster, strategy: str, keeps: tuple[str, ...], loses: tuple[str, ...], tmp_path: Path
) -> None:
    history = tmp_path / "history.jsonl"
    load = (*EDITS, "--write-ratio", "0.5", "--resolve", strategy)
    result = run(leaders, tmp_path, *load, "--history", str(history))
    losses = result["losses"]
    print(strategy, losses, result["resolution"], "final reads", result["final_reads_s"])
    assert all(losses[part]["acknowledged"] > 30 for part in losses)
    assert [losses[part]["lost"] for part in keeps] == [0] * len(keeps)
    assert all(losses[part]["lost"] > 0 for part in loses)
    assert violated(result, "lost_writes") == sum(row["lost"] for row in losses.values())
    judged = check_result(judge_files([history]).findings())
    assert judged["guarantees"]["lost_writes"]["violated"] == violated(result, "lost_writes")
    assert judged["phantom_items"] == judged["duplicate_items"] == 0
    assert result["final_reads_s"] is not None, "the leaders did not agree on every key"
    open_conflicts = [key for key, _, siblings in final_states(history) if siblings]
    assert bool(open_conflicts) == (strategy == "none")


def test_the_bench_runs_on_servers_that_answer_like_apache_couchdb(leaders: CouchCluster, tmp_path: Path) -> None:
    """Opaque sequence numbers, conflicts in any order, 202, chunked answers, different addresses between servers."""
    disguises = [
        CouchProxy(f"http://{node}", accepted_every=50, peer_url=f"http://{other}")
        for node, other in paired(leaders.nodes())
    ]
    report = tmp_path / "result.json"
    a, b = (url(disguise.address) for disguise in disguises)
    load = ("--workload", "conflict", "--resolve", "union", "--ops", "400", "--users", "6", "--keys", "10")
    try:
        done = bench("--couch-a", a, "--couch-b", b, *load, "--write-ratio", "0.6", "--json", str(report))
    finally:
        for disguise in disguises:
            disguise.close()
    assert done.returncode == 0, done.stderr
    result = json.loads(report.read_text())
    assert result["options"]["driver"]["servers"] == ["CouchDB 3.5.0"] * 2
    assert result["operations"]["write"]["unknown"] == sum(row["count"] for row in result["errors"]) > 0
    assert {row["error"] for row in result["errors"]} == {"accepted"}
    assert violated(result, "conflicts") > 0
    assert result["losses"]["basket"]["acknowledged"] > 25
    assert result["losses"]["basket"]["lost"] == 0
    assert result["final_reads_s"] is not None
    asked = {request for disguise in disguises for request in disguise.asked}
    assert not any("_replicate " in f"{request} " for request in asked)  # such jobs do not outlive a restart


class Link:
    """A relay from one leader to the other whose connections can be cut and restored."""

    def __init__(self, node: str) -> None:
        host, _, port = node.rpartition(":")
        self._target = (host, int(port))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listen(0)

    def _listen(self, port: int) -> None:
        self._server = socket.create_server(("127.0.0.1", port))
        self.port = self._server.getsockname()[1]
        self.url = url(f"127.0.0.1:{self.port}").rstrip("/")
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def _accept(self, server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = server.accept()
                onward = socket.create_connection(self._target)
                self._pairs.append((client, onward))
                threading.Thread(target=_pump, args=(client, onward), daemon=True).start()

    def cut(self) -> None:
        """Refuse new connections, and break existing ones."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for one in (one for pair in self._pairs for one in pair):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def heal(self) -> None:
        self._listen(self.port)


def _pump(client: socket.socket, onward: socket.socket) -> None:
    with client, onward, selectors.DefaultSelector() as both, suppress(OSError):
        for one, other in ((client, onward), (onward, client)):
            both.register(one, selectors.EVENT_READ, other)
        while True:
            for ready, _ in both.select():
                data = ready.fileobj.recv(65536)  # type: ignore[union-attr] # is a socket
                if not data:
                    return
                ready.data.sendall(data)


@pytest.fixture
def parted(leaders: CouchCluster) -> Iterator[tuple[list[Link], list[str]]]:
    """Links between the leaders, and the options for a bench whose new database is replicated over them."""
    links = [Link(node) for node in leaders.nodes()]
    peers = ["--peer-a", links[0].url, "--peer-b", links[1].url, "--db", f"parted-{secrets.token_hex(3)}"]
    yield links, [*addresses(leaders), *peers]
    for link in links:
        link.cut()


@contextmanager
def running(arguments: list[str], history: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a bench in a subprocess, and kill it at the end of the block."""
    command = [sys.executable, "bench.py", "couch", *arguments, "--history", str(history)]
    started = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


@pytest.mark.parametrize("cut_s", [7, pytest.param(20, marks=pytest.mark.soak)])
def test_replication_catches_up_after_being_cut_under_load(
    parted: tuple[list[Link], list[str]], tmp_path: Path, eventually: Callable[..., None], cut_s: int
) -> None:
    links, options = parted
    report, history = tmp_path / "result.json", tmp_path / "history.jsonl"
    load = ["--write-to", "both", "--read-from", "same", "--duration", str(cut_s), "--rate", "100", "--users", "4"]
    with running([*options, *load, "--keys", "50", "--json", str(report)], history) as started:
        eventually(lambda: history.exists() and history.stat().st_size > 20_000)
        for link in links:
            link.cut()
        time.sleep(cut_s)  # the load ends shortly before the links are restored, so final reads meet the backlog
        for link in links:
            link.heal()
        printed, _ = started.communicate(timeout=TIMEOUT_S)
    assert started.returncode == 0
    result = json.loads(report.read_text())
    print([line for line in printed.splitlines() if line.startswith(("conflicts", "final reads", "lost", "staleness"))])
    assert result["operations"]["write"]["fail"] == result["operations"]["write"]["unknown"] == 0
    assert result["final_reads_s"] is not None, "the leaders did not agree on every key"
    assert violated(result, "lost_writes") == 0
    assert violated(result, "conflicts") > 0
    assert result["guarantees"]["stale_reads"]["staleness_s"]["max"] > cut_s / 2
    assert any(siblings for _, _, siblings in final_states(history))


@pytest.mark.parametrize("write_to", ["both", pytest.param("home", marks=pytest.mark.soak)])
def test_a_killed_leader_loses_no_acknowledged_write(
    leaders: CouchCluster, write_to: str, tmp_path: Path, eventually: Callable[..., None]
) -> None:
    report, history = tmp_path / "result.json", tmp_path / "history.jsonl"
    load = ["--write-to", write_to, "--read-from", "same", "--duration", "6", "--users", "8", "--rate", "200"]
    victim = leaders.nodes()[1]
    with running([*addresses(leaders), *load, "--keys", "100", "--json", str(report)], history) as started:
        eventually(lambda: history.exists() and history.stat().st_size > 20_000)
        leaders.kill(victim)
        size = history.stat().st_size
        eventually(lambda: history.stat().st_size > size + 10_000)  # the other leader continues
        leaders.restart(victim)
        started.communicate(timeout=TIMEOUT_S)
    assert started.returncode == 0
    result = json.loads(report.read_text())
    assert sum(row["count"] for row in result["errors"]) > 0
    assert result["final_reads_s"] is not None, "the leaders did not agree on every key"
    assert result["guarantees"]["lost_writes"]["checked"] > 0
    assert violated(result, "lost_writes") == 0
    assert violated(result, "phantom_reads") == 0
    if write_to == "home":  # each key has one leader, which loses nothing: no violations at all
        assert result["verdict"] == "valid"


def test_resolvers_lose_no_basket_item_during_or_after_a_partition(
    parted: tuple[list[Link], list[str]], tmp_path: Path, eventually: Callable[..., None]
) -> None:
    """Both sides keep resolving; what they merged separately conflicts again, and is merged again."""
    links, options = parted
    report, history = tmp_path / "result.json", tmp_path / "history.jsonl"
    load = ["--workload", "conflict", "--resolve", "union", "--write-to", "both", "--read-from", "same"]
    pace = ["--duration", "9", "--rate", "150", "--users", "6", "--keys", "15", "--write-ratio", "0.6"]
    with running([*options, *load, *pace, "--json", str(report)], history) as started:
        for _ in range(3):
            size = history.stat().st_size if history.exists() else 0
            eventually(lambda: history.exists() and history.stat().st_size > size + 8_000)  # noqa: B023 # at once
            for link in links:
                link.cut()
            size = history.stat().st_size
            eventually(lambda: history.stat().st_size > size + 8_000)  # noqa: B023 # at once
            for link in links:
                link.heal()
        started.communicate(timeout=TIMEOUT_S)
    assert started.returncode == 0
    result = json.loads(report.read_text())
    print(result["losses"], result["resolution"], result["final_reads_s"])
    assert result["final_reads_s"] is not None, "conflicts were left, or the leaders did not agree"
    assert result["losses"]["basket"]["acknowledged"] > 0
    assert result["losses"]["basket"]["lost"] == result["losses"]["register"]["lost"] == 0
    assert not [key for key, _, siblings in final_states(history) if siblings]


def test_no_increment_is_lost_if_a_leader_is_killed_while_conflicts_are_resolved(
    leaders: CouchCluster, tmp_path: Path, eventually: Callable[..., None]
) -> None:
    report, history = tmp_path / "result.json", tmp_path / "history.jsonl"
    load = ["--workload", "conflict", "--resolve", "sum", "--write-to", "both", "--keys", "15"]
    pace = ["--duration", "8", "--rate", "150", "--users", "8"]
    victim = leaders.nodes()[0]
    with running([*addresses(leaders), *load, *pace, "--json", str(report)], history) as started:
        eventually(lambda: history.exists() and history.stat().st_size > 20_000)
        leaders.kill(victim)
        size = history.stat().st_size
        eventually(lambda: history.stat().st_size > size + 5_000)
        leaders.restart(victim)
        started.communicate(timeout=TIMEOUT_S)
    assert started.returncode == 0
    result = json.loads(report.read_text())
    assert result["resolution"]["errors"] > 0
    assert result["final_reads_s"] is not None, "conflicts were left, or the leaders did not agree"
    assert result["losses"]["count"]["acknowledged"] > 0
    assert result["losses"]["count"]["lost"] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--write-to", "c"], 2, "--write-to"),
        (["--read-from", "all"], 2, "--read-from"),
        (["--db", "Bench"], 2, "--db"),
        (["--resolve", "newest"], 2, "--resolve"),
        (["--resolve", "lww"], 2, "--workload conflict"),
        (["--couch-a", "couch://admin:s3cret@127.0.0.1/"], 2, "--couch-a"),
        (["--couch-b", "http://admin:s3cret@127.0.0.1:9"], 3, "--couch-b 127.0.0.1:9"),
    ],
)
def test_invalid_input_is_reported_in_one_line_with_its_exit_code(
    leaders: CouchCluster, arguments: list[str], code: int, words: str
) -> None:
    done = bench(*addresses(leaders), *arguments)
    assert done.returncode == code, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("bench.py")]
    assert len(told) == 1
    assert words in told[0]
    assert "s3cret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_without_an_address_two_local_leaders_are_started(pouch: tuple[Path, Path], tmp_path: Path) -> None:
    assert pouch
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STALEWATCH_COUCH")}
    environment["STALEWATCH_HOME"] = str(tmp_path)
    started = CouchCluster(tmp_path)
    try:
        for words in ("starting two leaders", ""):  # the second run finds them
            done = subprocess.run(
                [sys.executable, "bench.py", "couch", "--ops", "100", "--keys", "10"],
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert ("starting two leaders" in done.stderr) == bool(words)
            assert words in done.stderr
        assert [node.healthy for node in started.status()] == [True, True]
    finally:
        started.stop(print, wipe=True)


def test_credentials_may_come_from_the_environment(leaders: CouchCluster) -> None:
    a, b = leaders.nodes()
    servers = ("--couch-a", f"http://{a}", "--couch-b", f"http://{b}", "--ops", "100", "--keys", "10")
    secret = {"STALEWATCH_COUCH_USERNAME": "admin", "STALEWATCH_COUCH_PASSWORD": "pass"}
    assert bench(*servers, **secret).returncode == 0
    wrong = bench(*servers, **{**secret, "STALEWATCH_COUCH_PASSWORD": "s3cret"})
    assert wrong.returncode == 3
    assert "refused the user or the password" in wrong.stderr
    assert "s3cret" not in wrong.stderr


def test_ctrl_c_prints_the_table_stops_the_resolvers_and_cleans_up(
    leaders: CouchCluster, tmp_path: Path, eventually: Callable[..., None]
) -> None:
    history = tmp_path / "history.jsonl"
    load = ["--workload", "conflict", "--resolve", "union", "--duration", "100", "--keys", "50"]
    with running([*addresses(leaders), *load], history) as started:
        eventually(lambda: history.exists() and history.stat().st_size > 20_000)
        started.send_signal(signal.SIGINT)
        printed, _ = started.communicate(timeout=TIMEOUT_S)
    assert started.returncode == 130
    assert "stale_read_rate" in printed
    assert "resolution: union" in printed
    read = History([history])
    assert read.complete
    assert sum(1 for _ in read.operations()) > 50
