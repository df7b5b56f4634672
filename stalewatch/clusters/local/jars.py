"""The jars of a Java server: pinned by checksum in a lock file, fetched once, kept outside the checkout.

A repository that stands in for Maven's central one is found as Maven finds it: a mirror of ``central`` (or ``*``) in
``~/.m2/settings.xml``; `VARIABLE` goes before that.
"""

import hashlib
import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stalewatch.clusters.local import home
from stalewatch.clusters.local.download import counting
from stalewatch.clusters.local.packages import Lazy
from stalewatch.clusters.protocol import MissingProgram, Progress

if TYPE_CHECKING:
    from jgo import maven
else:
    maven = Lazy("jgo.maven")

VARIABLE = "STALEWATCH_MAVEN_REPOSITORY"
SETTINGS = Path("~/.m2/settings.xml")

_AT_A_TIME = 8
_TRIES = 2
_TIMEOUT_S = 30
_MIRRORED = {"central", "*", "external:*"}


class Jar(NamedTuple):
    """One file of a Maven repository, and what its contents must be."""

    sha256: str
    size: int
    group: str
    artifact: str
    version: str
    classifier: str = ""

    @property
    def coordinate(self) -> str:
        """What Maven calls it."""
        return ":".join(filter(None, self[2:]))


def read_lock(path: Path) -> list[Jar]:
    """Return the jars of a lock file: a line each, with sha256, size in bytes and coordinate."""
    lines = (line.split() for line in path.read_text().splitlines() if not line.startswith("#"))
    return [Jar(sha256, int(size), *coordinate.split(":")) for sha256, size, coordinate in lines]


def cache() -> Path:
    """Return the folder that holds the jars of all checkouts: ``$XDG_CACHE_HOME/stalewatch/maven``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "stalewatch" / "maven"


def repositories(settings: Path = SETTINGS) -> Mapping[str, str] | None:
    """Return where jars come from if it is not Maven's central repository: the variable's URL, or Maven's mirror."""
    given = os.environ.get(VARIABLE) or _mirror(settings.expanduser())
    return {"mirror": given.rstrip("/")} if given else None


def fetch(lock: Path, progress: Progress) -> list[Path]:
    """Return the jars of a lock file, all of them verified; what the cache lacks is downloaded.

    Raises `MissingProgram` for one that cannot be had or is not what the lock says.
    """
    folder, jars = cache(), read_lock(lock)
    with home.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with home.locked(folder / "lock", progress):
            _download(folder, [jar for jar in jars if not _is_there(folder, jar)], progress)
    return [_path(folder, jar) for jar in jars]


def _download(folder: Path, missing: Sequence[Jar], progress: Progress) -> None:
    if not missing:
        return
    remote = repositories()
    where = f"{VARIABLE} or {SETTINGS}" if remote else "Maven's central repository"
    context = maven.MavenContext(repo_cache=folder, remote_repos=dict(remote) if remote else None, timeout=_TIMEOUT_S)
    text = f"fetching {len(missing)} jars from {where} to {home.shown(folder)}"
    total = sum(jar.size for jar in missing)
    with counting(text, total, progress) as add, ThreadPoolExecutor(_AT_A_TIME) as pool:
        _all(pool, missing, lambda jar: _get(context, folder, jar), add)


def _all(pool: ThreadPoolExecutor, jars: Iterable[Jar], get: Callable[[Jar], None], add: Callable[[int], None]) -> None:
    sizes = {pool.submit(get, jar): jar.size for jar in jars}
    try:
        for future in as_completed(sizes):
            future.result()
            add(sizes[future])
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _get(context: "maven.MavenContext", folder: Path, jar: Jar) -> None:
    reason = "its contents are not what the lock file says"
    for _ in range(_TRIES):
        _path(folder, jar).unlink(missing_ok=True)  # half of it, or another file
        try:
            project = context.project(jar.group, jar.artifact).at_version(jar.version)
            project.artifact(jar.classifier, "jar").resolve()
        except RuntimeError:  # jgo's word for it; it quotes the URL, which may hold a password, as the next ones do
            reason = "it is not in the repository"
        except OSError as error:  # those of requests too
            reason = type(error).__name__
        if _is_there(folder, jar):
            return
    raise MissingProgram(
        f"{jar.coordinate} cannot be had ({reason}): check the network, or name a Maven repository in {VARIABLE} "
        f"or as a mirror in {SETTINGS}"
    )


def _path(folder: Path, jar: Jar) -> Path:
    classifier = f"-{jar.classifier}" if jar.classifier else ""
    name = f"{jar.artifact}-{jar.version}{classifier}.jar"
    return folder.joinpath(*jar.group.split("."), jar.artifact, jar.version, name)


def _is_there(folder: Path, jar: Jar) -> bool:
    path = _path(folder, jar)
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == jar.sha256


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
