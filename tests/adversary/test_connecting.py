"""A bench that is pointed at something that is no database, or a hostile one, ends soon, in one line."""

import random
import socket
import threading
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from bson import encode as bson_encode

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import ClientError
from stalewatch.clients.options import parse_options
from tests.adversary.hostile import (
    BLOCK,
    Answer,
    Beginning,
    HostileServer,
    dripping,
    endless,
    saying,
    silent,
    speaking_tls,
)
from tests.adversary.running import AT_A_TIME, LONGEST_S, MOST_BYTES, Ended, Started

LOAD = ("--duration", "1", "--timeout", "1", "--users", "2", "--keys", "2")

HTTP_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
GARBAGE = random.Random(1).randbytes(4096)
TLS_RECORD = bytes.fromhex("1603034000")
"""The header of a record of 16 kB, as of TLS's handshake."""


def always(said: bytes) -> Beginning:
    return lambda _request: said


def http(body: bytes, status: bytes = b"200 OK") -> Beginning:
    return always(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))


WELCOME = b'{"couchdb":"Welcome","version":"3.5.0","uuid":"u"}'


SLOW_HANDSHAKE = "slow handshake"


def hostile(database: str, folder: Path) -> dict[str, Answer]:
    """Return servers that never come to an end, or are not a database's."""
    beginning = BEGINNINGS[database]
    return {
        "silent": silent,
        "garbage": saying(always(GARBAGE)),
        "html": saying(http(b"<html><body>Please log in</body></html>")),
        "tls": speaking_tls(folder),
        SLOW_HANDSHAKE: dripping(always(TLS_RECORD)),
        "slow": dripping(beginning),
        "endless": endless(beginning),
        **({"huge": announcing_2_gb} if database == "mongo" else {}),
    }


def of_couch() -> dict[str, Answer]:
    return {
        "endless headers": endless(always(HTTP_OK + b"X: ")),
        "list": saying(http(b"[]")),
        "redirect": saying(always(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")),
        "nested": saying(http(b"[" * 100_000)),
        "number": saying(http(b"1" * 100_000)),
        "always_welcome": saying(http(WELCOME)),
        "rows": saying(http(b'{"couchdb":1,"rows":[1],"rev":[],"uuid":{},"props":7}')),
        "strings": saying(http(b'{"couchdb":1,"rows":"x","rev":"1-a","uuid":null,"vendor":"me"}', b"201 Created")),
    }


def mongo_message(request: bytes, document: object, declared: int | None = None) -> bytes:
    """Return the answer to a request of a MongoDB driver: a reply or, since 3.6, a message."""
    body, asked, of_old = bson_encode(document), request[4:8], request[12:16] == b"\xd4\x07\0\0"
    head = bytes(8) + bytes(4) + bytes(4) + (1).to_bytes(4, "little") if of_old else bytes(5)
    length, kind = declared or 16 + len(head) + len(body), 1 if of_old else 2013
    return length.to_bytes(4, "little") + bytes(4) + asked + kind.to_bytes(4, "little") + head + body


HELLO = {
    "ok": 1,
    "isWritablePrimary": True,
    "setName": "rs0",
    "hosts": ["127.0.0.1:1"],
    "maxWireVersion": 17,
    "minWireVersion": 0,
    "maxBsonObjectSize": 16 << 20,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
}


def mongo(**changed: object) -> Answer:
    return saying(lambda request: mongo_message(request, {**HELLO, **changed}))


def only_hello(client: socket.socket, _closing: threading.Event) -> None:
    """Answer every request as a primary answers hello."""
    own = "{}:{}".format(*client.getsockname())
    while request := client.recv(65536):
        client.sendall(mongo_message(request, {**HELLO, "hosts": [own], "me": own}))


def announcing_2_gb(client: socket.socket, closing: threading.Event) -> None:
    """Announce in the hello that messages may have 2 GB, and then one of that size."""
    own = "{}:{}".format(*client.getsockname())
    huge = {**HELLO, "hosts": [own], "me": own, "maxMessageSizeBytes": 2**31 - 1}
    while request := client.recv(65536):
        if b"hello" in request or b"ismaster" in request:
            client.sendall(mongo_message(request, huge))
            continue
        client.sendall(mongo_message(request, huge, 2**31 - 1))
        while not closing.is_set():
            client.sendall(BLOCK)


def of_mongo() -> dict[str, Answer]:
    return {
        "hosts_number": mongo(hosts=5),
        "hosts_numbers": mongo(hosts=[5, None]),
        "set_name_list": mongo(setName=["rs0"]),
        "election_text": mongo(electionId="x", setVersion="y", topologyVersion=3),
        "me_number": mongo(me=4, primary=3),
        "no_fields": saying(lambda request: mongo_message(request, {})),
        "not_ok": mongo(ok=0, code="x", errmsg=["y"]),
        "only_hello": only_hello,
    }


def cassandra_frame(request: bytes, opcode: int, body: bytes, declared: int | None = None) -> bytes:
    return bytes((request[0] | 0x80, 0)) + request[2:4] + bytes((opcode,)) + (declared or len(body)).to_bytes(4) + body


OPTIONS, SUPPORTED, STARTUP, READY, RESULT = 5, 6, 1, 2, 8
VERSIONS = bytes.fromhex("0002 000b") + b"CQL_VERSION" + bytes.fromhex("0001 0005") + b"3.4.5"
VERSIONS += bytes.fromhex("000b") + b"COMPRESSION" + bytes.fromhex("0000")


def cassandra(answer: Beginning) -> Answer:
    """Let a driver connect by protocol 4, whose frames are not checked, and then give this answer."""

    def say(client: socket.socket, _closing: threading.Event) -> None:
        while request := client.recv(65536):
            if request[0] != 4:  # a newer protocol: refused
                client.sendall(
                    cassandra_frame(
                        b"\4" + request[1:], 0, bytes.fromhex("0000000a 001c") + b"unsupported protocol version"
                    )
                )
            elif request[4] == OPTIONS:
                client.sendall(cassandra_frame(request, SUPPORTED, VERSIONS))
            elif request[4] == STARTUP:
                client.sendall(cassandra_frame(request, READY, b""))
            else:
                client.sendall(answer(request))

    return say


def of_cassandra() -> dict[str, Answer]:
    return {
        "void": cassandra(lambda request: cassandra_frame(request, RESULT, bytes.fromhex("00000001"))),
        "no_rows": cassandra(lambda request: cassandra_frame(request, RESULT, bytes.fromhex("00000002") + bytes(12))),
        "garbage_rows": cassandra(lambda request: cassandra_frame(request, RESULT, GARBAGE)),
        "huge_rows": cassandra(lambda request: cassandra_frame(request, RESULT, b"", 0x7F000000)),
        "unknown_opcode": cassandra(lambda request: cassandra_frame(request, 0x77, b"")),
        "never": cassandra(lambda _request: b""),
    }


BEGINNINGS: Mapping[str, Beginning] = {
    "couch": always(HTTP_OK + b'Content-Length: 99999999999\r\n\r\n{"couchdb":"'),
    "mongo": lambda request: mongo_message(request, HELLO, 32 << 20),
    "cassandra": always(bytes.fromhex("84 00 0000 06 7f000000")),
}
"""How good answers begin, which announce a great length."""

SHAPES = {"couch": of_couch, "mongo": of_mongo, "cassandra": of_cassandra}


def addresses(database: str, nodes: Sequence[str], *, tls: bool) -> dict[str, str]:
    """Return the options that name the servers."""
    scheme = "https" if tls else "http"
    a, b = nodes
    of = {
        "couch": {"couch_a": f"{scheme}://u:s3cret@{a}", "couch_b": f"{scheme}://u:s3cret@{b}"},
        "mongo": {"mongo_uri": f"mongodb://{a}/?replicaSet=rs0{'&tls=true' if tls else ''}"},
        "cassandra": {"hosts": a, "username": "u", "password": "s3cret", **({"tls": "on"} if tls else {})},
    }
    return of[database]


@contextmanager
def served(database: str, answers: Mapping[str, Answer]) -> Iterator[dict[str, dict[str, str]]]:
    """Yield the options that name each of the servers, by name."""
    with ExitStack() as servers:
        yield {
            name: addresses(
                database,
                [servers.enter_context(HostileServer(answer)).node for _ in range(2)],
                tls=name == SLOW_HANDSHAKE,
            )
            for name, answer in answers.items()
        }


def bench(folder: Path, database: str, options: Mapping[str, str]) -> Ended:
    flags = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", value)]
    return Started(folder, "bench.py", database, *flags, *LOAD).ended()


@pytest.fixture(scope="module", params=SHAPES)
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ended]]:
    """What became of benches of one database, a few at a time, each on a hostile server."""
    folder, database = tmp_path_factory.mktemp("connecting"), request.param
    with served(database, hostile(database, folder)) as options, ThreadPoolExecutor(AT_A_TIME) as pool:
        begun = {name: pool.submit(bench, folder / name, database, one) for name, one in options.items()}
        yield {name: one.result() for name, one in begun.items()}


