"""The docker command: what is made of its errors and its silence."""

import os
from pathlib import Path

import pytest

from stalewatch.clusters.compose import docker
from stalewatch.clusters.protocol import ClusterError, MissingProgram, NotAllowed, NotReady, NotRunning, PortTaken
from tests.clusters.compose.conftest import Engine

SAYINGS = [
    (
        "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: Get ...",
        NotAllowed,
        "sudo",
    ),
    (
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        NotReady,
        "start it",
    ),
    (
        "Error response from daemon: Bind for 127.0.0.1:27017 failed: port is already allocated",
        PortTaken,
        "another program",
    ),
    ("Error response from daemon: cannot kill container: abc: container abc is not running", NotRunning, "restart it"),
    ("Error response from daemon: No such container: abc", NotRunning, "restart it"),
    ("Error response from daemon: something else", ClusterError, "something else"),
]


@pytest.mark.parametrize(("said", "kind", "advice"), SAYINGS, ids=[kind.__name__ for _, kind, _ in SAYINGS])
def test_what_docker_says_when_it_fails_has_a_meaning(
    engine: Engine, said: str, kind: type[ClusterError], advice: str
) -> None:
    engine.answer("docker kill", stderr=f"a warning\n{said}\n", code=1)
    with pytest.raises(kind, match=advice) as raised:
        docker.docker("kill", "abc")
    assert type(raised.value) is kind
    assert "docker kill abc" in str(raised.value)


def test_a_command_that_says_nothing_when_it_fails_is_told_by_its_code(engine: Engine) -> None:
    engine.answer("docker kill", code=125)
    with pytest.raises(ClusterError, match="exit code 125"):
        docker.docker("kill", "abc")


def test_an_engine_that_hangs_is_not_waited_for(engine: Engine) -> None:
    engine.answer("docker pause", after_s=30)
    with pytest.raises(NotReady, match=r"`docker pause abc` did not end within 0 s"):
        docker.docker("pause", "abc", timeout_s=0.3)


def test_without_docker_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingProgram, match="stalewatch cluster up"):
        docker.docker("ps")


def test_compose_is_dockers_plugin_where_there_is_one(engine: Engine) -> None:
    docker.compose("up", "--detach", "mongo1")
    asked, called = engine.calls()
    assert asked == "docker compose version"
    assert called == f"docker compose --file {docker.FILE} --project-name replication up --detach mongo1"
    assert docker.FILE.exists()


def test_compose_is_the_older_program_where_docker_has_no_plugin(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.answer("docker compose", stderr="docker: 'compose' is not a docker command.\nSee 'docker --help'\n", code=1)
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "mine")
    docker.compose("stop", "mongo1")
    assert engine.calls()[-1] == f"docker-compose --file {docker.FILE} --project-name mine stop mongo1"


@pytest.mark.parametrize(
    "said",
    [
        "docker: 'compose' is not a docker command.",
        "unknown shorthand flag: 'f' in -f",
        "docker: unknown command: docker compose",
    ],
)
def test_without_any_compose_it_says_what_to_install(
    engine: Engine, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.answer("docker compose", stderr=said, code=1)
    Path(os.environ["STAND_IN"], "docker-compose").unlink()
    monkeypatch.setenv("PATH", os.environ["STAND_IN"])
    with pytest.raises(MissingProgram, match="docker-compose-plugin"):
        docker.compose("stop", "mongo1")
