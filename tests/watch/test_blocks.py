"""Blocks: what is recorded of an operation, and how mistakes are refused or reported."""

import asyncio
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from gevent import GreenletExit

import stalewatch
from stalewatch.history.operation import Append, Draw, Final, Operation, Read, Write
from tests.engine.running import NotingJudge

Warned = pytest.warns(stalewatch.MisuseWarning)


@pytest.fixture(name="watch")
def _watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[stalewatch.Watch]:
    monkeypatch.setattr("stalewatch.watch.watch.Judge", NotingJudge)
    with stalewatch.Watch() as watch:
        yield watch


def recorded(watch: stalewatch.Watch) -> list[Operation]:
    with watch.recorder.settled():
        return list(watch.recorder.judge.given)  # type: ignore[attr-defined] # it is a NotingJudge


def only(watch: stalewatch.Watch) -> Any:
    (operation,) = recorded(watch)
    return operation


def test_operations_are_recorded_with_their_session_key_and_result(watch: stalewatch.Watch) -> None:
    alice, bob = watch.session("alice"), watch.session("bob")
    with alice.write("k") as write:
        assert write.version == 1
        write.node = "a:1"
    with bob.read("k") as read:
        read.saw(1, siblings=[0], node="b:1")
    with alice.append("list") as append:
        item = append.item
    with bob.draw("ids") as draw:
        draw.took(7)
    with watch.final_read("k") as final:
        final.saw(1, siblings=[])
    with watch.final_items("list") as final_items:
        final_items.saw([item])
    wrote, saw, appended, drew, held, listed = recorded(watch)
    assert isinstance(wrote, Write)
    assert isinstance(saw, Read)
    assert isinstance(appended, Append)
    assert isinstance(drew, Draw)
    assert isinstance(held, Final)
    assert isinstance(listed, Final)
    assert (wrote.session, wrote.key, wrote.version, wrote.outcome, wrote.node) == ("alice", "k", 1, "ok", "a:1")
    assert (saw.session, saw.version, saw.siblings, saw.node) == ("bob", 1, [0], "b:1")
    assert (appended.session, appended.key, appended.item) == ("alice", "list", item)
    assert (drew.key, drew.value) == ("ids", 7)
    assert (held.key, held.version, held.siblings, listed.items) == ("k", 1, [], [item])
    assert (watch.keys, watch.lists) == (["k"], ["list"])


def test_items_are_unique_over_sessions_and_runs(watch: stalewatch.Watch) -> None:
    items = []
    for run in (watch, stalewatch.Watch()):
        for name in ("alice", "alice", "bob"):
            with run.session(name).append("list") as append:
                items.append(append.item)
    assert len(set(items)) == 6


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, asyncio.CancelledError, GreenletExit])
def test_an_exception_leaves_a_write_unknown_and_goes_on(watch: stalewatch.Watch, error: type[BaseException]) -> None:
    with pytest.raises(error), watch.session("alice").write("k"):
        raise error("http://me:secret@host\nanswered nothing")
    write = only(watch)
    assert (write.outcome, write.error) == ("unknown", f"{error.__name__}: http://***@host answered nothing")
    assert write.end is not None


def test_an_exception_after_fail_leaves_a_write_failed(watch: stalewatch.Watch) -> None:
    with pytest.raises(ValueError, match="refused"), watch.session("alice").write("k") as write:  # noqa: PT012 # an exception in the block is what is tested
        write.fail("422")
        raise ValueError("refused")
    assert (only(watch).outcome, only(watch).error) == ("fail", "422")


def test_an_exception_after_superseded_leaves_a_write_unknown(watch: stalewatch.Watch) -> None:
    with pytest.raises(ValueError, match="409"), watch.session("alice").write("k") as write:  # noqa: PT012 # an exception in the block is what is tested
        write.superseded()
        raise ValueError("409")
    assert (only(watch).outcome, only(watch).superseded) == ("unknown", False)


def test_the_caller_decides_the_outcome_of_a_write(watch: stalewatch.Watch) -> None:
    alice = watch.session("alice")
    with alice.write("k") as write:
        write.superseded()
    with alice.write("k") as write:
        write.unknown("5xx")
    with alice.write("k") as write:
        write.fail("superseded")
    outcomes = [(one.outcome, one.superseded, one.error) for one in recorded(watch) if isinstance(one, Write)]
    assert outcomes == [("ok", True, None), ("unknown", False, "5xx"), ("fail", False, "superseded")]


def test_errors_that_all_differ_are_told_apart_by_their_class_alone(watch: stalewatch.Watch) -> None:
    alice = watch.session("alice")
    for number in range(1000):
        with suppress(OSError), alice.read("k"):
            raise OSError(f"<connection at 0x{number:x}>")
        with alice.write("k") as write:
            write.unknown(f"request {number}")
    errors = {row["error"]: row["count"] for row in watch.result["errors"]}
    assert len(errors) == 102
    assert (errors["OSError"], errors["other"]) == (950, 950)


