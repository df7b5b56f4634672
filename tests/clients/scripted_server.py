"""A server with scripted answers, one connection at a time."""

import socket
import threading

from stalewatch.clients.couchdb.options import Leader
from tests.adversary.hostile import HostileServer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class ScriptedServer(HostileServer):
    """A server that answers each request with the next of its answers; None closes the connection instead."""

    def __init__(self, *answers: bytes | None) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self._answers = iter(answers)
        self._turn = threading.Lock()
        super().__init__(self._say)
        self.leader = Leader("http", "127.0.0.1", self.port, "ada", "s:3")

    def _say(self, client: socket.socket, _closing: threading.Event) -> None:
        with self._turn:
            self.connections += 1
            while request := client.recv(65536):
                self.requests.append(request)
                answer = next(self._answers, OK)
                if answer is None:
                    return
                client.sendall(answer)
