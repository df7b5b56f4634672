"""What a way to resolve conflicts cost: by the part of a document, how much was lost of what was acknowledged."""

from collections.abc import Mapping
from typing import Any, NamedTuple

PARTS = {
    "register": "register writes",
    "basket": "basket items",
    "count": "increments",
    "fields": "field writes",
}
"""What is lost of each part, in words."""


class Loss(NamedTuple):
    """A row."""

    what: str
    lost: int
    acknowledged: int


def losses(result: Mapping[str, Any]) -> list[Loss]:
    """Return a row a part; none for a run without the conflict workload."""
    return [
        Loss(PARTS.get(part, part), counts["lost"], counts["acknowledged"])
        for part, counts in result.get("losses", {}).items()
    ]


def resolution(result: Mapping[str, Any]) -> str | None:
    """Return how conflicts were resolved, in a few words; None for a run without the conflict workload."""
    told = result.get("resolution")
    return None if told is None else f"{told['strategy']} ({told['merged']} merged, {told['errors']} errors)"
