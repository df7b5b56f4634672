"""Decoding of JSON results: what the table and the page rely on, as types, so that a damaged file is refused whole.

Only what is shown is described; other fields are ignored. This module needs msgspec, which the bare bench runs without.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from stalewatch.checkers.judge import GUARANTEES

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Number = Annotated[float, Meta(ge=-1e18, le=1e18)]
Rate = Annotated[float, Meta(ge=0, le=1)]
Scalar = bool | Integer | Number | str | None
_Values = Scalar | list[Scalar]
_DriverValues = dict[str, _Values | dict[str, _Values | dict[str, _Values]]]  # by database, if there are several
Option = Scalar | list[Scalar | list[Scalar]] | _DriverValues


NO_DATABASE = "missing required field `database`"
"""How msgspec refuses the result of a check."""


class BadResult(Exception):
    """A file that holds no JSON result of a run; the message says what is wrong and where."""


class _Depends(msgspec.Struct):
    key: str
    version: Integer


class _Operation(msgspec.Struct):
    op: str
    key: str
    start: Integer
    end: Integer | None
    session: str = ""
    outcome: str = "ok"
    version: Integer | None = None
    item: str | Integer | None = None
    value: Integer | None = None
    siblings: list[Integer] | None = None
    items: list[str | Integer] | None = None
    items_left_out: Count = 0
    node: str | None = None
    error: str | None = None
    depends: _Depends | None = None


class _Witness(msgspec.Struct):
    operations: Annotated[list[_Operation], Meta(min_length=1)]
    cause: str | None = None
    staleness_s: Number | None = None


class _Guarantee(msgspec.Struct):
    verdict: Literal["holds", "violated", "no_evidence", "not_applicable"]
    checked: Count
    violated: Count
    rate: Rate | None
    interval: tuple[Rate, Rate] | None
    witnesses: list[_Witness]
    causes: dict[str, Count] | None = None

    def __post_init__(self) -> None:
        if (self.rate is None, self.interval is None) != (self.checked == 0, self.checked == 0):
            raise ValueError("Expected `rate` and `interval` to be null if nothing was checked, and only then")


class _Staleness(msgspec.Struct):
    p50: Number | None
    p95: Number | None
    p99: Number | None
    max: Number | None


class _AgeBucket(msgspec.Struct):
    from_s: Number
    to_s: Number | None
    checked: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    stale: Count

    def __post_init__(self) -> None:
        if self.stale > self.checked:
            raise ValueError("Expected `stale` to be at most `checked`")


class _StaleReads(_Guarantee, kw_only=True):
    staleness_s: _Staleness
    staleness_at_least: Count = 0
    freshness: list[_AgeBucket] = []
    fresh_after_s: dict[str, Number | None] = {}


class _Times(msgspec.Struct):
    avg: Number | None
    p50: Number | None
    p95: Number | None
    p99: Number | None
    max: Number | None


class _Latency(msgspec.Struct):
    service_ms: _Times
    response_ms: _Times | None


class _Outcomes(msgspec.Struct):
    ok: Count
    fail: Count
    unknown: Count


class _Error(msgspec.Struct):
    operation: str
    outcome: str
    error: str
    count: Count


class _Second(msgspec.Struct):
    second: Integer
    read_ok: Count = 0
    read_fail: Count = 0
    read_unknown: Count = 0
    write_ok: Count = 0
    write_fail: Count = 0
    write_unknown: Count = 0
    stale_reads: Count = 0
    read_p50_ms: Number | None = None
    read_p99_ms: Number | None = None
    write_p50_ms: Number | None = None
    write_p99_ms: Number | None = None


class _Node(msgspec.Struct):
    node: str
    read_ok: Count = 0
    read_fail: Count = 0
    read_unknown: Count = 0
    write_ok: Count = 0
    write_fail: Count = 0
    write_unknown: Count = 0
    stale_reads: Count = 0
    read_your_writes: Count = 0
    monotonic_reads: Count = 0


class _Fault(msgspec.Struct):
    fault: str
    node: str | None = None
    start: Integer | None = None
    start_s: Number | msgspec.UnsetType = msgspec.UNSET
    end_s: Number | msgspec.UnsetType | None = msgspec.UNSET

    def __post_init__(self) -> None:
        if (self.start_s is msgspec.UNSET) != (self.end_s is msgspec.UNSET):
            raise ValueError("Expected both `start_s` and `end_s`, or neither")


class _Recovery(msgspec.Struct):
    rto_s: Number | None = None
    sustained_rto_s: Number | None = None
    degraded_s: Number | None = None
    attempts: Count = 1
    sustained_known: bool = True


class _Rpo(msgspec.Struct):
    lost_writes: Count | None
    span_s: Number | None = None
    exact: bool = False


class _Resolution(msgspec.Struct):
    strategy: str
    merged: Count
    errors: Count


class _Loss(msgspec.Struct):
    lost: Count
    acknowledged: Count


_Guarantees = msgspec.defstruct(
    "_Guarantees", [(name, _StaleReads if name == "stale_reads" else _Guarantee) for name in GUARANTEES]
)


class _Result(msgspec.Struct):
    guarantees: _Guarantees  # type: ignore[valid-type] # made of the table of guarantees
    verdict: Literal["valid", "invalid", "unknown"]
    database: str
    options: dict[str, Option]
    run: str
    duration_s: Number
    latency: dict[str, _Latency]
    operations: dict[str, _Outcomes]
    complete: bool = True
    interrupted: bool = False
    duplicate_items: Count = 0
    phantom_items: Count = 0
    errors: list[_Error] | None = None
    timeline: list[_Second] | None = None
    nodes: list[_Node] = []
    command: str | None = None
    drill: str | None = None
    ended_early: str | None = None
    unread_keys: Count = 0
    recovery: dict[str, _Recovery] = {}
    faults: list[_Fault] | None = None
    rpo: _Rpo | None = None
    two_primaries_s: tuple[Number, Number] | None = None
    converged_s: Number | None = None
    resolution: _Resolution | None = None
    losses: dict[str, _Loss] = {}

    def __post_init__(self) -> None:
        if not self.latency.keys() >= {"read", "write"}:
            raise ValueError("Expected `latency` to have `read` and `write`")
        driver = self.options.get("driver") or {}
        if not isinstance(driver, dict) or not isinstance(driver.get("write_concern") or {}, dict):
            raise TypeError("Expected `options.driver`, and its `write_concern`, to be objects")


def decoded(content: bytes) -> list[dict[str, Any]]:
    """Return the results in a file's content: one, or the list of a drill that was repeated; raise `BadResult`."""
    try:
        found = msgspec.json.decode(content)
        results = found if isinstance(found, list) and found else [found]
        for result in results:
            msgspec.convert(result, _Result)
    except RecursionError:
        raise BadResult("not the result of a run: nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        reason = str(error).replace(" - at `$`", "")
        text = reason if reason.startswith("JSON") else f"{reason[:1].lower()}{reason[1:]}"
        hint = "; the result of `stalewatch check` has no latencies or times" if NO_DATABASE in reason else ""
        raise BadResult(f"not the result of a run: {text}{hint}") from None
    for result in results:
        result["guarantees"] = {name: result["guarantees"][name] for name in GUARANTEES}
    return results
