"""A hook for hatchling that compiles the judge with mypyc into the wheel, if HATCH_BUILD_HOOK_ENABLE_CUSTOM is true.

docs/performance.md says what it gains. It works on a copy: a checkout keeps running its sources.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPILED = (
    "checkers/guarantee.py",
    "checkers/item_list.py",
    "checkers/judge.py",
    "checkers/lost_writes.py",
    "checkers/read_guarantees.py",
    "checkers/session_files.py",
    "checkers/stale_reads.py",
    "checkers/unexpected_items.py",
    "checkers/unique_ids.py",
    "checkers/verdict.py",
    "history/rules.py",
)


class Mypyc(BuildHookInterface[Any]):
    """Adds the compiled modules to a wheel, next to their sources; Python imports the compiled ones."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and tell hatchling which files to add."""
        if version == "editable":
            return
        self._folder = TemporaryDirectory()  # lives until the wheel is written
        folder = Path(self._folder.name)
        shutil.copytree(Path(self.root, "stalewatch"), folder / "stalewatch")  # follows the links
        command = [sys.executable, "-m", "mypyc", "--ignore-missing-imports"]
        command += [f"stalewatch/{name}" for name in COMPILED]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 # our own
        if done.returncode:
            raise RuntimeError(f"mypyc failed:\n{done.stdout}{done.stderr}")
        libraries = [*folder.glob("*__mypyc.*"), *(folder / "stalewatch").rglob(f"*{_suffix()}")]
        build_data["force_include"] |= {str(path): str(path.relative_to(folder)) for path in libraries}
        build_data |= {"pure_python": False, "infer_tag": True}

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the copy."""
        if version != "editable":
            self._folder.cleanup()


def _suffix() -> str:
    """Return how the name of a compiled module ends."""
    return ".pyd" if sys.platform == "win32" else ".so"
