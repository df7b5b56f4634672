"""What the runs on a page are called: by the levels at which they wrote and read, and by what else sets them apart."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stalewatch.reports.page_words import plain

Options = Mapping[str, Any]

LONGEST = 24
"""Characters of a value that still make a name."""

NEVER_TOLD = frozenset({"driver", "seed"})


def labels(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a different label for every run, such as ``w=1 / secondary``."""
    found = [_levels(result) for result in results]
    if len({result.get("database") for result in results}) > 1:
        found = [f"{result.get('database')}: {label}" for result, label in zip(results, found, strict=True)]
    for distinction in (_other_options, _runs, _numbers):
        found = _told_apart(found, results, distinction)
    return found


def _told_apart(
    found: Sequence[str],
    results: Sequence[Mapping[str, Any]],
    distinction: Callable[[Sequence[Mapping[str, Any]]], list[str]],
) -> list[str]:
    """Return the labels, those that stand more than once with what sets their runs apart."""
    told = list(found)
    for label in (label for label, times in Counter(found).items() if times > 1):
        places = [place for place, other in enumerate(found) if other == label]
        extras = distinction([results[place] for place in places])
        for place, extra in zip(places, extras, strict=True):
            told[place] = f"{label}, {extra}" if extra else label
    return told


def _other_options(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the first few options that differ, no more than tell the runs apart."""
    every = [
        {name: plain(value) for name, value in (result.get("options") or {}).items() if name not in NEVER_TOLD}
        for result in results
    ]
    extras = [""] * len(every)
    for name in dict.fromkeys(name for one in every for name in one):
        values = [one.get(name, plain(None)) for one in every]
        if len(set(values)) > 1 and max(map(len, values)) <= LONGEST and len(set(extras)) < len(extras):
            extras = [f"{extra}, {name}={value}" for extra, value in zip(extras, values, strict=True)]
    return [extra.removeprefix(", ") for extra in extras]


def _runs(results: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(result.get("run") or "") for result in results]


def _numbers(results: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"no. {number}" for number, _ in enumerate(results, 1)]


def _levels(result: Mapping[str, Any]) -> str:
    options = result.get("options") or {}
    driver = options.get("driver") or {}
    known = LEVELS.get(str(result.get("database")))
    if known is None or not options:
        return str(result.get("run") or result.get("database") or "run")
    strategy = options.get("read_strategy")
    return known(options, driver) + (f", {strategy}" if strategy not in (None, "plain") else "")


def _mongo(options: Options, driver: Options) -> str:
    """Return the levels in force; where no option was given, what the driver made of the URI."""
    write = options.get("write_concern") or (driver.get("write_concern") or {}).get("w", 1)
    read = options.get("read_from") or driver.get("read_from") or "primary"
    concern = options.get("read_concern") or driver.get("read_concern")
    return f"w={write} / {read}" + (f", {concern}" if concern else "")


def _cassandra(options: Options, _driver: Options) -> str:
    return f"{options.get('write_cl')} / {options.get('read_cl')}"


def _couch(options: Options, _driver: Options) -> str:
    return f"write {options.get('write_to')} / read {options.get('read_from')}"


def _memory(options: Options, driver: Options) -> str:
    topology, acks = options.get("topology"), options.get("write_acks")
    reads, writes = (driver.get(f"{place}_at") or options.get(option) for place, option in _PLACES)
    if topology == "quorum":
        return f"quorum: w={acks} / r={options.get('read_acks')}"
    if topology == "multi-leader":
        return f"multi-leader: write {writes} / read {reads}"
    return f"{topology}: w={acks} / {reads}"


_PLACES = (("reads", "read_from"), ("writes", "write_to"))

LEVELS: Mapping[str, Callable[[Options, Options], str]] = {
    "mongo": _mongo,
    "cassandra": _cassandra,
    "couch": _couch,
    "memory": _memory,
}
