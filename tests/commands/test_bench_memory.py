"""`bench.py memory`: its output, files, exit codes and interruptions."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from stalewatch.checkers.judge import GUARANTEES
from stalewatch.clients.protocol import Answer
from stalewatch.commands.main import main
from stalewatch.history.operation import Operation
from stalewatch.history.reader import History
from stalewatch.simulator.client import MemoryClient
from tests.checkers import oracle

ROOT = Path(__file__).parents[2]
DEADLINE_S = 120
ENDLESS = ("--ops", "1000000000", "--keys", "50", "--seed", "3")
STALE = ("--read-from", "secondary", "--lag", "0.05", "--keys", "50", "--seed", "3", "--ops", "1000")

RATE = r"(n/a \(0/0, no evidence\)|[01]\.\d{4} \(\d+/\d+, 95% [01]\.\d{4}-[01]\.\d{4}\))"
LATENCY = r"(n/a|\d+\.\d\d) / (n/a|\d+\.\d\d)"
LINES = [
    rf"write avg/p95 ms: {LATENCY}",
    rf"read avg/p95 ms: {LATENCY}",
    rf"stale_read_rate: {RATE}",
    rf"ryw_violation_rate: {RATE}",
    rf"monotonic_violation_rate: {RATE}",
    r"conflicts: \d+",
]
"""The lines that scripts rely on, in order; others may come between and after them."""

WRAPPED = """
import runpy, sys
blocked, before = sys.argv[1], sys.argv[2]
for name in filter(None, blocked.split(",")):
    sys.modules[name] = None
