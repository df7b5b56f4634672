import pytest

from stalewatch.checkers.judge import GUARANTEES
from stalewatch.reports.expect import NAMES, Expectation, missed, parse
from tests.reports.results import result, with_counts, with_latency


def misses(text: str, made: dict[str, object]) -> list[str]:
    return missed(parse(text), made)


def test_expectations_are_separated_by_commas_and_may_contain_spaces() -> None:
    assert parse("read_your_writes=0, stale_reads <= 0.05,") == [
        Expectation("read_your_writes", "=", 0),
        Expectation("stale_reads", "<=", 0.05),
    ]


@pytest.mark.parametrize("nothing", ["", " ", ",,"])
def test_an_empty_list_is_refused_because_it_would_always_be_met(nothing: str) -> None:
    with pytest.raises(ValueError, match="no expectation given"):
        parse(nothing)


@pytest.mark.parametrize(
    ("operator", "met"),
    [("=", {0.25}), ("<", {0.5}), ("<=", {0.25, 0.5}), (">", {0.125}), (">=", {0.125, 0.25})],
)
def test_a_rate_is_compared_by_the_given_operator(operator: str, met: set[float]) -> None:
    made = with_counts(result(), "stale_reads", 25, 100)
    for number in (0.125, 0.25, 0.5):
        lines = misses(f"stale_reads{operator}{number}", made)
        assert lines == ([] if number in met else [f"expected stale_reads{operator}{number}: it is 0.25"])


def test_violated_compares_the_count() -> None:
    made = with_counts(result(), "lost_writes", 3, 100)
    assert misses("lost_writes.violated=3", made) == []
    assert misses("lost_writes.violated<3", made) == ["expected lost_writes.violated<3: it is 3"]


def test_latencies_compare_service_times() -> None:
    made = with_latency(with_latency(result(), "read", p95=7.5), "read", "response_ms", p95=99)
    assert misses("read.p95_ms<8,read.max_ms=4", made) == []
    assert misses("read.p95_ms<7", made) == ["expected read.p95_ms<7: it is 7.5"]


def test_items_are_compared_by_their_number() -> None:
    made = with_counts(result(), "unexpected_items", 3, 100) | {"duplicate_items": 1, "phantom_items": 2}
    assert misses("duplicate_items=1,phantom_items<3,unexpected_items>0", made) == []
    assert misses("phantom_items=0", made) == ["expected phantom_items=0: it is 2"]


def test_a_run_that_ended_early_misses_every_expectation() -> None:
    made = with_counts(result(), "stale_reads", 25, 100) | {"ended_early": "interrupted, after 1.0 s of 9 s"}
    assert misses("stale_reads<0.5,stale_reads<0.1", made) == [
        "expected stale_reads<0.5: not shown, since the run ended early: interrupted, after 1.0 s of 9 s",
        "expected stale_reads<0.1: it is 0.25",
    ]


def test_freshness_is_compared_in_seconds() -> None:
    made = with_counts(result(), "stale_reads", 25, 100)
    made["guarantees"]["stale_reads"]["fresh_after_s"] = {"99": 0.05, "99.9": None}
    assert misses("fresh_after_s.99<=0.2", made) == []
    assert misses("fresh_after_s.99<0.05", made) == ["expected fresh_after_s.99<0.05: it is 0.05"]
    assert misses("fresh_after_s.99.9<=0.2", made) == ["expected fresh_after_s.99.9<=0.2: no evidence"]


def test_recovery_times_of_a_drill_are_compared() -> None:
    early = {"rto_s": 4.2, "sustained_rto_s": None, "sustained_known": False, "attempts": 9}
    never = {"rto_s": None, "sustained_rto_s": None, "sustained_known": True, "attempts": 9}
    made = result() | {"recovery": {"write": early, "read": never}}
    assert misses("write.rto_s<5", made) == []
    assert misses("write.sustained_rto_s<5", made) == [
        "expected write.sustained_rto_s<5: no evidence: the load ended too early to tell"
    ]
    assert misses("read.rto_s<5,read.sustained_rto_s<9", made) == [
        "expected read.rto_s<5: reads did not recover",
        "expected read.sustained_rto_s<9: reads did not recover",
    ]
    made["recovery"]["read"] = {**never, "sustained_known": False, "attempts": 0}
    assert misses("read.rto_s<5", made) == ["expected read.rto_s<5: no evidence: none attempted"]


@pytest.mark.parametrize("name", ["lost_writes", "lost_writes.violated", "unexpected_items", "duplicate_items"])
def test_what_final_reads_prove_is_missed_if_some_of_them_failed(name: str) -> None:
    made = with_counts(with_counts(result(), "lost_writes", 0, 100), "unexpected_items", 0, 100)
    failed = made | {"unread_keys": 3, "unread_error": "leaders differ"}
    assert misses(f"{name}=0", made) == []
    assert misses(f"{name}=0", failed) == [
        f"expected {name}=0: unknown, since final reads of 3 keys failed (leaders differ)"
    ]
    assert misses("read_your_writes=0", with_counts(failed, "read_your_writes", 0, 9)) == []


@pytest.mark.parametrize("name", sorted(NAMES))
def test_without_evidence_every_expectation_is_missed(name: str) -> None:
    assert misses(f"{name}>=0", result()) == [f"expected {name}>=0: no evidence"]


def test_every_guarantee_and_every_documented_name_can_be_expected() -> None:
    assert {*GUARANTEES, "stale_reads.violated", "read.p95_ms", "write.p95_ms", "write.rto_s"} <= NAMES
    assert {"duplicate_items", "phantom_items", "fresh_after_s.99", "fresh_after_s.99.9"} <= NAMES


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("freshness=1", "unknown name 'freshness'"),
        ("read.p42_ms<1", "unknown name 'read.p42_ms'"),
        ("stale_reads", "is not NAME OP NUMBER"),
        ("stale_reads!=0", "is not NAME OP NUMBER"),
        ("stale_reads==0", "'=0' in 'stale_reads==0' is not a number"),
        ("stale_reads<few", "'few' in 'stale_reads<few' is not a number"),
        ("stale_reads<nan", "'nan' in 'stale_reads<nan' is not a number"),
        ("stale_reads<inf", "is not a number"),
        ("stale_reads=0 read_your_writes=0", "is not a number|is not NAME OP NUMBER"),
    ],
)
def test_a_malformed_expectation_is_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse(text)
