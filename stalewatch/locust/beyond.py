"""What workloads know beyond the guarantees, added up over the parts and the workers of a run."""

from collections.abc import Iterable, Mapping
from typing import Any


def summed(results: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one result: numbers added, what is nested likewise, lists of words together, and of words the first."""
    total: dict[str, Any] = {}
    for result in results:
        for name, value in result.items():
            total[name] = _sum(total[name], value) if name in total else value
    return total


def _sum(one: Any, other: Any) -> Any:  # noqa: ANN401 # whatever a workload knows
    if isinstance(one, Mapping):
        return summed((one, other))
    if isinstance(one, list):
        return sorted({*one, *other})
    return one + other if isinstance(one, int | float) else one
