"""The driver's event loop where gevent is patched in: a greenlet a connection, and gevent's own timers.

cassandra-driver has one too, but its makers gave it up (CASSPYTHON-12: deprecated in 3.30, gone from 3.31) and say that
others may keep one. Two things are done otherwise here:

* It killed the greenlet that had noticed a lost connection before that could answer those who were waiting. They went
  on waiting for their time-out, and to whoever measures, a killed node took as long to be missed.
* It kept a request, by the timer of its time-out, until older ones ran out, to be looked at by each garbage collection;
  and it sent each by itself. That is a seventh of an operation's processor time (`benchmarks.overhead`).
"""

from collections.abc import Callable
from typing import Any

from cassandra.connection import Connection, ConnectionShutdown
from gevent import get_hub, socket, spawn, ssl

from stalewatch.clients.cassandra.segments import WholeSegments


class Timer:
    """Calls a function in a greenlet of its own after some seconds, unless it is cancelled before.

    Seconds from now: the loop's own idea of now is from before whatever has held it up, such as a garbage collection.

    Between the moment and the call others may run. One of them may have read the answer and cancelled; were the
    function, the end of a request's time, called all the same, it would end whichever request has the number by then.
    """

    __slots__ = ("_callback", "_watcher")

    def __init__(self, timeout: float, callback: Callable[[], object]) -> None:
        self._callback: Callable[[], object] | None = callback
        self._watcher = get_hub().loop.timer(max(0.0, timeout))
        self._watcher.start(spawn, self._call, update=True)

    def cancel(self) -> None:
        """Call nothing any more, and forget what was to be called."""
        self._callback = None
        self._watcher.close()

    def _call(self) -> None:
        if self._callback is not None:
            self._callback()


class GreenletConnection(WholeSegments, Connection):  # type: ignore[misc] # the driver ships no type information
    """One connection to a node: a greenlet reads, and what sessions push in one turn of the loop is sent at its end.

    No session sends by itself. Were one killed while the socket takes no more, then the rest of a frame would be
    missing, and with it every later request of this connection.
    """

    _socket_impl = socket
    _ssl_impl = ssl
    create_timer = Timer
    is_closed: bool

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 # the driver's own
        super().__init__(*arguments, **options)
        self._unsent: list[bytes] = []
        self._sending = False
        self._connect_socket()
        spawn(self._read)
        self._send_options_message()

    def push(self, data: bytes) -> None:
        """Send that, after what was pushed before."""
        self._unsent.append(data)
        if not self._sending:
            self._sending = True
            get_hub().loop.run_callback(self._send)

    def _send(self) -> None:
        """Send what is unsent as far as the socket takes it; the loop calls this itself, where nothing may wait."""
        data, sent = self._take(), 0
        try:
            if not self.ssl_context:  # to encrypt may take an answer of the node's
                sent = self._socket.send(data, 0, timeout=0.0)
        except BlockingIOError:
            pass  # the socket takes nothing now: all of it is the rest
        except OSError as error:
            spawn(self.defunct, error)
            return
        if sent == len(data):
            self._sending = False
        else:
            spawn(self._send_rest, data[sent:])

    def _send_rest(self, data: bytes) -> None:
        try:
            while data:
                self._socket.sendall(data)
                data = self._take()
            self._sending = False
        except Exception as error:  # noqa: BLE001 # whatever it was, nothing would be sent any more
            self.defunct(error)

    def _take(self) -> bytes:
        data = b"".join(self._unsent)
        self._unsent.clear()
        return data

    def _read(self) -> None:
        receive, size = self._socket.recv, self.in_buffer_size
        try:
            while data := receive(size):
                self._iobuf.write(data)
                self.process_io_buffer()
        except Exception as error:  # noqa: BLE001 # whatever it was, nothing would be read any more
            self.defunct(error)
        else:
            self.defunct(ConnectionShutdown(f"{self.endpoint} closed the connection"))

    def close(self) -> None:
        """Close the socket, and answer with an error whatever is still asked for.

        The greenlets end by themselves. The one that reads is often the one that closes, and killed it would not come
        to answering: those who asked would wait for their time-out.
        """
        with self.lock:
            if self.is_closed:
                return
            self.is_closed = True
        self._socket.close()  # who waits for it, to read or to write, gets an error
        if not self.is_defunct:  # else that is done by whoever called it so
            self.error_all_requests(ConnectionShutdown(f"connection to {self.endpoint} was closed"))
            self.connected_event.set()
