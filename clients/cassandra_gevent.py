"""The driver's event loop where gevent is patched in: greenlets that read and write, and gevent's own timers.

cassandra-driver has one too, but its makers gave it up (CASSPYTHON-12: deprecated in 3.30, gone from 3.31) and say that
others may keep one. Beside outliving that, this one is cheaper (`benchmarks.overhead` measures it): what was asked for
in one turn of the loop is sent in one piece, and a request that was answered is forgotten at once. There, the timer of
its time-out kept it and all that belongs to it, to be looked at by every garbage collection until older ones ran out.
"""

from collections.abc import Callable
from typing import Any

from cassandra.connection import Connection, ConnectionShutdown
from gevent import get_hub, socket, spawn, ssl
from gevent.event import Event


class Timer:
    """Calls a function in a greenlet of its own after some seconds, unless it is cancelled before."""

    __slots__ = ("_watcher",)

    def __init__(self, timeout: float, callback: Callable[[], object]) -> None:
        self._watcher = get_hub().loop.timer(max(0.0, timeout))
        self._watcher.start(spawn, callback)

    def cancel(self) -> None:
        """Call nothing any more, and forget what was to be called."""
        self._watcher.close()


class GreenletConnection(Connection):  # type: ignore[misc] # the driver ships no type information
    """One connection to a node: one greenlet reads, another writes, so that no session ever waits for the socket.

    Were a session to send its request itself, and be killed while the socket takes no more, then the rest of a frame
    would be missing, and with it every later request of this connection.
    """

    _socket_impl = socket
    _ssl_impl = ssl
    create_timer = Timer
    is_closed: bool

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 # the driver's own
        super().__init__(*arguments, **options)
        self._unsent: list[bytes] = []
        self._asked = Event()
        self._connect_socket()
        self._greenlets = (spawn(self._read), spawn(self._write))
        self._send_options_message()

    def push(self, data: bytes) -> None:
        """Send that, after what was pushed before."""
        self._unsent.append(data)
        self._asked.set()

    def close(self) -> None:
        """Close the socket, and answer with an error whatever is still asked for."""
        with self.lock:
            if self.is_closed:
                return
            self.is_closed = True
        for greenlet in self._greenlets:
            greenlet.kill(block=False)
        self._socket.close()
        if not self.is_defunct:  # else that is done by whoever called it so
            self.error_all_requests(ConnectionShutdown(f"connection to {self.endpoint} was closed"))
            self.connected_event.set()

    def _write(self) -> None:
        asked, unsent, send = self._asked, self._unsent, self._socket.sendall
        try:
            while asked.wait():
                asked.clear()
                data = b"".join(unsent)
                unsent.clear()
                send(data)
        except OSError as error:
            self.defunct(error)

    def _read(self) -> None:
        receive, size = self._socket.recv, self.in_buffer_size
        try:
            while data := receive(size):
                self._iobuf.write(data)
                self.process_io_buffer()
        except OSError as error:
            self.defunct(error)
        else:
            self.defunct(ConnectionShutdown(f"{self.endpoint} closed the connection"))
