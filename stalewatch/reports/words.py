"""A run in words: what was seen, what a drill did, and numbers with their units."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from stalewatch.checkers.verdict import Violation
from stalewatch.clients.errors import without_credentials
from stalewatch.history.operation import Append, Draw, Fault, Final, Operation, Read, Write

Result = Mapping[str, Any]


class GuaranteeWords(NamedTuple):
    """What a guarantee promises, and how a sentence describes it when it was violated and when it held."""

    promise: str
    violated: str
    held: str


GUARANTEE_WORDS: Mapping[str, GuaranteeWords] = {
    "stale_reads": GuaranteeWords(
        "Every read returns at least the newest write that was acknowledged before the read started.",
        "{rate} of the reads were stale ({violated} of {checked}){staleness}",
        "none of {checked} reads was stale",
    ),
    "read_your_writes": GuaranteeWords(
        "A session always sees its own acknowledged writes.",
        "{violated} of {checked} reads ({rate}) missed a write of their own session",
        "every session saw its own writes ({checked} reads)",
    ),
    "monotonic_reads": GuaranteeWords(
        "Once a session has read a version of a key, it never reads an older one.",
        "{violated} of {checked} reads ({rate}) returned an older version than their session had already read",
        "no session went back to an older version ({checked} reads)",
    ),
    "read_regressions": GuaranteeWords(
        "Once any session has read a version of a key, no later read by any session returns an older one.",
        "{violated} of {checked} reads ({rate}) returned an older version than an earlier read of any session",
        "no read returned an older version than an earlier read of any session ({checked} reads)",
    ),
    "consistent_prefix": GuaranteeWords(
        "A session that sees a value also sees what its author had read or written before. Only direct dependencies "
        "are followed, so the count is a lower bound.",
        "{violated} of {checked} reads ({rate}) missed a write that a value read earlier depends on",
        "no read missed a write that a value read earlier depends on ({checked} reads)",
    ),
    "phantom_reads": GuaranteeWords(
        "A read returns only what was really written: nothing from a write that failed or had not started yet.",
        "{violated} of {checked} reads ({rate}) returned something that had not been written",
        "every value read had been written ({checked} reads)",
    ),
    "lost_writes": GuaranteeWords(
        "Every acknowledged write is still there at the end. Exact for lists; a lower bound for single values, because "
        "a newer write hides the loss of an older one.",
        "{violated} of {checked} acknowledged writes ({rate}) were lost",
        "none of {checked} acknowledged writes was lost",
    ),
    "conflicts": GuaranteeWords(
        "No read returns several concurrent versions. If several nodes take writes, conflicts are a fact and not a "
        "broken promise: they never make a run invalid.",
        "{violated} of {checked} reads ({rate}) returned conflicting versions",
        "no read returned conflicting versions ({checked} reads)",
    ),
    "unexpected_items": GuaranteeWords(
        "A list shows each item once at the end, and only items that were appended.",
        "{violated} of {checked} list items ({rate}) appeared more than once or were never appended",
        "all {checked} list items were appended, and appear once",
    ),
    "unique_ids": GuaranteeWords(
        "Ids drawn from a counter never repeat and never decrease.",
        "{violated} of {checked} ids drawn ({rate}) repeated or decreased",
        "none of {checked} ids drawn repeated or decreased",
    ),
}

LOWER_BOUND = GuaranteeWords(
    GUARANTEE_WORDS["lost_writes"].promise,
    "at least {violated} of {checked} acknowledged writes ({rate}) were lost",
    "no loss showed among {checked} acknowledged writes, though a newer write hides the loss of an older one",
)
"""What lost_writes proves of registers: only that each holds something at least as new as its newest write."""

HEADLINES = ("stale_reads", "read_your_writes", "lost_writes")
"""Guarantees worth mentioning even if they held."""

FAULT_WORDS = {
    "kill": "{node} was killed",
    "pause": "{node} was paused",
    "isolate": "{node} was isolated",
    "restart": "{node} was restarted",
    "wipe": "{node} lost its disk",
    "delay": "the network link of {node} was delayed",
    "loss": "the network link of {node} lost packets",
    "lag": "replication to {node} was delayed",
    "stall": "{node} stopped applying writes",
    "hints": "{node} stopped storing hints",
    "link": "the replication link of {node} was down",
}

DRILL_VIOLATIONS = {
    "stale_reads": "stale reads",
    "monotonic_reads": "reads that went back in time",
    "read_your_writes": "reads that missed their session's own writes",
    "unique_ids": "ids that repeated or decreased",
    "phantom_reads": "reads of values that nobody wrote",
    "unexpected_items": "list items that were repeated or never appended",
    "conflicts": "reads with conflicts",
}

LIMITS: Mapping[str, str] = {
    "ended_early": "ended early: {}",
    "interrupted": "interrupted before the end",
    "duplicate_items": "{} list items appeared more than once",
    "phantom_items": "{} list items were never appended, or their append failed",
}

DATABASES = {
    "mongo": "MongoDB",
    "cassandra": "Cassandra",
    "couch": "CouchDB",
    "memory": "Simulated store",
    "own": "Own operations",
}

NO_VALUE = "—"

NBSP = "\u00a0"
"""Keeps a number and its unit on one line."""

_MIN_PERCENT, _MAX_PERCENT = 0.001, 99.9


def count(number: float) -> str:
    """Return a whole number with thousands separators."""
    return f"{number:,.0f}"


def percent(rate: float | None) -> str:
    """Return a rate as a percentage; a small rate never shows as 0 %, nor one just below 1 as 100 %."""
    if rate is None:
        return ""
    value = rate * 100
    if 0 < value < _MIN_PERCENT:
        return f"<{_MIN_PERCENT}{NBSP}%"
    return f">{_MAX_PERCENT}{NBSP}%" if _MAX_PERCENT < value < 100 else f"{value:.3g}{NBSP}%"  # noqa: PLR2004 # all


def milliseconds(value: float | None) -> str:
    """Return milliseconds with three significant digits and without the unit."""
    if value is None:
        return NO_VALUE
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"  # noqa: PLR2004 # rounds to three digits


def span(seconds: float | None) -> str:
    """Return a duration in seconds or milliseconds, with the unit."""
    if seconds is None:
        return NO_VALUE
    return f"{seconds:,.2f}{NBSP}s" if seconds >= 1 else f"{milliseconds(seconds * 1e3)}{NBSP}ms"


def plain(value: object) -> str:
    """Return an option's value as the user would type it."""
    if value is None or value == "":
        return NO_VALUE
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return ", ".join(plain(one) for one in value)
    return without_credentials(f"{value:g}" if isinstance(value, float) else str(value))


