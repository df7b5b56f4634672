"""What the page says of a run in words: one sentence on what was seen, and numbers as people read them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from stalewatch.reports import recovery

Result = Mapping[str, Any]


class Words(NamedTuple):
    """How a guarantee is spoken of: the promise, what it looks like broken, and what it looks like kept."""

    promise: str
    broken: str
    kept: str


WORDS: Mapping[str, Words] = {
    "stale_reads": Words(
        "Every read shows at least the newest write that was acknowledged before the read started.",
        "{rate} of the reads were stale ({violated} of {checked}){staleness}",
        "none of {checked} reads was stale",
    ),
    "read_your_writes": Words(
        "A session always sees its own acknowledged writes.",
        "{violated} of {checked} reads ({rate}) missed a write of their own session",
        "every session saw its own writes ({checked} reads)",
    ),
    "monotonic_reads": Words(
        "A session never sees an older version of a key than it has seen before.",
        "{violated} of {checked} reads ({rate}) showed their session something older than it had read before",
        "no session saw a key go back ({checked} reads)",
    ),
    "read_regressions": Words(
        "Once any session has seen a version of a key, no later read of any session shows an older one.",
        "{violated} of {checked} reads ({rate}) took back what somebody had already been shown",
        "no read took back what somebody had been shown ({checked} reads)",
    ),
    "consistent_prefix": Words(
        "Whoever sees a value also sees what its author had read or written before. Only direct dependencies are "
        "followed, so the count is a lower bound.",
        "{violated} of {checked} reads ({rate}) missed what a value read before depends on",
        "every value came with what it depends on ({checked} reads)",
    ),
    "phantom_reads": Words(
        "A read shows only what was really written: nothing from a write that failed or had not started yet.",
        "{violated} of {checked} reads ({rate}) showed something that had not been written",
        "every value read had been written ({checked} reads)",
    ),
    "lost_writes": Words(
        "Every acknowledged write is still there at the end. Exact for lists; for single values a lower bound, since a "
        "newer write hides the loss of an older one.",
        "{violated} of {checked} acknowledged writes ({rate}) were gone at the end",
        "all {checked} acknowledged writes were there at the end",
    ),
    "conflicts": Words(
        "No read shows several versions side by side. Where several nodes take writes, conflicts are a fact and no "
        "broken promise: they never make a run invalid.",
        "{violated} of {checked} reads ({rate}) showed conflicting versions side by side",
        "no read showed conflicting versions ({checked} reads)",
    ),
    "unique_ids": Words(
        "Numbers drawn from a counter never repeat and never fall.",
        "{violated} of {checked} numbers drawn ({rate}) repeated or fell",
        "none of {checked} numbers drawn repeated or fell",
    ),
}

HEADLINES = ("stale_reads", "read_your_writes", "lost_writes")
"""What is worth saying where it was kept, too."""

CAUSES: Mapping[str, str] = {
    "lag": "replication lag",
    "conflict": "conflict: the newer version stood beside the one shown",
    "monotonic_writes": "one author wrote both, the other first",
    "writes_follow_reads": "the author had read the other first",
    "failed": "the write had failed",
    "not_started": "the write started only after the read",
    "never_written": "no such write",
    "duplicate": "the number was drawn twice",
    "smaller": "smaller than a number drawn before",
}

OUTCOMES: Mapping[str, str] = {"ok": "ok", "fail": "failed", "unknown": "unknown"}

LIMITS: Mapping[str, str] = {
    "interrupted": "interrupted before its end",
    "duplicate_items": "{} list items stood twice",
    "phantom_items": "{} list items were never appended, or their append failed",
}

NONE = "—"
"""What stands where there is no figure."""

GLUE = "\u00a0"
"""A space at which no line ends, between a number and its unit."""

PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")
"""Who logs in and with what, in an address: not for a page that is passed around."""

_LEAST_PERCENT, _MOST_PERCENT = 0.001, 99.9


def count(number: float) -> str:
    """Return a whole number with its thousands parted."""
    return f"{number:,.0f}"


def percent(rate: float | None) -> str:
    """Return a rate in percent; a few are never shown as none, nor most as all."""
    if rate is None:
        return ""
    value = rate * 100
    if 0 < value < _LEAST_PERCENT:
        return f"<{_LEAST_PERCENT}{GLUE}%"
    return f">{_MOST_PERCENT}{GLUE}%" if _MOST_PERCENT < value < 100 else f"{value:.3g}{GLUE}%"  # noqa: PLR2004 # a whole


def milliseconds(value: float | None) -> str:
    """Return milliseconds to three digits, without the unit."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"  # noqa: PLR2004 # what rounds to three digits


