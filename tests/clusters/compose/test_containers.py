"""The docker command: its errors and timeouts, and which Compose is used."""

import os
from pathlib import Path

import pytest

from stalewatch.clusters.compose import containers
from stalewatch.clusters.protocol import ClusterError, MissingProgram, NotAllowed, NotReady, NotRunning, PortTaken
from tests.clusters.compose.conftest import Engine

ERRORS = [
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


@pytest.mark.parametrize(("output", "error", "advice"), ERRORS, ids=[error.__name__ for _, error, _ in ERRORS])
def test_docker_errors_are_recognized(engine: Engine, output: str, error: type[ClusterError], advice: str) -> None:
    engine.answer("docker kill", stderr=f"a warning\n{output}\n", code=1)
    with pytest.raises(error, match=advice) as raised:
        containers.docker("kill", "abc")
    assert type(raised.value) is error
    assert "docker kill abc" in str(raised.value)


def test_a_silent_failure_is_reported_with_its_exit_code(engine: Engine) -> None:
    engine.answer("docker kill", code=125)
    with pytest.raises(ClusterError, match="exit code 125"):
        containers.docker("kill", "abc")


def test_a_hanging_engine_times_out(engine: Engine) -> None:
    engine.answer("docker pause", after_s=30)
    with pytest.raises(NotReady, match=r"`docker pause abc` timed out after 0 s"):
        containers.docker("pause", "abc", timeout_s=0.3)


def test_a_missing_docker_is_reported_with_the_alternative(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingProgram, match="stalewatch cluster up"):
        containers.docker("ps")


def test_compose_uses_dockers_plugin(engine: Engine) -> None:
    containers.compose("up", "--detach", "mongo1")
    probe, called = engine.calls()
    assert probe == "docker compose version"
    assert called == f"docker compose --file {containers.FILE} --project-name replication up --detach mongo1"
    assert containers.FILE.exists()


def test_compose_uses_docker_compose_if_there_is_no_plugin(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.answer("docker compose", stderr="docker: 'compose' is not a docker command.\nSee 'docker --help'\n", code=1)
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "mine")
    containers.compose("stop", "mongo1")
    assert engine.calls()[-1] == f"docker-compose --file {containers.FILE} --project-name mine stop mongo1"


@pytest.mark.parametrize(
    "output",
    [
        "docker: 'compose' is not a docker command.",
        "unknown shorthand flag: 'f' in -f",
        "docker: unknown command: docker compose",
    ],
)
def test_a_missing_compose_is_reported_with_what_to_install(
    engine: Engine, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.answer("docker compose", stderr=output, code=1)
    Path(os.environ["STAND_IN"], "docker-compose").unlink()
    monkeypatch.setenv("PATH", os.environ["STAND_IN"])
    with pytest.raises(MissingProgram, match="docker-compose-plugin"):
        containers.compose("stop", "mongo1")
