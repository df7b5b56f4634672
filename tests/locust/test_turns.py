"""The first opens alone; the others follow, whatever becomes of it."""

from stalewatch.locust.turns import Turns


def asked(*processes: str) -> tuple[Turns, list[str]]:
    granted: list[str] = []
    turns = Turns(lambda process, database: granted.append(f"{process}:{database}"))
    for process in processes:
        turns.ask(process, "d")
    return turns, granted


def test_the_first_opens_alone() -> None:
    _, granted = asked("a", "b", "c")
    assert granted == ["a:d"]


def test_when_it_has_opened_all_others_follow_and_who_comes_later_need_not_wait() -> None:
    turns, granted = asked("a", "b", "c")
    turns.end("a", "d", opened=True)
    turns.ask("e", "d")
    assert granted == ["a:d", "b:d", "c:d", "e:d"]


def test_when_it_could_not_the_next_one_tries_alone() -> None:
    turns, granted = asked("a", "b", "c")
    turns.end("a", "d", opened=False)
    assert granted == ["a:d", "b:d"]
    turns.end("b", "d", opened=True)
    assert granted == ["a:d", "b:d", "c:d"]


def test_when_it_is_lost_the_next_one_tries_alone() -> None:
    turns, granted = asked("a", "b", "c")
    turns.lose("a")
    turns.lose("c")
    assert granted == ["a:d", "b:d"]


def test_when_all_have_tried_in_vain_a_new_one_may() -> None:
    turns, granted = asked("a")
    turns.end("a", "d", opened=False)
    turns.ask("b", "d")
    assert granted == ["a:d", "b:d"]


def test_each_database_has_its_own_turns() -> None:
    turns, granted = asked("a", "b")
    turns.ask("b", "other")
    assert granted == ["a:d", "b:other"]
