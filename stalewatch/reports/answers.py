"""What a page says first: the verdict in one sentence, then what a colleague asks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from stalewatch.reports import lines
from stalewatch.reports.repeats import ms, per_second
from stalewatch.reports.words import (
    converged,
    count,
    fault_words,
    percent,
    recovery_time,
    span,
    unread_keys,
)

Result = Mapping[str, Any]

BROKEN: Mapping[str, tuple[str, str]] = {
    "lost_writes": ("{n} acknowledged write was lost", "{n} acknowledged writes were lost"),
    "read_your_writes": ("{n} read missed a write of its own session", "{n} reads missed a write of their own session"),
    "stale_reads": ("{rate} of the reads were stale", "{rate} of the reads were stale"),
    "monotonic_reads": ("{n} read went back in time", "{n} reads went back in time"),
    "unique_ids": ("{n} id repeated or decreased", "{n} ids repeated or decreased"),
    "phantom_reads": ("{n} read showed what nobody had written", "{n} reads showed what nobody had written"),
    "unexpected_items": ("{n} list item was wrong", "{n} list items were wrong"),
    "read_regressions": ("{n} read was older than an earlier one", "{n} reads were older than an earlier one"),
    "consistent_prefix": ("{n} read missed a cause of what was seen", "{n} reads missed a cause of what was seen"),
}
"""By guarantee, the gravest first: what happened once, and more often."""

HELD = {
    "lost_writes": "no acknowledged write was lost",
    "read_your_writes": "no session missed its own writes",
    "stale_reads": "no read was stale",
}

MOST_BROKEN = 3


def verdict_sentence(result: Result) -> str:
    """Return in one sentence whether the promises were kept; of a drill also what was broken."""
    fault = f"{' and '.join(fault_words(result))}: " if result.get("recovery") and result.get("faults") else ""
    found = [*_outage(result), *_broken(result)]
    if result["verdict"] == "invalid":
        return _sentence(fault, _joined(found))
    held = [words for name, words in HELD.items() if result["guarantees"][name]["verdict"] == "holds"]
    if result["verdict"] == "valid":
        kept = _joined([*_outage(result), *held] or ["what could be checked held"])
        return _sentence(fault, kept)
    return _sentence(fault, f"nothing is proved: {_why_unknown(result)}")


def _sentence(fault: str, text: str) -> str:
    """Return a sentence; that of a drill begins with the name of a node, which stays as it is."""
    return f"{fault}{text}." if fault else f"{_capital(text)}."


def _outage(result: Result) -> Iterator[str]:
    times = (result.get("recovery") or {}).get("write") or {}
    rto_s = times.get("rto_s")
    if rto_s is not None and (rto_s >= 1 or times.get("degraded_s")):
        yield f"nobody could write for {span(rto_s)}"
    elif rto_s is None and times.get("attempts") and times.get("sustained_known", True):
        yield "writes never recovered"


def _broken(result: Result) -> Iterator[str]:
    rows = {name: result["guarantees"].get(name) for name in BROKEN}
    names = [name for name, row in rows.items() if row and row["violated"]]
    for name in names[:MOST_BROKEN]:
        row = result["guarantees"][name]
        words = BROKEN[name][row["violated"] != 1].format(n=count(row["violated"]), rate=percent(row["rate"]))
        bound = "at least " if name == "lost_writes" and not result.get("lost_writes_exact") else ""
        yield bound + words
    more = len(names) - MOST_BROKEN
    if more > 0:
        yield f"{more} more {'promise was' if more == 1 else 'promises were'} broken"


def _why_unknown(result: Result) -> str:
    if result.get("ended_early"):
        return f"the run ended early ({result['ended_early']})"
    if result.get("interrupted"):
        return "the run was interrupted, and no final reads were made"
    if result.get("complete") is False:
        return "part of the history is missing"
    if result.get("unread_keys"):
        return unread_keys(result)
    return "nothing could be checked"


def _joined(words: Sequence[str]) -> str:
    *others, last = words
    return f"{', '.join(others)}{',' if len(others) > 1 else ''} and {last}" if others else last


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def overview(results: Sequence[Result]) -> str:
    """Return in one sentence how many of the runs kept all promises."""
    if len(results) == 1:
        return verdict_sentence(results[0])
    broken = sum(result["verdict"] == "invalid" for result in results)
    unknown = sum(result["verdict"] not in {"invalid", "valid"} for result in results)
    parts = [f"{broken or 'none'} of {len(results)} runs broke a promise"]
    if unknown:
        parts.append(f"{unknown} {'proves' if unknown == 1 else 'prove'} nothing")
    return f"{_capital(_joined(parts))}."


def answers(result: Result) -> list[tuple[str, str]]:
    """Return the questions of a colleague, in their order, with a run's answers."""
    return [(question, _capital(answer(result))) for question, answer in QUESTIONS.items()]


def _could_not_write(result: Result) -> str:
    times = (result.get("recovery") or {}).get("write")
    if times is None:
        return _longest_silence(result)
    if not times.get("attempts", 1):
        return "no write was attempted"
    if times.get("rto_s") is None:
        return "they never recovered" if times.get("sustained_known", True) else "too few writes succeeded to tell"
    if times["rto_s"] < 1 and not times.get("degraded_s"):
        return f"never: writes were at most {span(times['rto_s'])} apart"
    sustained = times.get("sustained_rto_s")
    if sustained == times["rto_s"]:
        return span(times["rto_s"])
    for_good = recovery_time(times, "sustained_rto_s") if sustained is None else span(sustained)
    return f"{span(times['rto_s'])}; until they worked for good: {for_good}"


