"""A server with scripted answers, one connection at a time."""

import socket
import threading

from stalewatch.clients.couchdb.options import Leader

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class ScriptedServer:
    """A server that answers each request with the next of its answers; None closes the connection instead."""

    def __init__(self, *answers: bytes | None) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self._answers = iter(answers)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.leader = Leader("http", "127.0.0.1", self._server.getsockname()[1], "ada", "s:3")
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            with client:
                self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        while request := client.recv(65536):
            self.requests.append(request)
            answer = next(self._answers, OK)
            if answer is None:
                return
            client.sendall(answer)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
