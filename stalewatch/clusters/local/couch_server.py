"""What a leader of the local CouchDB cluster runs: a server that was found on this machine, and how to start it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from stalewatch.clusters.local.diagnosis import Sign
from stalewatch.clusters.local.programs import Program
from stalewatch.clusters.protocol import Progress


class Launch(NamedTuple):
    """The command line that starts one leader, and what its environment holds beside this process's own."""

    arguments: Sequence[str | Path]
    environment: Mapping[str, str]


class Server(NamedTuple):
    """A program that speaks CouchDB's protocol, ready to be started once for each leader.

    `name` says who can read the data that it writes, `title` what people call it. `prepare` takes a leader's folder and
    HOST:PORT, writes the files that are needed there, and returns how to start it. `signs` and `telling` are what its
    last words mean, as in `diagnosis.of_death`.
    """

    name: str
    title: str
    prepare: Callable[[Path, str], Launch]
    signs: Sequence[Sign] = ()
    telling: str = ""


class Kind(NamedTuple):
    """A kind of server: the program that it takes, and how to get it ready.

    `find` returns None where this machine does not have it, and raises a `ClusterError` where it cannot be made to run.
    """

    program: Program
    find: Callable[[Progress], Server | None]