def test_a_read_that_saw_nothing_fails_with_the_reason(watch: stalewatch.Watch) -> None:
    with pytest.raises(KeyError), watch.session("alice").read("k"):
        raise KeyError("version")
    with pytest.raises(OSError, match="gone"), watch.final_read("k"):
        raise OSError("gone")
    read, final = recorded(watch)
    assert isinstance(read, Read)
    assert isinstance(final, Final)
    assert (read.outcome, read.error) == ("fail", "KeyError: 'version'")
    assert (final.outcome, final.error) == ("fail", "OSError: gone")


def test_an_exception_after_saw_leaves_a_read_ok(watch: stalewatch.Watch) -> None:
    with pytest.raises(ValueError, match="later"), watch.session("alice").read("k") as read:  # noqa: PT012 # an exception in the block is what is tested
        read.saw(0)
        raise ValueError("later")
    assert (only(watch).outcome, only(watch).version) == ("ok", 0)


def test_a_draw_without_an_id_is_unknown(watch: stalewatch.Watch) -> None:
    with pytest.raises(OSError, match="gone"), watch.session("alice").draw("ids"):
        raise OSError("gone")
    assert (only(watch).outcome, only(watch).error, only(watch).value) == ("unknown", "OSError: gone", None)


def test_blocks_that_saw_nothing_are_warned_about_once_for_each_place(watch: stalewatch.Watch) -> None:
    alice = watch.session("alice")
    with Warned as found:
        for _ in range(3):
            with alice.read("k"):
                pass
            with alice.draw("ids"):
                pass
        with watch.final_items("list"):
            pass
    messages = [str(one.message) for one in found]
    assert messages == [
        "'saw' was not called in a block of key 'k', so that nothing is judged",
        "'took' was not called in a block of key 'ids', so that nothing is judged",
        "'saw' was not called in a block of key 'list', so that nothing is judged",
    ]
    assert {one.filename for one in found} == {__file__}
    assert [one.outcome for one in recorded(watch)] == ["fail", "unknown"] * 3 + ["fail"]  # type: ignore[union-attr] # no fault


def test_a_version_that_was_never_handed_out_is_a_phantom_and_warned_about(watch: stalewatch.Watch) -> None:
    alice = watch.session("alice")
    with alice.write("k"):
        pass
    with Warned as found:
        for _ in range(2):
            with alice.read("k") as read:
                read.saw(7)
    assert len(found) == 1
    assert "saw version 7 of key 'k', which was never handed out (the newest is 1)" in str(found[0].message)
    watch.close()
    assert watch.result["guarantees"]["phantom_reads"]["violated"] == 2


def test_a_warning_that_is_an_error_leaves_the_session_usable(watch: stalewatch.Watch) -> None:
    alice = watch.session("alice")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(stalewatch.MisuseWarning), alice.read("k"):
            pass
    with alice.read("k") as read:
        read.saw(0)
    assert only(watch).outcome == "ok"


@pytest.mark.parametrize("value", [True, "3", None, -1, 1.0, 1 << 63])
def test_what_is_no_version_is_refused_with_a_hint(watch: stalewatch.Watch, value: Any) -> None:
    hint = f"a version is an int of at least 0, not {value!r}; 0 means that there is no value yet"
    with pytest.raises(stalewatch.Misuse) as refused, watch.session("alice").read("k") as read:
        read.saw(value)
    assert str(refused.value) == hint
    assert (only(watch).outcome, only(watch).error) == ("fail", f"Misuse: {hint}")
    with pytest.raises(stalewatch.Misuse, match="sibling"), watch.session("alice").read("k") as read:
        read.saw(1, siblings=[value])
    with pytest.raises(stalewatch.Misuse, match="an id is an int"), watch.session("alice").draw("ids") as draw:
        draw.took(value)


@pytest.mark.parametrize("items", ["one", b"one", [None], [1.5], [True], ["\udcff"], [1 << 70]])
def test_what_is_no_list_of_items_is_refused(watch: stalewatch.Watch, items: Any) -> None:
    with pytest.raises(stalewatch.Misuse, match="are strings"), watch.final_items("list") as final:
        final.saw(items)


def _saw_twice(watch: stalewatch.Watch) -> None:
    with watch.session("alice").read("k") as read:
        read.saw(0)
        read.saw(0)


def _two_outcomes(watch: stalewatch.Watch) -> None:
    with watch.session("alice").write("k") as write:
        write.fail("no")
        write.superseded()


def _nested_in_one_session(watch: stalewatch.Watch) -> None:
    alice = watch.session("alice")
    with alice.read("k"), alice.write("other"):
        pass


def _nested_writes_of_one_key(watch: stalewatch.Watch) -> None:
    with watch.session("alice").write("k"), watch.session("bob").write("k"):
        pass


def _block_twice(watch: stalewatch.Watch) -> None:
    block = watch.session("alice").write("k")
    for _ in range(2):
        with block:
            pass


def _block_in_itself(watch: stalewatch.Watch) -> None:
    block = watch.session("alice").write("k")
    with block, block:
        pass


def _version_before_the_block(watch: stalewatch.Watch) -> None:
    watch.session("alice").write("k").version  # noqa: B018 # a property


