"""The docker command: how it is called, and what it means when it fails."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stalewatch.clusters.protocol import ClusterError, MissingProgram, NotAllowed, NotReady, NotRunning, PortTaken

FILE = Path(__file__).parents[3] / "replication" / "docker-compose.yml"

TIMEOUT_S = 30.0
"""For all that is done at once; an engine under load may take seconds."""

UP_TIMEOUT_S = 900.0
"""For bringing containers up, which fetches their images once."""

PROJECT = "COMPOSE_PROJECT_NAME"
"""The environment variable that Compose too reads; `project` when it is not set."""


class Trouble(NamedTuple):
    """A pattern in what a command says when it fails, what it means, and what to do."""

    pattern: str
    kind: type[ClusterError]
    advice: str


TROUBLES = (
    Trouble(
        r"permission denied.*docker(\.sock| daemon)|docker daemon socket.*permission denied",
        NotAllowed,
        "this user may not use the Docker engine: use sudo, or join the group docker",
    ),
    Trouble(
        r"cannot connect to the docker daemon|error during connect|docker daemon is not running",
        NotReady,
        "no Docker engine runs: start it",
    ),
    Trouble(r"port is already allocated|address already in use", PortTaken, "another program listens on its port"),
    Trouble(r"is not running|no such container", NotRunning, "restart it first"),
    Trouble(
        r"unknown (shorthand )?flag|unknown command|is not a docker command",
        MissingProgram,
        "this docker has no Compose: install its plugin docker-compose-plugin, or docker-compose 1.29 or later",
    ),
)


def project() -> str:
    """Return the name that Compose knows all containers by."""
    return os.environ.get(PROJECT) or "replication"


def docker(*words: str, timeout_s: float = TIMEOUT_S) -> str:
    """Run ``docker WORDS`` and return what it says.

    Raises `MissingProgram` where there is no docker, `NotReady` where it does not end in time, else what `TROUBLES`
    makes of its words.
    """
    return _run(["docker", *words], timeout_s)


def docker_json(*words: str) -> Any:  # noqa: ANN401 # JSON
    """Run ``docker WORDS`` and return the JSON that it says."""
    return json.loads(docker(*words))


def compose(*words: str, timeout_s: float = TIMEOUT_S) -> str:
    """Run Compose on the project's file, whatever folder this is; errors as of `docker`."""
    return _run([*_compose(), "--file", str(FILE), "--project-name", project(), *words], timeout_s)


def _compose() -> Sequence[str]:
    """Return the command that Compose is here: docker's plugin, else the program that came before it."""
    try:
        docker("compose", "version")
    except ClusterError as error:
        if isinstance(error, NotReady) or shutil.which("docker-compose") is None:
            raise
        return ["docker-compose"]
    return ["docker", "compose"]


def _run(words: Sequence[str], timeout_s: float) -> str:
    shown = " ".join(words)
    try:
        done = subprocess.run(  # noqa: S603 -- docker
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except FileNotFoundError:
        raise MissingProgram(
            f"the command {words[0]} is missing: install Docker, or go without containers (stalewatch cluster up)"
        ) from None
    except subprocess.TimeoutExpired:
        raise NotReady(f"`{shown}` did not end within {timeout_s:.0f} s: see whether the engine hangs") from None
    if done.returncode:
        raise _meaning(shown, done.stderr.strip() or f"exit code {done.returncode}")
    return done.stdout


def _meaning(shown: str, said: str) -> ClusterError:
    last = said.splitlines()[-1].rstrip(".?")
    for trouble in TROUBLES:
        if re.search(trouble.pattern, said, re.IGNORECASE):
            return trouble.kind(f"`{shown}`: {last}: {trouble.advice}")
    return ClusterError(f"`{shown}`: {last}")
