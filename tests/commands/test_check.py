"""`stalewatch check`: its output, its streams and its exit codes."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stalewatch.commands.check import judge_files
from stalewatch.commands.main import main
from stalewatch.history.reader import BadHistory
from stalewatch.history.writer import HistoryWriter
from tests.history.lines import (
    CLOSE,
    ENDINGS,
    Line,
    a_header,
    a_write,
    append,
    draw,
    file_of,
    final,
    header,
    read,
    text,
    write,
)

ROOT = Path(__file__).parents[2]
VALID, INVALID, UNKNOWN, BAD_INPUT, BROKEN_PIPE = 0, 1, 2, 64, 141

GUARANTEES = {
    "stale_reads",
    "read_your_writes",
    "monotonic_reads",
    "read_regressions",
    "consistent_prefix",
    "phantom_reads",
    "unexpected_items",
    "lost_writes",
    "conflicts",
    "unique_ids",
}
FIELDS = ["verdict", "checked", "violated", "rate", "interval", "witnesses"]

FRESH: list[Line] = [write(1, 1, 2), read(1, 3, 4)]
STALE: list[Line] = [write(1, 1_000_000_000, 2_000_000_000), read(0, 3_500_000_000, 4_000_000_000, node="b")]
NOTHING: list[Line] = [write(1, 1, 2)]


def checked(capsys: pytest.CaptureFixture[str], *files: Path) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the JSON of the files, after checking that nothing else was printed."""
    code = main(["check", *map(str, files), "--json"])
    output = capsys.readouterr()
    assert output.err == ""
    result: dict[str, Any] = json.loads(output.out, parse_constant=pytest.fail)
    return code, result


