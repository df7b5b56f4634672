"""What is exported and imported again gets the verdict that it had, to the byte, whatever the format."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from stalewatch.commands.main import main
from stalewatch.history.exchange.files import Options, export_history, guess, import_history

CASES: list[dict[str, Any]] = json.loads(
    gzip.decompress((Path(__file__).parents[2] / "checkers" / "recorded.json.gz").read_bytes())
)["histories"]


def through(path: Path, forms: Sequence[str]) -> Path:
    """Return the history after an export to each format and an import from it."""
    for form in forms:
        exported, back = path.with_suffix(f".{form}"), path.with_name(f"{path.stem}-{form}.jsonl")
        exported = exported.with_stem(f"exported-{exported.stem}")
        export_history(path, exported, form, lambda _count: None)
        assert guess(exported) == (form, "content")
        import_history(exported, back, Options(form), lambda _count: None)
        path = back
    return path


def test_recorded_histories_keep_their_verdicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, case in enumerate(CASES):
        back = []
        for index, text in enumerate(case["files"]):
            source = tmp_path / f"{number}-{index}.jsonl"
            source.write_text(text)
            back.append(through(source, ("edn", "json", "csv")))
        code = main(["check", "--json", *map(str, back)])
        assert (code, capsys.readouterr().out) == (case["exit"], case["json"]), number