def run_sentence(result: Result) -> str:
    """Return what was seen in a run: first the violated guarantees, then the most important ones that held.

    For a drill, a sentence about the faults and the recovery comes first.
    """
    rows = {name: row for name, row in result["guarantees"].items() if name in GUARANTEE_WORDS}
    words = guarantee_words(result)
    violated = [words[name].violated.format(**_figures(row)) for name, row in rows.items() if row["violated"]]
    holding = [name for name, row in rows.items() if row["verdict"] == "holds"]
    headlines = [name for name in HEADLINES if name in holding] or ([] if violated else holding)
    held = [words[name].held.format(**_figures(rows[name])) for name in headlines]
    seen = "; ".join((*violated, *held)) or _no_evidence(result)
    drill = [f"{drill_sentence(result)}."] if result.get("recovery") else []  # begins with a node's name: no capital
    return " ".join((*drill, f"{seen[0].upper()}{seen[1:]}."))


def guarantee_words(result: Result) -> Mapping[str, GuaranteeWords]:
    """Return the words for each guarantee; unless the result says otherwise, losses are a lower bound."""
    return GUARANTEE_WORDS if result.get("lost_writes_exact") else {**GUARANTEE_WORDS, "lost_writes": LOWER_BOUND}


def guarantee_sentence(name: str, result: Result) -> str:
    """Return what was seen of a guarantee for which something was checked."""
    row, words = result["guarantees"][name], guarantee_words(result)[name]
    return (words.violated if row["violated"] else words.held).format(**_figures(row))


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


