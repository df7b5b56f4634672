"""The guarantee that docs/adding-a-guarantee.md adds as an example passes its own twins."""

import re
from pathlib import Path
from typing import Any

import pytest

from stalewatch.checkers import judge
from stalewatch.history.operation import replace
from tests.checkers import oracle, twins

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-guarantee.md"
TEXT = PAGE.read_text(encoding="utf-8")
CHECKER, TWINS, ORACLE = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\(([^)#]+)")


def executed(code: str, names: dict[str, Any]) -> dict[str, Any]:
    """Return the names that are defined after running the code."""
    names = dict(names)
    exec(code, names)  # noqa: S102 # the code of our own page
    return names


def test_checker_and_oracle_of_the_page_agree_on_its_twins(monkeypatch: pytest.MonkeyPatch) -> None:
    added = executed(CHECKER, {})["BoundedStaleness"]
    monkeypatch.setitem(judge.GUARANTEES, added.name, added)
    monkeypatch.setattr(oracle, "GUARANTEES", dict(oracle.GUARANTEES))
    executed(ORACLE, {**vars(oracle), "replace": replace})
    pairs = executed(TWINS, {**vars(twins), "TWINS": []})["TWINS"]
    assert [pair.guarantee for pair in pairs] == [added.name] * 2
    for pair in pairs:
        for operations, verdict in ((pair.violating, "violated"), (pair.valid, pair.valid_verdict)):
            judging = judge.Judge()
            for operation in operations:
                judging.observe(operation)
            by_oracle = oracle.judge([oracle.File(operations)])[added.name]
            found = judging.verdicts()[added.name]
            assert (found.verdict, by_oracle.verdict) == (verdict, verdict)
            assert (found.checked, found.violated) == (by_oracle.checked, by_oracle.violated)


def test_the_page_names_files_that_exist() -> None:
    assert [link for link in LINK.findall(TEXT) if not (PAGE.parent / link).exists()] == []
    assert [name for name in re.findall(r"`(tests/[\w/.]+\w)`", TEXT) if not (PAGE.parents[1] / name).exists()] == []
