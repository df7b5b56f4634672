"""The wheel with the compiled judge passes the tests of the checkers."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 280
TESTS = ("test_judge", "test_recorded", "test_overwriting", "test_adding_a_guarantee", "test_checkers_against_oracle")
"""The tests that call the judge; those of the oracle itself would find nothing new."""

LONG = "test_one_file_gets_the_counts_of_the_oracle"
"""Left out, for its 400 examples take as long as all others, which hold a thousand seeded histories."""

RUN = """
import sys
sys.path.insert(0, sys.argv[1])
from stalewatch.checkers import judge
assert not judge.__file__.endswith(".py"), judge.__file__
import pytest
sys.exit(pytest.main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the files of the compiled wheel."""
    pytest.importorskip("mypyc", reason="mypy is not installed: pip install -e '.[dev]'")
    if shutil.which(os.environ.get("CC", "gcc")) is None:
        pytest.skip("no C compiler: apt-get install gcc libc6-dev")
    folder = tmp_path_factory.mktemp("compiled")
    # Without optimization the same C code compiles in half of the time.
    chosen = {"HATCH_BUILD_HOOK_ENABLE_CUSTOM": "1", "MYPYC_OPT_LEVEL": "0", "MYPYC_DEBUG_LEVEL": "0"}
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=TIMEOUT_S, env=os.environ | chosen)
    (wheel,) = folder.glob("*.whl")
    assert "none-any" not in wheel.name
    zipfile.ZipFile(wheel).extractall(folder / "packages")
    return folder / "packages"


def test_the_compiled_judge_passes_the_tests_of_the_checkers(packages: Path, tmp_path: Path) -> None:
    assert list((ROOT / "checkers").glob("*.so")) == []  # a checkout stays pure
    paths = [f"tests/checkers/{name}.py" for name in TESTS]
    options = ["-q", "-n", "0", "-p", "no:cacheprovider", "-W", "ignore:Module already imported", "-k", f"not {LONG}"]
    command = [sys.executable, "-c", RUN, str(packages), *options, f"--basetemp={tmp_path}/tests", *paths]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr
