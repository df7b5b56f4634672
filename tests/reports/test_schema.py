"""The published schema accepts every kind of result, describes every field, and refuses damaged ones."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from stalewatch.checkers.judge import Judge
from stalewatch.commands.main import main
from stalewatch.engine.result import check_result
from stalewatch.reports.schema import schema
from tests.checkers.twins import STALE_CAUSES, TWINS
from tests.reports.results import result

PUBLISHED = Path(__file__).parents[2] / "docs" / "result.schema.json"


def closed(part: Any) -> Any:
    """Return the schema without room for fields that it does not describe."""
    if isinstance(part, dict):
        inner = {name: closed(value) for name, value in part.items()}
        return inner | ({"additionalProperties": False} if "properties" in part else {})
    return [closed(one) for one in part] if isinstance(part, list) else part


def assert_described(made: Any) -> None:
    """Assert that a result is valid, and that the schema describes every one of its fields."""
    published = json.loads(PUBLISHED.read_text())
    for each in (published, closed(published)):
        Draft202012Validator(each).validate(made)


def test_the_published_schema_is_up_to_date_and_a_schema() -> None:
    assert json.loads(PUBLISHED.read_text()) == schema(), "run `make reference`"
    Draft202012Validator.check_schema(schema())


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert capsys.readouterr().out == PUBLISHED.read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        ("bench", "memory", "--ops", "400", "--read-from", "secondary", "--lag", "0.02", "--rate", "2000"),
        ("bench", "memory", "--ops", "300", "--topology", "multi-leader", "--write-to", "any"),
        ("bench", "memory", "--ops", "300", "--workload", "ledger,sequence", "--timeouts", "0.1"),
        ("drill", "memory", "--fault", "kill-primary", "--at", "1", "--for", "1", "--duration", "4"),
        ("drill", "memory", "--fault", "kill-primary", "--at", "1", "--for", "1", "--duration", "3", "--repeat", "2"),
    ],
    ids=" ".join,
)
def test_results_of_bench_and_drills_are_described(arguments: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    assert main([*arguments, "--seed", "4", "--json", str(path)]) == 0
    assert_described(json.loads(path.read_text()))


def test_results_of_check_are_described_with_witnesses_of_every_guarantee() -> None:
    for history in (*(twins.violating for twins in TWINS), *(twins.history for twins in STALE_CAUSES)):
        judge = Judge()
        for operation in history:
            judge.observe(operation)
        judge.finish()
        assert_described(json.loads(json.dumps(check_result(judge.findings()))))


@pytest.mark.parametrize(
    ("field", "value"), [("verdict", "fine"), ("latency", {"read": 3}), ("unread_keys", -1), ("run", None)]
)
def test_a_damaged_result_is_invalid(field: str, value: object) -> None:
    validator = Draft202012Validator(schema())
    assert validator.is_valid(result())
    assert not validator.is_valid(result() | {field: value})
    assert not validator.is_valid({name: one for name, one in result().items() if name != "guarantees"})
