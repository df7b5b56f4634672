"""Why a server ended at its start, read from its last words, and what to do about it."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from stalewatch.clusters.local import home
from stalewatch.clusters.local.process import ServerProcess
from stalewatch.clusters.protocol import ClusterError, DiskFull, MissingLibrary, MissingProgram, PortTaken, ServerDied

_LINES_SHOWN = 5
_CHARACTERS_SHOWN = 400
_LINES_READ = 200


class Sign(NamedTuple):
    """A pattern in the last words (or in ``exit code N``), what it means, and what to do; groups go into `advice`."""

    pattern: str
    kind: type[ClusterError]
    advice: str


# Debian's packages. Ubuntu has the same names; newer releases of both provide them under longer ones.
LIBRARY_PACKAGES = {
    "libcurl.so.4": "libcurl4",
    "libssl.so.3": "libssl3",
    "libcrypto.so.3": "libssl3",
    "liblzma.so.5": "liblzma5",
    "libz.so.1": "zlib1g",
    "libstdc++.so.6": "libstdc++6",
    "libatomic.so.1": "libatomic1",
}

_SIGNS = (
    *(
        Sign(
            rf"error while loading shared libraries: {re.escape(library)}:",
            MissingLibrary,
            f"the system library {library} is missing; on Debian and Ubuntu: `apt-get install {package}`",
        )
        for library, package in LIBRARY_PACKAGES.items()
    ),
    Sign(
        r"error while loading shared libraries: ([^:\s]+):",
        MissingLibrary,
        "the system library {} is missing; install the package that holds it",
    ),
    Sign(
        r"version `(\S+)' not found",
        MissingLibrary,
        "this system's libraries are too old for it ({} is missing); install a program built for this system",
    ),
    Sign(
        r"exit code -4\b",
        MissingProgram,
        "the processor lacks instructions that it uses (MongoDB 5 and later need AVX)",
    ),
    Sign(r"(?i)no space left on device|disk quota exceeded", DiskFull, "the disk is full: make room and try again"),
    Sign(r"(?i)address already in use", PortTaken, "another program listens on its port"),
)


def of_death(server: ServerProcess, signs: Sequence[Sign] = (), telling: str = "") -> ClusterError:
    """Return the error that says why the server ended: by the database's own `signs` first, then by common ones.

    Where lines of its log match `telling`, those are shown, for the very last ones may say no more than good-bye.
    """
    code = server.exit_code
    words = server.last_words(_LINES_READ)
    told = "\n".join([*words, f"exit code {code}"])
    kind, advice = _read(told, (*signs, *_SIGNS))
    ended = "ended" if code is None else f"ended with exit code {code}"
    shown = [line for line in words if re.search(telling, line)] or words
    lines = "".join(f"\n  {line[:_CHARACTERS_SHOWN]}" for line in shown[-_LINES_SHOWN:])
    return kind(f"{server.name} {ended}: {advice}\nlast lines of {home.shown(server.log)}:{lines or ' none'}")


def _read(told: str, signs: Sequence[Sign]) -> tuple[type[ClusterError], str]:
    for sign in signs:
        found = re.search(sign.pattern, told)
        if found:
            return sign.kind, sign.advice.format(*found.groups())
    return ServerDied, "its log says why"