def _longest_silence(result: Result) -> str:
    seconds = result.get("timeline") or ()
    writes = [bool(second.get("write_ok")) for second in seconds]
    if not any(writes):
        return "no write succeeded" if any("write" in name for row in seconds for name in row) else "not measured"
    silence_s = max((len(list(run)) for succeeded, run in groupby(writes) if not succeeded), default=0)
    return f"for {silence_s} s without a successful write" if silence_s else "never for a whole second"


def _was_lost(result: Result) -> str:
    parts = list(_lost_of(result))
    parts += [f"{count(lost)} of {count(of)} {what} in conflict resolution" for what, lost, of in lines.losses(result)]
    return "; ".join(parts)


def _lost_of(result: Result) -> Iterator[str]:
    """Yield what is known about lost writes; a drill counts those that had been superseded apart."""
    row, rpo, exact = result["guarantees"]["lost_writes"], result.get("rpo") or {}, result.get("lost_writes_exact")
    if not row["checked"] or ("lost_writes" in rpo and rpo["lost_writes"] is None):
        yield "not checked: the final reads failed or were not made"
        return
    lost = rpo.get("lost_writes", row["violated"])
    bound = "" if exact else "at least "
    if lost:
        yield f"{bound}{count(lost)} of {count(row['checked'])} acknowledged writes"
        if rpo.get("span_s"):
            yield f"acknowledged within {span(rpo['span_s'])}"
    else:
        hidden = "" if exact else ", unless a newer write hides it"
        yield f"none of {count(row['checked'])} acknowledged writes{hidden}"
    if rpo.get("superseded"):
        yield f"{count(rpo['superseded'])} that a newer write had superseded"


def _was_old(result: Result) -> str:
    row = result["guarantees"]["stale_reads"]
    if not row["checked"]:
        return "no read could be checked"
    if not row["violated"]:
        return f"none of {count(row['checked'])} reads was stale"
    times = row.get("staleness_s") or {}
    share = f"{percent(row['rate'])} were stale ({count(row['violated'])} of {count(row['checked'])})"
    if times.get("p50") is None:
        return share
    bound = "at least " if row.get("staleness_at_least") else ""
    return f"{share}: half of these by {span(times['p50'])} or less, the worst by {bound}{span(times['max'])}"


def _is_fresh(result: Result) -> str:
    row = result["guarantees"]["stale_reads"]
    after = row.get("fresh_after_s") or {}
    if not row["checked"] or not after:
        return "not measured"
    if len(set(after.values())) == 1 and not any(after.values()):
        return "at once" if None not in after.values() else "not shown: too many were stale, or too few reads"
    return ", ".join(
        f"{name} % {'not shown' if age is None else 'at once' if age == 0 else f'after {span(age)}'}"
        for name, age in after.items()
    )


def _costs(result: Result) -> str:
    parts = []
    per_s = per_second(result)
    if per_s is not None:
        parts.append(f"{count(per_s)} operations/s")
    for kind, times in (result.get("latency") or {}).items():
        found = times["service_ms"]
        if found.get("p50") is not None:
            parts.append(f"{kind}s p50 {ms(found['p50'])}, p99 {ms(found['p99'])}")
    failed = sum(row["fail"] + row["unknown"] for row in (result.get("operations") or {}).values())
    if failed:
        parts.append(f"{count(failed)} operations failed or are unknown")
    return "; ".join(parts) or "not measured"


QUESTIONS: Mapping[str, Callable[[Result], str]] = {
    "How long could nobody write?": _could_not_write,
    "What was lost?": _was_lost,
    "How old were reads?": _was_old,
    "How long after a write are reads fresh?": _is_fresh,
    "What did it cost?": _costs,
}


def recovery(result: Result) -> list[tuple[str, str]]:
    """Return what a drill measured besides the answers; nothing for a run without faults."""
    return list(_recovery_rows(result)) if "recovery" in result else []


def _recovery_rows(result: Result) -> Iterator[tuple[str, str]]:
    for fault in result.get("faults") or ():
        words = " ".join(str(fault[name]) for name in ("fault", "node") if fault.get(name))
        times = f", {fault['start_s']:.2f} s to {_end(fault['end_s'])}" if "start_s" in fault else ""
        yield "fault", words + times
    for kind, times in result["recovery"].items():
        yield f"longest time without a successful {kind}", _recovery_time(times, "rto_s")
        yield f"until {kind}s worked reliably again", _recovery_time(times, "sustained_rto_s")
        yield f"seconds in which less than 99 % of the {kind}s succeeded", count(times.get("degraded_s") or 0)
    if result.get("rpo"):
        yield "acknowledged writes lost", _lost_words(result["rpo"])
    if result.get("two_primaries_s"):
        low_s, high_s = result["two_primaries_s"]
        yield "time with two primaries", f"{span(low_s)} to {span(high_s)}" if high_s else "none seen"
    if result.get("converged_s") is not None or result.get("probed"):
        agreed_s = result["converged_s"]
        yield "from the heal until all replicas agreed", converged(result) if agreed_s is None else span(agreed_s)


def _end(end_s: float | None) -> str:
    return "the end" if end_s is None else f"{end_s:.2f} s"


def _recovery_time(times: Result, figure: str) -> str:
    return recovery_time(times, figure) if times.get(figure) is None else span(times[figure])


def _lost_words(rpo: Result) -> str:
    lost = rpo.get("lost_writes")
    if lost is None:
        return "unknown: the final reads failed or were not made"
    if not lost:
        return "0" if rpo.get("exact") else "none showed, though newer writes may hide some"
    within = "" if rpo.get("span_s") is None or lost == 1 else f", acknowledged within {span(rpo['span_s'])}"
    return f"{'' if rpo.get('exact') else 'at least '}{count(lost)}{within}"
