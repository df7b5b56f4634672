"""The published JSON schema of results: what `decoding` relies on, and every other field that this version writes.

Separate from `decoding`, which also has to accept the results of older versions. The schema allows further fields.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from stalewatch.checkers.judge import GUARANTEES
from stalewatch.reports.decoding import (
    Count,
    Integer,
    Number,
    Option,
    _AgeBucket,
    _Depends,
    _Error,
    _Fault,
    _Guarantee,
    _Latency,
    _Loss,
    _Node,
    _Operation,
    _Outcomes,
    _Recovery,
    _Resolution,
    _Rpo,
    _Second,
    _Staleness,
    _Times,
    _Witness,
)

ID = "https://json-schema.org/draft/2020-12/schema"

SUFFIX = "Json"
"""Ends the names of the classes here, and is left out in the schema."""


class DependsJson(_Depends):
    """The version that a value depends on."""

    cause: str | UnsetType = UNSET


class OperationJson(_Operation, kw_only=True):
    """An operation as in the history; times are nanoseconds since the epoch."""

    depends: DependsJson | UnsetType = UNSET  # type: ignore[assignment] # narrower: never null
    due: Integer | UnsetType = UNSET
    superseded: bool | UnsetType = UNSET
    owner: Integer | UnsetType = UNSET


class WitnessJson(_Witness, kw_only=True):
    """The operations that prove a violation."""

    operations: Annotated[list[OperationJson], Meta(min_length=1)]  # type: ignore[assignment] # narrower
    cause: str | None
    staleness_s: Number | None


class GuaranteeJson(_Guarantee, kw_only=True):
    """What was found about a guarantee; `interval` is the 95 % Wilson interval of the rate."""

    witnesses: Annotated[list[WitnessJson], Meta(max_length=5)]  # type: ignore[assignment] # narrower


class StaleReadsJson(GuaranteeJson, kw_only=True):
    """What was found about stale reads."""

    causes: dict[str, Count]
    staleness_s: _Staleness
    staleness_at_least: Count
    freshness: list[_AgeBucket]
    fresh_after_s: dict[str, Number | None]


GuaranteesJson = msgspec.defstruct(
    "GuaranteesJson", [(name, StaleReadsJson if name == "stale_reads" else GuaranteeJson) for name in GUARANTEES]
)


class CheckJson(msgspec.Struct):
    """The result of `stalewatch check --json`."""

    verdict: Literal["valid", "invalid", "unknown"]
    complete: bool
    guarantees: GuaranteesJson  # type: ignore[valid-type] # made of the table of guarantees
    duplicate_items: Count
    phantom_items: Count


SecondJson = msgspec.defstruct(
    "SecondJson", [(name, Count, 0) for name in GUARANTEES if name not in _Second.__struct_fields__], bases=(_Second,)
)


class FaultJson(_Fault, kw_only=True):
    """A fault: nanoseconds since the epoch, and seconds since operations started to count."""

    start: Integer
    end: Integer | None
    start_s: Number
    end_s: Number | None


class RecoveryJson(_Recovery, kw_only=True):
    """How one kind of operation recovered from the faults."""

    rto_s: Number | None
    sustained_rto_s: Number | None
    sustained_known: bool
    degraded_s: Number | None
    attempts: Count
    gap: tuple[Integer, Integer | None] | None
    meanwhile: dict[str, Count] | None


class LostJson(msgspec.Struct):
    """An acknowledged write or item that is lost."""

    key: str
    lost: str | Integer | None
    start: Integer | None
    end: Integer | None


class RpoJson(_Rpo, kw_only=True):
    """Lost acknowledged writes."""

    lost_writes: Count | None
    span_s: Number | None
    exact: bool
    superseded: Count | None
    lost_items: Count | None
    appended: Count | None
    items: list[LostJson]


class PhaseJson(msgspec.Struct):
    """What happened before, during or after the faults."""

    operations: dict[str, dict[str, Count]]
    latency_ms: dict[str, dict[str, Number | None]]
    violations: dict[str, Count]


class StallJson(msgspec.Struct):
    """A time in which a worker stalled."""

    start: Integer
    end: Integer


class WorkerJson(msgspec.Struct):
    """A Locust worker."""

    worker: Count
    id: str
    host: str
    state: Literal["running", "done", "lost"]
    operations: Count
    clock_error_ns: Integer | None
    stalls: list[StallJson]
    stood_still_s: Number
    histories: list[str]
    trouble: str | None
    unchecked: str | None


class ReadStrategyJson(msgspec.Struct, kw_only=True):
    """How often reads fell back to the stronger source, and their latency beside that of the others."""

    strategy: str
    reads: Count
    fallbacks: Count
    failed_fallbacks: Count
    fallback_ms: _Times
    other_ms: _Times


class RunJson(CheckJson, kw_only=True):
    """The result of a run: `stalewatch bench` and `drill --json`, Locust's `--report-json`."""

    database: str
    options: dict[str, Option]
    run: str
    duration_s: Number
    latency: dict[str, _Latency]
    operations: dict[str, _Outcomes]
    ended_early: str | None
    stalled_operations: Count
    unread_keys: Count
    unread_error: str | None
    workloads: list[str]
    lost_writes_exact: bool
    errors: list[_Error]
    timeline: list[SecondJson]  # type: ignore[valid-type] # as above
    nodes: list[_Node]
    command: str | UnsetType = UNSET
    read_strategy: ReadStrategyJson | UnsetType = UNSET
    resolution: _Resolution | UnsetType = UNSET
    losses: dict[str, _Loss] | UnsetType = UNSET
    interrupted: bool | UnsetType = UNSET
    final_reads_s: Number | UnsetType | None = UNSET
    history_error: str | UnsetType | None = UNSET
    workers: list[WorkerJson] | UnsetType = UNSET
    drill: str | UnsetType = UNSET
    drill_trouble: str | UnsetType | None = UNSET
    faults: list[FaultJson] | UnsetType = UNSET
    recovery: dict[str, RecoveryJson] | UnsetType = UNSET
    rpo: RpoJson | UnsetType = UNSET
    phases: dict[str, PhaseJson] | UnsetType = UNSET
    two_primaries_s: tuple[Number, Number] | UnsetType | None = UNSET
    converged_s: Number | UnsetType | None = UNSET
    convergence_wait_s: Number | UnsetType | None = UNSET
    probed: bool | Count | UnsetType = UNSET