def test_a_bench_ends_soon_with_the_code_for_an_unreachable_database(ended: dict[str, Ended]) -> None:
    assert {name: one.code for name, one in ended.items()} == dict.fromkeys(ended, 3)


def test_it_says_why_in_one_line_without_a_traceback_or_secrets(ended: dict[str, Ended]) -> None:
    for name, one in ended.items():
        lines = [line for line in one.err.splitlines() if not line.startswith("preparing")]
        assert len(lines) == 1, (name, one.err)
        assert "127.0.0.1" in lines[0], (name, lines)
        assert "s3cret" not in one.err + one.out, (name, one.err)


def test_its_memory_is_bounded(ended: dict[str, Ended]) -> None:
    assert {name: one.peak_bytes for name, one in ended.items() if one.peak_bytes > MOST_BYTES} == {}


def prepared(database: str, options: Mapping[str, str]) -> str:
    """Return how the set-up of a client ends."""
    row = DATABASES[database]
    parsed = parse_options(row.options, Namespace(**options, timeout="1"), {})
    client = row.open(parsed, 1, 0, row.clock())
    try:
        client.prepare()
    except ClientError as error:
        return f"{type(error).__name__}: {error}"
    finally:
        client.close()
    return "it is prepared"


@pytest.mark.parametrize("database", SHAPES)
def test_an_answer_of_the_wrong_shape_is_an_error_in_one_line(database: str) -> None:
    with served(database, SHAPES[database]()) as options, ThreadPoolExecutor(AT_A_TIME) as pool:
        begun = {name: pool.submit(prepared, database, one) for name, one in options.items()}
        said = {name: one.result(LONGEST_S) for name, one in begun.items()}
    for name, line in said.items():
        assert line.startswith(("Unreachable: ", "BadAddress: ", "ClientError: ")), (name, line)
        assert "127.0.0.1" in line, (name, line)
        assert "\n" not in line, (name, line)
        assert "s3cret" not in line, (name, line)
