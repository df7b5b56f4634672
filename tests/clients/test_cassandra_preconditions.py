"""Properties of keyspaces and tables that a default ring does not allow, as its schema would describe them."""

from collections.abc import Mapping

import pytest
from cassandra import InvalidRequest

from stalewatch.clients.cassandra.preconditions import check_keyspace, check_table
from stalewatch.clients.cassandra.schema import LISTS, REGISTERS
from stalewatch.clients.errors import BadAddress

Rows = list[dict[str, object]]


class ScriptedSchema:
    """Answers queries of the schema's tables; a table that is not scripted does not exist in this version."""

    def __init__(self, **tables: Rows) -> None:
        self._tables: Mapping[str, Rows] = {"tables": [], "columns": [], "views": [], "triggers": [], **tables}

    def execute(self, query: str, _values: object) -> object:
        name = query.partition("system_schema.")[2].partition(" ")[0]
        if name not in self._tables:
            raise InvalidRequest(f"table {name} does not exist")
        rows = self._tables[name]
        return Result([tuple(row.values()) for row in rows], list(rows[0]) if rows else [])


class Result(list[tuple[object, ...]]):
    def __init__(self, rows: list[tuple[object, ...]], names: list[str]) -> None:
        super().__init__(rows)
        self.column_names = names


PLAIN = [{"default_time_to_live": 0, "read_repair": "BLOCKING", "gc_grace_seconds": 0}]
COLUMNS = [
    {"column_name": "k", "type": "text", "kind": "partition_key"},
    {"column_name": "d", "type": REGISTERS.columns["d"], "kind": "regular"},
]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"views": [{"view_name": "kv"}]}, "is a materialized view"),
        ({"tables": PLAIN, "columns": COLUMNS, "triggers": [{"trigger_name": "audit"}]}, "has the trigger audit"),
        ({"tables": PLAIN, "columns": COLUMNS, "column_masks": [{"column_name": "d"}]}, "masks its column d"),
    ],
)
def test_a_table_that_changes_what_is_stored_or_read_is_refused(schema: dict[str, Rows], words: str) -> None:
    with pytest.raises(BadAddress, match=rf"the table bench\.kv {words}.*; use another --table"):
        check_table(ScriptedSchema(**schema), "bench", "kv", REGISTERS)


def test_settings_that_falsify_nothing_are_accepted() -> None:
    found = check_table(ScriptedSchema(tables=PLAIN, columns=COLUMNS), "bench", "kv", REGISTERS)
    assert found == PLAIN[0]
    assert check_table(ScriptedSchema(), "bench", "kv", REGISTERS) is None


def test_the_kinds_of_a_layout_follow_from_its_key() -> None:
    assert LISTS.kinds == {"k": ("text", "partition_key"), "i": ("text", "clustering")}


def test_transient_replicas_are_refused() -> None:
    network = "org.apache.cassandra.locator.NetworkTopologyStrategy"
    check_keyspace("bench", {"class": network, "dc1": "3"})
    with pytest.raises(BadAddress, match=r"the keyspace bench has transient replicas \(dc1 3/1\).*another --keyspace"):
        check_keyspace("bench", {"class": network, "dc1": "3/1"})
