"""Exports keep hostile texts or make them harmless, need little memory, and overwrite nothing; filters keep proofs."""

import csv
import gzip
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard
from pyarrow import parquet

from stalewatch import check
from stalewatch.commands.main import main
from stalewatch.history.exchange.files import Options, export_history, import_history
from stalewatch.history.operation import Append, Final, Operation, Read, Write
from stalewatch.history.reader import History
from tests.checkers.histories import history_text
from tests.checkers.oracle import File
from tests.checkers.twins import TWINS

ROOT = Path(__file__).parents[3]
HOSTILE = [
    "=cmd|' /C calc'!A0",
    "+1",
    "-1",
    "@SUM(1)",
    "'quoted",
    "\t=1",
    'a"b,c;d\\e\\u0041',
    "\x00\x1b[31m\x7f\x85\u2028\r\n",
    "<script>alert(1)</script>",
    "\U0001f600 é",
    "{:a 1}",
    "; comment",
    " ",
]


def written(path: Path, operations: list[Operation]) -> Path:
    path.write_text(history_text(File(operations)))
    return path


def operations_of(path: Path) -> list[Operation]:
    return [operation for operation, _ in History([path]).operations()]


def with_texts(texts: list[str]) -> list[Operation]:
    """Return a history in which each text is a session, a key, a node, an error and an item."""
    operations: list[Operation] = []
    for at, text in enumerate(texts):
        known: dict[str, Any] = {"session": text, "start": 10 * at, "end": 10 * at + 1, "node": text, "error": text}
        operations += [
            Write(key=text, version=1, outcome="unknown", **known),
            Append(key="list", item=text, outcome="unknown", **known),
        ]
    items: list[str | int] = [*texts, 7, "7"]
    return [*operations, Final(key="list", items=items, start=10**6, end=10**6, outcome="ok")]


@pytest.mark.parametrize("form", ["edn", "json", "csv"])
def test_hostile_texts_come_back_as_they_were(form: str, tmp_path: Path) -> None:
    source, exported, back = written(tmp_path / "h.jsonl", with_texts(HOSTILE)), tmp_path / "e", tmp_path / "back.jsonl"
    export_history(source, exported, form, lambda _count: None)
    import_history(exported, back, Options(form), lambda _count: None)
    assert operations_of(back) == operations_of(source)


@pytest.mark.parametrize("form", ["edn", "json", "csv"])
def test_exports_hold_no_control_characters(form: str, tmp_path: Path) -> None:
    source, exported = written(tmp_path / "h.jsonl", with_texts(HOSTILE)), tmp_path / "e"
    export_history(source, exported, form, lambda _count: None)
    text = exported.read_bytes().decode().replace("\r\n", "\n")
    found = {character for character in text if not character.isprintable()} - {"\n"}
    assert found <= ({"\x7f", "\x85", "\u2028"} if form == "json" else set())  # JSON allows these


def test_a_spreadsheet_gets_no_formulas_and_no_long_cells(tmp_path: Path) -> None:
    long = ["x" * 10**6, "x" * 10**6 + "y"]
    source, exported = written(tmp_path / "h.jsonl", with_texts([*HOSTILE, *long])), tmp_path / "e.csv"
    export_history(source, exported, "csv", lambda _count: None)
    with exported.open(newline="") as file:
        rows = list(csv.DictReader(file))
    cells = [cell for row in rows for name, cell in row.items() if name != "more"]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "@", "\t", "\r")) or cell == "-1"]
    assert max(map(len, cells)) < 32_767
    assert len({row["key"] for row in rows if row["op"] == "write"}) == len(HOSTILE) + 2  # cut, but still different
    back = tmp_path / "back.jsonl"
    import_history(exported, back, Options("csv"), lambda _count: None)
    assert check([back])["guarantees"] == check([source])["guarantees"] | check([back])["guarantees"]
    assert check([back])["verdict"] == check([source])["verdict"]


def test_long_texts_stay_whole_elsewhere(tmp_path: Path) -> None:
    source = written(tmp_path / "h.jsonl", with_texts(["x" * 10**6, '"\n' * 10**5]))
    for form in ("edn", "json"):
        export_history(source, tmp_path / form, form, lambda _count: None)
        import_history(tmp_path / form, tmp_path / "back.jsonl", Options(form), lambda _count: None)
        assert operations_of(tmp_path / "back.jsonl") == operations_of(source)


