"""Locust's exit code: it depends on expectations, not on single requests."""

import argparse
import json
import os
import socket
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import option, options_of
from stalewatch.clusters.local import ports
from stalewatch.clusters.local.couch import CouchCluster
from stalewatch.locust import options
from tests.locust.conftest import MEMORY, ROOT, SLOW, STALE, Swarm

LOAD = ("-u", "10", "-r", "100", "--keys", "50")
MONGO = "locustfiles/mongo_users.py"


def test_a_met_expectation_exits_with_0_even_if_requests_failed(swarm: Swarm) -> None:
    pid = swarm.alone("--headless", *LOAD, "--refusals", "0.2", "--expect", "read_your_writes=0,stale_reads<0.05")
    assert swarm.finish(pid) == 0
    assert swarm.result()["operations"]["write"]["fail"]
    assert swarm.result()["ended_early"] is None
    assert "fail: Refused" in swarm.log(pid)


def test_the_run_time_does_not_include_the_time_that_locust_takes_to_start(swarm: Swarm, tmp_path: Path) -> None:
    slow = tmp_path / "slow_users.py"
    slow.write_text((ROOT / MEMORY).read_text() + "\nimport os\nos.system('sleep 3')  # blocks gevent, as imports do\n")
    pid = swarm.alone("--headless", *LOAD, *SLOW, "-t", "2s", locustfile=str(slow))
    assert swarm.code(pid) == 0
    begun, ended = (
        datetime.fromisoformat(line[1:24].replace(",", "."))
        for line in swarm.log(pid).splitlines()
        if "un time limit" in line or "-time limit reached" in line
    )
    assert ended - begun > timedelta(seconds=1.9)


def test_a_missed_expectation_exits_with_1(swarm: Swarm) -> None:
    pid = swarm.alone("--headless", "--processes", "2", *LOAD, *STALE, "--expect", "read_your_writes=0")
    assert swarm.finish(pid, workers=2) == 1
    assert "expected read_your_writes=0: it is" in swarm.log(pid)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--write-ratio", "7"), "--write-ratio '7': must be a share from 0 to 1"),
        (("--expect", "nonsense=0"), "unknown name 'nonsense'"),
        (("--topology", "ring"), "--topology"),
        (("--keys", "99999999999"), "--keys '99999999999': must be 10000000 at most"),
        (("--report-json", "/dev/null", "--report", "/dev/null"), "give each a file of its own"),
    ],
)
def test_an_invalid_option_exits_with_2(swarm: Swarm, arguments: tuple[str, ...], message: str) -> None:
    pid = swarm.alone("--headless", *LOAD, *arguments)
    assert swarm.code(pid) == 2
    assert message in swarm.log(pid)


def test_a_drill_on_a_cluster_that_another_drill_is_using_exits_with_3(swarm: Swarm, tmp_path: Path) -> None:
    with CouchCluster(tmp_path).reserved(print):
        drill, env = ("--drill", "kill-leader"), {"STALEWATCH_HOME": str(tmp_path)}
        pid = swarm.alone("--headless", *LOAD, *drill, locustfile="locustfiles/couch_users.py", env=env)
        assert swarm.code(pid) == 3
    assert f"a drill is using the local couch cluster (pid {os.getpid()}: " in swarm.log(pid)


@pytest.mark.parametrize(
    "arguments", [("--mongo-uri",), ("--processes", "2", "-H")], ids=["alone", "with workers and -H"]
)
def test_an_unreachable_database_exits_with_3(swarm: Swarm, arguments: tuple[str, ...]) -> None:
    (port,) = ports.free(1)
    uri = f"mongodb://carol:s3cret@127.0.0.1:{port}/?replicaSet=rs0"
    pid = swarm.alone("--headless", "-u", "4", "-r", "9", *arguments, uri, locustfile=MONGO)
    assert swarm.code(pid) == 3
    assert "no MongoDB server answers" in swarm.log(pid)
    assert str(port) in swarm.log(pid)
    assert "s3cret" not in swarm.log(pid)
    assert "no MongoDB server answers" in swarm.result()["ended_early"]
    assert not swarm.living()


def test_a_run_without_any_success_exits_with_3(swarm: Swarm) -> None:
    pid = swarm.alone("--headless", *LOAD, *SLOW, "-t", "3s", "--write-ratio", "1", "--refusals", "1")
    assert swarm.code(pid) == 3
    assert "no operation succeeded: " in swarm.log(pid)


@pytest.mark.parametrize(("arguments", "code"), [((), 1), (("--exit-code-on-error", "0"), 0)])
def test_a_users_own_failing_requests_keep_locusts_exit_code(
    swarm: Swarm, arguments: tuple[str, ...], code: int
) -> None:
    pid = swarm.alone("--headless", *LOAD, *SLOW, "-t", "4s", *arguments, locustfile="tests/locust/failing_users.py")
    assert swarm.code(pid) == code
    assert swarm.result()["operations"]["read"]["ok"]


