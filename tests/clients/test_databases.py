"""The table of databases, and packages that add rows to it."""

import pkgutil
import re
import sys
from pathlib import Path

import pytest

from stalewatch.clients.databases import BREAKABLE, DATABASES, discover
from stalewatch.clients.protocol import Database
from tests.clients.test_third_party import install


@pytest.mark.parametrize("row", DATABASES.values(), ids=DATABASES)
def test_the_clusters_of_a_row_exist(row: Database) -> None:
    for name in (row.cluster, row.lab_cluster):
        assert name is None or isinstance(pkgutil.resolve_name(name), type)


def test_drills_can_break_the_databases_with_a_cluster_and_the_simulator() -> None:
    assert set(BREAKABLE) >= {"mongo", "cassandra", "couch", "memory"}


def test_a_missing_address_means_the_local_cluster_only_if_there_is_one() -> None:
    row = DATABASES["mongo"]
    assert row.lacks_address(row.options())
    assert not row.lacks_address(row.options(uri="mongodb://127.0.0.1:1"))
    assert not row._replace(cluster=None).lacks_address(row.options())


@pytest.mark.parametrize(
    ("module", "entry_point", "words"),
    [
        ("import no_such_driver", "broken = broken:DATABASE", "No module named 'no_such_driver'"),
        ("DATABASE = 1", "broken = broken:DATABASE", "it refers to an object of the class int"),
        ("from stalewatch.simulator import DATABASE", "broken = broken:DATABASE", "its row is called 'memory'"),
        ("from stalewatch.simulator import DATABASE", "memory = broken:DATABASE", "no built-in one"),
    ],
)
def test_a_row_that_cannot_be_used_is_left_out_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, entry_point: str, words: str
) -> None:
    install(tmp_path, package="broken", module=module, entry_points=f"[stalewatch.databases]\n{entry_point}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    with pytest.warns(UserWarning, match=re.escape(words)):
        assert discover() == DATABASES
    monkeypatch.delitem(sys.modules, "broken", raising=False)