def _saw_after_the_block(watch: stalewatch.Watch) -> None:
    with watch.session("alice").read("k") as read:
        read.saw(0)
    read.saw(0)


def _operation_after_the_end(watch: stalewatch.Watch) -> None:
    alice = watch.session("alice")
    watch.close()
    with alice.write("k"):
        pass


def _session_after_the_end(watch: stalewatch.Watch) -> None:
    watch.close()
    watch.session("alice")


def _final_read_after_the_end(watch: stalewatch.Watch) -> None:
    watch.close()
    with watch.final_read("k"):
        pass


def _key_that_is_no_string(watch: stalewatch.Watch) -> None:
    watch.session("alice").read(42)  # type: ignore[arg-type] # on purpose


def _key_that_no_history_can_hold(watch: stalewatch.Watch) -> None:
    watch.session("alice").read("\udcff")


def _key_that_is_a_list(watch: stalewatch.Watch) -> None:
    with watch.session("alice").append("k"):
        pass
    with watch.session("alice").write("k"):
        pass


def _items_of_a_key(watch: stalewatch.Watch) -> None:
    with watch.session("alice").write("k"):
        pass
    with watch.final_items("k"):
        pass


def _used_by_two_threads(watch: stalewatch.Watch) -> None:
    refused: list[BaseException] = []

    def read() -> None:
        try:
            with watch.session("alice").read("k"):
                pass
        except stalewatch.Misuse as error:
            refused.append(error)

    with watch.session("alice").write("k"):
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    if refused:
        raise refused[0]


MISUSES: dict[Callable[[stalewatch.Watch], None], str] = {
    _saw_twice: "'saw' in a block of key 'k' whose outcome was given already; give it once",
    _two_outcomes: "'superseded' in a block of key 'k' whose outcome was given already; give it once",
    _nested_in_one_session: "session 'alice' is reading 'k', and performs one operation at a time",
    _nested_writes_of_one_key: "session 'bob' would wait forever for its turn to write key 'k': the block around it",
    _block_twice: "a block of key 'k' is used twice: every operation needs a new one",
    _block_in_itself: "a block of key 'k' is used twice: every operation needs a new one",
    _version_before_the_block: "a block of key 'k' is asked for 'version' before it begins: use `with`",
    _saw_after_the_block: "a block of key 'k' is asked for 'saw' after it has ended",
    _operation_after_the_end: "the watch has ended, and its verdict is final",
    _session_after_the_end: "the watch has ended, and its verdict is final",
    _final_read_after_the_end: "the watch has ended, and its verdict is final",
    _key_that_is_no_string: "the name of a key is a string, not 42",
    _key_that_no_history_can_hold: r"the name of a key is a string, not '\udcff'",
    _key_that_is_a_list: "'k' is a list and cannot be a key too: give each a name of its own",
    _items_of_a_key: "'k' is a key and cannot be a list too",
    _used_by_two_threads: "session 'alice' is used by two threads at a time (greenlets, tasks): one is writing 'k'",
}


@pytest.mark.parametrize("misuse", MISUSES, ids=lambda misuse: misuse.__name__.strip("_"))
def test_misuse_is_refused_in_one_line_and_leaves_sessions_usable(
    watch: stalewatch.Watch, misuse: Callable[[stalewatch.Watch], None]
) -> None:
    with pytest.raises(stalewatch.Misuse) as refused:
        misuse(watch)
    assert str(refused.value).startswith(MISUSES[misuse])
    assert "\n" not in str(refused.value)
    if not watch.recorder.finished:
        for name in ("alice", "bob"):
            with watch.session(name).write("another"), watch.session("carol").read("other") as read:
                read.saw(0)
        assert not watch.recorder._in_flight


def test_a_write_that_is_under_way_at_the_end_is_unknown(watch: stalewatch.Watch) -> None:
    with watch.session("alice").write("k"):
        watch.close()
    assert (only(watch).outcome, only(watch).end) == ("unknown", None)


def test_growing_keys_may_be_written_by_several_at_a_time() -> None:
    with (
        stalewatch.Watch(growing=True) as watch,
        watch.session("alice").write("k") as first,
        watch.session("bob").write("k") as second,
    ):
        assert (first.version, second.version) == (1, 2)
    assert watch.verdict == "unknown"


def test_every_block_is_also_asynchronous(watch: stalewatch.Watch) -> None:
    async def use() -> None:
        alice = watch.session("alice")
        async with alice.write("k") as write:
            await asyncio.sleep(0)
            assert write.version == 1
        async with alice.read("k") as read:
            read.saw(1)
        async with alice.append("list") as append:
            pass
        async with alice.draw("ids") as draw:
            draw.took(1)
        async with watch.final_read("k") as final, watch.final_items("list") as items:
            final.saw(1)
            items.saw([append.item])
        async with watch.session("bob").write("k"):
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 # the very one
        asyncio.run(use())
    kinds = [type(one) for one in recorded(watch)]
    assert kinds == [Write, Read, Append, Draw, Final, Final, Write]
    assert [one.outcome for one in recorded(watch)] == ["ok"] * 6 + ["unknown"]  # type: ignore[union-attr] # no fault