def test_locusts_json_is_alone_on_stdout() -> None:
    line = [sys.executable, "-m", "locust", "-f", MEMORY, "--headless", "--json", *LOAD, *SLOW, "-t", "4s"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert json.loads(done.stdout)
    assert "verdict: valid" in done.stderr


def test_too_few_open_files_are_said_to_be_our_limit(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    line = [sys.executable, "-m", "locust", "-f", MONGO, "--headless", "-u", "2000", "-r", "100"]
    line += ["--mongo-uri", "mongodb://127.0.0.1:1/", "--report-json", str(result)]
    limited = ["bash", "-c", 'ulimit -n 256; exec "$@"', "locust", *line]
    done = subprocess.run(limited, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "2000 users in one process need up to" in done.stderr
    assert "limit of ours, not of MongoDB" in done.stderr


@pytest.mark.parametrize("flag", ["--master-bind-port", "--web-port"])
def test_a_port_in_use_is_refused_with_the_process_that_has_it(swarm: Swarm, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        pid = swarm.alone("--processes", "2", flag, str(port))
        assert swarm.code(pid) == 2
    assert f"locust: port {port} ({flag}) is in use by process {os.getpid()} (" in swarm.log(pid)
    assert "Traceback" not in swarm.log(pid)
    assert not swarm.living()


class LocustsParser(argparse.ArgumentParser):
    """A parser with options of Locust; importing Locust itself would patch this process."""

    def __init__(self) -> None:
        super().__init__()
        self.add_argument("--spawn-rate")
        self.add_argument("-H", "--host")

    def add_argument(self, *flags: str, include_in_web_ui: bool = True, **details: Any) -> argparse.Action:
        assert include_in_web_ui is not None
        return super().add_argument(*flags, **details)


@dataclass(frozen=True)
class ClashingOptions:
    hatch: float = option("--spawn-rate", "a flag that Locust has", 1.0)
    where: str = option("--elsewhere", "an option that parses to the name of one of Locust's", "", dest="host")


@pytest.mark.parametrize(("field", "flag"), [("hatch", "--spawn-rate"), ("where", "--elsewhere")])
def test_an_option_that_locust_has_already_is_named(monkeypatch: pytest.MonkeyPatch, field: str, flag: str) -> None:
    (clashing,) = (one for one in options_of(ClashingOptions) if one.field == field)
    row = DATABASES["memory"]._replace(name="shelf", options=ClashingOptions)
    monkeypatch.setattr(type(row), "flags", lambda _self: (clashing,))
    monkeypatch.setattr(options, "DATABASES", {"shelf": row})
    with pytest.raises(BadAddress, match=f"{flag} of shelf cannot be an option under Locust, which has"):
        options.add_arguments(LocustsParser(), ["shelf"])


def hosts(host: str, databases: Sequence[str] = ("mongo",), *, others: bool = False, **given: str) -> Namespace:
    namespace = Namespace(host=host, mongo_uri=None, hosts=None, couch_a=None, couch_b=None)
    vars(namespace).update(given)
    options.take_host(namespace, databases, others=others)
    return namespace


def test_locusts_host_is_the_databases_address_and_keeps_no_password() -> None:
    taken = hosts("mongodb://carol:s3cret@db:27017/?replicaSet=rs0")
    assert taken.mongo_uri == "mongodb://carol:s3cret@db:27017/?replicaSet=rs0"
    assert taken.host == "mongodb://db:27017/?replicaSet=rs0"
    assert hosts("c1,c2:9042", ["cassandra"]).hosts == "c1,c2:9042"
    assert hosts("http://a:5984", ["couch"]).couch_a == "http://a:5984"
    assert hosts("mongodb://db", ["memory"]).mongo_uri is None


def test_locusts_host_is_left_to_users_of_other_systems_unless_it_names_the_database() -> None:
    assert hosts("http://shop", ["couch"], others=True).couch_a is None
    assert hosts("http://shop", others=True).host == "http://shop"
    assert hosts("mongodb://db", others=True).mongo_uri == "mongodb://db"


def test_an_address_given_by_its_own_flag_wins_over_locusts_host() -> None:
    assert hosts("mongodb://one", mongo_uri="mongodb://two").mongo_uri == "mongodb://two"


def test_of_several_databases_the_scheme_decides_whose_address_locusts_host_is() -> None:
    assert hosts("mongodb://db", ["cassandra", "mongo"]).mongo_uri == "mongodb://db"
    with pytest.raises(BadAddress, match="could be the address of cassandra or mongo: use --hosts or --mongo-uri"):
        hosts("db", ["cassandra", "mongo"])


def test_a_test_goes_on_without_a_history_that_can_no_longer_be_written(swarm: Swarm) -> None:
    pid = swarm.alone("--headless", *LOAD, *SLOW, "-t", "4s", "--expect", "read_your_writes=0")
    psutil.Process(pid).rlimit(psutil.RLIMIT_FSIZE, (60_000, 60_000))  # looks like a full disk
    assert swarm.code(pid) == 0
    (worker,) = swarm.result()["workers"]
    assert "the run goes on without its history: " in worker["trouble"]
    assert "File too large" in worker["trouble"]
    assert swarm.result()["verdict"] == "valid"


def test_help_all_explains_every_option(swarm: Swarm) -> None:
    pid = swarm.start("--help-all", locustfile="locustfiles/")
    assert swarm.code(pid) == 0
    for flag in ("--write-concern", "--workload", "--topology", "--reread", "--expect", "--history-dir"):
        assert flag in swarm.log(pid)
    assert "all available interfaces" not in swarm.log(pid)
    assert swarm.log(pid).count("(default 127.0.0.1)") >= 2


def test_user_classes_can_be_chosen_by_name(swarm: Swarm) -> None:
    pid = swarm.start("--list", locustfile="locustfiles/")
    assert swarm.code(pid) == 0
    assert {"MemoryUser", "MongoUser"} <= set(swarm.log(pid).split())
    pid = swarm.alone("--headless", *LOAD, "MemoryUser", locustfile="locustfiles/")
    assert swarm.finish(pid) == 0
    assert swarm.result()["database"] == "memory"
