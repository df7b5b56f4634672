"""The image: the Dockerfile's steps, carried out on this machine, with their result run as the image's user.

The steps write only to folders in /srv. Each runs in a mount namespace with a test folder mounted there, so that it can
run unchanged without modifying this machine.
"""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copy, copytree, ignore_patterns, rmtree, which
from tempfile import mkdtemp

import pytest

from stalewatch.clusters.local import ports

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
SRV = "/srv"

CAN_MOUNT = os.geteuid() == 0 and bool(which("unshare")) and bool(which("setpriv"))
pytestmark = pytest.mark.skipif(not CAN_MOUNT, reason="the steps of an image need root, unshare and setpriv")


def instructions() -> Iterator[tuple[str, str]]:
    """Yield the Dockerfile's instructions as (name, arguments)."""
    for line in re.sub(r"\\\n", " ", TEXT).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word and not word.startswith("#"):
            yield word, rest


@dataclass
class Machine:
    """The state of an image: a folder for /srv, and the settings made by instructions."""

    srv: Path
    python: Path
    folder: str = "/"
    user: str = "0:0"
    environment: dict[str, str] = field(default_factory=dict)
    entry: Sequence[str] = ()
    health: Sequence[str] = ()

    def inside(self, path: str) -> Path:
        """Return the location of a path of the image on this machine; only paths in /srv have one."""
        whole = Path(self.folder, path)
        assert whole.is_relative_to(SRV), path
        return self.srv / whole.relative_to(SRV)

    def command(self, *arguments: str) -> list[str]:
        """Return a command line that runs a command in the image."""
        uid, _, gid = self.user.partition(":")
        who = shlex.join(["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *arguments])
        script = f"mount --bind {self.srv} {SRV} && cd {self.folder} && exec {who}"
        return ["unshare", "--mount", "sh", "-c", script]

    def environ(self) -> dict[str, str]:
        return {"PATH": f"{self.srv / 'bin'}:/usr/bin:/bin", **self.environment}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), env=self.environ(), capture_output=True, text=True, check=False, timeout=270
        )


def from_(machine: Machine, rest: str) -> None:
    """Start a stage: of the previous stage only copied files are left."""
    machine.folder, machine.user, machine.environment = "/", "0:0", {}
    if "build" not in rest:
        (machine.srv / "build").rename(machine.srv / "gone")


def workdir(machine: Machine, rest: str) -> None:
    machine.folder = rest
    machine.inside(".").mkdir(parents=True, exist_ok=True)


def copy_(machine: Machine, rest: str) -> None:
    *sources, target = rest.split()
    if sources[0].startswith("--from="):
        assert sources[1:] == [target]  # it is already there
        return
    for source in sources:
        if (ROOT / source).is_dir():
            copytree(ROOT / source, machine.inside(target), ignore=ignore_patterns("__pycache__"))
        else:
            copy(ROOT / source, machine.inside(target))


def env(machine: Machine, rest: str) -> None:
    for word in shlex.split(rest):
        name, _, value = word.partition("=")
        machine.environment[name] = value.replace("$PATH", machine.environ()["PATH"])


def run(machine: Machine, rest: str) -> None:
    done = machine.run("sh", "-c", rest)
    assert done.returncode == 0, done.stdout + done.stderr


def user(machine: Machine, rest: str) -> None:
    machine.user = rest


def healthcheck(machine: Machine, rest: str) -> None:
    machine.health = json.loads(rest[rest.index("[") :])


def cmd(machine: Machine, rest: str) -> None:
    machine.entry = json.loads(rest)


def nothing(machine: Machine, rest: str) -> None:
    del machine, rest


STEPS: Mapping[str, Callable[[Machine, str], None]] = {
    "ARG": nothing,
    "FROM": from_,
    "WORKDIR": workdir,
    "COPY": copy_,
    "ENV": env,
    "RUN": run,
    "USER": user,
    "EXPOSE": nothing,
    "HEALTHCHECK": healthcheck,
    "CMD": cmd,
}


