import socket
from collections.abc import Iterator

import pytest

from stalewatch.clusters.local import ports
from stalewatch.clusters.protocol import PortTaken


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server((ports.LOOPBACK, ports.free(1)[0])) as server:
        yield server


def test_free_wanted_ports_are_chosen() -> None:
    wanted = ports.free(3)
    assert ports.choose(wanted) == wanted


def test_a_taken_port_is_replaced(listener: socket.socket) -> None:
    taken = listener.getsockname()[1]
    (free,) = ports.free(1)
    assert not ports.is_free(taken)
    first, second = ports.choose([taken, free])
    assert first not in {taken, free}
    assert second == free


def test_a_port_taken_on_all_interfaces_is_taken_on_loopback() -> None:
    with socket.create_server(("0.0.0.0", ports.free(1)[0])) as server:  # noqa: S104 -- the case in question
        assert not ports.is_free(server.getsockname()[1])


def test_chosen_ports_are_all_different(listener: socket.socket) -> None:
    taken = listener.getsockname()[1]
    assert len(set(ports.choose([taken] * 20))) == 20


def test_connections_in_time_wait_do_not_take_a_port(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with socket.create_connection((ports.LOOPBACK, port)):
        accepted, _ = listener.accept()
        accepted.close()  # the side that closes first stays in TIME_WAIT
    listener.close()
    assert ports.is_free(port)


def test_no_free_port_is_an_error(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = listener.getsockname()[1]
    monkeypatch.setattr(ports, "_SUBSTITUTES", range(taken, taken + 1))
    monkeypatch.setattr(ports, "_TRIES", 1)
    with pytest.raises(PortTaken, match="no port is free"):
        ports.choose([taken])
