"""JUnit files and Markdown summaries: what passes, fails and is skipped, and texts that would break either."""

import json
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import yaml

from stalewatch.commands.main import main, parser
from stalewatch.reports import expect
from stalewatch.reports.ci import junit, markdown
from tests.history.lines import CLOSE, header, read, write
from tests.history.lines import text as history_text
from tests.reports.results import result, with_counts

HOSTILE = "a|b`<script>alert(1)</script>\x00\x1b[31m\ud800&]]>\n# heading [x](http://u:secret@h)"


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 # our own


def cases(text: str) -> dict[str, str]:
    """Return the outcome of each test case of a JUnit file with one suite."""
    (suite,) = parsed(text)
    found = {case.get("name", ""): case[0].tag if len(case) else "pass" for case in suite.iter("testcase")}
    outcomes = list(found.values())
    assert int(suite.get("tests", "")) == len(suite.findall("testcase")) == len(found)
    for field, tag in {"failures": "failure", "errors": "error", "skipped": "skipped"}.items():
        assert int(suite.get(field, "")) == outcomes.count(tag)
    return found


def message(text: str, name: str) -> str:
    (found,) = (case[0] for case in parsed(text).iter("testcase") if case.get("name") == name)
    return f"{found.get('message')} {found.text}"


def done() -> dict[str, Any]:
    made = with_counts(result(), "read_your_writes", 0, 50)
    made["operations"]["read"]["ok"] = 100
    return made


def with_witness(made: dict[str, Any], key: str = "k") -> dict[str, Any]:
    wrote = {"op": "write", "session": "s1", "key": key, "version": 2, "start": 0, "end": 1_500_000, "node": "a"}
    later = {"op": "read", "session": "s2", "key": key, "version": 1, "start": 4_000_000, "end": 5_000_000, "node": "b"}
    witness = {"operations": [wrote, later], "cause": "lag", "staleness_s": 0.0025}
    with_counts(made, "stale_reads", 2, 50)["guarantees"]["stale_reads"]["witnesses"] = [witness]
    return made


def test_a_guarantee_passes_fails_or_is_skipped() -> None:
    found = cases(junit([with_counts(with_witness(done()), "conflicts", 5, 10)]))
    assert {name: outcome for name, outcome in found.items() if outcome != "skipped"} == {
        "stale_reads": "failure",
        "read_your_writes": "pass",
        "conflicts": "pass",
    }
    assert len(found) == 10


def test_a_failure_has_its_witness_in_words() -> None:
    assert message(junit([with_witness(done())]), "stale_reads").endswith(
        " s1 wrote version 2 of k at a (acknowledged after 1.5 ms); 4.0 ms later s2 read version 1 of k at b; "
        "stale by 2.5 ms; replication was behind"
    )


def test_every_expectation_is_a_test_case_and_no_evidence_misses_it() -> None:
    expectations = expect.parse("stale_reads<0.05,stale_reads<0.01,unique_ids=0")
    found = cases(junit([with_witness(done())], expectations))
    assert [found[f"expect {one}"] for one in expectations] == ["pass", "failure", "failure"]
    assert found["unique_ids"] == "failure"
    assert found["unexpected_items"] == "skipped"


@pytest.mark.parametrize("field", ["ended_early", "drill_trouble"])
def test_a_run_that_failed_is_an_error(field: str) -> None:
    text = junit([done() | {field: "the cluster burnt down"}])
    assert cases(text)["run"] == "error"
    assert "burnt down" in message(text, "run")
    assert "burnt down" in markdown([done() | {field: "the cluster burnt down"}])


def test_a_run_of_which_nothing_succeeded_is_an_error() -> None:
    assert cases(junit([result()]))["run"] == "error"


def test_repeated_runs_are_suites_of_their_own() -> None:
    suites = parsed(junit([done() | {"run": "r1"}, with_witness(done()) | {"run": "r2"}]))
    assert [suite.get("failures") for suite in suites] == ["0", "1"]
    assert len({suite.get("name") for suite in suites}) == 2
    assert (suites.get("tests"), suites.get("failures")) == ("20", "1")


