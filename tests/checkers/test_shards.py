"""Judging by several processes: the same bytes, the same complaints, and no verdict when one dies."""

import gzip
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

import stalewatch
from stalewatch.checkers import files, shards
from stalewatch.checkers.guarantee import JudgeContext
from stalewatch.checkers.judge import Judge
from stalewatch.commands.main import main
from stalewatch.engine.result import check_result
from stalewatch.exit_codes import BAD_INPUT
from stalewatch.history.codec import decode_lines, encode_lines
from stalewatch.history.operation import Operation
from stalewatch.history.reader import BadHistory, History
from tests.checkers.histories import history_text, multi_file_histories, random_history, single_file_histories
from tests.checkers.oracle import File
from tests.history.examples import examples
from tests.history.lines import CLOSE, file_of, final, header, read, write
from tests.history.rejections import REJECTIONS

RECORDED: dict[str, Any] = json.loads(gzip.decompress(Path(__file__).with_name("recorded.json.gz").read_bytes()))


T = TypeVar("T")


def copied(one: T) -> T:
    """Return what another process would get."""
    copy: T = pickle.loads(pickle.dumps(one))  # noqa: S301
    return copy


class InThisProcess:
    """A job without a process of its own, for many short histories: all that it gets and gives is bytes, too."""

    def __init__(self, history: History) -> None:
        self.shard = shards.Shard(JudgeContext(*copied((tuple(history.sources), history.horizon_ns))))

    def deliver(self, batch: shards.Batch, operations: Sequence[Operation], lines: Sequence[bytes]) -> None:
        self.shard.take(copied(batch), decode_lines(b"\n".join(lines) or encode_lines(operations)[:-1]))

    def part(self) -> shards.Part:
        return copied(self.shard.finish())

    def end(self) -> None:
        pass


