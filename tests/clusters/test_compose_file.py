"""docker-compose.yml: valid for Compose, and consistent with the rest of the project. No Docker engine is needed."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from configparser import ConfigParser
from contextlib import contextmanager
from os.path import normpath
from pathlib import Path
from shutil import copy, copytree, which
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import yaml
from pymongo.uri_parser import parse_uri

import stalewatch
from stalewatch.clients.cassandra import options as cassandra_options
from stalewatch.clients.couchdb import options as couchdb_options
from stalewatch.clients.databases import DATABASES
from stalewatch.clusters.local import couch, couch_leaders, mongo_members, ports
from stalewatch.commands.main import __version__

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "replication"
COMPOSE = FOLDER / "docker-compose.yml"
FILE = yaml.safe_load(COMPOSE.read_text())
SERVICES: Mapping[str, Mapping[str, Any]] = FILE["services"]
PROFILES = {profile for service in SERVICES.values() for profile in service.get("profiles", ())}
ONE_SHOT = {"mongosetup", "couchsetup", "bench"}
DATABASE_SERVICES = {
    "mongo": ("mongo1", "mongo2", "mongo3", "mongosetup"),
    "cassandra": ("cassandra1", "cassandra2", "cassandra3"),
    "couch": ("couch1", "couch2"),
}
CHANGEABLE = re.compile(r"\$\{(\w+):-([^{}]*)\}")
PINNED = re.compile(r"v?\d+\.\d+\.\d+(-[a-z-]+)?")

ENGINE = pytest.mark.skipif(not which("docker-compose"), reason="docker-compose is missing: apt install docker-compose")


def compose(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["docker-compose", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def default(text: str) -> str:
    """Return a value with the defaults of all variables."""
    return CHANGEABLE.sub(lambda found: found[2], text)


def environment(service: str) -> dict[str, str]:
    return {name: default(str(value)) for name, value in SERVICES[service].get("environment", {}).items()}


def needed(services: Sequence[str]) -> set[str]:
    """Return all services that Compose starts together with these."""
    found = set(services)
    for name in services:
        found |= needed(list(SERVICES[name].get("depends_on", ())))
    return found


@ENGINE
def test_compose_accepts_the_file_from_the_root_and_from_its_folder() -> None:
    assert compose(ROOT, "config") == compose(FOLDER, "config")
    assert set(compose(FOLDER, "config", "--services").split()) == set(SERVICES)


@ENGINE
def test_compose_accepts_every_profile_and_all_profiles() -> None:
    for profile in PROFILES:
        compose(ROOT, "--profile", profile, "config", "--quiet")
    compose(ROOT, *(flag for profile in PROFILES for flag in ("--profile", profile)), "config", "--quiet")


def test_the_file_matches_the_compose_specification() -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    arguments = [checker, "--builtin-schema", "vendor.compose-spec", COMPOSE]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_root_env_file_only_locates_the_compose_file() -> None:
    assert (ROOT / ".env").read_text().splitlines() == [
        "COMPOSE_FILE=replication/docker-compose.yml",
        "COMPOSE_PROJECT_NAME=replication",
    ]
    assert "name" not in FILE  # docker-compose 1.29 rejects it
    assert "version" not in FILE  # Compose 2 warns about it
    assert FILE["networks"]["default"]["name"] == "replication_default"


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned_and_configurable(name: str) -> None:
    image = str(SERVICES[name]["image"])
    assert CHANGEABLE.fullmatch(image)
    assert PINNED.fullmatch(default(image).rpartition(":")[2]), image


def test_our_image_has_our_version() -> None:
    assert default(SERVICES["bench"]["image"]) == f"stalewatch:{__version__}"


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_memory_limit_and_a_health_check(name: str) -> None:
    service = SERVICES[name]
    assert service["mem_limit"]
    assert ("healthcheck" in service) == (name not in ONE_SHOT)
    assert service["restart"] in ({"unless-stopped"} if "watch" in service.get("profiles", ()) else {"no"})


@pytest.mark.parametrize("name", SERVICES)
def test_every_published_port_is_on_loopback(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)
    assert SERVICES[name].get("network_mode") is None


def test_no_port_is_published_twice() -> None:
    published = [port.split(":")[1] for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(published) == len(set(published))


LOCAL_TOKEN = "for-this-network-of-containers-only"  # noqa: S105 # no secret


def test_the_only_literal_secrets_are_the_local_defaults() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|TOKEN|KEY$", name):
                found = CHANGEABLE.fullmatch(value)
                assert found, name
                assert found[2] in {"", couch_leaders.PASSWORD, LOCAL_TOKEN}
    assert environment("couch1")["COUCHDB_USER"] == couch_leaders.USER
    assert not re.search(r"://[^/\s]*:[^/\s]*@", COMPOSE.read_text())


@pytest.mark.parametrize("services", DATABASE_SERVICES.values(), ids=DATABASE_SERVICES)
def test_starting_a_database_starts_no_other_service(services: Sequence[str]) -> None:
    assert needed(services) == set(services)
    assert not any("profiles" in SERVICES[name] for name in services)  # so that `exec` needs no profile


def test_dependencies_are_waited_for_until_healthy() -> None:
    for service in SERVICES.values():
        for name, wanted in service.get("depends_on", {}).items():
            assert wanted == {"condition": "service_healthy"}
            assert set(SERVICES[name].get("profiles", ())) <= set(service.get("profiles", ()))


def test_every_mounted_file_exists_and_is_read_only() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source, target, *mode = volume.split(":")
            if source.startswith("."):
                assert (FOLDER / source).exists(), volume
                assert mode == ["ro"], volume
                assert target.startswith("/")
            else:
                assert source in FILE["volumes"]


def test_mounted_files_are_in_the_package_too() -> None:
    """An installed package has no checkout: relative paths must lead to other files of its data folder."""
    folder = Path(stalewatch.__file__).parent / "data" / "replication"
    assert yaml.safe_load((folder / "docker-compose.yml").read_text()) == FILE
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert Path(normpath(folder / source)).exists(), volume


def test_all_services_agree_on_the_replica_sets_members() -> None:
    uri = environment("bench")["STALEWATCH_MONGO_URI"]
    members = environment("mongosetup")["MEMBERS"].split(",")
    assert parse_uri(uri)["nodelist"] == [(name, int(port)) for name, port in (one.split(":") for one in members)]
    assert parse_uri(uri)["options"]["replicaSet"] == mongo_members.SET_NAME
    assert [member.partition(":")[0] for member in members] == ["mongo1", "mongo2", "mongo3"]
    for member in members:
        name, _, port = member.partition(":")
        assert SERVICES[name]["ports"][0].endswith(f":{port}")
        assert SERVICES[name]["command"][1:3] == ["--replSet", mongo_members.SET_NAME]


def test_the_setup_script_uses_the_settings_of_local_clusters() -> None:
    script = (FOLDER / "mongo_setup.js").read_text()
    assert f'const NAME = "{mongo_members.SET_NAME}";' in script
    for name, value in mongo_members._SETTINGS.items():
        assert f"{name}: {json.dumps(value)}" in script


def test_clients_are_configured_with_the_rings_nodes() -> None:
    hosts = environment("bench")["STALEWATCH_CASSANDRA_HOSTS"]
    assert cassandra_options.node_list(hosts) == hosts
    for name in hosts.split(","):
        assert SERVICES[name]["ports"][0].endswith(f":{cassandra_options.DEFAULT_PORT}")
        assert environment(name)["CASSANDRA_SEEDS"] in SERVICES


@pytest.mark.parametrize(("name", "other"), [("couch1", "couch2"), ("couch2", "couch1")])
def test_each_leader_is_configured_with_the_others_url(name: str, other: str) -> None:
    (mounted,) = (volume.split(":") for volume in SERVICES[name]["volumes"] if volume.startswith("."))
    source, target, _ = mounted
    configuration = ConfigParser()
    configuration.read(FOLDER / source)
    leader = couchdb_options.leader(configuration["stalewatch"]["peer_url"])
    assert leader.node == f"{other}:5984"
    assert configuration["couchdb"]["single_node"] == "true"
    # CouchDB reads the folder's files sorted by name, and writes to the last one, which must be docker.ini.
    assert Path(target).parent.as_posix() == "/opt/couchdb/etc/local.d"
    assert Path(target).name < "docker.ini"


def test_all_services_agree_on_the_leaders() -> None:
    found = environment("bench")
    urls = [found["STALEWATCH_COUCH_A"], found["STALEWATCH_COUCH_B"]]
    assert environment("couchsetup")["LEADERS"].split() == urls
    usual = dict(list(couch.USUAL_PORTS.items())[:2])
    assert {name: int(SERVICES[name]["ports"][0].split(":")[1]) for name in usual} == usual
    options = {option.name: option.omitted for option in DATABASES["couch"].flags()}
    assert environment("couchsetup")["DATABASE"] == options["db"] == couch.DATABASE
    for theirs, ours in (("COUCHDB_USER", couchdb_options.USERNAME), ("COUCHDB_PASSWORD", couchdb_options.PASSWORD)):
        assert environment("couchsetup")[theirs] == environment("couch1")[theirs] == found[ours]


def flags_of(service: str) -> list[str]:
    return str(SERVICES[service]["command"][2]).split()


def test_master_workers_and_prometheus_are_configured_to_find_each_other() -> None:
    flags = flags_of("locust-master")
    assert not {"--web-port", "--master-bind-port"} & set(flags)  # so they are Locust's defaults, 8089 and 5557
    metrics = int(flags[flags.index("--metrics-port") + 1])
    published = {port.split(":")[2] for port in SERVICES["locust-master"]["ports"]}
    assert published == {"8089", str(metrics)}
    worker = flags_of("locust-worker")
    assert worker[worker.index("--master-host") + 1] in SERVICES
    scraped = yaml.safe_load((ROOT / "prometheus.yml").read_text())["scrape_configs"][0]
    assert scraped["static_configs"][0]["targets"] == [f"127.0.0.1:{metrics}"]
    assert environment("prometheus")["MASTER"] in SERVICES
    assert (ROOT / environment("locust-master")["LOCUST_LOCUSTFILE"]).exists()


def test_grafana_gets_the_variables_that_its_provisioning_uses() -> None:
    texts = [path.read_text() for path in (ROOT / "grafana" / "provisioning").glob("*/*.yml")]
    asked = {name for text in texts for name in re.findall(r"\$\{(\w+)\}", text)}
    given = environment("grafana")
    assert asked <= set(given)
    targets = {volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]}
    assert {given["STALEWATCH_DASHBOARDS"], given["GF_PATHS_PROVISIONING"]} <= targets
    url = urlsplit(given["STALEWATCH_PROMETHEUS_URL"])
    assert SERVICES[str(url.hostname)]["ports"] == [f"127.0.0.1:{url.port}:{url.port}"]
    assert given["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


@pytest.mark.parametrize("page", ["docs/scale-out.md"])
def test_services_named_in_the_documentation_exist(page: str) -> None:
    lines = re.findall(r"docker compose (up|exec|run) ([^#`\n]*)", (ROOT / page).read_text())
    assert {command for command, _ in lines} >= {"up", "run"}
    for command, rest in lines:
        words = {word for word in rest.split() if not word.startswith("-") and "=" not in word}
        assert words <= set(SERVICES) if command == "up" else words & set(SERVICES), rest


@contextmanager
def prometheus(folder: Path, port: int) -> Iterator[str]:
    arguments = ["sh", str(folder / "prometheus.sh"), f"--web.listen-address=127.0.0.1:{port}"]
    environ = {"PATH": "/usr/bin:/bin", "MASTER": "locust-master", "TMPDIR": str(folder)}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(arguments, cwd=folder, env=environ, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


@pytest.mark.skipif(not which("prometheus"), reason="prometheus is missing: apt install prometheus")
def test_prometheus_starts_with_our_rules_and_scrapes_the_master(tmp_path: Path) -> None:
    copy(FOLDER / "prometheus.sh", tmp_path)
    copy(ROOT / "prometheus.yml", tmp_path)
    copytree(ROOT / "rules", tmp_path / "rules")
    (port,) = ports.free(1)
    with prometheus(tmp_path, port) as url:
        _await_ready(url, tmp_path / "log")
        groups = requests.get(f"{url}/api/v1/rules", timeout=5).json()["data"]["groups"]
        config = requests.get(f"{url}/api/v1/status/config", timeout=5).json()["data"]["yaml"]
    totals, workers = yaml.safe_load(config)["scrape_configs"]
    assert totals["static_configs"] == [{"targets": ["locust-master:9646"]}]
    assert workers["http_sd_configs"][0]["url"] == "http://locust-master:9646/sd"
    assert {Path(group["file"]).name for group in groups} == {path.name for path in (ROOT / "rules").glob("*.yml")}


def _await_ready(url: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if requests.get(f"{url}/-/ready", timeout=5).ok:
                return
        except requests.ConnectionError:
            pass
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
