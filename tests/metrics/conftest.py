"""A real Prometheus with the project's configuration, on its own port and in its own folder."""

import math
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
import yaml

from stalewatch.clusters.local import ports

ROOT = Path(__file__).parents[2]
USUAL_PORT = "9646"

Values = list[tuple[float, float]]


class Series(NamedTuple):
    """One series of a query result: its labels, and its values by time."""

    labels: Mapping[str, str]
    values: Values

    @property
    def finite(self) -> list[float]:
        return [value for _, value in self.values if math.isfinite(value)]


class Prometheus:
    """A Prometheus that scrapes `metrics_port` and the workers listed there, with the project's rules."""

    def __init__(self, folder: Path, metrics_port: int) -> None:
        self.url = f"http://127.0.0.1:{ports.free(1)[0]}"
        folder.mkdir(parents=True, exist_ok=True)
        config = yaml.safe_load((ROOT / "prometheus.yml").read_text().replace(USUAL_PORT, str(metrics_port)))
        config["rule_files"] = [str(ROOT / file) for file in config["rule_files"]]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address={self.url.removeprefix('http://')}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._await_ready(folder / "log")

    def _await_ready(self, log: Path) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                if requests.get(f"{self.url}/-/ready", timeout=5).ok:
                    return
            except requests.ConnectionError:
                pass
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)

    def api(self, path: str, **parameters: object) -> Any:
        answer = requests.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=30).json()  # type: ignore[arg-type]
        assert answer["status"] == "success", f"{parameters}: {answer}"
        return answer["data"]

    def instant(self, query: str, at: float | None = None) -> list[Series]:
        found = self.api("query", query=query, **({} if at is None else {"time": at}))
        if found["resultType"] == "matrix":
            return [_series(one["metric"], one["values"]) for one in found["result"]]
        return [_series(one["metric"], [one["value"]]) for one in found["result"]]

    def range(self, query: str, begin: float, end: float, step: float = 1) -> list[Series]:
        found = self.api("query_range", query=query, start=begin, end=end, step=step)
        return [_series(one["metric"], one["values"]) for one in found["result"]]

    def workers(self) -> dict[str, str]:
        """Return the health of each scraped worker by its number."""
        targets = self.api("targets", state="active")["activeTargets"]
        return {one["labels"]["worker"]: one["health"] for one in targets if one["scrapePool"] == "stalewatch-workers"}

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(30)


def _series(labels: Mapping[str, str], values: list[tuple[float, str]]) -> Series:
    return Series(labels, [(at, float(value)) for at, value in values])


@pytest.fixture(scope="module")
def scrape(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Prometheus]]:
    """Start a Prometheus that scrapes a port; it ends with the module."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (Debian: prometheus)")
    started: list[Prometheus] = []

    def start(metrics_port: int) -> Prometheus:
        one = Prometheus(tmp_path_factory.mktemp("prometheus"), metrics_port)
        started.append(one)
        return one

    yield start
    for one in started:
        one.end()
