"""Drills on simulated stores, whose truth is known: no false violations, and every loss is found."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from stalewatch.clients.protocol import Answer
from stalewatch.commands import drill as drill_command
from stalewatch.commands.main import main
from stalewatch.engine.threads import Progress
from stalewatch.simulator.client import MemoryClient

FAULTS = ("kill-primary", "pause-primary", "isolate-primary", "isolate-primary-from-all", "kill-all")
SHORT = ("--at", "1", "--for", "3", "--duration", "8", "--users", "4", "--keys", "20", "--rate", "100")
SEEDS = [range(5), pytest.param(range(5, 100), marks=pytest.mark.soak)]

Drill = Callable[..., dict[str, Any]]


@pytest.fixture
def drill(tmp_path: Path) -> Drill:
    def do(fault: str, *options: str) -> dict[str, Any]:
        result = tmp_path / "result.json"
        arguments = ["drill", "memory", "--fault", fault, *SHORT, *options, "--json", str(result)]
        assert main(arguments) == 0
        found: dict[str, Any] = json.loads(result.read_text())
        return found

    return do


@pytest.mark.parametrize("seeds", SEEDS, ids=["few", "many"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_linearizable_store_violates_nothing_under_any_fault(drill: Drill, fault: str, seeds: range) -> None:
    for seed in seeds:
        result = drill(fault, "--topology", "linearizable", "--seed", str(seed), "--timeouts", "0.02")
        wrong = {name: row["violated"] for name, row in result["guarantees"].items() if row["violated"]}
        assert not wrong, seed
        assert result["rpo"]["lost_writes"] == 0
        assert result["guarantees"]["lost_writes"]["checked"] > 50
        assert result["guarantees"]["stale_reads"]["checked"] > 20
        assert result["faults"][0]["end_s"] - result["faults"][0]["start_s"] == pytest.approx(3, abs=0.1)
        assert result["duplicate_items"] == result["phantom_items"] == 0


def test_a_leader_with_followers_loses_the_writes_of_the_isolated_side(drill: Drill) -> None:
    result = drill("isolate-primary", "--topology", "leader", "--seed", "1")
    assert result["rpo"]["lost_items"] > 0
    assert result["guarantees"]["unique_ids"]["violated"] > 0
    lost = [item for item in result["rpo"]["items"] if item["end"]]
    assert max(item["end"] for item in lost) <= result["faults"][0]["end"]
    assert result["phases"]["before"]["violations"].get("unique_ids", 0) == 0
    assert result["phases"]["during"]["violations"]["unique_ids"] > 0


def test_what_follows_a_fault_that_begins_late_is_as_much_later(drill: Drill, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    steps = ("fault = 'kill'\non = 'primary'", "fault = 'kill'\non = 'primary'\nafter = 0.1\nfor = 1")
    mine.write_text("\n".join(f"[[twice.steps]]\n{step}" for step in steps))
    result = drill("twice", "--drills", str(mine), "--topology", "leader", "--seed", "1")
    first, second = result["faults"]
    late_s = second["start_s"] - first["start_s"] - 0.1
    assert late_s > 0.4  # it waited for the new primary
    assert second["end_s"] - second["start_s"] == pytest.approx(1, abs=0.1)
    assert first["end_s"] - first["start_s"] == pytest.approx(3 + late_s, abs=0.1)


def test_a_seeded_drill_is_repeatable(drill: Drill) -> None:
    one, other = (drill("kill-primary", "--topology", "leader", "--seed", "7") for _ in range(2))
    assert one == other


def test_writes_are_unavailable_during_the_takeover(drill: Drill) -> None:
    result = drill("kill-primary", "--topology", "leader", "--seed", "2")
    assert result["recovery"]["write"]["rto_s"] == pytest.approx(1, abs=0.2)
    assert result["recovery"]["write"]["sustained_rto_s"] is not None


def test_a_drill_without_a_primary_to_break_ends_with_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.toml"
    steps = ("[[twice.steps]]\nfault = 'kill'\non = 'primary'", "[[twice.steps]]\nfault='kill'\non='primary'\nafter=1")
    mine.write_text("\n".join(steps))
    result = tmp_path / "result.json"
    options = ("--drills", str(mine), "--fault", "twice", "--topology", "linearizable", "--json", str(result))
    assert main(["drill", "memory", *SHORT, *options]) == 3
    found = json.loads(result.read_text())
    assert "has no primary at the moment" in found["drill_trouble"]
    assert [fault["end"] is not None for fault in found["faults"]] == [True]
    assert "the drill was not completed: memory has no primary" in capsys.readouterr().out


def test_a_drill_ends_with_what_happened_and_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    brief = ("--topology", "leader", "--at", "3", "--for", "5", "--after", "6", "--seed", "6")
    assert main(["drill", "memory", "--fault", "kill-replica", *brief, "--expect", "write.sustained_rto_s<8"]) == 0
    shown = capsys.readouterr()
    *_, happened, _meaning, verdict = shown.out.splitlines()
    assert happened.startswith("drill: m3 was killed at 3.0 s; ")
    assert verdict == "verdict: valid"
    assert "never" not in shown.out


def test_progress_counts_what_the_drill_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Progress] = []
    monkeypatch.setattr(drill_command, "progress", lambda _figures: nullcontext(shown.append))
    brief = ("--topology", "leader", "--at", "3", "--for", "5", "--after", "6", "--seed", "6")
    assert main(["drill", "memory", "--fault", "kill-replica", *brief]) == 0
    totals = {round(one.total) for one in shown if one.phase == "load"}
    assert totals <= {14}
    assert totals


def test_a_drill_without_final_reads_says_so_first_and_is_not_valid(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = Answer("unknown", error="TableIsGone")
    monkeypatch.setattr(MemoryClient, "final", lambda _self, _key: gone)
    monkeypatch.setattr(MemoryClient, "final_items", lambda _self, _key: gone)
    expected = ("--topology", "linearizable", "--seed", "1", "--expect", "lost_writes=0,stale_reads=0")
    assert main(["drill", "memory", "--fault", "kill-primary", *SHORT, *expected]) == 1
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("final reads of ")
    assert first.endswith("keys failed, so their writes were not checked for losses: TableIsGone")
    assert "rpo lost writes: unknown (the final reads failed or were not made)" in lines
    assert "lost writes were not checked" in lines[-3]
    assert lines[-2] == "verdict: unknown"
    assert lines[-1].startswith("expected lost_writes=0: no evidence, since final reads of ")