exec(before)
sys.argv = ["bench.py", "memory", *sys.argv[3:]]
runpy.run_path("bench.py", run_name="__main__")
"""


running: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    yield
    for process in running:
        with process:
            process.kill()
    running.clear()


def start(
    *arguments: object, without: str = "", before: str = "", env: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start the bench in a subprocess, with some packages not importable and some code run first."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRAPPED, without, before, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    )
    running.append(process)
    return process


def run(*arguments: object, without: str = "", env: dict[str, str] | None = None) -> tuple[int, list[str], str]:
    """Run the bench in a subprocess, and return its exit code, lines of standard output, and standard error."""
    process = start(*arguments, without=without, env=env)
    out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out.splitlines(), err


def here(*arguments: object) -> int:
    """Run the bench in this process, and return its exit code."""
    try:
        return main(["bench", "memory", *map(str, arguments)])
    except SystemExit as error:
        return cast("int", error.code)


def result_of(path: Path, *arguments: object) -> dict[str, Any]:
    """Run the bench in this process and return its JSON result."""
    assert here(*arguments, "--json", path / "r.json", "--history", path / "h.jsonl", "--force") == 0
    made: dict[str, Any] = json.loads((path / "r.json").read_text())
    return made


def checked(capsys: pytest.CaptureFixture[str], *files: Path) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main(["check", "--json", *map(str, files)])
    return code, json.loads(capsys.readouterr().out)


def operations_of(history: Path) -> list[Operation]:
    return [operation for operation, _ in History([history]).operations()]


def assert_lines(lines: Sequence[str]) -> None:
    places = []
    for pattern in LINES:
        found = [place for place, line in enumerate(lines) if re.fullmatch(pattern, line)]
        assert len(found) == 1, (pattern, lines)
        places += found
    assert places == sorted(places)


# Output


@pytest.mark.parametrize("columns", ["1", "500"])
def test_the_plain_lines_are_as_documented_and_never_wrapped(columns: str) -> None:
    code, lines, _ = run(*STALE, env={"COLUMNS": columns})
    assert code == 0
    assert_lines(lines)


def test_the_plain_lines_are_printed_even_if_nothing_could_be_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert here("--ops", 1, "--refusals", 1) == 3
    lines = capsys.readouterr().out.splitlines()
    assert_lines(lines)
    assert "stale_read_rate: n/a (0/0, no evidence)" in lines


def test_a_run_in_which_nothing_succeeded_says_so_first_and_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "result.json"
    assert here("--ops", 40, "--refusals", 1, "--expect", "stale_reads=0", "--json", report) == 3
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "no operation succeeded: 40 attempted, most often with Refused; nothing was tested"
    assert json.loads(report.read_text())["verdict"] == "unknown"
    assert here("--ops", 40, "--refusals", 0.9, "--seed", 1) == 0
    assert capsys.readouterr().out.startswith("write avg")


def test_final_reads_that_fail_are_told_first(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(MemoryClient, "final", lambda _self, _key: Answer("unknown", error="TableIsGone"))
        assert here("--ops", 20, "--seed", 1, "--keys", 5) == 0
        out = capsys.readouterr().out
        assert re.match(r"final reads of \d keys failed, .*losses: TableIsGone\n", out)
        assert out.endswith("verdict: unknown\n")
        assert here("--ops", 200, "--seed", 1, "--keys", 5, "--expect", "lost_writes=0,stale_reads=0") == 1
    out = capsys.readouterr().out
    assert (
        "verdict: unknown\nexpected lost_writes=0: no evidence, since final reads of 5 keys failed (TableIsGone)" in out
    )
    assert "expected stale_reads" not in out


def test_an_open_loop_adds_response_times(capsys: pytest.CaptureFixture[str]) -> None:
    assert here("--ops", 300, "--rate", 1000) == 0
    lines = capsys.readouterr().out.splitlines()
    assert_lines(lines)
    for kind in ("write", "read"):
        assert any(re.fullmatch(rf"{kind} response avg/p95 ms: {LATENCY}", line) for line in lines)


def test_the_lines_agree_with_the_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = result_of(tmp_path, *STALE)
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines() if ": " in line)
    stale, times = made["guarantees"]["stale_reads"], made["latency"]["write"]["service_ms"]
    assert lines["stale_read_rate"].startswith(f"{stale['rate']:.4f} ({stale['violated']}/{stale['checked']}, 95% ")
    assert lines["write avg/p95 ms"] == f"{times['avg']:.2f} / {times['p95']:.2f}"
    assert lines["verdict"] == made["verdict"] == "invalid"


def test_without_rich_the_table_is_separated_by_tabs() -> None:
    code, lines, _ = run(*STALE, without="rich")
    assert code == 0
    assert_lines(lines)
    assert any(re.fullmatch(r"stale_reads\t\d+\t\d+\t0\.\d{4}\t0\.\d{4}-0\.\d{4}\tviolated", line) for line in lines)


# Files


def test_the_json_result_has_every_fixed_field(tmp_path: Path) -> None:
    made = result_of(tmp_path, *STALE, "--rate", 1000)
    fields = {"guarantees", "verdict", "database", "options", "run", "duration_s", "latency", "operations"}
    assert fields <= made.keys()
    assert (made["database"], made["options"]["seed"], made["options"]["read_from"]) == ("memory", 3, "secondary")
    assert made["duration_s"] == pytest.approx(1, abs=0.3)
    assert list(made["guarantees"]) == list(GUARANTEES)
    for name, row in made["guarantees"].items():
        assert {"verdict", "checked", "violated", "rate", "interval", "witnesses"} <= row.keys()
        assert len(row["witnesses"]) == min(5, row["violated"])
        assert (row["rate"] is None) == (row["interval"] is None) == (row["checked"] == 0), name
    stale = made["guarantees"]["stale_reads"]
    assert stale["causes"] == {"lag": stale["violated"]}
    assert set(stale["staleness_s"]) == {"p50", "p95", "p99", "max"}
    assert set(stale["witnesses"][0]) == {"operations", "cause", "staleness_s"}
    for kind in ("read", "write"):
        assert set(made["operations"][kind]) == {"ok", "fail", "unknown"}
        for times in ("service_ms", "response_ms"):
            figures = made["latency"][kind][times]
            assert 0 < figures["p50"] <= figures["p95"] <= figures["p99"] <= figures["max"]
            assert 0 < figures["avg"] <= figures["max"]


def test_a_closed_loop_has_no_response_times_and_counts_every_attempt(tmp_path: Path) -> None:
    made = result_of(tmp_path, "--ops", 500, "--refusals", 0.2, "--timeouts", 0.1)
    assert [made["latency"][kind]["response_ms"] for kind in ("read", "write")] == [None, None]
    assert sum(sum(outcomes.values()) for outcomes in made["operations"].values()) == 500
    assert all(count for outcomes in made["operations"].values() for count in outcomes.values())


ERRORS = ("--refusals", "0.03", "--timeouts", "0.03", "--timeout", "0.1")
OUTAGE = ("--rate", "300", "--duration", "5", "--outage")
STORES = {
    "linearizable": ("--topology", "linearizable", *ERRORS),
    "followers": ("--read-from", "secondary", "--lag", "0.02", *ERRORS),
    "majority": ("--write-acks", "majority", "--read-from", "any", *ERRORS),
    "quorum 1/1": ("--topology", "quorum", "--lag", "0.05", *ERRORS),
    "quorum 2/2": ("--topology", "quorum", "--write-acks", "2", "--read-acks", "majority", *ERRORS),
    "two leaders": ("--topology", "multi-leader", "--lag", "0.05", *ERRORS),
    "loses": (*OUTAGE, "1:2:loses", "--lag", "0.2", "--read-from", "any", *ERRORS),
    "keeps": (*OUTAGE, "1:2:keeps", "--lag", "0.2", "--read-from", "any", *ERRORS),
    "open loop": ("--rate", "2000", "--warmup", "0.2", "--read-from", "secondary", "--distribution", "latest"),
    "large": ("--topology", "multi-leader", "--value-size", "100", "--distribution", "zipfian", "--reread", "1"),
}
CONFLICTING = {"two leaders", "large"}
UNBROKEN = {"linearizable", "quorum 2/2"}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("store", STORES)
def test_checking_the_history_finds_what_the_run_found(
    store: str, seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = result_of(tmp_path, "--ops", 1000, "--keys", 60, *STORES[store], "--seed", seed)
    code, again = checked(capsys, tmp_path / "h.jsonl")
    assert again["guarantees"] == made["guarantees"]
    assert again["complete"]
    assert again["verdict"] == made["verdict"]
    assert code == {"valid": 0, "invalid": 1, "unknown": 2}[made["verdict"]]
    assert (made["guarantees"]["conflicts"]["violated"] > 0) == (store in CONFLICTING)
    if store in UNBROKEN:
        assert made["verdict"] == "valid"


@pytest.mark.parametrize("store", STORES)
def test_the_brute_force_oracle_finds_the_same(store: str, tmp_path: Path) -> None:
    load = ("--ops", 350, "--users", 6, "--keys", 8, "--seed", 7)
    made = result_of(tmp_path, *STORES[store], *load)
    found = oracle.judge([oracle.File(operations_of(tmp_path / "h.jsonl"))])
    for name, row in made["guarantees"].items():
        assert (row["checked"], row["violated"]) == (found[name].checked, found[name].violated), name


@pytest.mark.parametrize("seed", [1, 2])
def test_a_failover_loses_acknowledged_writes_only_if_configured_to(seed: int, tmp_path: Path) -> None:
    def lost(writes: str) -> tuple[int, int]:
        common = ("--lag", 0.2, "--keys", 3000, "--seed", seed)
        row = result_of(tmp_path, *OUTAGE, f"1:3:{writes}", *common)["guarantees"]["lost_writes"]
        return row["violated"], row["checked"]

    assert lost("loses")[0] > 0
    kept, checked_writes = lost("keeps")
    assert (kept, checked_writes > 300) == (0, True)


def test_a_compressed_history_has_the_same_content(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("zstandard")
    for name in ("h.jsonl", "h.jsonl.gz", "h.jsonl.zst"):
        assert here(*STALE, "--history", tmp_path / name) == 0
    plain, *packed = (checked(capsys, tmp_path / name)[1] for name in ("h.jsonl", "h.jsonl.gz", "h.jsonl.zst"))
    assert packed == [plain, plain]


def test_a_seed_gives_the_same_bytes_with_greenlets_or_threads_and_without_optional_packages(
    tmp_path: Path,
) -> None:
    pytest.importorskip("gevent")
    written = {}
    for number, without in enumerate(("", "gevent", "gevent,msgspec,rich,zstandard,jinja2,psutil", "msgspec")):
        paths = (tmp_path / f"{number}.jsonl", tmp_path / f"{number}.json")
        load = ("--topology", "multi-leader", "--rate", 3000, *ERRORS, "--ops", 1500, "--seed", 5)
        code, lines, err = run(*load, "--history", paths[0], "--json", paths[1], without=without)
        assert (code, "Traceback" in err) == (0, False)
        table = next(number for number, line in enumerate(lines) if line.startswith("memory seed5-"))
        result = paths[1].read_text().replace(str(tmp_path / f"{number}."), "")  # the command names the files
        written[without] = (paths[0].read_bytes(), result, lines[:table], lines[-1])
    assert len(set(map(repr, written.values()))) == 1


def test_a_different_seed_gives_a_different_history(tmp_path: Path) -> None:
    one, other = (tmp_path / name for name in ("1.jsonl", "2.jsonl"))
    for seed, path in ((1, one), (2, other)):
        assert here("--ops", 300, "--seed", seed, "--history", path) == 0
    assert one.read_text().splitlines()[1:] != other.read_text().splitlines()[1:]


def test_a_run_deletes_its_keys_unless_told_to_keep_them(monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[int] = []
    monkeypatch.setattr(MemoryClient, "remove", lambda _client, keys: removed.append(len(keys)))
    assert here("--ops", 10, "--keys", 7, "--keep") == 0
    assert removed == []
    assert here("--ops", 10, "--keys", 7) == 0
    assert removed == [7]


# Exit codes and interruptions


def test_met_expectations_mean_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert here("--ops", 500, "--keys", 20, "--expect", "stale_reads=0,read.p95_ms<1000,lost_writes.violated=0") == 0
    assert "\nexpected " not in capsys.readouterr().out


def test_every_missed_expectation_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert here(*STALE, "--expect", "stale_reads=0,lost_writes=0,unique_ids=0") == 1
    missed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("expected")]
    assert len(missed) == 2
    assert re.fullmatch(r"expected stale_reads=0: it is 0\.\d+", missed[0])
    assert missed[1] == "expected unique_ids=0: no evidence"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("--write-ratio 1.5", "--write-ratio '1.5': must be a share from 0 to 1"),
        ("--users 0", "--users '0': must be a whole number, 1 or more"),
        ("--expect freshness=1", "unknown name 'freshness'"),
        ("--expect stale_reads~1", "is not NAME OP NUMBER"),
        ("--topology ring", "--topology 'ring': must be one of"),
        ("--write-acks 9", "--write-acks is 9"),
        ("--replicas 99999999999", "--replicas is 99999999999; choose 1 to 99"),
        ("--lag 1e308", "--lag is 1e+308; it must be from 0 to 1000000000"),
        ("--metrics-port 0", "argument --metrics-port: '0': must be a port from 1 to 65535"),
        ("--outage soon", "--outage 'soon': must be AT:FOR"),
        ("--nonsense", "unrecognized arguments: --nonsense"),
        ("--json /dev/null/r.json", "/dev/null/r.json: Not a directory"),
        ("--json /", "/: Is a directory"),
        ("--history /dev/null/h.jsonl", "/dev/null/h.jsonl: Not a directory"),
        ("--report /dev/null/r.html", "/dev/null/r.html: Not a directory"),
    ],
)
def test_invalid_arguments_are_reported_before_anything_is_done(
    arguments: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here(*arguments.split()) == 2
    captured = capsys.readouterr()
    assert complaint in captured.err
    assert "creating" not in captured.err
    assert captured.out == ""


def test_a_run_that_never_started_creates_and_changes_no_files(tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_text("old")
    assert here("--topology", "ring", "--json", tmp_path / "new.json", "--history", tmp_path / "h.jsonl") == 2
    assert here("--topology", "ring", "--json", old) == 2
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"old.json": "old"}


def test_a_history_is_only_overwritten_by_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = tmp_path / "h.jsonl"
    history.write_text("old")
    assert here("--ops", 10, "--history", history) == 2
    assert history.read_text() == "old"
    assert f"--history {history} exists: name another file, or give --force" in capsys.readouterr().err
    assert here("--ops", 10, "--seed", 3, "--history", history, "--force") == 0
    assert len(operations_of(history)) > 10


def test_a_result_is_replaced_with_a_line_about_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "new" / "r.json"
    assert here("--ops", 10, "--json", report) == 0
    assert "will be replaced" not in capsys.readouterr().err
    assert here("--ops", 20, "--json", report) == 0
    assert f"--json {report} exists, and will be replaced" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [("--json", "--history"), ("--json", "--report"), ("--history", "--report")])
def test_one_file_for_two_outputs_is_refused(
    flags: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = flags
    (tmp_path / "folder").mkdir()
    assert here(one, tmp_path / "f", other, tmp_path / "folder" / ".." / "f") == 2
    assert "give each a file of its own" in capsys.readouterr().err
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize("flag", ["--json", "--history"])
def test_a_file_of_a_run_that_goes_on_is_refused(flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = start(*ENDLESS, flag, tmp_path / "f")
    wait_for(other, lambda line: "creating" in line)
    assert here("--ops", 10, flag, tmp_path / "f") == 2
    assert "another run is writing this file" in capsys.readouterr().err
    other.send_signal(signal.SIGINT)
    other.communicate(timeout=DEADLINE_S)
    assert other.returncode == 130
    assert (tmp_path / "f").stat().st_size > 0


def test_the_json_on_standard_output_is_alone_there() -> None:
    code, lines, err = run("--ops", 100, "--json", "-", "--expect", "stale_reads<0")
    assert code == 1
    assert json.loads("\n".join(lines))["database"] == "memory"
    assert_lines(err.splitlines()[1:])
    assert err.splitlines()[-1].startswith("expected ")


SMALL_FILES = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
"""A process whose files cannot be longer, which looks to it like a full disk."""


def test_a_run_goes_on_without_a_history_that_can_no_longer_be_written(tmp_path: Path) -> None:
    report, history = tmp_path / "r.json", tmp_path / "h.jsonl"
    outputs = ("--history", history, "--json", report, "--expect", "read_your_writes=0")
    process = start("--ops", 5000, "--seed", 3, *outputs, before=SMALL_FILES)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 74, err
    assert f"the run goes on without its history: {history}: File too large" in err
    assert out.splitlines()[0] == f"the history is incomplete: {history}: File too large"
    made = json.loads(report.read_text())
    assert made["verdict"] == "valid"
    assert sum(sum(outcomes.values()) for outcomes in made["operations"].values()) == 5000
    assert made["history_error"] == f"{history}: File too large"


def test_a_disk_that_is_full_before_the_run_starts_has_the_same_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert here("--ops", 100, "--history", "/dev/full") == 74
    assert "/dev/full: No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--json", "--report"])
def test_a_file_that_cannot_be_written_is_named_after_the_table(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    if flag == "--report":
        pytest.importorskip("jinja2")
    assert here("--ops", 100, flag, "/dev/full") == 74
    captured = capsys.readouterr()
    assert f"{flag} /dev/full could not be written: No space left on device" in captured.err
    assert "unique_ids" in captured.out


def test_a_full_disk_behind_standard_output_is_named(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "bench.py", "memory", "--ops", "100", "--json", str(tmp_path / "r.json")],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=DEADLINE_S, check=False,
        )  # fmt: skip
    assert done.returncode == 74
    assert "standard output: No space left on device" in done.stderr
    assert json.loads((tmp_path / "r.json").read_text())["database"] == "memory"


@pytest.mark.parametrize(
    "arguments",
    [
        "bench mongo --read-from sec",
        "bench mongo --read-concern linearizable --read-from secondary",
        "bench mongo --tls-key key.pem",
        "bench mongo --expect nonsense=0",
        "bench mongo --json f --history f",
        "bench cassandra --lwt --timestamps server",
        "bench couch --tls-ca ca.pem",
        "bench mongo --keys 99999999999",
        "bench mongo --workload conflict",
        "bench cassandra --workload conflict",
        "bench couch --couch-b http://h:1 --workload nonsense",
        "drill mongo --fault kill-primary --workload conflict",
        "drill cassandra --fault kill-node --vary workload=register,conflict",
        "drill mongo --fault kill-primary --vary read-from=secondary,sec",
        "drill mongo --fault kill-primary --read-concern linearizable --read-from secondary",
    ],
)
def test_options_are_checked_before_a_cluster_is_started(
    arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STALEWATCH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert main(arguments.split()) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["jinja2"])
def test_a_report_without_its_packages_is_refused_in_advance(
    package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert here("--report", tmp_path / "r.html") == 2
    captured = capsys.readouterr()
    assert package in captured.err
    assert "pip install" in captured.err
    assert (captured.out, list(tmp_path.iterdir())) == ("", [])


def test_a_compression_without_its_package_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert here("--history", tmp_path / "h.jsonl.zst") == 2
    assert "pip install zstandard" in capsys.readouterr().err


def test_a_report_is_written_in_addition_to_the_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jinja2")
    assert here(*STALE, "--report", tmp_path / "r.html") == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1].startswith("verdict: ")
    assert f"report: {tmp_path / 'r.html'}\n" in shown.err
    assert "<html" in (tmp_path / "r.html").read_text()


def wait_for(process: subprocess.Popen[str], matches: Callable[[str], bool]) -> None:
    """Read standard error until a line matches."""
    assert process.stderr is not None
    assert any(matches(line) for line in process.stderr), "the bench ended before it printed such a line"


LOUD = "import stalewatch.reports.progress; stalewatch.reports.progress.PLAIN_EVERY_S = 0"


@pytest.mark.parametrize(
    ("number", "without"), [(signal.SIGINT, ""), (signal.SIGINT, "gevent"), (signal.SIGTERM, "gevent")]
)
def test_a_signal_ends_the_run_cleanly(
    number: signal.Signals, without: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history, figures = tmp_path / "h.jsonl", tmp_path / "r.json"
    process = start(*ENDLESS, "--history", history, "--json", figures, without=without, before=LOUD)
    wait_for(process, lambda line: line.startswith("load: ") and float(line[6:].split("/")[0]) > 2000)
    process.send_signal(number)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 128 + number
    assert_lines(out.splitlines())
    assert "Traceback" not in err
    made = json.loads(figures.read_text())
    assert made["interrupted"]
    assert history.read_text().splitlines()[-1] == '{"op":"close","clock_error_ns":0}'
    code, again = checked(capsys, history)
    assert (code, again["complete"], again["guarantees"]) == (0, True, made["guarantees"])
    done = sum(sum(outcomes.values()) for outcomes in made["operations"].values())
    assert len(operations_of(history)) == done > 0


HANGING = f"""
{LOUD}
import sys, threading, time
from stalewatch.simulator.client import MemoryClient, MemorySession

