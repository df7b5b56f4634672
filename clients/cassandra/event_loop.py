"""The driver's event loop under gevent: one reading greenlet per connection, and gevent's timers.

cassandra-driver has a gevent reactor too, but it is deprecated in 3.30 and removed in 3.31 (CASSPYTHON-12), whose
authors suggest that users maintain their own. This one differs in two ways:

* The driver's killed the greenlet that had noticed a lost connection before that greenlet could fail the pending
  requests. They waited for their time-outs instead, so that the measured outage after a killed node was a time-out
  long.
* The driver's kept every request alive, through the timer of its time-out, until older timers expired, which left it to
  be traversed by each garbage collection; and it sent each request on its own. Together that was a seventh of the CPU
  time of an operation (`python -m benchmarks cassandra`).
"""

from collections.abc import Callable
from typing import Any

from cassandra.connection import Connection, ConnectionShutdown
from gevent import Timeout, get_hub, socket, spawn, ssl

from stalewatch.clients.cassandra.connection import WholeSegments


class Timer:
    """A call of a function in a new greenlet after some seconds, unless it is cancelled first.

    The seconds count from now, not from the event loop's cached time, which is older than whatever blocked the loop,
    such as a garbage collection.

    Other greenlets may run between the expiry and the call. One of them may read the answer and cancel the timer. If
    the callback, which times out a request, ran all the same, it would end whichever request has reused the stream id.
    """

    __slots__ = ("_callback", "_watcher")

    def __init__(self, timeout: float, callback: Callable[[], object]) -> None:
        self._callback: Callable[[], object] | None = callback
        self._watcher = get_hub().loop.timer(max(0.0, timeout))
        self._watcher.start(spawn, self._call, update=True)

    def cancel(self) -> None:
        """Prevent the call, and release the callback."""
        self._callback = None
        self._watcher.close()

    def _call(self) -> None:
        if self._callback is not None:
            self._callback()


class GreenletConnection(WholeSegments, Connection):  # type: ignore[misc] # the driver ships no type information
    """One connection to a node: a greenlet reads, and data pushed in one turn of the event loop is sent at its end.

    Sessions never send by themselves: if one were killed while the socket is full, the rest of its frame would be lost,
    and every later request on the connection with it.
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

    def _initiate_connection(self, address: Any) -> None:  # noqa: ANN401 # the driver's
        """Connect, and make TLS's handshake, for which gevent alone has a time-out for each byte that is waited for."""
        with Timeout(self.connect_timeout, TimeoutError("no connection in time")):
            super()._initiate_connection(address)

    def push(self, data: bytes) -> None:
        """Send data, after everything pushed earlier."""
        self._unsent.append(data)
        if not self._sending:
            self._sending = True
            get_hub().loop.run_callback(self._send)

    def _send(self) -> None:
        """Send as much unsent data as the socket accepts; called by the event loop itself, so it must not block."""
        data, sent = self._take_unsent(), 0
        try:
            if not self.ssl_context:  # TLS may have to wait for the node before it can send
                sent = self._socket.send(data, 0, timeout=0.0)
        except BlockingIOError:
            pass  # the socket is full: everything remains to be sent
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
                data = self._take_unsent()
            self._sending = False
        except Exception as error:  # noqa: BLE001 # after any error, nothing would be sent any more
            self.defunct(error)

    def _take_unsent(self) -> bytes:
        data = b"".join(self._unsent)
        self._unsent.clear()
        return data

    def _read(self) -> None:
        receive, size = self._socket.recv, self.in_buffer_size
        try:
            while data := receive(size):
                self._iobuf.write(data)
                self.process_io_buffer()
        except Exception as error:  # noqa: BLE001 # after any error, nothing would be read any more
            self.defunct(error)
        else:
            self.defunct(ConnectionShutdown(f"{self.endpoint} closed the connection"))

    def close(self) -> None:
        """Close the socket, and fail all pending requests.

        The greenlets end by themselves. Often the reading greenlet is the one that closes; if it were killed here, it
        would never fail the pending requests, which would wait for their time-outs.
        """
        with self.lock:
            if self.is_closed:
                return
            self.is_closed = True
        self._socket.close()  # wakes greenlets that wait to read or write, with an error
        if not self.is_defunct:  # else `defunct`, which called this, does the rest
            self.error_all_requests(ConnectionShutdown(f"connection to {self.endpoint} was closed"))
            self.connected_event.set()