def schema() -> dict[str, Any]:
    """Return the schema of every JSON result: of a run, of several runs as a list, or of `stalewatch check`."""
    (run, check), found = msgspec.json.schema_components((RunJson, CheckJson), ref_template="#/$defs/{name}")
    several = {"type": "array", "items": run, "minItems": 1}
    no_run = {"allOf": [check], "not": {"required": ["run"]}}  # or a damaged run would pass for a check
    whole = {"$schema": ID, "title": "stalewatch result", "anyOf": [run, several, no_run], "$defs": found}
    return dict(_renamed(whole, set(found)))


def _renamed(part: Any, names: Iterable[str]) -> Any:  # noqa: ANN401 # any JSON
    """Return a part of the schema with the names that a reader outside of this package needs."""
    if isinstance(part, dict):
        return {_name(key, names): _renamed(value, names) for key, value in part.items() if key != "title"} | (
            {"title": part["title"].strip("_").removesuffix(SUFFIX)} if isinstance(part.get("title"), str) else {}
        )
    if isinstance(part, list):
        return [_renamed(one, names) for one in part]
    prefix = "#/$defs/"
    return prefix + _name(part.removeprefix(prefix), names) if isinstance(part, str) and prefix in part else part


def _name(name: str, names: Iterable[str]) -> str:
    return name.strip("_").removesuffix(SUFFIX) if name in names else name
