"""The system's own commands for networks: ``ip``, ``nft`` and ``tc``, and whether they may be used."""

import os
import shutil
import subprocess
from collections.abc import Sequence

from stalewatch.clusters.protocol import ClusterError, MissingProgram, NotAllowed

PACKAGES = {"ip": "iproute2", "tc": "iproute2", "nft": "nftables", "nsenter": "util-linux"}
"""Debian's packages of the commands."""

_TIMEOUT_S = 20.0


class Failed(ClusterError):
    """A command ended with an error; the message has its last words."""


def require() -> None:
    """Raise `NotAllowed` or `MissingProgram` where no lab can be made here."""
    if os.geteuid() != 0:
        raise NotAllowed(
            "a lab has network namespaces of its own, which only root may make: use sudo, or go without --lab"
        )
    for program, package in PACKAGES.items():
        if shutil.which(program) is None:
            raise MissingProgram(
                f"a lab needs the command {program}: install it (Debian and Ubuntu: apt-get install {package})"
            )


def run(*words: str, script: str = "") -> str:
    """Run a command with a script as its input and return what it said; raise `Failed` where it did not succeed."""
    try:
        done = subprocess.run(words, input=script, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603 -- the commands above
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(words)}: no end after {_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        raise Failed(f"{' '.join(words)}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout


def succeeds(*words: str) -> bool:
    """Say whether a command, which changes nothing, succeeds."""
    try:
        run(*words)
    except Failed:
        return False
    return True


def inside(namespace: str) -> Sequence[str]:
    """Return the words that come before a command so that it runs in a network namespace, as the same process."""
    return ("nsenter", f"--net=/run/netns/{namespace}", "--")
