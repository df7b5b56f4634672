"""A stand-in for the docker command on PATH: these tests run without a Docker engine."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from stalewatch.clusters.compose.containers import NETWORK
from stalewatch.clusters.local import home

STAND_IN = Path(__file__).with_name("docker_stand_in.py")
PUBLISHED = {"mongo": (27017, 27018, 27019), "cassandra": (9042, 9043, 9044), "couch": (5984, 5985)}
FIRST_PID = 4_000_000
"""Higher than the kernel's pids, and so of no process."""


class Engine:
    """The stand-in's containers, its answers, and the calls that it has recorded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.containers: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] = []
        self.save()
        (folder / "answers.json").write_text("[]")

    def save(self) -> None:
        """Write the containers for the next call, whatever earlier calls did to them."""
        (self._folder / "engine.json").write_text(json.dumps(self.containers))

    def add(
        self,
        service: str,
        published: str = "",
        *,
        pid: int = FIRST_PID,
        address: str = "",
        project: str = "replication",
    ) -> str:
        """Add a running container, and return its id; `published` is HOST:PORT:INSIDE."""
        number = len(self.containers) + 1
        host, _, ports = published.partition(":")
        outside, _, inside = ports.partition(":")
        bindings = {f"{inside}/tcp": [{"HostIp": host, "HostPort": outside}]} if published else {}
        labels = {"com.docker.compose.project": project, "com.docker.compose.service": service}
        where = address or f"172.18.0.{number + 1}"
        self.containers.append(
            {
                "Id": f"id-of-{service}",
                "Image": f"sha256:image-of-{service}",
                "Config": {"Labels": {**labels, "com.docker.compose.oneoff": "False"}},
                "State": {"Status": "running", "Pid": pid + number},
                "HostConfig": {"PortBindings": bindings},
                "NetworkSettings": {"Networks": {NETWORK: {"IPAddress": where}}, "Ports": {}},
                "Address": where,
                "ItsPid": pid + number,
            }
        )
        self.save()
        return f"id-of-{service}"

    def add_all(self, database: str, inside: int, published: Sequence[int] = ()) -> None:
        """Add the containers of all nodes of a database."""
        for number, port in enumerate(published or PUBLISHED[database], start=1):
            self.add(f"{database}{number}", f"127.0.0.1:{port}:{inside}")

    def answer(self, to: str, stdout: str = "", stderr: str = "", code: int = 0, after_s: float = 0) -> None:
        """Answer calls that start with `to` by this output, instead of carrying them out."""
        self.answers.append({"to": to, "stdout": stdout, "stderr": stderr, "code": code, "after_s": after_s})
        (self._folder / "answers.json").write_text(json.dumps(self.answers))

    def calls(self) -> list[str]:
        """Return and clear the recorded command lines, except those that list or inspect."""
        return [line for line, _ in self.scripts()]

    def scripts(self) -> list[tuple[str, str]]:
        """Return and clear the recorded command lines with their input, except those that list or inspect."""
        file = self._folder / "calls.jsonl"
        calls: list[Mapping[str, Any]] = [json.loads(line) for line in file.read_text().splitlines()]
        file.write_text("")
        lines = [(" ".join(call["words"]), str(call["script"])) for call in calls]
        return [(line, script) for line, script in lines if not line.startswith(("docker ps", "docker inspect"))]


def install_stand_in(folder: Path, *names: str) -> None:
    """Install the stand-in in a folder as commands of these names."""
    for name in names:
        program = folder / name
        program.write_text(f"#!{sys.executable} -S\n{STAND_IN.read_text()}")
        program.chmod(0o755)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    folder = tmp_path / "stand-in"
    folder.mkdir()
    install_stand_in(folder, "docker", "docker-compose")
    monkeypatch.setenv("STAND_IN", str(folder))
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv(home.VARIABLE, str(tmp_path / "home"))
    monkeypatch.delenv("COMPOSE_PROJECT_NAME", raising=False)
    return Engine(folder)
