"""A worker and a master that speak Locust's protocol, and say what a test likes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import msgpack
import msgspec
import zmq

from stalewatch.locust import messages

WAIT_MS = 20_000
GARBAGE: tuple[tuple[bytes, ...], ...] = (
    (b"",),
    (b"\xc1",),
    (b"\xff\xfe",),
    (b"\x93\xa5",),
    (b"\x91" * 5000,),
    (msgpack.packb(7),),
    (msgpack.packb([]),),
    (msgpack.packb(["stats", {}]),),
    (msgpack.packb([None, None, None]),),
    (msgpack.packb([["list"], {}, "x"]),),
    (msgpack.packb({"__datetime__": True, "as_str": "never"}),),
    (msgpack.packb(["quit", None, "x"]) + b"more",),
    (msgpack.packb(["x", None, "x"]), b"another frame"),
)
"""Packets that end the receiver of an unguarded Locust, or are close to such."""


class FakeWorker:
    """A process that is connected to a master; `join` makes it a worker."""

    def __init__(self, port: int, name: str) -> None:
        self.name = name
        self._socket = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.setsockopt(zmq.IDENTITY, name.encode())
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVTIMEO, WAIT_MS)
        self._socket.connect(f"tcp://127.0.0.1:{port}")

    def send_frames(self, *frames: bytes) -> None:
        self._socket.send_multipart(frames)

    def send(self, kind: str, data: object, name: str | None = None) -> None:
        self.send_frames(msgpack.packb((kind, data, name or self.name)))

    def receive(self, kind: str) -> Any:
        """Wait for a message of that kind and return what it contains."""
        while True:
            found, data, _ = msgpack.unpackb(self._socket.recv(), strict_map_key=False)
            if found == kind:
                return data

    def join(self, hello: messages.Hello | None = None) -> int:
        """Join the master, and return the number that it gives to this worker."""
        self.send("client_ready", version("locust"))
        index: int = self.receive("ack")["index"]
        self.send(messages.HELLO, msgspec.to_builtins(hello or messages.Hello()))
        return index

    def close(self) -> None:
        self._socket.close()


class FakeMaster:
    """A master that tells one worker to start a run, answers about its clock, and grants no turn."""

    def __init__(self, port: int) -> None:
        self.received: list[str] = []
        self._socket = zmq.Context.instance().socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(f"tcp://127.0.0.1:{port}")

    def serve_until(self, kind: str) -> None:
        """Serve until a message of that kind arrives."""
        deadline = time.monotonic() + WAIT_MS / 1000
        while kind not in self.received:
            assert time.monotonic() < deadline, self.received
            if self._socket.poll(100):
                client, packet = self._socket.recv_multipart()
                received, data, _ = msgpack.unpackb(packet, strict_map_key=False)
                self.received.append(received)
                self._answer(client, received, data)

    def _answer(self, client: bytes, received: str, data: Any) -> None:
        match received:
            case "client_ready":
                self.send(client, "ack", {"index": 0})
            case "heartbeat":
                self.send(client, "heartbeat", None)
            case messages.HELLO:
                for frames in GARBAGE:
                    self._socket.send_multipart((client, *frames))
                self.send(client, "spawn", _job())
            case messages.CLOCK:
                self.send(client, messages.CLOCK, {"sent": data["sent"], "master": data["sent"]})

    def send(self, client: bytes, kind: str, data: object) -> None:
        self._socket.send_multipart((client, msgpack.packb((kind, data, client.decode()))))

    def close(self) -> None:
        self._socket.close()


def _job() -> dict[str, Any]:
    options = {messages.RUN: "r", messages.TARGET: 2, messages.WORKERS: 1}
    users = {"MemoryUser": 2}
    return {"timestamp": 1, "user_classes_count": users, "host": None, "stop_timeout": 0, "parsed_options": options}


@contextmanager
def fake_workers(port: int, *names: str) -> Iterator[list[FakeWorker]]:
    workers = [FakeWorker(port, name) for name in names]
    try:
        yield workers
    finally:
        for one in workers:
            one.close()