def shared_python() -> Path:
    """Return a Python that other users can run, and that can create virtual environments."""
    look = "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"
    for path in (Path("/usr/bin/python3"), Path("/usr/local/bin/python3")):
        if path.exists() and subprocess.run([path, "-c", look], capture_output=True, check=False).returncode == 0:
            return path
    pytest.skip("no Python 3.11 with venv that other users can run: apt install python3-venv")


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """The image built by all steps of the Dockerfile."""
    srv = Path(mkdtemp())  # pytest's own folders are private to this user
    srv.chmod(0o755)
    try:
        python = shared_python()
        (srv / "bin").mkdir()
        (srv / "bin" / "python").symlink_to(python)
        image = Machine(srv, python)
        for word, rest in instructions():
            STEPS[word](image, rest)
        yield image
    finally:
        rmtree(srv)


def test_the_image_is_pinned_multi_stage_and_not_root() -> None:
    found = list(instructions())
    (argument,) = (rest for word, rest in found if word == "ARG")
    assert re.fullmatch(r"PYTHON_IMAGE=python:\d+\.\d+\.\d+-slim-\w+", argument)
    stages = [rest for word, rest in found if word == "FROM"]
    assert stages == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"]
    last = found[[word for word, _ in found].index("FROM", 2) :]
    assert [rest for word, rest in last if word == "RUN"] == []
    assert next(rest for word, rest in last if word == "USER").split(":")[0].isdecimal()


def test_the_build_context_contains_only_copied_files() -> None:
    sources = {
        source
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == sources
    assert all((ROOT / source).exists() for source in sources)


def test_the_targets_of_the_packages_links_are_copied() -> None:
    copied = {word for name, rest in instructions() if name == "COPY" for word in rest.split()}
    links = [path for path in (ROOT / "stalewatch").rglob("*") if path.is_symlink()]
    assert links
    assert {"stalewatch", *(link.resolve().name for link in links)} <= copied


def test_every_package_has_its_pinned_version(machine: Machine) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.lower().split("==") for line in lines if not line.startswith("#"))
    listing = "import json, importlib.metadata as m; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    there = json.loads(machine.run("python", "-c", listing).stdout)
    ours = there.pop("stalewatch")
    assert {name.lower(): version for name, version in there.items()}.items() <= pins.items()
    assert machine.run("stalewatch", "--version").stdout == f"stalewatch {ours}\n"


def test_the_bench_runs_as_the_images_user(machine: Machine) -> None:
    assert machine.run("id", "-u").stdout.strip() not in {"0", ""}
    shown = machine.run("python", "bench.py", "--help")
    assert shown.returncode == 0, shown.stderr
    assert "mongo" in shown.stdout
    run = machine.run("python", "bench.py", "memory", "--ops", "300", "--keys", "10")
    assert run.returncode == 0, run.stderr
    assert "verdict:" in run.stdout
    assert machine.run(*machine.entry).returncode == 0


@dataclass
class LocustProcess:
    """A master or worker running in the image."""

    machine: Machine
    process: subprocess.Popen[str]

    def is_healthy(self) -> bool:
        return self.machine.run(*self.machine.health, str(self.process.pid)).returncode == 0

    def is_unhealthy(self) -> bool:
        return not self.is_healthy()

    def end(self) -> str:
        return self.process.communicate(timeout=90)[0]


@pytest.fixture
def start(machine: Machine) -> Iterator[Callable[..., LocustProcess]]:
    started: list[LocustProcess] = []

    def run_locust(*flags: str) -> LocustProcess:
        command = machine.command("locust", "-f", "locustfiles/memory_users.py", *flags)
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, env=machine.environ(), stdout=pipe, stderr=subprocess.STDOUT, text=True)
        started.append(LocustProcess(machine, process))
        return started[-1]

    yield run_locust
    for one in started:
        one.process.kill()
        one.process.communicate()


def test_master_and_worker_are_healthy_while_connected(
    start: Callable[..., LocustProcess], eventually: Callable[..., None]
) -> None:
    (port,) = ports.free(1)
    load = ("--headless", "-u", "2", "-r", "2", "-t", "3s", "--only-summary", "--expect-workers", "1")
    worker = start("--worker", "--master-port", str(port))
    eventually(worker.is_unhealthy)
    master = start("--master", "--master-bind-port", str(port), *load)
    eventually(master.is_healthy)
    eventually(worker.is_healthy)
    output = master.end()
    assert master.process.returncode == 0, output
    assert "verdict: valid" in output
    worker.end()
    assert worker.process.returncode == 0
    assert worker.is_unhealthy()
