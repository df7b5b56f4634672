"""docs/options.md is up to date."""

from pathlib import Path

from stalewatch.commands import reference

PAGE = Path(__file__).parents[2] / "docs" / "options.md"


def test_the_page_of_options_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference.page(), "run `make reference`"
