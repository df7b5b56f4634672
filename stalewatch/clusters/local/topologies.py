"""Who sends changes to whom: the links between leaders, by the name of their pattern."""

from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from typing import NamedTuple


class Link(NamedTuple):
    """One direction: what is written at `source` comes to `target`."""

    source: str
    target: str


def ring(leaders: Sequence[str]) -> set[Link]:
    """Link each leader to the next, and the last to the first: the least there can be, and the longest way."""
    return {Link(source, target) for source, target in zip(leaders, [*leaders[1:], leaders[0]], strict=True)}


def star(leaders: Sequence[str]) -> set[Link]:
    """Link the first leader and every other both ways: all changes go through the first."""
    hub, *others = leaders
    return {link for other in others for link in (Link(hub, other), Link(other, hub))}


def everyone(leaders: Sequence[str]) -> set[Link]:
    """Link every leader to every other: no detours, and no link whose loss parts them."""
    return {Link(source, target) for source, target in permutations(leaders, 2)}


TOPOLOGIES: Mapping[str, Callable[[Sequence[str]], set[Link]]] = {"ring": ring, "star": star, "all": everyone}
