"""The pytest plugin: the fixture `watch`, expectations by option and marker, histories, and a quick start."""

import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import stalewatch
from stalewatch.watch.pytest_plugin import file_name

EXAMPLE = Path(__file__).parents[2] / "examples" / "pytest"
TIMEOUT_S = 120

STALE = """
def go_stale(watch):
    alice = watch.session("alice")
    for _ in range(2):
        with alice.write("k"):
            pass
    with alice.read("k") as read:
        read.saw(1)
    with watch.final_read("k") as final:
        final.saw(1)

def go_well(watch):
    alice = watch.session("alice")
    with alice.write("k") as write:
        pass
    with alice.read("k") as read:
        read.saw(1)
    with watch.final_read("k") as final:
        final.saw(1)
"""


def run_pytest(folder: Path, tests: str, *arguments: str) -> dict[str, str]:
    """Run the tests in a folder of its own; return the outcome of each by name, and the whole output as ``output``."""
    (folder / "test_it.py").write_text(f"import pytest\n{STALE}\n{tests}")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "--color=no", *arguments]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    outcomes = re.findall(r"^(PASSED|FAILED|ERROR|XFAIL) test_it\.py::(\S+)", ended.stdout, re.MULTILINE)
    return {**{name: outcome for outcome, name in outcomes}, "output": ended.stdout + ended.stderr}


def test_violations_fail_a_test_only_if_it_expects_otherwise(tmp_path: Path) -> None:
    outcomes = run_pytest(
        tmp_path,
        """
def test_nothing_expected(watch):
    go_stale(watch)

def test_own_expectation(watch):
    go_stale(watch)
    watch.expect("stale_reads=0")

@pytest.mark.stalewatch(expect="read_your_writes=0")
def test_marked(watch):
    go_stale(watch)

@pytest.mark.stalewatch(expect="lost_writes=0")
def test_marked_and_well(watch):
    go_well(watch)

@pytest.mark.xfail(strict=True)
@pytest.mark.stalewatch(expect="lost_writes=0")
def test_known_to_lose(watch):
    go_stale(watch)

@pytest.mark.stalewatch(expect="lost_writes=0")
def test_failing_anyway(watch):
    go_stale(watch)
    raise ValueError("of its own")
""",
    )
    output = outcomes.pop("output")
    assert outcomes == {
        "test_nothing_expected": "PASSED",
        "test_own_expectation": "FAILED",
        "test_marked": "FAILED",
        "test_marked_and_well": "PASSED",
        "test_known_to_lose": "XFAIL",
        "test_failing_anyway": "FAILED",
    }
    assert "\nexpected read_your_writes=0: it is 1\n" in output
    assert "alice wrote 2 to k [" in output
    assert "ValueError: of its own" in output


def test_the_option_holds_for_tests_without_expectations_of_their_own(tmp_path: Path) -> None:
    histories = tmp_path / "histories"
    outcomes = run_pytest(
        tmp_path,
        """
def test_nothing_expected(watch):
    go_stale(watch)

@pytest.mark.parametrize("value", ["a/b c"])
def test_well(watch, value):
    go_well(watch)

def test_own_expectation(watch):
    go_stale(watch)
    watch.expect("stale_reads>0")

@pytest.mark.stalewatch(expect="stale_reads>0")
def test_marked(watch):
    go_stale(watch)

def test_without_a_watch():
    pass
""",
        "--stalewatch-expect=stale_reads=0,lost_writes=0",
        f"--stalewatch-history={histories}",
    )
    output = outcomes.pop("output")
    assert outcomes == {
        "test_nothing_expected": "FAILED",
        "test_well[a/b": "PASSED",
        "test_own_expectation": "PASSED",
        "test_marked": "PASSED",
        "test_without_a_watch": "PASSED",
    }
    assert "expected lost_writes=0: it is 0.5" in output
    files = sorted(histories.iterdir())
    assert [re.sub(r"-[0-9a-f]{8}\.jsonl$", "", file.name) for file in files] == [
        "test_it.py-test_marked",
        "test_it.py-test_nothing_expected",
        "test_it.py-test_own_expectation",
        "test_it.py-test_well-a-b-c",
    ]
    assert [stalewatch.check(file)["verdict"] for file in files] == ["invalid", "invalid", "invalid", "valid"]


def test_an_option_that_is_no_expectation_is_refused(tmp_path: Path) -> None:
    outcomes = run_pytest(tmp_path, "", "--stalewatch-expect=ryw=0")
    assert "ERROR: --stalewatch-expect: unknown name 'ryw'" in outcomes["output"]


def test_the_example_passes_on_the_primary_and_says_why_the_replica_fails(tmp_path: Path) -> None:
    folder = shutil.copytree(EXAMPLE, tmp_path / "example", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "--stalewatch-history", "histories"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert "1 failed, 1 passed" in ended.stdout
    assert "PASSED test_store.py::test_users_see_their_own_writes[primary]" in ended.stdout
    assert re.search(r"alice wrote 1 to profile-0 \[.*; alice read 0 from profile-0 \[.* at replica", ended.stdout)
    (history,) = (folder / "histories").glob("*replica*")
    assert stalewatch.check(history)["guarantees"]["read_your_writes"]["violated"] > 0


def test_files_of_tests_have_names_of_their_own() -> None:
    names = ["test_a", "test_a[b/c]", "test_a[b c]", "tests/x.py::test_a", "t" * 300 + "1", "u" * 300 + "1", "../x"]
    made = [file_name(name) for name in names]
    assert len(set(made)) == len(names)
    assert made[0] == "test_a"
    assert all(re.fullmatch(r"[\w.-]{1,140}", name) and not name.startswith(".") for name in made)


def test_the_plugin_is_installed_with_the_package() -> None:
    (point,) = [point for point in entry_points(group="pytest11") if point.name == "stalewatch"]
    assert point.value == "stalewatch.watch.pytest_plugin"


def test_the_plugin_imports_nothing_before_the_fixture_is_used() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import stalewatch.watch.pytest_plugin;"
        "print(sorted(name for name in set(sys.modules) - before))"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=TIMEOUT_S)
    loaded = set(eval(ended.stdout))  # noqa: S307 # our own output
    assert {name for name in loaded if name.startswith("stalewatch")} == {
        "stalewatch",
        "stalewatch.watch",
        "stalewatch.watch.pytest_plugin",
    }
    assert not loaded & {"msgspec", "gevent", "asyncio", "greenlet", "locust"}


@pytest.mark.stalewatch(expect="read_your_writes=0")
def test_this_suite_can_use_it(watch: stalewatch.Watch) -> None:
    alice = watch.session("alice")
    with alice.write("k") as write:
        store = write.version
    with alice.read("k") as read:
        read.saw(store)