def _no_evidence(result: Result) -> str:
    operations = result.get("operations") or {}
    done = " and ".join(f"{count(outcomes['ok'])} successful {kind}s" for kind, outcomes in operations.items())
    return f"{done or 'this run'} left nothing to judge, so nothing is proved either way"


def drill_sentence(result: Result) -> str:
    """Return what a drill did and what came of it."""
    faults = ", ".join(fault_words(result)) or "no fault was injected"
    apart = result.get("probed") and result.get("convergence_wait_s") is not None and result["converged_s"] is None
    agreed = [f"the replicas did not agree: {converged(result)}"] if apart else []
    return "; ".join([faults, *_outages(result), *agreed, _lost(result.get("rpo") or {}), *_violations(result)])


def fault_words(result: Result) -> Iterator[str]:
    """Yield the first fault of each kind at each node; nodes that were hit at the same time are named together."""
    first: dict[tuple[str, str], Result] = {}
    for fault in result.get("faults") or ():
        first.setdefault((str(fault["fault"]), str(fault.get("node"))), fault)
    together: dict[tuple[str, str], list[str]] = {}
    for (name, node), fault in first.items():
        moment = f" at {fault['start_s']:.1f} s" if "start_s" in fault else ""
        together.setdefault((name, moment), []).append(node)
    for (name, moment), nodes in together.items():
        *others, last = nodes
        subject = f"each of {', '.join(others)} and {last}" if others else last
        words = FAULT_WORDS[name].format(node=subject) if name in FAULT_WORDS else f"{subject}: {name}"
        yield f"{words}{moment}"


def _outages(result: Result) -> Iterator[str]:
    for kind, found in result["recovery"].items():
        rto_s, sustained_s = found.get("rto_s"), found.get("sustained_rto_s")
        if not found.get("attempts", 1):
            continue
        known = found.get("sustained_known", True)
        if rto_s is not None and rto_s < 1 and found.get("degraded_s") == 0:
            yield f"{kind}s continued, at most {rto_s:.2f} s apart"
        elif rto_s is None:
            yield f"{kind}s did not recover" if known else f"too few {kind}s succeeded to measure an outage"
        elif sustained_s is None:
            ending = "did not recover for good" if known else "the load ended too early to tell whether for good"
            yield f"{kind}s resumed after {rto_s:.2f} s, but {ending}"
        else:
            reliably = "" if sustained_s == rto_s else f", for good after {sustained_s:.2f} s"
            yield f"{kind}s recovered after {rto_s:.2f} s{reliably}"


def unread_keys(result: Result) -> str:
    """Return how many written keys could not be read finally, and why."""
    keys = result["unread_keys"]
    return f"final reads of {count(keys)} {'key' if keys == 1 else 'keys'} failed ({why_unread(result)})"


def why_unread(result: Result) -> str:
    """Return why a final read failed, or that they were cut short."""
    return str(result.get("unread_error") or "interrupted")


def converged(result: Result) -> str:
    """Return after how many seconds all replicas agreed, or how long that was awaited."""
    if result["converged_s"] is not None:
        return f"{result['converged_s']:.2f}"
    waited_s = result.get("convergence_wait_s")
    return "unknown" if waited_s is None else f"not within {waited_s:.0f} s after the load"


def recovery_time(found: Result, figure: str) -> str:
    """Return a recovery time of one kind of operation, in seconds, or why there is none."""
    if found.get(figure) is not None:
        return f"{found[figure]:.2f}"
    if not found.get("attempts", 1):
        return "none attempted"
    if found.get("sustained_known", True):
        return "never"
    return "too few succeeded to tell" if found.get("rto_s") is None else "the load ended too early to tell"


