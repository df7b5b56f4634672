"""The command: the simulator's matrix equals its rules, real servers under provocation, budgets and interruptions."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from stalewatch.clusters.lab.clusters import MongoLab
from stalewatch.clusters.local.mongo import MongoCluster
from stalewatch.commands.main import main
from stalewatch.matrix import report
from stalewatch.matrix import run as matrix_run
from stalewatch.matrix.cells import Cell
from stalewatch.matrix.evidence import MeasuredCell
from stalewatch.matrix.run import Setup

ROOT = Path(__file__).parents[2]

READS = ("stale_reads", "read_your_writes", "monotonic_reads", "read_regressions")
ANCHOR = re.compile(r'href="#([^"]+)"')
ID = re.compile(r'id="([^"]+)"')

FEW_KEYS = ("--keys", "5", "--users", "20", "--rate", "400")
"""Almost every read is of a key of which a write is under way."""


def matrix(folder: Path, *arguments: str) -> dict[str, Any]:
    path = folder / "matrix.json"
    assert main(["matrix", *arguments, "--json", str(path)]) == 0
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def started(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "stalewatch", "matrix", "memory", "--json", str(folder / "m.json"), *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


ACKS = {"1": 1, "majority": 2, "all": 3}


def leader(levels: Mapping[str, str]) -> set[str]:
    """Return what cannot be violated while a leader of three nodes keeps leading."""
    if levels["read_from"] == "leader":
        return set(READS)
    return {"stale_reads", "read_your_writes"} if ACKS[levels["write_acks"]] == 3 else set()


def quorum(levels: Mapping[str, str]) -> set[str]:
    """Return what cannot be violated in a quorum of three nodes with read repair."""
    writes, reads = ACKS[levels["write_acks"]], ACKS[levels["read_acks"]]
    fresh = {"stale_reads", "read_your_writes"} if writes + reads > 3 else set()
    return fresh | ({"monotonic_reads", "read_regressions"} if reads > 1 else set())


def multi_leader(levels: Mapping[str, str]) -> set[str]:
    """Return what cannot be violated with two leaders."""
    writes, reads = levels["write_to"], levels["read_from"]
    if writes == "any":
        return set()
    if writes == reads:
        return {*READS, "conflicts"}
    return {"conflicts"} if reads == "any" else {"monotonic_reads", "read_regressions", "conflicts"}


RULES: Mapping[str, Callable[[Mapping[str, str]], set[str]]] = {
    "leader": leader,
    "quorum": quorum,
    "multi-leader": multi_leader,
}


def possible(levels: Mapping[str, str]) -> set[str]:
    """Return what can be violated at these levels, by the rules."""
    shown = {*READS, "conflicts"} if levels["topology"] == "multi-leader" else set(READS)
    return shown - RULES[levels["topology"]](levels)


def test_the_simulators_matrix_equals_its_rules_cell_by_cell(tmp_path: Path) -> None:
    seen: dict[str, set[str]] = {}
    for seed in range(4, 14):  # one seed is enough today; the rarest violation is one of 900 reads
        only = ("--only", "provocation=lag,read_strategy=plain", "--seed", str(seed))
        with started(tmp_path, *only, *FEW_KEYS) as process:  # sessions are greenlets there, and cost less
            _, err = process.communicate(timeout=280)
        assert process.returncode == 0, err
        found = json.loads((tmp_path / "m.json").read_text())
        assert len(found["cells"]) == 27
        for cell in found["cells"]:
            names = (*READS, "conflicts")
            violated = {name for name in names if cell["guarantees"][name]["measured"] == "violated"}
            assert violated <= possible(cell["levels"]), cell["name"]
            promised = {name for name in names if cell["guarantees"][name]["documented"] == "promised"}
            assert promised == RULES[cell["levels"]["topology"]](cell["levels"]) & {*READS, "conflicts"}, cell["name"]
            held = {name for name in names if cell["guarantees"][name]["measured"] == "holds"}
            assert promised <= held, cell["name"]
            seen.setdefault(cell["name"], set()).update(violated)
        if all(seen[cell["name"]] == possible(cell["levels"]) for cell in found["cells"]):
            return
    assert {cell["name"]: seen[cell["name"]] for cell in found["cells"]} == {
        cell["name"]: possible(cell["levels"]) for cell in found["cells"]
    }


def test_a_killed_leader_loses_what_only_it_has(tmp_path: Path) -> None:
    only = "topology=leader,provocation=kill,read_strategy=plain,read_from=leader,write_acks=1,write_acks=majority"
    found = matrix(tmp_path, "memory", "--only", only, *FEW_KEYS, "--seed", "1")
    measured = {cell["levels"]["write_acks"]: cell["guarantees"]["lost_writes"]["measured"] for cell in found["cells"]}
    assert measured == {"1": "violated", "majority": "holds"}
    assert all(cell["rto_s"]["write"] >= 0.9 for cell in found["cells"])


SOME = "topology=multi-leader,provocation=lag,provocation=calm,read_strategy=plain,write_to=any,write_to=a,read_from=a"


def test_the_reports_of_a_matrix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, text = tmp_path / "m.html", tmp_path / "m.md"
    found = matrix(tmp_path, "memory", "--only", SOME, *FEW_KEYS, "--report", str(page), "--markdown", str(text))
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 100
    assert "4 of 4 cells measured" in shown
    assert "no cell contradicts the documentation" in shown
    assert all(cell["result"]["guarantees"] and cell["result"]["latency"] for cell in found["cells"])
    html = page.read_text()
    assert set(ANCHOR.findall(html)) <= set(ID.findall(html))
    assert "<script" not in html
    assert not re.findall(r'(?:src|rel="stylesheet" href)="', html)
    calm = [cell for cell in found["cells"] if cell["provocation"] == "calm"]
    assert not any(row["measured"] == "holds" for cell in calm for row in cell["guarantees"].values())
    assert text.read_text().startswith("# Measured guarantees")
    assert text.read_text().index("## Contradictions") < text.read_text().index("### lag")
    assert main(["matrix", "show", str(tmp_path / "matrix.json")]) == 0
    assert capsys.readouterr().out == shown
    assert main(["matrix", "show", str(page)]) == 2


def test_matrices_of_one_database_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both, page = tmp_path / "both.json", tmp_path / "m.html"
    for acks in ("1", "majority"):
        only = f"topology=leader,provocation=calm,read_strategy=plain,read_from=leader,write_acks={acks}"
        matrix(tmp_path, "memory", "--only", only, *FEW_KEYS)
        (tmp_path / "matrix.json").rename(tmp_path / f"{acks}.json")
    paths = [str(tmp_path / f"{acks}.json") for acks in ("1", "majority")]
    assert main(["matrix", "show", *paths, "--json", str(both)]) == 0
    capsys.readouterr()
    assert main(["matrix", "show", str(both), "--markdown", "-", "--report", str(page)]) == 0
    headings = re.findall(r"^## (simulator.*)", capsys.readouterr().out, re.MULTILINE)
    assert [re.sub(r"^.*write_acks=", "", one) for one in headings] == ["1)", "majority)"]
    assert all(f"<h2>{one}</h2>" in page.read_text() for one in headings)
    both.write_text("[1]")
    assert main(["matrix", "show", str(both)]) == 2


def test_a_contradiction_comes_first_and_shows_its_witness(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = matrix(tmp_path, "memory", "--only", SOME, *FEW_KEYS)
    weak = next(cell for cell in found["cells"] if cell["guarantees"]["stale_reads"]["measured"] == "violated")
    weak["guarantees"]["stale_reads"] |= {"documented": "promised", "contradiction": True}
    (tmp_path / "broken.json").write_text(json.dumps(found))
    capsys.readouterr()
    text = tmp_path / "m.md"
    assert main(["matrix", "show", str(tmp_path / "broken.json"), "--markdown", str(text)]) == 0
    shown = capsys.readouterr().out
    assert "contradiction: stale_reads under lag at multi-leader any a plain: promised, and violated" in shown
    witness = weak["result"]["guarantees"]["stale_reads"]["witnesses"][0]["operations"]
    keys = [operation["key"].removeprefix(f"{weak['result']['run']}-") for operation in witness]
    assert all(f"key {key}" in text.read_text() for key in keys)
    assert max(map(len, shown.splitlines())) <= 100


def test_the_cells_are_listed_without_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matrix", "mongo", "--list", "--only", "read_strategy=plain,provocation=kill,write_concern=1"]) == 0
    *cells, total, without = capsys.readouterr().out.splitlines()
    assert cells[0].split() == ["kill", "1", "local", "secondary", "plain"]
    assert total.startswith("7 cells, about ")
    assert without == "without isolate: it needs --lab (root)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--only", "x=1"), "write NAME=VALUE"),
        (("--only", "topology=quorum,read_from=leader"), "no cell has these levels together"),
        (("--budget", "soon"), "must be a time such as"),
    ],
)
def test_bad_usage(arguments: Sequence[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        sys.exit(main(["matrix", "memory", *arguments]))
    assert message in capsys.readouterr().err


def test_an_interrupted_matrix_goes_on_where_it_was(tmp_path: Path) -> None:
    arguments = ("--only", "topology=leader,provocation=lag,read_strategy=plain", "--seed", "1")
    with started(tmp_path, *arguments) as process:
        assert process.stderr is not None
        assert any(line.startswith("[4/9]") for line in process.stderr)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in out
    before = json.loads((tmp_path / "m.json").read_text())
    assert before["interrupted"]
    assert len(before["cells"]) + len(before["not_measured"]) == 9
    assert (tmp_path / "m.json.state").exists()
    with started(tmp_path, "--only", "topology=leader", "--seed", "2") as other:
        assert "left by an interrupted matrix with other settings" in other.communicate(timeout=60)[1]
    assert other.returncode == 2
    with started(tmp_path, *arguments, "--budget", "10m") as again:  # how long it may take is no setting
        out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert f"going on with {len(before['cells'])} cells" in err
    after = json.loads((tmp_path / "m.json").read_text())
    assert len(after["cells"]) == 9
    kept = len(before["cells"])
    assert [one["result"] for one in after["cells"][:kept]] == [one["result"] for one in before["cells"]]
    assert not (tmp_path / "m.json.state").exists()


def test_a_budget_ends_the_matrix_with_the_most_telling_cells(tmp_path: Path) -> None:
    found = matrix(tmp_path, "memory", "--budget", "3s", *FEW_KEYS)
    assert 0 < len(found["cells"]) < 100
    assert found["cells"][0]["name"].startswith("lag topology=leader,write_acks=1,read_from=follower")
    assert found["not_measured"]


def breaking(monkeypatch: pytest.MonkeyPatch, names: str) -> None:
    """Let the cells fail whose names contain that text."""
    real = matrix_run.run_cell

    def run_cell(
        setup: Setup, cell: Cell, seconds_left: float | None, log: Callable[[str], None]
    ) -> MeasuredCell | None:
        if names in cell.name:
            raise KeyError("a bug")
        return real(setup, cell, seconds_left, log)

    monkeypatch.setattr(matrix_run, "run_cell", run_cell)


def test_a_cell_that_fails_unexpectedly_is_recorded_and_the_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    breaking(monkeypatch, "lag topology=multi-leader,write_to=a,")
    path = tmp_path / "m.json"
    assert main(["matrix", "memory", "--only", SOME, *FEW_KEYS, "--json", str(path)]) == 3
    found = json.loads(path.read_text())
    assert len(found["cells"]) == 3
    assert list(found["failed"].values()) == ["KeyError: 'a bug'"]
    assert not found["interrupted"]
    shown = capsys.readouterr()
    assert "3 of 4 cells measured" in shown.out
    assert "Traceback" in shown.err


def test_cells_that_all_fail_end_the_matrix_with_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    breaking(monkeypatch, "multi-leader")
    assert main(["matrix", "memory", "--only", SOME, *FEW_KEYS, "--json", str(tmp_path / "m.json")]) == 3
    shown = capsys.readouterr()
    assert "3 cells in a row failed, so the others were not tried: KeyError: 'a bug'" in shown.err
    assert "0 of 4 cells measured" in shown.out


@pytest.mark.server
def test_servers_that_are_given_by_their_address_are_measured_calm(whole: MongoCluster, tmp_path: Path) -> None:
    only = "read_from=secondary,read_concern=local,write_concern=1,read_strategy=plain"
    load = ("--users", "4", "--rate", "100")
    found = matrix(tmp_path, "mongo", "--mongo-uri", whole.uri(), "--only", only, *load)
    assert [cell["provocation"] for cell in found["cells"]] == ["calm"]
    assert found["cells"][0]["guarantees"]["stale_reads"]["checked"] > 0
    reason = "faults cannot act on servers that are known only by their address"
    assert found["left_out"] == dict.fromkeys(("stall", "kill", "isolate", "pause"), reason)
    assert report.versions(found).startswith("MongoDB ")
    assert main(["matrix", "mongo", "--mongo-uri", whole.uri(), "--only", only, "--lab"]) == 2


@pytest.mark.server
def test_in_a_lab_the_primary_can_be_cut_off(lab: MongoLab, tmp_path: Path) -> None:
    only = "provocation=isolate,write_concern=1,read_concern=local,read_from=primary,read_strategy=plain"
    path = tmp_path / "m.json"
    command = [sys.executable, "-m", "stalewatch", "matrix", "mongo", "--lab", "--only", only, "--json", str(path)]
    environment = {**os.environ, "STALEWATCH_HOME": str(lab.home)}
    load = ("--users", "10", "--rate", "100")
    done = subprocess.run([*command, *load], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(path.read_text())
    assert found["left_out"] == found["failed"] == {}
    (cell,) = found["cells"]
    assert [(fault["fault"], fault["end"] is None) for fault in cell["result"]["faults"]] == [("isolate", False)]
    assert cell["rto_s"]["write"] > 0


def test_compose_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["matrix", "mongo", "--compose", "--only", "provocation=calm"]) == 3
    assert "docker" in capsys.readouterr().err.lower()


@pytest.mark.server
def test_mongodb_under_a_stalled_secondary(whole: MongoCluster, tmp_path: Path) -> None:
    environment = {**os.environ, "STALEWATCH_HOME": str(whole.home)}
    only = "provocation=stall,read_from=secondary,read_concern=majority,write_concern=majority,read_strategy=plain"
    path = tmp_path / "m.json"
    command = [sys.executable, "-m", "stalewatch", "matrix", "mongo", "--only", f"{only},read_strategy=token"]
    load = ("--users", "10", "--rate", "100")
    done = subprocess.run(
        [*command, *load, "--json", str(path)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    cells = {cell["levels"]["read_strategy"]: cell for cell in json.loads(path.read_text())["cells"]}
    plain, token = cells["plain"]["guarantees"], cells["token"]["guarantees"]
    assert plain["stale_reads"]["measured"] == plain["read_your_writes"]["measured"] == "violated"
    assert token["read_your_writes"]["measured"] == "holds"
    assert token["read_your_writes"]["documented"] == "promised"
    assert token["read_your_writes"]["why"] in {
        "the same provocation violated it at majority majority secondary plain",
        "reads of the same run were stale because of lag",  # a write of another session's, acknowledged a moment ago
    }
    assert plain["consistent_prefix"]["checked"] > 0
    assert token["consistent_prefix"]["documented"] == "promised"
    assert [fault["fault"] for fault in cells["token"]["result"]["faults"]] == ["stall"]
    assert cells["token"]["result"]["convergence_wait_s"] is None  # no figure of the matrix is worth the wait
    assert whole.status()[0].healthy
