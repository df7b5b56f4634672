"""docs/consistency.md is accurate: its histories get the verdicts it claims, its names, fields and links are right."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, get_args, get_type_hints

import pytest

from stalewatch.checkers.judge import GUARANTEES
from stalewatch.checkers.verdict import GuaranteeVerdict, RunVerdict
from stalewatch.commands.main import main
from stalewatch.history.codec import RECORD_TYPES
from stalewatch.history.operation import FORMAT, Header
from stalewatch.history.reader import History
from tests.checkers.linearizability import linearizable

PAGE = Path(__file__).parents[2] / "docs" / "consistency.md"
TEXT = PAGE.read_text(encoding="utf-8")

FENCE = re.compile(r"^```json lines\n(?P<history>.*?)^```\n\n(?P<claim>.+?)\n\n", re.MULTILINE | re.DOTALL)
VIOLATES = re.compile(r"Violates (no guarantee|`\w+`(?:(?:, | and )`\w+`)*)[;:]")
GUARANTEE_IS = re.compile(r"((?:`\w+`, )*`\w+`): `(\w+)`")
RUN_IS = re.compile(r"the run is `(\w+)`")
QUOTED = re.compile(r"`(\w+)`")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
LINK = re.compile(r"\[[^\]]+\]\(([^)]+)\)")
ROW = re.compile(r"^\|(.+)\|$", re.MULTILINE)


class Example(NamedTuple):
    """A history of the page, and the claims of the paragraph after it."""

    line: int
    history: str
    violated: set[str]
    guarantees: dict[str, str]
    run: str


def examples(text: str) -> Iterator[Example]:
    """Yield the histories in a part of the page."""
    for fence in FENCE.finditer(text):
        line = TEXT.count("\n", 0, TEXT.index(fence[0])) + 1
        claim = " ".join(fence["claim"].split())
        violates, run = VIOLATES.match(claim), RUN_IS.findall(claim)
        assert violates, f"line {line}: the paragraph after the history must say what it violates"
        assert len(run) == 1, f"line {line}: the paragraph after the history must give the verdict of the run once"
        words = {name: word for names, word in GUARANTEE_IS.findall(claim) for name in QUOTED.findall(names)}
        yield Example(line, fence["history"], set(QUOTED.findall(violates[1])), words, run[0])


def section(heading: str) -> str:
    """Return the part of the page from that heading to the next one of its level or above."""
    start = TEXT.index(f"\n{heading}\n") + 1
    level = len(heading) - len(heading.lstrip("#"))
    end = re.compile(rf"^#{{1,{level}}} ", re.MULTILINE).search(TEXT, start + len(heading))
    return TEXT[start : end.start() if end else None]


def rows(text: str) -> list[list[str]]:
    """Return the cells of the tables in a text."""
    return [[cell.strip() for cell in row[1].split(" | ")] for row in ROW.finditer(text)]


EXAMPLES = list(examples(TEXT))
EXIT_CODES = {QUOTED.findall(row[0])[0]: int(row[-1]) for row in rows(section("## Verdicts")) if row[-1] in {*"012"}}


def test_every_history_of_the_page_is_found() -> None:
    assert len(EXAMPLES) == TEXT.count(f'{{"format":"{FORMAT}"')


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"line {example.line}")
def test_a_history_of_the_page_gets_the_verdicts_that_the_page_claims(
    example: Example, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "example.jsonl"
    file.write_text(example.history)
    code = main(["check", "--json", str(file)])
    result = json.loads(capsys.readouterr().out)
    found = {name: row["verdict"] for name, row in result["guarantees"].items()}
    assert {name for name, verdict in found.items() if verdict == "violated"} == example.violated
    assert found | example.guarantees == found
    assert result["verdict"] == example.run
    assert code == EXIT_CODES[example.run]


def test_every_guarantee_has_a_section() -> None:
    headings = HEADING.findall(section("## The ten guarantees"))
    assert sorted(heading.strip("`") for heading in headings if heading.startswith("`")) == sorted(GUARANTEES)


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_every_guarantee_has_a_history_that_violates_it_and_one_that_does_not(guarantee: str) -> None:
    violating, valid, *_ = examples(section(f"### `{guarantee}`"))
    assert guarantee in violating.violated
    assert not valid.violated
    assert valid.guarantees[guarantee] in {"holds", "no_evidence"}


def test_the_counterexample_to_linearizability_is_not_linearizable(tmp_path: Path) -> None:
    (example,) = examples(section("## Linearizability"))
    file = tmp_path / "example.jsonl"
    file.write_text(example.history)
    assert not example.violated
    assert not linearizable(operation for operation, _ in History([file]).operations())


def test_every_verdict_is_explained() -> None:
    explained = {name for row in rows(section("## Verdicts")) for name in QUOTED.findall(row[0])}
    assert explained == {*get_args(GuaranteeVerdict), *get_args(RunVerdict)}


def test_every_field_of_a_line_is_in_the_table() -> None:
    table = section("## File format").split("**Lines**")[1]
    named = {(op, QUOTED.findall(field)[0]) for field, ops, _ in rows(table)[2:] for op in QUOTED.findall(ops)}
    assert named == {(op, field) for op, kind in RECORD_TYPES.items() for field in set(get_type_hints(kind)) - {"tag"}}


def test_every_field_of_the_header_is_in_the_table() -> None:
    table = section("## File format").split("**Header**")[1].split("**Lines**")[0]
    assert {QUOTED.findall(row[0])[0] for row in rows(table)[2:]} == set(get_type_hints(Header)) - {"tag"}


@pytest.mark.parametrize("target", sorted({link for link in LINK.findall(TEXT) if not link.startswith("https://")}))
def test_links_lead_to_existing_pages_and_sections(target: str) -> None:
    path, _, anchor = target.partition("#")
    page = PAGE.parent / path if path else PAGE
    assert page.exists()
    assert not anchor or anchor in {slug(heading) for heading in HEADING.findall(page.read_text(encoding="utf-8"))}


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
