"""A password stays in the process that was given it."""

import time
from argparse import Namespace
from importlib.metadata import version

import msgpack
import pytest
import zmq
from stalewatch.locust.secrets import Vault

from stalewatch.clients.mongodb.options import MongoClientOptions
from stalewatch.clients.options import options_of
from stalewatch.clusters.local import ports
from tests.locust.conftest import Swarm

MONGO = "locustfiles/mongo_users.py"
FULL, BARE = "mongodb://carol:s3cret@127.0.0.1:1/?replicaSet=rs0", "mongodb://127.0.0.1:1/?replicaSet=rs0"


def vault(given: str | None, environ: dict[str, str]) -> tuple[Vault, Namespace]:
    namespace = Namespace(mongo_uri=given)
    return Vault(options_of(MongoClientOptions), namespace, environ), namespace


def test_what_is_sent_has_no_user_and_no_password() -> None:
    _, options = vault(FULL, {})
    assert options.mongo_uri == BARE


def test_the_process_itself_still_knows_them() -> None:
    own, options = vault(FULL, {})
    assert own.opened(options).mongo_uri == FULL


def test_a_worker_takes_them_from_its_environment_and_the_hosts_from_the_master() -> None:
    own, _ = vault(None, {"STALEWATCH_MONGO_URI": "mongodb://carol:s3cret@elsewhere:9"})
    assert own.opened(Namespace(mongo_uri=BARE)).mongo_uri == FULL


def test_a_worker_whose_master_was_given_no_address_uses_its_own() -> None:
    own, _ = vault(None, {"STALEWATCH_MONGO_URI": FULL})
    assert own.opened(Namespace(mongo_uri=None)).mongo_uri == FULL


def test_without_any_of_ones_own_the_masters_address_is_used_as_it_came() -> None:
    own, _ = vault(None, {})
    assert own.opened(Namespace(mongo_uri=BARE)).mongo_uri == BARE


def eavesdropped(port: int) -> list[bytes]:
    """Play a worker, and return every message that the master sends until it starts the test."""
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
def test_no_message_page_or_log_of_the_master_holds_them(swarm: Swarm, way: str) -> None:
    given = {"argument": (("--mongo-uri", FULL), {}), "environment": ((), {"STALEWATCH_MONGO_URI": FULL})}
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


def test_a_password_that_is_no_url_leaks_nowhere(swarm: Swarm) -> None:
    (port,) = ports.free(1)
    uri = f"mongodb://carol:s3/cr3t@127.0.0.1:{port}"
    pid = swarm.alone("--headless", "-u", "1", "--mongo-uri", uri, locustfile=MONGO)
    assert swarm.code(pid) == 2
    assert "cr3t" not in swarm.log(pid)
