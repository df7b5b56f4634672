"""Apache CouchDB: where it is, the files of one leader, how it is started, and what its last words mean.

Each leader is a node of its own, not a member of one CouchDB cluster: they know each other by replication alone. The
installation is only read: the program, and the defaults that it ships.
"""

from collections.abc import Mapping
from configparser import ConfigParser
from functools import partial
from pathlib import Path

from stalewatch.clusters.local import leaders, programs
from stalewatch.clusters.local.couch_server import Launch, Server
from stalewatch.clusters.local.diagnosis import Sign
from stalewatch.clusters.local.programs import Program
from stalewatch.clusters.protocol import DiskFull, MissingProgram, PortTaken, Progress, ServerDied

OLDEST = 3
"""The oldest major version: before it there was a second port, and no single node that sets itself up."""

PROGRAM = Program(
    name="couchdb",
    variable="STALEWATCH_COUCHDB",
    install=f"name the file bin/couchdb of an installed Apache CouchDB {OLDEST} in STALEWATCH_COUCHDB",
)

SIGNS = (
    Sign(r"\beaddrinuse\b", PortTaken, "another program listens on its port"),
    Sign(r"\benospc\b|\bedquot\b", DiskFull, "the disk is full: make room and try again"),
    Sign(
        r"\b(?:eacces|erofs|eperm)\b",
        ServerDied,
        "it may not read or write its files: see who owns them, or set STALEWATCH_HOME to a folder elsewhere",
    ),
)

TELLING = r"\[(?:error|critical|alert|emergency)\]|Failure to start|[Tt]erminat"
"""Marks its log's errors, and what Erlang says before it gives up."""

# Without -name or -sname: nothing then listens for other Erlang nodes, which would be on all interfaces, and no port
# mapper (epmd) is started, which would outlive the server. The official container image starts single nodes so too.
VM_ARGS = """\
-kernel error_logger silent
-sasl sasl_error_logger false
+Bd -noinput
"""

_FOREIGN_FLAGS = ("ERL_FLAGS", "ERL_AFLAGS", "ERL_ZFLAGS", "COUCHDB_INI_FILES")
"""May name other configuration files, and CouchDB ends at once where it is told of files twice."""


def find(progress: Progress) -> Server | None:
    """Return the CouchDB that the variable names, else the one on PATH; None where there is none of use.

    Raises `MissingProgram` where the one that the variable names is of no use.
    """
    for path in programs.candidates(PROGRAM):
        try:
            return _server(path)
        except MissingProgram as error:
            if PROGRAM.is_named:
                raise
            progress(f"not used: {error}")
    return None


def settings(data: Path, address: str) -> Mapping[str, Mapping[str, str]]:
    """Return a leader's configuration, as sections of an ini file."""
    host, _, port = address.rpartition(":")
    return {
        "couchdb": {"database_dir": str(data), "view_index_dir": str(data), "single_node": "true"},
        "cluster": {"n": "1"},
        "chttpd": {"bind_address": host, "port": port},
        "prometheus": {"additional_port": "false"},
        "admins": {leaders.USER: leaders.PASSWORD},
        "log": {"writer": "stderr", "level": "warning"},
    }


def _server(path: Path) -> Server:
    program = path.resolve()  # a link on PATH has no installation beside it
    version = _version(program)
    return Server("couchdb", f"Apache CouchDB {version}", partial(_prepare, program), SIGNS, TELLING)


def _version(program: Path) -> str:
    root = program.parents[1]
    try:
        (root / "etc" / "default.ini").open("rb").close()
        _, version = (root / "releases" / "start_erl.data").read_text().split()
        supported = int(version.partition(".")[0]) >= OLDEST
    except (OSError, ValueError) as error:
        raise MissingProgram(f"{program} belongs to no CouchDB of use ({error}): {PROGRAM.install}") from error
    if not supported:
        raise MissingProgram(f"{program} is CouchDB {version}, which is too old: {PROGRAM.install}")
    return version


def _prepare(program: Path, folder: Path, address: str) -> Launch:
    data, etc = folder / "data", folder / "etc"
    for needed in (data, etc):
        needed.mkdir(parents=True, exist_ok=True)
    arguments, chosen, own = etc / "vm.args", etc / "stalewatch.ini", etc / "local.ini"
    arguments.write_text(VM_ARGS)
    _write(chosen, settings(data, address))
    own.touch()  # into the last file CouchDB writes what it makes up once: its uuid, its secret, the password's hash
    defaults = program.parents[1] / "etc"
    shipped = [defaults / "default.ini", *sorted((defaults / "default.d").glob("*.ini"))]
    environment = dict.fromkeys(_FOREIGN_FLAGS, "")
    environment |= {"COUCHDB_ARGS_FILE": str(arguments), "ERL_CRASH_DUMP": str(folder / "erl_crash.dump")}
    return Launch([program, "-couch_ini", *shipped, chosen, own], environment)


def _write(path: Path, sections: Mapping[str, Mapping[str, str]]) -> None:
    configuration = ConfigParser(interpolation=None)
    configuration.optionxform = str  # type: ignore[assignment,method-assign] # names of users keep their case
    configuration.read_dict(sections)
    with path.open("w") as file:
        configuration.write(file)