def check_process(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stalewatch", "check", *map(str, arguments)]
    return subprocess.run(command, check=False, **{"capture_output": True, "text": True, **options})


# Exit codes and the verdict.


@pytest.mark.parametrize(
    ("lines", "code", "verdict"),
    [
        ([header(), *FRESH, CLOSE], VALID, "valid"),
        ([header(), *STALE, CLOSE], INVALID, "invalid"),
        ([header(), *NOTHING, CLOSE], UNKNOWN, "unknown"),
        ([header(), CLOSE], UNKNOWN, "unknown"),
        ([header(), *FRESH], UNKNOWN, "unknown"),
        ([header(), *STALE], INVALID, "invalid"),
        ([header(), *FRESH, read(1, 5, 6, siblings=[1]), CLOSE], VALID, "valid"),
        ([header(), write(1, 1, 2), read(1, 3, 4, siblings=[]), read(2, 5, 6), CLOSE], INVALID, "invalid"),
    ],
    ids=["fresh", "stale", "no read", "nothing", "incomplete", "stale and incomplete", "conflicts", "phantom"],
)
@pytest.mark.parametrize("ending", ENDINGS)
def test_the_exit_code_is_the_verdict(
    lines: list[Line], code: int, verdict: str, ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file_of(tmp_path, *lines, name=f"history{ending}")
    exit_code, result = checked(capsys, path)
    assert (exit_code, result["verdict"], result["complete"]) == (code, verdict, CLOSE in lines)
    assert main(["check", str(path)]) == code
    assert f"verdict: {verdict}\n" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--bogus", "FILE"], ["FILE", "--bogus"], ["FILE", "--json=1"]])
def test_bad_usage_exits_with_64_because_2_is_a_verdict(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file_of(tmp_path, header(), *FRESH, CLOSE)
    with pytest.raises(SystemExit) as exit_:
        main(["check", *(str(path) if argument == "FILE" else argument for argument in arguments)])
    assert exit_.value.code == BAD_INPUT
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("usage: stalewatch check")
    assert "stalewatch check: " in output.err


def test_bad_input_prints_one_line_on_stderr_and_nothing_on_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = file_of(tmp_path, header(), *FRESH, CLOSE, name="good.jsonl")
    wrong = file_of(tmp_path, header(), read(0, 5, 4), CLOSE, name="wrong.jsonl")
    for arguments in ([wrong], [wrong, "--json"], [good, wrong], [good, tmp_path / "none.jsonl", "--json"]):
        assert main(["check", *map(str, arguments)]) == BAD_INPUT
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.startswith(f"stalewatch check: {tmp_path}/")
        assert output.err.count("\n") == 1


def test_a_process_of_its_own_prints_the_same_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = file_of(tmp_path, header(), *STALE, CLOSE)
    done = check_process(path, "--json")
    assert (done.returncode, done.stderr) == (INVALID, "")
    assert (done.returncode, json.loads(done.stdout)) == checked(capsys, path)
    assert check_process(tmp_path / "none.jsonl").returncode == BAD_INPUT
    assert check_process().returncode == BAD_INPUT


# The JSON.


def test_all_ten_guarantees_are_always_present(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for lines in ([], FRESH, STALE, [draw(1, 1, 2), append("i", 3, 4)]):
        _, result = checked(capsys, file_of(tmp_path, header(), *lines, CLOSE))
        assert set(result) == {"verdict", "complete", "guarantees", "duplicate_items", "phantom_items"}
        assert set(result["guarantees"]) == GUARANTEES
        for row in result["guarantees"].values():
            assert list(row)[: len(FIELDS)] == FIELDS


def test_only_stale_reads_always_have_causes_and_staleness(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, result = checked(capsys, file_of(tmp_path, header(), CLOSE))
    more = {name: set(row) - set(FIELDS) for name, row in result["guarantees"].items()}
    assert {name: fields for name, fields in more.items() if fields} == {
        "stale_reads": {"causes", "staleness_s", "staleness_at_least", "freshness", "fresh_after_s"}
    }
    stale_reads = result["guarantees"]["stale_reads"]
    assert stale_reads["causes"] == {}
    assert stale_reads["staleness_s"] == {"p50": None, "p95": None, "p99": None, "max": None}


def test_rate_and_interval_are_null_if_nothing_was_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, result = checked(capsys, file_of(tmp_path, header(), CLOSE))
    for row in result["guarantees"].values():
        assert (row["checked"], row["violated"], row["rate"], row["interval"], row["witnesses"]) == (
            0,
            0,
            None,
            None,
            [],
        )
        assert row["verdict"] in {"no_evidence", "not_applicable"}


def test_a_checked_guarantee_has_a_rate_and_an_interval_around_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reads = [read(number % 2, 2 * number, 2 * number + 1) for number in range(2, 12)]
    _, result = checked(capsys, file_of(tmp_path, header(), write(1, 1, 2), *reads, CLOSE))
    row = result["guarantees"]["stale_reads"]
    assert (row["verdict"], row["checked"], row["violated"], row["rate"]) == ("violated", 10, 5, 0.5)
    low, high = row["interval"]
    assert (round(low, 4), round(high, 4)) == (0.2366, 0.7634)
    assert row["causes"] == {"lag": 5}


def test_a_witness_shows_its_operations_as_they_are_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, result = checked(capsys, file_of(tmp_path, header(), *STALE, CLOSE))
    row = result["guarantees"]["stale_reads"]
    (witness,) = row["witnesses"]
    assert set(witness) == {"operations", "cause", "staleness_s"}
    assert (witness["cause"], witness["staleness_s"]) == ("lag", 1.5)
    assert sorted(witness["operations"], key=str) == sorted(STALE, key=str)
    assert row["staleness_s"] == {"p50": 1.5, "p95": 1.5, "p99": 1.5, "max": 1.5}


def test_the_causes_of_stale_reads_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reads = [read(0, 3, 4, siblings=[1]), read(0, 5, 6, siblings=[]), read(0, 7, 8)]
    _, result = checked(capsys, file_of(tmp_path, header(), write(1, 1, 2), *reads, CLOSE))
    assert result["guarantees"]["stale_reads"]["causes"] == {"conflict": 1, "lag": 2}
    conflicts = result["guarantees"]["conflicts"]
    assert (conflicts["checked"], conflicts["violated"], conflicts["verdict"]) == (2, 1, "violated")


def test_a_stale_read_of_a_key_that_lost_the_newer_version_has_the_cause_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [write(1, 1, 2), read(0, 3, 4), read(0, 5, 6, siblings=[1]), final(0, 7, 8)]
    _, result = checked(capsys, file_of(tmp_path, header(), *lines, CLOSE))
    row = result["guarantees"]["stale_reads"]
    assert row["causes"] == {"lost": 1, "conflict": 1}
    assert [witness["cause"] for witness in row["witnesses"]] == ["lost", "conflict"]


def test_reads_are_counted_by_age(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ms = 1_000_000
    reads = [read(int(age >= 2), age * ms + 1, age * ms + 2) for age in (1, 2, 3, *range(5, 505), 200_000)]
    _, result = checked(capsys, file_of(tmp_path, header(), write(1, 0, 1), *reads, CLOSE))
    row = result["guarantees"]["stale_reads"]
    assert row["freshness"][:3] == [
        {"from_s": 0.001, "to_s": 0.002, "checked": 1, "stale": 1},
        {"from_s": 0.002, "to_s": 0.005, "checked": 2, "stale": 0},
        {"from_s": 0.005, "to_s": 0.01, "checked": 5, "stale": 0},
    ]
    assert row["freshness"][-1] == {"from_s": 100.0, "to_s": None, "checked": 1, "stale": 0}
    assert row["fresh_after_s"] == {"99": 0.002, "99.9": None}
    assert sum(bucket["checked"] for bucket in row["freshness"]) == row["checked"]


def test_at_most_five_witnesses_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for stale in (4, 5, 6, 50):
        reads = [read(0, 2 * number, 2 * number + 1) for number in range(2, 2 + stale)]
        _, result = checked(capsys, file_of(tmp_path, header(), write(1, 1, 2), *reads, CLOSE))
        row = result["guarantees"]["stale_reads"]
        assert (row["violated"], len(row["witnesses"])) == (stale, min(stale, 5))


def test_the_witnesses_of_every_guarantee_are_operations_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[Line] = [
        write(1, 1, 2),
        write(2, 3, 4),
        read(2, 5, 6, depends={"key": "other", "version": 3, "cause": "monotonic_writes"}),
        read(1, 7, 8),
        read(1, 9, 10, key="other", siblings=[2]),
        read(1, 9, 10, session="s1"),
        draw(4, 11, 12),
        draw(4, 13, 14),
        final(1, 15, 16),
        {"op": "final", "key": "list", "items": ["nobody's"], "start": 15, "end": 17, "outcome": "ok"},
    ]
    _, result = checked(capsys, file_of(tmp_path, header(), *lines, CLOSE))
    for name, row in result["guarantees"].items():
        assert row["verdict"] == "violated", name
        for witness in row["witnesses"]:
            assert 1 <= len(witness["operations"]) <= 3, name
            assert all(operation in lines for operation in witness["operations"]), name


def test_numbers_and_names_of_any_size_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    huge = 10**30
    lines = [write(huge, 1, 2, key="ключ\n\x00"), read(huge - 1, 3, 2**126, key="ключ\n\x00")]
    code, result = checked(capsys, file_of(tmp_path, header(), *lines, CLOSE))
    assert code == INVALID
    (witness,) = result["guarantees"]["stale_reads"]["witnesses"]
    assert all(operation in lines for operation in witness["operations"])


def test_duplicate_and_phantom_items_are_counted_beside_the_guarantees(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = {**final(None, 3, 4, items=["i", "i", "stray"]), "key": "list"}
    path = file_of(tmp_path, header(), append("i", 1, 2), held, CLOSE)
    code, result = checked(capsys, path)
    assert (code, result["duplicate_items"], result["phantom_items"]) == (INVALID, 1, 1)
    assert result["guarantees"]["unexpected_items"]["causes"] == {"duplicate": 1, "phantom": 1}
    main(["check", str(path)])
    assert "duplicate_items: 1\nphantom_items: 1\n" in capsys.readouterr().out


def test_the_json_is_the_same_without_msgspec_zstandard_and_rich(tmp_path: Path) -> None:
    path = file_of(tmp_path, header(), *STALE, read(1, 5_000_000_000, 6_000_000_000, siblings=[1]), CLOSE)
    bare = (
        "import sys\n"
        "for package in ('msgspec', 'zstandard', 'rich'): sys.modules[package] = None\n"
        "from stalewatch.commands.main import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", bare, "check", str(path)]
    plain = subprocess.run([*command, "--json"], cwd=ROOT, check=False, capture_output=True, text=True)
    assert (plain.returncode, plain.stderr) == (INVALID, "")
    assert plain.stdout == check_process(path, "--json").stdout
    table = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert (table.returncode, table.stderr) == (INVALID, "")
    assert "stale_reads\t2\t1\t0.5000\t" in table.stdout


# The table.


def test_the_table_shows_the_file_every_guarantee_and_the_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file_of(tmp_path, header(), *STALE, CLOSE)
    assert main(["check", str(path)]) == INVALID
    output = capsys.readouterr()
    assert output.err == ""
    rows = {line.split()[0]: line.split()[1:] for line in output.out.splitlines() if line.strip()}
    assert path.name in output.out.replace("\n", "")
    assert rows["stale_reads"] == ["1", "1", "1.0000", "0.2065-1.0000", "violated"]
    assert "unique_ids;" in rows["no"]
    assert all(name in output.out for name in GUARANTEES)
    assert output.out.endswith("verdict: invalid\n")


def test_files_without_a_close_line_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = file_of(tmp_path, header(), *FRESH, CLOSE, name="whole.jsonl")
    cut = file_of(tmp_path, header(worker=1), name="cut.jsonl")
    assert main(["check", str(whole), str(cut)]) == UNKNOWN
    assert f"incomplete, only what is there was judged: {cut}\nverdict: unknown\n" in capsys.readouterr().out
    assert main(["check", str(whole)]) == VALID
    assert "incomplete" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["[bold]r1.jsonl", "r1[1].jsonl", "[", "é.jsonl", os.fsdecode(b"\xff.jsonl")])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_file_may_have_any_name(name: str, encoding: str, tmp_path: Path) -> None:
    path = file_of(tmp_path, header(), *FRESH, name=name)
    done = check_process(name, cwd=tmp_path, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (UNKNOWN, "")
    shown = path.name.encode(encoding, "backslashreplace").decode(encoding)
    assert done.stdout.startswith(shown)
    assert f"incomplete, only what is there was judged: {shown}\n" in done.stdout


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_a_closed_pipe_is_not_an_error(arguments: list[str], tmp_path: Path) -> None:
    path = file_of(tmp_path, header(), *FRESH, CLOSE)
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        done = check_process(path, *arguments, capture_output=False, stdout=theirs, stderr=subprocess.PIPE)
    finally:
        os.close(theirs)
    assert (done.returncode, done.stderr) == (BROKEN_PIPE, "")


def test_a_pipe_instead_of_a_file_is_bad_input(tmp_path: Path) -> None:
    done = check_process("/dev/stdin", input=text(header(), *FRESH, CLOSE).decode())
    assert (done.returncode, done.stdout) == (BAD_INPUT, "")
    assert "/dev/stdin: not a regular file" in done.stderr
    with file_of(tmp_path, header(), *FRESH, CLOSE).open() as file:
        assert check_process("/dev/stdin", stdin=file).returncode == VALID


def test_a_file_that_is_being_written_is_judged_as_incomplete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "live.jsonl.zst"
    writer = HistoryWriter(path, a_header())
    writer.add(a_write(0))
    writer.flush()
    code, result = checked(capsys, path)
    assert (code, result["verdict"], result["complete"]) == (UNKNOWN, "unknown", False)
    writer.close(0)
    assert checked(capsys, path)[1]["complete"]


def test_the_garbage_collector_is_on_again_after_judging(tmp_path: Path) -> None:
    judge_files([file_of(tmp_path, header(), *FRESH, CLOSE)])
    assert gc.isenabled()
    with pytest.raises(BadHistory):
        judge_files([file_of(tmp_path, header(), read(0, 5, 4))])
    assert gc.isenabled()
