"""Drills on simulated stores, whose truth is known: no false violations, and every loss is found."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stalewatch.commands.main import main

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
