"""`stalewatch.Watch`: results while it runs and afterwards, histories, and expectations."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import stalewatch
from stalewatch.engine.result import check_result
from stalewatch.reports.lines import plain_lines
from stalewatch.reports.words import run_sentence


def go_stale(watch: stalewatch.Watch) -> None:
    """Write twice and read the first version back; the second is lost in the end."""
    alice, bob = watch.session("alice"), watch.session("bob")
    for _ in range(2):
        with alice.write("k"):
            pass
    with alice.read("k") as read:
        read.saw(1, node="b:1")
    with bob.read("k") as read:
        read.saw(2)
    with watch.final_read("k") as final:
        final.saw(1)


def test_the_verdict_is_that_of_the_history(tmp_path: Path) -> None:
    history = tmp_path / "run.jsonl"
    with stalewatch.Watch(history) as watch:
        go_stale(watch)
        with watch.session("alice").append("list") as append:
            pass
        with watch.final_items("list") as final:
            final.saw([append.item, append.item])
        for _ in range(2):
            with watch.session("bob").draw("ids") as draw:
                draw.took(4)
    result = watch.result
    checked = stalewatch.check(history)
    assert {name: result[name] for name in checked} == checked
    assert (watch.verdict, result["verdict"]) == ("invalid", "invalid")
    violated = {name: row["violated"] for name, row in checked["guarantees"].items() if row["violated"]}
    assert violated == {
        "stale_reads": 1,
        "read_your_writes": 1,
        "read_regressions": 1,
        "lost_writes": 1,
        "unexpected_items": 1,
        "unique_ids": 1,
    }
    header = json.loads(history.read_text().splitlines()[0])
    assert (header["database"], header["registers"]) == ("own", "overwriting")


def test_whatever_an_exception_says_can_be_written(tmp_path: Path) -> None:
    with stalewatch.Watch(tmp_path / "run.jsonl") as watch:
        alice = watch.session("älice")
        with pytest.raises(OSError, match="file"), alice.write("ключ"):
            raise OSError("file \udcff")
        with alice.read("ключ") as read, pytest.warns(stalewatch.MisuseWarning, match="never handed out"):
            read.saw((1 << 63) - 1)
    assert stalewatch.check(tmp_path / "run.jsonl")["guarantees"]["phantom_reads"]["violated"] == 1


def test_the_result_is_that_of_every_run(tmp_path: Path) -> None:
    with stalewatch.Watch(tmp_path / "run.jsonl.zst", options={"cache": "on"}) as watch:
        go_stale(watch)
    result = json.loads(json.dumps(watch.result))
    assert (result["database"], result["run"], result["workloads"]) == ("own", watch.name, ["register"])
    assert (result["options"], result["ended_early"]) == ({"growing": False, "cache": "on"}, None)
    assert result["operations"] == {
        "read": {"ok": 2, "fail": 0, "unknown": 0},
        "write": {"ok": 2, "fail": 0, "unknown": 0},
    }
    assert result["lost_writes_exact"] is False
    assert 0 < result["duration_s"] == watch.result["duration_s"]
    assert "ryw_violation_rate: 1.0000 (1/1" in "\n".join(plain_lines(result))
    assert "missed a write of their own session" in run_sentence(result)


def test_results_are_live_and_final_ones_complete() -> None:
    with stalewatch.Watch() as watch:
        assert watch.verdict == "unknown"
        alice = watch.session("alice")
        with alice.write("k"):
            pass
        with alice.read("k") as read:
            read.saw(1)
        assert watch.verdict == "valid"
        with watch.final_read("k") as final:
            final.saw(0)
        assert watch.result["guarantees"]["lost_writes"]["checked"] == 0
    assert watch.result["guarantees"]["lost_writes"]["violated"] == 1
    assert watch.verdict == "invalid"
    watch.close()  # once more is nothing


def test_a_watch_that_an_exception_ended_proves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), stalewatch.Watch(tmp_path / "run.jsonl") as watch:  # noqa: PT012 # it leaves the block
        with watch.session("alice").write("k"):
            pass
        with watch.session("alice").read("k") as read:
            read.saw(1)
        raise KeyError
    assert (watch.verdict, watch.result["ended_early"]) == ("unknown", "KeyError ended the watch")
    assert stalewatch.check(tmp_path / "run.jsonl")["complete"]


def test_missed_expectations_are_explained_by_the_operations_that_prove_them() -> None:
    with stalewatch.Watch() as watch:
        go_stale(watch)
    with pytest.raises(AssertionError) as missed:
        watch.expect("stale_reads<0.6,read_your_writes=0,lost_writes.violated<1")
    first, witness, second, proof = str(missed.value).splitlines()
    assert first == "expected read_your_writes=0: it is 1"
    assert witness.startswith("    alice wrote 2 to k [")
    assert "; alice read 1 from k [" in witness
    assert witness.endswith("] at b:1 (times in ms)")
    assert second == "expected lost_writes.violated<1: it is 1"
    assert "k finally held 1" in proof
    watch.expect("stale_reads<0.6,read_your_writes=1")


def test_what_only_the_end_decides_has_no_evidence_before() -> None:
    watch = stalewatch.Watch()
    go_stale(watch)
    with pytest.raises(AssertionError, match=r"(?s)lost_writes=0: no evidence.*close.. it before"):
        watch.expect("lost_writes=0")
    watch.close()
    watch.expect("lost_writes=0.5")


def test_expectations_that_cannot_be_met_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown name 'ryw'"):
        stalewatch.Watch().expect("ryw=0")


def test_a_history_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        stalewatch.Watch(tmp_path / "missing" / "run.jsonl")


BARE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {*sys.stdlib_module_names, "stalewatch"}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import stalewatch
with stalewatch.Watch(sys.argv[1]) as watch:
    alice = watch.session("alice")
    with alice.write("k"):
        pass
    with alice.read("k") as read:
        read.saw(1)
watch.expect("read_your_writes=0")
try:
    watch.expect("stale_reads>0")
except AssertionError as error:
    print(error, stalewatch.check(sys.argv[1])["verdict"])
"""


