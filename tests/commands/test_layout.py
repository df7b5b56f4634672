"""The layout of the code: one package, names with one meaning, short functions, short ways."""

import ast
import subprocess
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.way_of_an_operation import way

ROOT = Path(__file__).parents[2]
FOLDERS = ("stalewatch", "clients", "checkers", "locustfiles", "examples", "grafana", "replication")
MOST_LINES = 35
MOST_FILES = 15


def modules() -> Iterator[Path]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not any(parent.is_symlink() for parent in path.parents):
                yield path


def definitions(kind: type[ast.AST]) -> Iterator[tuple[Path, ast.AST]]:
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, kind):
                yield path, node


def test_no_class_name_has_two_meanings() -> None:
    found = defaultdict(list)
    for path, node in definitions(ast.ClassDef):
        assert isinstance(node, ast.ClassDef)
        found[node.name].append(path.relative_to(ROOT).as_posix())
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


@pytest.mark.parametrize("kind", [ast.FunctionDef, ast.AsyncFunctionDef])
def test_no_function_is_longer_than_a_screen(kind: type[ast.FunctionDef]) -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path, node in definitions(kind)
        if isinstance(node, kind) and (node.end_lineno or 0) - node.lineno + 1 > MOST_LINES
    }
    assert long == {}


def test_the_linked_folders_are_imported_through_the_package() -> None:
    for path in (ROOT / line for line in tracked("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not [name for name in names if name.partition(".")[0] in {"clients", "checkers"}], path


def tracked(pattern: str) -> list[str]:
    listed = subprocess.run(["git", "ls-files", pattern], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


def test_one_write_and_one_stale_read_pass_through_few_files() -> None:
    files = way()
    assert len(files) <= MOST_FILES, files


def test_requirements_are_the_core_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert sorted(line for line in lines if line and not line.startswith("#")) == sorted(project["dependencies"])
