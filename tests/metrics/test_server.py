"""The metrics server: its pages, and its wait for a last scrape."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import requests
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from stalewatch.metrics.meter import Meter
from stalewatch.metrics.nodes import Faults
from stalewatch.metrics.server import MAX_LINGER_S, MetricsServer, Target, discovery, registry

OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def server(faults: Faults) -> Iterator[MetricsServer]:
    meter = Meter("r", "mongo")
    targets = [Target("127.0.0.1:1", 0), Target("127.0.0.1:2", 1, "/worker")]
    one = MetricsServer("127.0.0.1", 0, registry(lambda: faults.readings(meter)), sd=discovery(lambda: targets))
    yield one
    one.close()


def get(server: MetricsServer, path: str = "/metrics", **headers: str) -> requests.Response:
    return requests.get(f"http://{server.address}{path}", headers=headers, timeout=10)


def test_openmetrics_is_served_on_request(server: MetricsServer, faults: Faults) -> None:
    faults.begin("kill", "127.0.0.1:27017")
    answer = get(server, **OPENMETRICS)
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    (sample,) = families["stalewatch_fault_active"].samples
    assert sample.labels == {"run": "r", "database": "mongo", "fault": "kill", "node": "127.0.0.1:27017"}
    assert "process_cpu_seconds" in families
    assert get(server).headers["Content-Type"].startswith("text/plain")


def test_a_fault_that_has_ended_is_shown_as_0_until_the_next_run(server: MetricsServer, faults: Faults) -> None:
    with faults.on("pause", "a"):
        assert 'node="a",run="r"} 1.0' in get(server).text
    assert 'node="a",run="r"} 0.0' in get(server).text
    faults.forget()
    assert "stalewatch_fault_active" not in get(server).text


def test_workers_are_listed_in_the_format_of_http_sd(server: MetricsServer) -> None:
    answer = get(server, "/sd")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == [
        {"targets": ["127.0.0.1:1"], "labels": {"worker": "0", "__metrics_path__": "/metrics"}},
        {"targets": ["127.0.0.1:2"], "labels": {"worker": "1", "__metrics_path__": "/worker"}},
    ]


def test_an_unknown_path_is_answered_with_the_known_paths(server: MetricsServer) -> None:
    answer = get(server, "/")
    assert answer.status_code == 404
    assert answer.text == "not found; try /metrics, /sd\n"


def test_a_taken_port_is_named(server: MetricsServer) -> None:
    with pytest.raises(OSError, match="--metrics-port"):
        MetricsServer("127.0.0.1", server.port, registry())


def test_it_does_not_linger_if_nobody_scrapes(server: MetricsServer) -> None:
    logged: list[str] = []
    server.linger(logged.append)
    assert logged == []


def test_it_lingers_until_the_next_scrape_has_been_answered(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MetricsServer, "_max_wait_s", lambda _: 600.0)
    get(server)
    waiting = threading.Thread(target=server.linger, args=(print,), daemon=True)
    waiting.start()
    time.sleep(0.2)
    assert waiting.is_alive()
    get(server)
    waiting.join(60)
    assert not waiting.is_alive()


def test_it_lingers_for_two_intervals_if_scrapes_have_stopped(server: MetricsServer) -> None:
    for _ in range(2):
        get(server)
    begun = time.monotonic()
    server.linger(print)
    assert 0.9 < time.monotonic() - begun < MAX_LINGER_S


def test_it_stops_lingering_on_request(server: MetricsServer) -> None:
    get(server)
    begun = time.monotonic()
    server.linger(print, over=lambda: True)
    assert time.monotonic() - begun < MAX_LINGER_S


def test_it_binds_to_loopback_only(server: MetricsServer) -> None:
    with socket.socket() as probe:
        probe.settimeout(2)
        assert probe.connect_ex(("127.0.0.2", server.port))