def test_a_watch_needs_the_standard_library_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BARE, str(tmp_path / "run.jsonl")]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert ended.stdout == "expected stale_reads>0: it is 0 valid\n"


def test_a_live_result_equals_the_judge_of_the_whole(tmp_path: Path) -> None:
    """Asking for results in between drains nothing."""
    with stalewatch.Watch(tmp_path / "run.jsonl") as watch:
        for _ in range(3):
            go_stale(watch)
            assert watch.result["operations"]["write"]["ok"] == watch.recorder.newest_version("k")
    assert check_result(watch.recorder.judge.findings()) == stalewatch.check(tmp_path / "run.jsonl")


PAGE = Path(__file__).parents[2] / "docs" / "watch-your-own.md"


def test_the_example_of_the_page_does_what_the_page_says(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    script = page.split("```python\n", 1)[1].split("```", 1)[0]
    (tmp_path / "shop.py").write_text(script)
    ended = subprocess.run(
        [sys.executable, "shop.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stdout == "invalid\n"
    promised = page.split("    AssertionError: ", 1)[1].split("\n\n", 1)[0]
    times = re.compile(r"\[[\d.]+, [\d.]+\]")
    said = ended.stderr.split("AssertionError: ", 1)[1].strip()
    assert times.sub("", said.splitlines()[0]) == promised.splitlines()[0]
    assert times.sub("", promised.splitlines()[1]).strip() in times.sub("", said)
    assert stalewatch.check(tmp_path / "shop.jsonl")["verdict"] == "invalid"
    (tmp_path / "shop.py").write_text(script.replace("if key not in cache:", "if True:"))
    ended = subprocess.run([sys.executable, "shop.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ended.stdout == "valid\n"
