"""The options of a load: defaults, parsing and rejected values."""

import re
from argparse import Namespace

import pytest

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import Option, options_of, parse_options
from stalewatch.workloads.options import DEFAULT_OPERATIONS, LoadOptions


def given(**options: str) -> LoadOptions:
    return parse_options(LoadOptions, Namespace(**options))


def test_omitted_options_have_their_defaults() -> None:
    assert given(seed="4") == LoadOptions(seed=4)


def test_given_options_are_parsed() -> None:
    texts = {
        "users": "3",
        "ops": "10",
        "duration": "2.5",
        "warmup": "1",
        "rate": "50",
        "keys": "7",
        "write_ratio": "0.5",
        "reread": "0",
        "value_size": "9",
        "distribution": "latest",
        "seed": "0",
        "workload": "ledger",
        "co_locate": "off",
        "resolve": "none",
    }
    assert set(texts) == {option.name for option in options_of(LoadOptions)}
    assert given(**texts) == LoadOptions(
        users=3,
        operations=10,
        duration_s=2.5,
        warmup_s=1.0,
        rate=50.0,
        keys=7,
        write_ratio=0.5,
        reread=0.0,
        value_size=9,
        distribution="latest",
        seed=0,
        workload="ledger",
    )


def test_a_duration_alone_does_not_limit_operations() -> None:
    assert given(duration="5").operations is None
    assert given(duration="5", ops="10").operations == 10
    assert given().operations == DEFAULT_OPERATIONS


def test_without_a_seed_every_run_gets_a_different_one() -> None:
    assert given().seed != given().seed


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("users", "0", "a whole number, 1 or more"),
        ("users", "2.5", "a whole number"),
        ("ops", "0", "a whole number, 1 or more"),
        ("ops", "many", "a whole number"),
        ("keys", "99999999999", "10000000 at most: a process keeps all of its keys in memory"),
        ("value_size", "99999999999", "16000000 at most: databases refuse larger values"),
        ("users", "10001", "10000 at most: every session is a thread or greenlet of this process"),
        ("ops", "9999999999999", "1000000000000 at most: that many take years; use --duration"),
        ("duration", "31536001", "31536000 at most: that is a year, in seconds"),
        ("duration", "1e308", "31536000 at most: that is a year, in seconds"),
        ("warmup", "1e308", "31536000 at most: that is a year, in seconds"),
        ("rate", "1e8", "10000000 at most: no process gets that far"),
        ("rate", "1e308", "10000000 at most: no process gets that far"),
        ("duration", "0", "a number above 0"),
        ("duration", "inf", "31536000 at most: that is a year, in seconds"),
        ("duration", "nan", "a number above 0"),
        ("warmup", "-1", "a number of seconds, 0 or more"),
        ("warmup", "nan", "a number of seconds, 0 or more"),
        ("rate", "0", "a number above 0"),
        ("rate", "fast", "a number"),
        ("keys", "0", "a whole number, 1 or more"),
        ("write_ratio", "1.5", "a share from 0 to 1"),
        ("write_ratio", "nan", "a share from 0 to 1"),
        ("reread", "-0.1", "a share from 0 to 1"),
        ("reread", "half", "a number"),
        ("value_size", "-1", "a whole number, 0 or more"),
        ("distribution", "gauss", "one of uniform, zipfian, latest"),
        ("seed", "-1", "a whole number, 0 or more"),
    ],
)
def test_an_invalid_value_is_rejected_with_its_flag(name: str, text: str, complaint: str) -> None:
    flag = name.replace("_", "-")
    with pytest.raises(BadAddress, match=rf"^--{flag} '{text}': must be {complaint}$"):
        given(**{name: text})


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        ({"resolve": "union"}, "--resolve union needs --workload conflict"),
        ({"users": "10001"}, "--users '10001': must be 10000 at most"),
        ({"workload": "orders"}, "--workload 'orders': unknown workload 'orders'"),
    ],
)
def test_contradictory_or_unknown_choices_are_rejected(texts: dict[str, str], complaint: str) -> None:
    with pytest.raises(BadAddress, match=f"^{complaint}"):
        given(**texts)


HUGE = ("1e308", "inf", "nan", "-1", "-1e308", "1" + "0" * 30, "9" * 5000)
CLASSES = {"load": LoadOptions, **{one.name: one.options for one in DATABASES.values()}}
OPTIONS = [
    pytest.param(cls, option, id=f"{name} {option.flag}") for name, cls in CLASSES.items() for option in options_of(cls)
]


@pytest.mark.parametrize(("cls", "option"), OPTIONS)
def test_every_number_has_a_bound_and_a_message_names_the_one_that_holds(cls: type, option: Option) -> None:
    for text in HUGE:
        try:
            value = getattr(parse_options(cls, Namespace(**{option.name: text}), {}), option.field)
        except BadAddress as error:
            said = str(error)
            bound = re.search(r"must be (\d+) at most|(?:from \d+ to|allows 1 to|choose 1 to) (\d+)", said)
            if bound:
                parse_options(cls, Namespace(**{option.name: bound[1] or bound[2]}), {})
            assert option.flag in said
        else:
            assert not isinstance(value, int | float) or abs(value) <= 2**63, (text, value)