@contextmanager
def in_this_process() -> Iterator[None]:
    """Jobs without processes, small batches, and a slot of keys that moves to another job with every history."""
    turn = Random(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_Job", InThisProcess)
        patch.setattr(shards, "BATCH", 16)
        patch.setattr(shards, "_table", lambda queues: [turn.choice(queues) for _ in range(shards.SLOTS)])
        yield


def outcome_in_order(paths: Sequence[Path]) -> str:
    """Return the result of a judge that is given one operation after the other."""
    try:
        history = History(paths)
        judge = Judge(JudgeContext(tuple(history.sources), history.horizon_ns))
        for operation, source in history.operations():
            judge.observe(operation, source)
        judge.finish()
        return json.dumps(check_result(judge.findings()))
    except BadHistory as error:
        return f"bad: {error}"


def outcome(paths: Sequence[Path], jobs: int) -> str:
    """Return the result as JSON, or what is wrong with the files."""
    try:
        return json.dumps(check_result(files.judge_files(paths, jobs=jobs).findings()))
    except BadHistory as error:
        return f"bad: {error}"


def write_files(folder: Path, texts: Sequence[str]) -> list[Path]:
    paths = [folder / f"{index}.jsonl" for index in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return paths


@in_this_process()
def test_recorded_histories_get_the_same_bytes_from_several_jobs(tmp_path: Path) -> None:
    for number, case in enumerate(RECORDED["histories"]):
        paths = write_files(tmp_path, case["files"])
        for jobs in (1, 2, 5):
            assert outcome(paths, jobs) + "\n" == case["json"], number


@in_this_process()
@examples(150)
@given(history=single_file_histories(40) | multi_file_histories(40), jobs=st.integers(1, 4))
def test_generated_histories_get_the_same_bytes(
    history: list[File], jobs: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    paths = write_files(tmp_path_factory.mktemp("h"), [history_text(file) for file in history])
    assert outcome(paths, jobs) == outcome_in_order(paths)


@pytest.mark.soak
@in_this_process()
def test_many_long_histories_get_the_same_bytes(tmp_path: Path) -> None:
    for seed in range(5000):
        texts = [history_text(file) for file in random_history(seed, 20 + seed % 200)]
        paths = write_files(tmp_path, texts)
        assert outcome(paths, 1 + seed % 4) == outcome_in_order(paths), seed


@in_this_process()
def test_many_keys_keep_the_order_of_witnesses_and_causes(tmp_path: Path) -> None:
    """Histories of three keys rarely have more than five witnesses of what is found at the end."""
    keys = [f"k{number}" for number in range(30)]
    random, lines, now = Random(4), [], 0
    for version in range(1, 8):
        for key in random.sample(keys, len(keys)):
            now += 10
            lines.append(write(version, now, now + 1, key=key, outcome=random.choice(["ok", "ok", "fail", "unknown"])))
            shown = random.randrange(version + 2)
            depends = {"key": random.choice(keys), "version": version, "cause": random.choice(["a", "b"])}
            lines.append(read(shown, now + 2, now + 3, key=key, session="r", siblings=[9][:shown], depends=depends))
    for key in random.sample(keys, len(keys)):
        now += 10
        lines.append(final(random.choice([1, 7, None]), now, now + 1, key=key, items=["x", "y", "x"]))
    path = file_of(tmp_path, header(), *lines, CLOSE)
    alone = outcome_in_order([path])
    guarantees = json.loads(alone)["guarantees"]
    many = [name for name, found in guarantees.items() if len(found["witnesses"]) == 5]
    assert len(many) >= 7, many
    assert list(guarantees["stale_reads"]["causes"])
    for jobs in (1, 2, 3, 4, 9):
        assert outcome([path], jobs) == alone


@pytest.mark.parametrize(("before", "after"), [("", "\r"), (" ", ""), ("", " "), ("\t", " \r")])
def test_spaces_around_lines_and_windows_line_ends_are_no_matter_for_several_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str
) -> None:
    monkeypatch.setattr(shards, "BATCH", 16)
    lines = [write(1 + number // 40, 10 * number, 10 * number + 1, key=f"k{number % 40}") for number in range(400)]
    plain = file_of(tmp_path, header(), *lines, CLOSE)
    spaced = tmp_path / "spaced.jsonl"
    spaced.write_text("".join(f"{before}{line}{after}\n" for line in plain.read_text().splitlines()), newline="")
    for jobs in (1, 2, 3):
        assert outcome([spaced], jobs) == outcome_in_order([plain])


@in_this_process()
def test_bad_files_are_reported_alike(tmp_path: Path) -> None:
    for case in REJECTIONS:
        path = file_of(tmp_path, *case.invalid)
        alone = outcome_in_order([path])
        assert alone.startswith("bad: "), case.rule
        assert outcome([path], 1) == outcome([path], 3) == alone, case.rule


def long_file(path: Path, keys: int = 40, count: int = 60_000) -> Path:
    """Write a history longer than the pipe to a job, with a stale read now and then."""
    line = '{"op":"%s","session":"s","key":"k%d","version":%d,"start":%d,"end":%d,"outcome":"ok"}\n'
    with path.open("w") as file:
        file.write('{"format":"stalewatch-history","version":1}\n')
        for number in range(count):
            key, turn = number % keys, number // keys
            op, version = ("read", turn // 2 + 1 - (number % 97 == 0)) if turn % 2 else ("write", turn // 2 + 1)
            file.write(line % (op, key, version, 10 * number, 10 * number + 5))
    return path


def test_processes_judge_a_long_history_as_one_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = long_file(tmp_path / "long.jsonl")
    printed, before = [], set(psutil.Process().children())  # servers of other tests
    for jobs in ("1", "2", "4"):
        code = main(["check", "--json", "--jobs", jobs, str(path)])
        printed.append((code, capsys.readouterr()))
    assert printed[0] == printed[1] == printed[2]
    assert json.loads(printed[0][1].out)["guarantees"]["stale_reads"]["violated"] > 5
    assert set(psutil.Process().children()) <= before


def test_the_library_needs_no_guard_around_a_script(tmp_path: Path) -> None:
    path = long_file(tmp_path / "long.jsonl", count=20_000)
    script = f"import stalewatch; print(stalewatch.check([{str(path)!r}], jobs=3)['verdict'])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (stalewatch.check([path], jobs=1)["verdict"] + "\n", "")


def test_a_bad_line_ends_all_processes(tmp_path: Path) -> None:
    path = long_file(tmp_path / "long.jsonl")
    with path.open("a") as file:
        file.write("not a record\n")
    before = set(psutil.Process().children())
    with pytest.raises(BadHistory, match=r"long\.jsonl:60002: "):
        files.judge_files([path], jobs=3)
    assert set(psutil.Process().children()) <= before


def test_a_process_that_is_killed_is_an_error_and_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = long_file(tmp_path / "long.jsonl")
    start, before = shards._Job.__init__, set(psutil.Process().children())

    def start_and_kill(job: shards._Job, history: History) -> None:
        start(job, history)
        job.process.kill()

    monkeypatch.setattr(shards._Job, "__init__", start_and_kill)
    with pytest.raises(BadHistory, match="killed by signal 9"):
        files.judge_files([path], jobs=2)
    assert set(psutil.Process().children()) <= before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_the_one_that_reads(number: signal.Signals, tmp_path: Path) -> None:
    path = tmp_path / "endless.jsonl"
    long_file(path, count=300_000)
    command = [sys.executable, "-m", "stalewatch", "check", "--jobs", "3", path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        children: list[psutil.Process] = []
        while len(children) < 2:
            assert process.poll() is None
            children = psutil.Process(process.pid).children()
        os.kill(process.pid, number)
        output, complaint = process.communicate()
    assert (process.returncode, output) == (-9 if number == signal.SIGKILL else 130, "")
    assert "Traceback" not in complaint
    psutil.wait_procs(children, timeout=60)
    assert not any(child.is_running() for child in children)


def test_too_little_memory_in_a_process_is_told_like_too_little_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = "import psutil, resource; most = psutil.Process().memory_info().vms + 20_000_000; "
    program = shards._Job.PROGRAM.replace(
        "serve()", limit + "resource.setrlimit(resource.RLIMIT_AS, (most, most)); serve()"
    )
    monkeypatch.setattr(shards._Job, "PROGRAM", program)
    path = long_file(tmp_path / "keys.jsonl", keys=50_000, count=50_000)
    with pytest.raises(BadHistory, match=r"out of memory after .* operations; memory grows with the number of keys"):
        files.judge_files([path], jobs=2)


def test_short_histories_are_judged_by_one_process(tmp_path: Path) -> None:
    path = long_file(tmp_path / "short.jsonl", count=1000)
    assert shards.number_of_jobs([path]) == 1


@pytest.mark.parametrize("jobs", ["0", "-1", "65", "two"])
def test_a_bad_number_of_jobs_is_bad_usage(jobs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(["check", "--jobs", jobs, str(file_of(tmp_path, header(), CLOSE))])
    assert error.value.code == BAD_INPUT
    assert "--jobs" in capsys.readouterr().err
