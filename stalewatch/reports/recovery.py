"""What a drill measured, in words: one sentence that answers the question people come with, and a line a figure."""

from collections.abc import Iterator, Mapping
from typing import Any

Result = Mapping[str, Any]

DONE_TO = {
    "kill": "{node} died",
    "pause": "{node} stood still",
    "isolate": "{node} was cut off",
    "restart": "{node} was restarted",
    "wipe": "{node} lost its disk",
    "delay": "the link of {node} got long",
    "loss": "the link of {node} lost packets",
    "lag": "{node} fell behind",
    "hints": "{node} kept no hints",
    "link": "the replication link of {node} went down",
}
"""What a fault did to a node, by its name; another one is called by it."""

BROKEN = {
    "stale_reads": "reads were stale",
    "monotonic_reads": "reads went back in time",
    "read_your_writes": "reads missed their own session's writes",
    "unique_ids": "ids came twice or fell",
    "phantom_reads": "reads showed what nobody wrote",
    "conflicts": "reads showed conflicts",
}


def sentence(result: Result) -> str:
    """Return what happened, in one sentence."""
    return "; ".join(
        [", ".join(_faults(result)) or "nothing was broken", *_outages(result), *_lost(result), *_saw(result)]
    )


def _faults(result: Result) -> Iterator[str]:
    first: dict[str, Mapping[str, Any]] = {}
    for fault in result.get("faults") or ():
        first.setdefault(f"{fault['fault']} {fault.get('node')}", fault)
    for fault in first.values():
        name, node = str(fault["fault"]), str(fault.get("node"))
        words = DONE_TO[name].format(node=node) if name in DONE_TO else f"{node}: {name}"
        yield f"{words} at {fault['start_s']:.1f} s" if "start_s" in fault else words


def _outages(result: Result) -> Iterator[str]:
    for kind, found in result["recovery"].items():
        rto_s, sustained_s = found.get("rto_s"), found.get("sustained_rto_s")
        if not found.get("attempts", 1):
            continue
        if rto_s is not None and rto_s < 1 and found.get("degraded_s") == 0:
            yield f"{kind}s went on, with {rto_s:.2f} s between two of them at the most"
        elif rto_s is None:
            yield f"{kind}s did not come back"
        elif sustained_s is None:
            yield f"{kind}s were back after {rto_s:.2f} s, and not for good"
        else:
            yield f"{kind}s were back after {rto_s:.2f} s (sustained {sustained_s:.2f} s)"


def _lost(result: Result) -> Iterator[str]:
    rpo = result.get("rpo") or {}
    lost, span_s, exact = rpo.get("lost_writes"), rpo.get("span_s"), rpo.get("exact")
    if lost is None:
        yield "lost writes were not looked for"
    elif not lost:
        yield "no acknowledged write is gone" + ("" if exact else ", as far as newer ones do not hide it")
    else:
        within = "" if span_s is None else f", all acknowledged within {span_s:.2f} s"
        yield f"{'' if exact else 'at least '}{lost} acknowledged writes are gone{within}"


def _saw(result: Result) -> Iterator[str]:
    for name, words in BROKEN.items():
        violated = result["guarantees"][name]["violated"]
        if violated:
            yield f"{violated} {words}"


def lines(result: Result) -> Iterator[str]:
    """Yield the plain lines of a drill, one figure each; nothing for a run without one."""
    if "recovery" not in result:
        return
    for fault in result["faults"]:
        yield f"fault: {fault['fault']} {fault['node']}, s: {fault['start_s']:.2f} - {_seconds(fault['end_s'])}"
    for kind, found in result["recovery"].items():
        yield f"{kind} rto/sustained s: {_seconds(found['rto_s'])} / {_seconds(found['sustained_rto_s'])}"
        yield f"{kind} seconds below 99 %: {found['degraded_s']}"
    yield f"rpo lost writes: {_rpo(result['rpo'])}"
    if result.get("two_primaries_s"):
        low, high = result["two_primaries_s"]
        yield f"two primaries s: {low:.2f} - {high:.2f}"
    if result.get("probed"):
        yield f"converged s: {_seconds(result['converged_s'])}"
    for phase, seen in result.get("phases", {}).items():
        yield f"{phase}: {_phase(seen)}"
    if result.get("drill_trouble"):
        yield f"the drill was not done to its end: {result['drill_trouble']}"
    yield f"drill: {sentence(result)}"


def _rpo(rpo: Mapping[str, Any]) -> str:
    if rpo["lost_writes"] is None:
        return "n/a (no final reads)"
    bound = "exact" if rpo["exact"] else "a lower bound: newer writes of a key hide older losses"
    span = "" if rpo["span_s"] is None else f", acknowledged within {rpo['span_s']:.3f} s"
    items = f", {rpo['lost_items']} of {rpo['appended']} appended items, exactly" if rpo.get("appended") else ""
    apart = f", {rpo['superseded']} superseded ones apart" if rpo.get("superseded") else ""
    return f"{rpo['lost_writes']}{span}{items}{apart} ({bound})"


def _phase(seen: Mapping[str, Any]) -> str:
    operations = {
        kind: " / ".join(str(count) for count in counts.values()) for kind, counts in seen["operations"].items()
    }
    violations = [f"{count} {name}" for name, count in seen["violations"].items() if count]
    counted = ", ".join(f"{kind}s ok/fail/unknown {counts}" for kind, counts in operations.items())
    return "; ".join((counted, ", ".join(violations) or "no violation"))


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.2f}"