def hang(session, key, *value):
    print("hanging", file=sys.stderr, flush=True)
    while True:
        NAP

MemorySession.read = MemorySession.write = hang
MemoryClient.remove = lambda client, keys: print("removing", file=sys.stderr)
"""
WAITS, SPINS = "threading.Event().wait()", "time.sleep(0)"


@pytest.mark.parametrize("nap", [WAITS, SPINS], ids=["waiting", "spinning"])
@pytest.mark.parametrize("without", ["", "gevent"], ids=["greenlets", "threads"])
def test_a_second_interrupt_exits_at_once_but_keeps_the_history(without: str, nap: str, tmp_path: Path) -> None:
    history = tmp_path / "h.jsonl"
    load = (*ENDLESS, "--write-ratio", 1, "--history", history)
    process = start(*load, without=without, before=HANGING.replace("NAP", nap))
    wait_for(process, lambda line: "hanging" in line)
    process.send_signal(signal.SIGINT)
    wait_for(process, lambda line: "stopping" in line)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert out == ""
    assert "exiting at once" in err
    assert "removing" not in err
    assert "Traceback" not in err
    lines = [json.loads(line) for line in history.read_text().splitlines()]
    assert [one["op"] for one in lines[1:]] == ["write", "close"]
    assert lines[1]["outcome"] == "unknown"
    assert operations_of(history)


def test_a_closed_pipe_ends_it_quietly_and_files_are_still_written(tmp_path: Path) -> None:
    figures = tmp_path / "r.json"
    process = start("--ops", 200, "--json", figures)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(DEADLINE_S) == 141
    assert process.stderr is not None
    assert process.stderr.read() == "creating 1000 keys\n"
    process.stderr.close()
    assert json.loads(figures.read_text())["verdict"]


@pytest.mark.parametrize("without", ["", "rich"])
def test_piping_to_head_works(without: str) -> None:
    process = start("--ops", 200, without=without)
    head = subprocess.run(["head", "-1"], stdin=process.stdout, capture_output=True, text=True, check=True)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert re.fullmatch(LINES[0] + "\n", head.stdout)
    assert process.returncode in {0, 141}  # depending on whether everything was written before the pipe was closed
    assert err == "creating 1000 keys\n"