def _lost(rpo: Result) -> str:
    lost, span_s, exact = rpo.get("lost_writes"), rpo.get("span_s"), rpo.get("exact")
    if lost is None:
        return "lost writes were not checked"
    if not lost:
        return "no acknowledged write was lost" + ("" if exact else ", unless a newer write hides it")
    within = "" if span_s is None or lost == 1 else f", all acknowledged within {span_s:.2f} s"
    writes = "acknowledged write was" if lost == 1 else "acknowledged writes were"
    return f"{'' if exact else 'at least '}{lost} {writes} lost{within}"


def _violations(result: Result) -> Iterator[str]:
    for name, words in DRILL_VIOLATIONS.items():
        if violated := result["guarantees"].get(name, {}).get("violated"):
            yield f"{words}: {violated}"


def facts(result: Result) -> Iterator[str]:
    """Yield further facts about a run, a few words each: duration, operations, what limits the verdict."""
    if result.get("duration_s") is not None:
        yield span(result["duration_s"])
    for kind, outcomes in (result.get("operations") or {}).items():
        words = {"ok": "ok", "fail": "failed", "unknown": "unknown"}
        counts = [f"{count(outcomes[one])} {word}" for one, word in words.items() if outcomes[one] or one == "ok"]
        yield f"{kind}s: {', '.join(counts)}"
    for field, text in LIMITS.items():
        if result.get(field):
            yield text.format(result[field])
    if result.get("complete") is False:
        yield "the history is incomplete: only what is there was judged"


def date(result: Result) -> str | None:
    """Return when a run started, if its id says so."""
    match = re.match(r"\d{14}", str(result.get("run") or ""))
    try:
        return f"{datetime.strptime(match[0], '%Y%m%d%H%M%S'):%Y-%m-%d %H:%M:%S}" if match else None  # noqa: DTZ007
    except ValueError:
        return None


def title(results: Sequence[Result], labels: Sequence[str]) -> str:
    """Return the page's heading: what was tested and how, never a run's id."""
    every = dict.fromkeys(name for result in results for name in str(result.get("database") or "").split(",") if name)
    databases = [DATABASES.get(name, name) for name in every]
    drills = list(dict.fromkeys(str(result["drill"]) for result in results if result.get("drill")))
    of = " and ".join(databases) or "A history"
    drill = f", {' and '.join(drills)}" if drills else ""
    if len(results) > 1:
        return f"{len(results)} runs: {of}{drill}"
    return f"{of}{drill}" + (f", {labels[0]}" if results[0].get("options") else "")


def proof_words(violation: Violation) -> str:
    """Return the operations that prove a violation, with times in ms since the start of the first."""
    start = min(operation.start for operation in violation.operations)
    return "; ".join(_operation_words(operation, start) for operation in violation.operations)


def _operation_words(operation: Operation, start: int) -> str:
    end = "..." if operation.end is None else f"{(operation.end - start) / 1e6:.1f}"
    place = f" at {operation.node}" if operation.node else ""
    outcome = "" if isinstance(operation, Fault) or operation.outcome == "ok" else f" ({operation.outcome})"
    return f"{_predicate(operation)}{outcome} [{(operation.start - start) / 1e6:.1f}, {end}]{place}"


def _predicate(operation: Operation) -> str:
    match operation:
        case Write():
            return f"{operation.session} wrote {operation.version} to {operation.key}"
        case Read():
            return f"{operation.session} read {operation.version} from {operation.key}"
        case Append():
            return f"{operation.session} appended {operation.item} to {operation.key}"
        case Draw():
            return f"{operation.session} drew {operation.value} from {operation.key}"
        case Final():
            return f"{operation.key} finally held {operation.version if operation.items is None else 'other items'}"
        case Fault():
            return operation.fault