def span(seconds: float | None) -> str:
    """Return a time in seconds with the unit that suits it."""
    if seconds is None:
        return NONE
    return f"{seconds:,.2f}{GLUE}s" if seconds >= 1 else f"{milliseconds(seconds * 1e3)}{GLUE}ms"


def plain(value: object) -> str:
    """Return an option's value as it would be given."""
    if value is None or value == "":
        return NONE
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return ", ".join(plain(one) for one in value)
    return PASSWORD.sub("***@", f"{value:g}" if isinstance(value, float) else str(value))


def sentence(result: Result) -> str:
    """Return what was seen in a run in a sentence: first which promises were broken, then the most important that held.

    Of a drill another sentence comes first: what was done, and what came of it.
    """
    rows = {name: row for name, row in result["guarantees"].items() if name in WORDS}
    broken = [WORDS[name].broken.format(**_figures(row)) for name, row in rows.items() if row["violated"]]
    holding = {name: row for name, row in rows.items() if row["verdict"] == "holds"}
    headlines = [name for name in HEADLINES if name in holding] or ([] if broken else list(holding))
    kept = [WORDS[name].kept.format(**_figures(rows[name])) for name in headlines]
    told = [recovery.sentence(result)] if result.get("recovery") else []
    told.append("; ".join((*broken, *kept)) or _nothing(result))
    return " ".join(f"{text[0].upper()}{text[1:]}." for text in told)


def _figures(row: Result) -> dict[str, str]:
    return {
        "violated": count(row["violated"]),
        "checked": count(row["checked"]),
        "rate": percent(row["rate"]),
        "staleness": _staleness(row),
    }


def _staleness(row: Result) -> str:
    staleness = row.get("staleness_s") or {}
    if staleness.get("p50") is None:
        return ""
    bound = "at least " if row.get("staleness_at_least") else ""
    return f", half of them by {span(staleness['p50'])} or more and at worst by {bound}{span(staleness['max'])}"


def _nothing(result: Result) -> str:
    operations = result.get("operations") or {}
    done = " and ".join(f"{count(outcomes['ok'])} successful {kind}s" for kind, outcomes in operations.items())
    return f"{done or 'this run'} gave nothing to judge by, so nothing is proved either way"


def facts(result: Result) -> list[str]:
    """Return what else there is to know of a run, each a few words: duration, operations, what limits the verdict."""
    return list(_facts(result))


def _facts(result: Result) -> Iterator[str]:
    if result.get("duration_s") is not None:
        yield span(result["duration_s"])
    for kind, outcomes in (result.get("operations") or {}).items():
        counts = [f"{count(outcomes[one])} {word}" for one, word in OUTCOMES.items() if outcomes[one] or one == "ok"]
        yield f"{kind}s: {', '.join(counts)}"
    for field, words in LIMITS.items():
        if result.get(field):
            yield words.format(result[field])
    if result.get("complete") is False:
        yield "its history is incomplete: judged as far as it goes"


def date(result: Result) -> str | None:
    """Return when a run started, where its name tells."""
    match = re.match(r"\d{14}", str(result.get("run") or ""))
    try:
        return f"{datetime.strptime(match[0], '%Y%m%d%H%M%S'):%Y-%m-%d %H:%M:%S}" if match else None  # noqa: DTZ007
    except ValueError:
        return None


def title(results: Sequence[Result]) -> str:
    """Return the page's heading."""
    databases = list(dict.fromkeys(str(result["database"]) for result in results if result.get("database")))
    if len(results) == 1:
        return " ".join(str(part) for part in (*databases, results[0].get("run") or "") if part) or "one run"
    return f"{len(results)} runs" + (f" of {' and '.join(databases)}" if databases else "")
