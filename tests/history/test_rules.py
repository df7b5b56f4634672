"""Invalid history files are rejected with file and line, and the nearest valid ones are accepted."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stalewatch.commands.main import main
from stalewatch.history.reader import BadHistory, History
from stalewatch.history.rules import FileRules, InvalidRecord
from tests.history.examples import examples
from tests.history.lines import CLOSE, ENDINGS, as_operations, file_of, header, operations_of, read, write
from tests.history.rejections import REJECTIONS, Rejection

BAD_INPUT = 64

every_rejection = pytest.mark.parametrize("case", REJECTIONS, ids=lambda case: case.rule)


def bad(*paths: Path) -> str:
    """Return the message that rejects the files."""
    with pytest.raises(BadHistory) as caught:
        operations_of(*paths)
    return str(caught.value)


@every_rejection
def test_an_invalid_file_is_rejected_with_file_and_line(
    case: Rejection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file_of(tmp_path, *case.invalid)
    message = bad(path)
    assert message.startswith(f"{path}:{case.at}: ")
    assert case.message in message
    assert main(["check", str(path), "--json"]) == BAD_INPUT
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", f"stalewatch check: {message}\n")


@every_rejection
def test_its_nearest_valid_twin_is_accepted(
    case: Rejection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file_of(tmp_path, *case.valid)
    operations = operations_of(path)
    assert sorted(map(repr, operations)) == sorted(map(repr, as_operations(case.valid[1:])))
    assert main(["check", str(path), "--json"]) in {0, 1, 2}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("suffix", ENDINGS)
def test_the_line_number_is_right_with_every_suffix_and_far_into_the_file(suffix: str, tmp_path: Path) -> None:
    writes = [write(number, number, number) for number in range(1, 5001)]
    path = file_of(tmp_path, header(), *writes, write(9, 5001, 5001), *writes, name=f"history{suffix}")
    assert bad(path) == f"{path}:5002: version 9 of key 'k' is written twice"


def test_windows_line_endings_are_accepted(tmp_path: Path) -> None:
    path = file_of(tmp_path, header(), write(1, 1, 2), CLOSE)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert History([path]).complete
    assert operations_of(path) == as_operations([write(1, 1, 2)])


# A session that overlaps itself, compared with all pairs.

STEPS = st.tuples(
    st.sampled_from(["s1", "s1", "s2"]),
    st.integers(0, 6),
    st.integers(0, 2) | st.integers(0, 6),
    st.sampled_from(["ok", "ok", "ok", "fail", "unknown"]),
)


def overlapping(one: dict[str, Any], other: dict[str, Any]) -> bool:
    if one["session"] != other["session"] or "unknown" in {one["outcome"], other["outcome"]}:
        return False
    return bool(one["start"] < other["end"] and other["start"] < one["end"])


def first_rejected(lines: list[dict[str, Any]]) -> int | None:
    rules = FileRules({})
    for place, operation in enumerate(as_operations(lines)):
        try:
            rules.check(operation)
        except InvalidRecord:
            return place
    return None


@examples(400)
@given(st.lists(STEPS, max_size=7))
def test_a_file_is_rejected_at_the_first_line_that_overlaps_an_earlier_one(
    steps: list[tuple[str, int, int, str]],
) -> None:
    reads = [read(0, start, start + length, session=who, outcome=how) for who, start, length, how in steps]
    reads.sort(key=lambda line: line["end"])
    overlaps = (place for place, one in enumerate(reads) if any(overlapping(one, other) for other in reads[:place]))
    assert first_rejected(reads) == next(overlaps, None)