def test_parquet_has_the_columns_and_the_header(tmp_path: Path) -> None:
    source = written(tmp_path / "h.jsonl", with_texts(HOSTILE))
    assert main(["history", "export", str(source), "-o", str(tmp_path / "h.parquet")]) == 0
    table = parquet.read_table(tmp_path / "h.parquet")
    rows = table.to_pylist()
    assert [row["key"] for row in rows if row["op"] == "write"] == HOSTILE
    assert {row["version"] for row in rows if row["op"] == "write"} == {1}
    assert json.loads(rows[-2]["more"]) == {"items": [*HOSTILE, 7, "7"]}
    assert json.loads(table.schema.metadata[b"stalewatch-history"])["run"] == "r1"


def test_without_pyarrow_parquet_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    source = written(tmp_path / "h.jsonl", [])
    assert main(["history", "export", str(source), "-o", str(tmp_path / "h.parquet")]) == 64
    assert "pip install 'stalewatch[parquet]'" in capsys.readouterr().err
    assert not (tmp_path / "h.parquet").exists()


READS: list[Operation] = [Read(session="s", key="k", version=0, start=1, end=2, outcome="ok")]


def test_nothing_is_overwritten_without_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = written(tmp_path / "h.jsonl", READS), tmp_path / "h.csv"
    target.write_text("mine")
    export = ["history", "export", str(source), "-o"]
    assert main([*export, str(target)]) == 64
    assert target.read_text() == "mine"
    assert "exists: name another file, or give --force" in capsys.readouterr().err
    assert main([*export, str(source), "--force"]) == 64
    assert "is the file to read" in capsys.readouterr().err
    assert main([*export, str(target), "--force"]) == 0
    broken = tmp_path / "broken.jsonl"
    broken.write_text(source.read_text() + "{}\n")
    kept = target.read_bytes()
    assert main(["history", "export", str(broken), "-o", str(target), "--force"]) == 64
    assert target.read_bytes() == kept  # a failure leaves what was there
    assert f"{broken}:4: " in capsys.readouterr().err


def test_compressed_files_are_read_and_written(tmp_path: Path) -> None:
    source = written(tmp_path / "h.jsonl", READS)
    (tmp_path / "h.jsonl.zst").write_bytes(zstandard.compress(source.read_bytes()))
    assert main(["history", "export", str(tmp_path / "h.jsonl.zst"), "-o", str(tmp_path / "h.edn.gz")]) == 0
    assert b":f :read" in gzip.decompress((tmp_path / "h.edn.gz").read_bytes())
    assert main(["history", "import", str(tmp_path / "h.edn.gz"), "-o", str(tmp_path / "back.jsonl.zst")]) == 0
    assert operations_of(tmp_path / "back.jsonl.zst") == READS


# Memory.

OPERATIONS, PADDING = 20_000, 2000
MEMORY_BYTES = 75_000_000


def test_long_histories_need_little_memory(tmp_path: Path) -> None:
    """80 MB are sorted for EDN, in less memory than that."""
    source = tmp_path / "long.jsonl.zst"
    line = '{"op":"write","session":"s","key":"%d","version":1,"start":%d,"end":%d,"outcome":"ok","node":"%s"}\n'
    with zstandard.open(source, "wb") as file:
        file.write(history_text(File([]), closes=False).encode())
        for number in range(OPERATIONS):
            padding = f"{number}" * (PADDING // len(f"{number}"))
            file.write(
                (
                    line % (number % 100, number, number + 1, padding)
                    if number < 100
                    else line.replace('"write"', '"read"') % (number % 100, number, number + 1, padding)
                ).encode()
            )
    for action, given, made in (
        ("export", source, "long.edn.zst"),
        ("import", tmp_path / "long.edn.zst", "back.jsonl.zst"),
    ):
        subprocess.run(
            [sys.executable, "-m", "stalewatch", "history", action, given, "-o", tmp_path / made],
            cwd=ROOT,
            check=True,
            capture_output=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES)),
        )
    assert sum(1 for _ in History([tmp_path / "back.jsonl.zst"]).operations()) == OPERATIONS


# Filters.


def filtered(source: Path, *options: str) -> Path:
    target = source.with_name("filtered.jsonl")
    assert main(["history", "filter", str(source), "-o", str(target), "--force", *options]) == 0
    return target


