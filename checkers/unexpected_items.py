"""unexpected_items: a list holds each item once, and nothing that nobody appended.

What `set-full` of Jepsen calls `duplicated` and `unexpected`.
"""

from collections.abc import Iterable

from stalewatch.checkers.guarantee import Guarantee, JudgeContext, Register
from stalewatch.checkers.item_list import ItemList
from stalewatch.checkers.verdict import Violation
from stalewatch.history.operation import Final


class UnexpectedItems(Guarantee):
    """Looks through the last ok final read of each list; `LostWrites` keeps the lists.

    An item is a violation once: ``phantom`` if nobody appended it or its append failed, else ``duplicate`` if the final
    read shows it more than once. An append whose outcome is unknown may have been applied, so its item is no phantom.
    When it was appended does not matter.
    """

    name = "unexpected_items"

    def __init__(self, context: JudgeContext) -> None:
        super().__init__(context)
        self._registers: dict[Register, int] = {}
        """Since which place."""
        self.duplicate_items = 0
        """Items that a list shows more than once, phantoms among them."""
        self.phantom_items = 0

    def on_final(self, final: Final, register: Register, source: int) -> None:
        """Remember the list."""
        if final.items is not None:
            self._registers.setdefault(register, self.context.place.number)

    def finish(self) -> Iterable[Violation]:
        """Return the unexpected items."""
        for register, place in self._registers.items():
            self.context.place.number = place
            if register.items is not None and register.items.last is not None:
                yield from self._unexpected(register.items, register.items.last[0])
        self._registers.clear()

    def _unexpected(self, items: ItemList, final: Final) -> Iterable[Violation]:
        self.duplicate_items += items.duplicates()
        for cause, append in items.shown(complete=final.key not in self.context.incomplete_keys):
            self.verdict.checked += 1
            if cause is not None:
                self.phantom_items += cause == "phantom"
                yield self.verdict.add(Violation(self.name, (append, final) if append else (final,), cause=cause))
