"""Secrets stay in the process that they were given to."""

import time
from argparse import Namespace
from importlib.metadata import version

import msgpack
import pytest
import zmq

from stalewatch.clients.mongodb.options import MongoOptions
from stalewatch.clients.options import options_of
from stalewatch.clusters.local import ports
from stalewatch.locust.options import Secrets
from tests.locust.conftest import Swarm

MONGO = "locustfiles/mongo_users.py"
WITH_SECRETS, REDACTED = "mongodb://carol:s3cret@127.0.0.1:1/?replicaSet=rs0", "mongodb://127.0.0.1:1/?replicaSet=rs0"


def secrets_of(given: str | None, environ: dict[str, str]) -> tuple[Secrets, Namespace]:
    namespace = Namespace(mongo_uri=given)
    return Secrets(options_of(MongoOptions), namespace, environ), namespace


def test_options_that_are_sent_contain_neither_user_nor_password() -> None:
    _, options = secrets_of(WITH_SECRETS, {})
    assert options.mongo_uri == REDACTED


def test_the_process_itself_can_restore_them() -> None:
    own, options = secrets_of(WITH_SECRETS, {})
    assert own.options_of(DATABASES["mongo"], options).uri == WITH_SECRETS


def test_a_worker_takes_secrets_from_its_environment_and_hosts_from_the_master() -> None:
    own, _ = secrets_of(None, {"STALEWATCH_MONGO_URI": "mongodb://carol:s3cret@elsewhere:9"})
    assert own.options_of(DATABASES["mongo"], Namespace(mongo_uri=REDACTED)).uri == WITH_SECRETS


def test_a_worker_uses_its_own_address_if_the_master_has_none() -> None:
    own, _ = secrets_of(None, {"STALEWATCH_MONGO_URI": WITH_SECRETS})
    assert own.options_of(DATABASES["mongo"], Namespace(mongo_uri=None)).uri == WITH_SECRETS


def test_a_worker_without_secrets_uses_the_masters_address_unchanged() -> None:
    own, _ = secrets_of(None, {})
    assert own.options_of(DATABASES["mongo"], Namespace(mongo_uri=REDACTED)).uri == REDACTED


def eavesdropped(port: int) -> list[bytes]:
    """Pose as a worker, and return every message that the master sends until it starts the test."""
    heard: list[bytes] = []
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.IDENTITY, b"eavesdropper")
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(f"tcp://127.0.0.1:{port}")
        deadline = time.monotonic() + 30
        socket.send(msgpack.dumps(("client_ready", version("locust"), "eavesdropper")))
        while time.monotonic() < deadline:
            if socket.poll(500):
                heard.append(socket.recv())
                if msgpack.loads(heard[-1])[0] == "spawn":
                    return heard
            else:
                state = {"state": "ready", "current_cpu_usage": 0, "current_memory_usage": 0}
                socket.send(msgpack.dumps(("heartbeat", state, "eavesdropper")))
    pytest.fail("the master started no test")


@pytest.mark.parametrize("way", ["argument", "environment"])
def test_no_message_page_or_log_of_the_master_contains_secrets(swarm: Swarm, way: str) -> None:
    given = {
        "argument": (("--mongo-uri", WITH_SECRETS), {}),
        "environment": ((), {"STALEWATCH_MONGO_URI": WITH_SECRETS}),
    }
    arguments, env = given[way]
    pid = swarm.master("--autostart", "-u", "1", "-L", "DEBUG", *arguments, locustfile=MONGO, env=env)
    heard = eavesdropped(swarm.master_port)
    assert heard
    said = b"".join(heard)
    assert b"127.0.0.1:1/?replicaSet" in said
    pages = "".join(swarm.get(path).text for path in ("/", "/stats/requests", "/logs", "/stats/report"))
    for text in (said.decode(errors="replace"), pages, swarm.log(pid)):
        assert "s3cret" not in text
        assert "carol" not in text


def test_an_invalid_url_with_a_password_appears_nowhere(swarm: Swarm) -> None:
    (port,) = ports.free(1)
    uri = f"mongodb://carol:s3/cr3t@127.0.0.1:{port}"
    pid = swarm.alone("--headless", "-u", "1", "--mongo-uri", uri, locustfile=MONGO)
    assert swarm.code(pid) == 2
    assert "cr3t" not in swarm.log(pid)
