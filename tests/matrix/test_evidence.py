"""A cell holds only if its fault acted and a control shows that it does harm; each case with its nearest twin."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from stalewatch.checkers.judge import GUARANTEES
from stalewatch.clients.errors import BadAddress
from stalewatch.matrix.cells import PROVOCATIONS, Cell, all_cells, in_order, level_names, parse_only
from stalewatch.matrix.evidence import MeasuredCell, judged
from stalewatch.matrix.promises import FILE, _entries, promise, promised
from stalewatch.matrix.report import figure, percent

ROOT = Path(__file__).parents[2]

OK: Mapping[str, Any] = {"read": {"ok": 5}, "write": {"ok": 5}}
NOTHING: Mapping[str, Any] = {"read": {"ok": 0}, "write": {"ok": 0}}


def cell(provocation: str = "stall", read_from: str = "primary", database: str = "mongo") -> Cell:
    (chosen,) = (one for one in PROVOCATIONS[database] if one.name == provocation)
    levels = {"write_concern": "majority", "read_concern": "majority", "read_from": read_from}
    return Cell(database, levels, chosen, 0.5)


def run(
    one: Cell,
    violated: Mapping[str, int] | None = None,
    *,
    during: Mapping[str, Any] = OK,
    end: int | None = 9,
    trouble: str | None = None,
    lag: int = 0,
) -> MeasuredCell:
    found = violated or {}
    rows = {
        name: {
            "verdict": "violated" if found.get(name) else "holds",
            "checked": 100,
            "violated": found.get(name, 0),
            "rate": found.get(name, 0) / 100,
            "interval": [0.0, 0.037],
            "causes": {"lag": lag} if lag else {},
        }
        for name in GUARANTEES
    }
    faults = [] if one.provocation.drill is None else [{"fault": "stall", "end": end}]
    phases = {"during": {"operations": during}}
    return MeasuredCell(one, {"guarantees": rows, "drill_trouble": trouble, "faults": faults, "phases": phases}, 1.0)


def verdict(guarantee: str, *cells: MeasuredCell) -> str:
    """Return what is measured of a guarantee at the first cell."""
    found: str = judged(cells)[0][guarantee]["measured"]
    return found


WEAK = run(cell(read_from="secondary"), {"stale_reads": 30})


def test_a_provoked_cell_holds_if_other_levels_were_violated() -> None:
    assert verdict("stale_reads", run(cell()), WEAK) == "holds"
    assert verdict("stale_reads", run(cell())) == "no_evidence"
    assert verdict("lost_writes", run(cell()), WEAK) == "no_evidence"


def test_a_control_is_under_the_same_provocation() -> None:
    assert verdict("stale_reads", run(cell("kill")), WEAK) == "no_evidence"
    assert verdict("stale_reads", run(cell("kill")), run(cell("kill", "secondary"), {"stale_reads": 1})) == "holds"


def test_a_calm_cell_never_holds_and_may_be_violated() -> None:
    calm = run(cell("calm", "secondary"), {"stale_reads": 1})
    assert verdict("stale_reads", run(cell("calm")), WEAK, calm) == "no_evidence"
    assert verdict("stale_reads", calm, WEAK) == "violated"


@pytest.mark.parametrize("harmless", [{"during": NOTHING}, {"end": None}, {"trouble": "no primary"}])
def test_a_fault_that_did_not_act_proves_nothing(harmless: dict[str, Any]) -> None:
    assert verdict("stale_reads", run(cell(), **harmless), WEAK) == "no_evidence"
    assert verdict("stale_reads", run(cell(), {"stale_reads": 1}, **harmless), WEAK) == "violated"


def test_a_node_that_missed_no_write_proves_nothing() -> None:
    unwritten = {"read": {"ok": 72}, "write": {"ok": 0, "unknown": 40}}
    assert verdict("stale_reads", run(cell(), during=unwritten), WEAK) == "no_evidence"
    assert "0 of 40 writes succeeded" in judged([run(cell(), during=unwritten), WEAK])[0]["stale_reads"]["why"]
    failover = run(cell("kill", "secondary"), {"stale_reads": 1})
    assert verdict("stale_reads", run(cell("kill"), during=unwritten), failover) == "holds"


def test_no_evidence_tells_what_happened_during_the_fault() -> None:
    why = judged([run(cell(), during={"read": {"ok": 72}, "write": {"ok": 47, "unknown": 40}})])[0]["stale_reads"][
        "why"
    ]
    assert "72 of 72 reads succeeded and 47 of 87 writes succeeded" in why


def test_stale_reads_of_the_same_run_are_a_control_for_its_sessions() -> None:
    stale = {"stale_reads": 10}
    assert verdict("read_your_writes", run(cell(), stale, lag=10)) == "holds"
    assert verdict("read_your_writes", run(cell(), stale)) == "no_evidence"  # stale because of conflicts or losses
    assert verdict("lost_writes", run(cell(), stale, lag=10)) == "no_evidence"


def test_a_broken_promise_is_a_contradiction() -> None:
    token = cell("kill")
    token = Cell("mongo", {**token.levels, "read_strategy": "token"}, token.provocation, 1.0)
    broken = judged([run(token, {"read_your_writes": 2})])[0]["read_your_writes"]
    assert (broken["documented"], broken["contradiction"], figure(broken)) == ("promised", True, "2%!")
    kept = judged([run(token), run(cell("kill", "secondary"), {"read_your_writes": 9})])[0]["read_your_writes"]
    assert (kept["measured"], kept["contradiction"], figure(kept)) == ("holds", False, "<3.7%*")
    untested = judged([run(token)])[0]["read_your_writes"]
    assert (untested["measured"], figure(untested)) == ("no_evidence", "-*")


def test_a_cause_that_is_ruled_out_is_a_contradiction_although_the_guarantee_is_not_promised() -> None:
    levels = {"write_concern": "1", "read_concern": "majority", "read_from": "secondary", "read_strategy": "token"}
    at = Cell("mongo", levels, cell("kill").provocation, 0.5)

    def found(cause: str) -> tuple[str, bool, str]:
        done = run(at, {"consistent_prefix": 2})
        done.result["guarantees"]["consistent_prefix"]["causes"] = {cause: 2}
        row = judged([done])[0]["consistent_prefix"]
        return row["documented"], row["contradiction"], figure(row)

    assert found("monotonic_writes") == ("not promised", False, "2%")
    assert found("writes_follow_reads") == ("not promised", True, "2%!")


@pytest.mark.parametrize("database", PROVOCATIONS)
def test_promises_are_about_levels_and_guarantees_that_exist(database: str) -> None:
    values = {**level_names(database), "provocation": tuple(one.name for one in PROVOCATIONS[database])}
    for entry in _entries(database):
        for name, wanted in entry.where.items():
            chosen = {wanted} if isinstance(wanted, str) else set(wanted)
            assert chosen <= set(values[name]), entry
        assert {*entry.promised, *entry.not_promised} <= set(GUARANTEES)
        assert entry.says
        assert entry.source.startswith("https://") or (ROOT / entry.source).exists()
    assert FILE.exists()


def test_mongodbs_table_of_causal_guarantees() -> None:
    def promises(read: str, write: str, strategy: str = "token") -> list[str]:
        levels = {"write_concern": write, "read_concern": read, "read_from": "secondary", "read_strategy": strategy}
        names = ("read_your_writes", "monotonic_reads", "consistent_prefix")
        at = Cell("mongo", levels, PROVOCATIONS["mongo"][0], 1.0)
        return [name for name in names if promise(at, name).documented == "promised"]

    assert promises("majority", "majority") == ["read_your_writes", "monotonic_reads", "consistent_prefix"]
    assert promises("majority", "1") == ["monotonic_reads"]
    assert promises("local", "majority") == promises("local", "1") == promises("majority", "majority", "plain") == []


@pytest.mark.parametrize("database", PROVOCATIONS)
def test_the_most_telling_cells_come_first(database: str) -> None:
    cells = in_order(all_cells(database, PROVOCATIONS[database]), lambda one: promised(one, tuple(GUARANTEES)))
    assert len({one.name for one in cells}) == len(cells)
    cells = [one for one in cells if not one.provocation.slow]
    provoked = [one.provocation.name != "calm" for one in cells]
    weakest = sum(one.strength == 0 for one in cells if one.provocation.name != "calm")
    assert all(one.strength == 0 for one in cells[:weakest])
    assert all(one.strength == 1 for one in cells[weakest : provoked.index(False)])
    assert not any(promised(one, tuple(GUARANTEES)) for one in cells[-5:])


def test_cells_that_wait_for_a_server_to_start_come_after_the_telling_ones() -> None:
    cells = in_order(all_cells("cassandra", PROVOCATIONS["cassandra"]), lambda one: promised(one, tuple(GUARANTEES)))
    first = next(place for place, one in enumerate(cells) if one.provocation.slow)
    assert {one.provocation.name for one in cells[:first]} == {"pause", "isolate", "calm"}
    assert sum(promised(one, ("stale_reads",)) for one in cells[:first]) >= 10


def test_only_chooses_cells_and_names_what_there_is() -> None:
    chosen = parse_only("mongo", "write-concern=1, read_from=primary,read_from=secondary,provocation=kill")
    found = [one for one in all_cells("mongo", PROVOCATIONS["mongo"]) if chosen(one)]
    assert {one.levels["read_from"] for one in found} == {"primary", "secondary"}
    assert {(one.levels["write_concern"], one.provocation.name) for one in found} == {("1", "kill")}
    with pytest.raises(BadAddress, match="NAME of write_concern, read_concern, read_from"):
        parse_only("mongo", "read_cl=ONE")
    with pytest.raises(BadAddress, match="write_concern is one of 1, majority"):
        parse_only("mongo", "write_concern=7")


@pytest.mark.parametrize(
    ("rate", "shown"), [(0, "0%"), (0.5, "50%"), (0.0123, "1.2%"), (0.0001, "0.01%"), (0.00001, "0.001%"), (1, "100%")]
)
def test_rates_have_two_digits(rate: float, shown: str) -> None:
    assert percent(rate) == shown