def test_hostile_texts_are_escaped_cut_and_without_passwords() -> None:
    made = with_witness(done(), HOSTILE + "x" * 100_000) | {"ended_early": HOSTILE, "run": HOSTILE}
    for text in (junit([made]), markdown([made])):
        assert "secret" not in text
        assert "<script>" not in text
        assert not {"\x00", "\x1b", "\ud800"} & set(text)
        assert len(text) < 10_000
    parsed(junit([made]))
    lines = markdown([made]).splitlines()
    assert sum(line.startswith("#") for line in lines) == 1
    assert {line.count("|") for line in lines if line.startswith("| `")} == {7}
    assert "](" not in markdown([made])


def test_the_summary_has_what_the_result_has() -> None:
    text = markdown([with_witness(done())], expect.parse("stale_reads<0.01"))
    assert text.startswith("### ❌ invalid: memory ")
    assert "| `stale_reads` | 50 | 2 | 4 % | " in text
    assert "| `read_your_writes` | 50 | 0 | 0 % | " in text
    assert "| ❌ | expected stale&#95;reads&#60;0.01: it is 0.04 |" in text
    assert "**Broke first**: stale&#95;reads: s1 wrote version 2 of k at a" in text


BENCH = ("bench", "memory", "--ops", "300", "--seed", "1")


def test_the_bench_adds_to_the_summary_of_a_github_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary, other = tmp_path / "summary.md", tmp_path / "other.md"
    for path in (summary, other):
        path.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    for path in (summary, summary, other, other):
        assert main([*BENCH, "--markdown", str(path)]) == 0
    assert summary.read_text().startswith("before\n### ✅ valid: ")
    assert summary.read_text().count("### ") == 2
    assert other.read_text().count("### ") == 1
    assert "before" not in other.read_text()


@pytest.mark.parametrize("flag", ["--junit", "--markdown"])
def test_one_file_may_be_standard_output(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*BENCH, flag, "-", "--expect", "stale_reads=0"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("<?xml" if flag == "--junit" else "### ")
    assert "verdict: valid" in captured.err
    assert main([*BENCH, flag, "-", "--json", "-"]) == 2
    assert capsys.readouterr().out == ""


def test_check_writes_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = tmp_path / "h.jsonl"
    history.write_bytes(history_text(header(), write(1, 1, 2), read(0, 3, 4), CLOSE))
    suite, summary = tmp_path / "junit.xml", tmp_path / "summary.md"
    code = main(["check", str(history), "--json", "--junit", str(suite), "--markdown", str(summary)])
    assert (code, json.loads(capsys.readouterr().out)["verdict"]) == (1, "invalid")
    assert cases(suite.read_text())["stale_reads"] == "failure"
    assert summary.read_text().startswith("### ❌ invalid: h.jsonl")
    assert main(["check", str(history), "--json", "--junit", "-"]) == 64
    assert main(["check", str(history), "--junit", "-"]) == 1
    assert cases(capsys.readouterr().out)["stale_reads"] == "failure"
    assert main(["check", str(history), "--junit", str(history)]) == 64


WORKFLOW = Path(__file__).parents[2] / "docs" / "github-workflow.yml"


def test_the_workflow_of_the_docs_is_one_and_its_commands_exist() -> None:
    checker = shutil.which("check-jsonschema", path=Path(sys.executable).parent)
    assert checker
    subprocess.run([checker, "--builtin-schema", "vendor.github-workflows", WORKFLOW], check=True, timeout=60)
    (job,) = yaml.safe_load(WORKFLOW.read_text())["jobs"].values()
    commands = [shlex.split(step["run"])[1:] for step in job["steps"] if step.get("run", "").startswith("stalewatch ")]
    assert [command[0] for command in commands] == ["bench", "drill"]
    for command in commands:
        assert expect.parse(parser(command[0]).parse_args(command).expect)