@pytest.mark.parametrize("twins", TWINS, ids=lambda twins: f"{twins.guarantee}: {twins.difference}")
def test_the_smallest_history_still_shows_the_violation(twins: Any, tmp_path: Path) -> None:
    noise: list[Operation] = [
        Write(session="n1", key="noise", version=1, start=0, end=1, outcome="ok"),
        Read(session="n2", key="noise", version=0, start=2, end=3, outcome="ok"),
    ]
    moved = [type(one)(**{name: getattr(one, name) for name in one.__annotations__}) for one in twins.violating]
    for one in moved:
        one.start, one.end = one.start + 10, None if one.end is None else one.end + 10
    source = written(tmp_path / "h.jsonl", [*noise, *moved])
    small = (
        filtered(source, "--guarantee", twins.guarantee, "--witness", "1")
        if twins.guarantee != "stale_reads"
        else (filtered(source, "--guarantee", "stale_reads", "--witness", "2"))
    )
    found = operations_of(small)
    assert check([small])["guarantees"][twins.guarantee]["violated"] >= 1
    assert len(found) <= len(moved)
    assert not [one for one in found if getattr(one, "key", "") == "noise"]


SESSIONS: list[Operation] = [
    Write(session="s1", key="a", version=1, start=10**9, end=10**9 + 1, outcome="ok", node="m1"),
    Read(session="s2", key="a", version=1, start=2 * 10**9, end=2 * 10**9 + 1, outcome="ok", node="m2"),
    Final(key="a", version=0, start=3 * 10**9, end=3 * 10**9 + 1, outcome="ok"),
    Read(session="s2", key="b", version=0, start=4 * 10**9, end=4 * 10**9 + 1, outcome="ok", node="m1"),
    Final(key="a", version=1, start=5 * 10**9, end=5 * 10**9 + 1, outcome="ok"),
]


@pytest.mark.parametrize(
    ("options", "kept", "complete"),
    [
        (("--key", "a"), [0, 1, 2, 4], True),
        (("--key", "a", "--key", "b"), [0, 1, 2, 3, 4], True),
        (("--session", "s2"), [1, 2, 3, 4], False),
        (("--node", "m1"), [0, 2, 3, 4], False),
        (("--from", "1", "--to", "1.5"), [1, 2, 4], False),
        (("--to", "0.5"), [0, 2, 4], False),
    ],
)
def test_a_part_of_a_history_violates_nothing_that_the_whole_does_not(
    options: tuple[str, ...],
    kept: list[int],
    complete: bool,  # noqa: FBT001 # a parameter
    tmp_path: Path,
) -> None:
    """Above all no read becomes a phantom, and no earlier final read decides: final reads stay."""
    part = filtered(written(tmp_path / "h.jsonl", SESSIONS), *options)
    assert operations_of(part) == [SESSIONS[index] for index in kept]
    assert History([part]).complete == complete
    whole = check([tmp_path / "h.jsonl"])["guarantees"]
    for name, row in check([part])["guarantees"].items():
        assert row["violated"] <= whole[name]["violated"], name


def test_requests_that_cannot_be_met_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = written(tmp_path / "h.jsonl", SESSIONS)
    for options, refusal in {
        (): "nothing to filter by",
        ("--key", "z"): "no operation has the key z: there are a, b",
        ("--session", "NOPE", "--session", "NIL"): "no operation has the session NIL, NOPE: there are s1, s2",
        ("--node", "z"): "no operation has the node z: there are m1",
        ("--session", "s2", "--to", "0.5"): "no operation matches; nothing was written",
        ("--from", "100"): "no operation matches; nothing was written",
        ("--from", "5", "--to", "2"): "--from 5 is after --to 2",
        ("--witness", "9"): "there is no violation 9: ",
        ("--witness", "1", "--key", "a"): "--witness goes with --guarantee alone",
    }.items():
        assert main(["history", "filter", str(source), "-o", str(tmp_path / "out.jsonl"), *options]) == 64
        assert refusal in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()


def test_standard_output_holds_the_history_alone(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    source = written(tmp_path / "h.jsonl", SESSIONS)
    assert main(["history", "filter", str(source), "--witness", "1", "-o", "-"]) == 0
    lines = capfdbinary.readouterr().out.splitlines()
    assert [json.loads(line).get("op") for line in lines] == [None, "write", "read", "final", "close"]
