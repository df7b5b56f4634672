"""deploy/kubernetes: valid by Kubernetes' schemas, rendered by kustomize, and in agreement with image and Compose."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import which
from typing import Any

import kubernetes_validate
import pytest
import yaml

from stalewatch.clusters.local import ports
from stalewatch.commands.main import __version__

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
KINDS = sorted(path.parent.name for path in FOLDER.glob("*/kustomization.yaml"))
FOREIGN = {"ServiceMonitor", "ScrapeConfig"}
"""Of the Prometheus operator, whose schema no package has."""

VERSIONS = ("1.27", kubernetes_validate.latest_version())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "replication" / "docker-compose.yml").read_text())["services"]

Manifest = Mapping[str, Any]


def source(kind: str) -> list[Manifest]:
    """Return what stands in a folder's files, without its base's."""
    return [
        manifest
        for path in sorted((FOLDER / kind).glob("*.yaml"))
        if path.name != "kustomization.yaml"
        for manifest in yaml.safe_load_all(path.read_text())
    ]


def rendered(kind: str) -> list[Manifest]:
    """Return what `kubectl apply -k` would apply."""
    command = ["kubectl", "kustomize", FOLDER / kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def validate(manifests: Sequence[Manifest]) -> None:
    for manifest in manifests:
        if manifest["kind"] not in FOREIGN:
            for version in VERSIONS:
                kubernetes_validate.validate(manifest, version, strict=True)


def found(kind: str, name: str) -> Manifest:
    return next(one for one in BASE if one["kind"] == kind and one["metadata"]["name"] == name)


BASE = source("base")
MASTER, WORKERS = found("Deployment", "stalewatch-master"), found("Deployment", "stalewatch-workers")
PODS = {"master": MASTER["spec"]["template"]["spec"], "workers": WORKERS["spec"]["template"]["spec"]}


def container(part: str) -> Manifest:
    (only,) = PODS[part]["containers"]
    return dict(only)


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_are_valid_as_they_stand(kind: str) -> None:
    validate(source(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_of_a_folder_is_among_its_resources(kind: str) -> None:
    listed = yaml.safe_load((FOLDER / kind / "kustomization.yaml").read_text())["resources"]
    files = [path.name for path in (FOLDER / kind).glob("*.yaml") if path.name != "kustomization.yaml"]
    assert sorted(listed) == sorted([*files, *([] if kind == "base" else ["../base"])])


def knows_kustomize() -> bool:
    """Tell whether a kubectl is here whose kustomize takes folders for resources; Debian 12 has an older one (1.20)."""
    if not which("kubectl"):
        return False
    command = ["kubectl", "version", "--client", "--output", "json"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    return told.returncode == 0 and int(json.loads(told.stdout)["clientVersion"]["minor"].rstrip("+")) > 20


if knows_kustomize():  # no package source that CI may count on has one

    @pytest.mark.parametrize("kind", KINDS)
    def test_what_kustomize_makes_of_them_is_valid(kind: str) -> None:
        manifests = rendered(kind)
        validate(manifests)
        there = {(one["kind"], one["metadata"]["name"]) for one in manifests if one["kind"] != "ConfigMap"}
        assert there == {(one["kind"], one["metadata"]["name"]) for one in (*BASE, *source(kind))}
        (config,) = (one["metadata"]["name"] for one in manifests if one["kind"] == "ConfigMap")
        for one in manifests:
            if one["kind"] == "Deployment":
                (only,) = one["spec"]["template"]["spec"]["containers"]
                assert only["image"] == f"stalewatch:{__version__}"
                assert only["envFrom"][0]["configMapRef"]["name"] == config  # a change of it makes new pods


def test_a_broken_manifest_is_no_valid_one() -> None:
    spec = {**MASTER["spec"], "replica": 1}
    with pytest.raises(kubernetes_validate.ValidationError):
        validate([{**MASTER, "spec": spec}])


@pytest.mark.parametrize("part", PODS)
def test_pods_have_no_rights_they_do_not_need(part: str) -> None:
    pod, only = PODS[part], container(part)
    user = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    assert user
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == (int(user[1]), int(user[2]))
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    home = re.search(r"HOME=(\S+)", DOCKERFILE)
    assert home
    assert [mount["mountPath"] for mount in only["volumeMounts"]] == [home[1]]
    assert only["resources"]["limits"].keys() == {"memory"}
    assert not only.get("env")  # addresses and passwords come from a secret


@pytest.mark.parametrize("part", PODS)
def test_health_is_what_the_image_says_it_is(part: str) -> None:
    check = re.search(r"HEALTHCHECK .*CMD (\[.*\])", DOCKERFILE)
    assert check
    assert container(part)["readinessProbe"]["exec"]["command"] == json.loads(check[1])


def test_they_start_as_compose_starts_them() -> None:
    for part, service in (("master", "locust-master"), ("workers", "locust-worker")):
        shell, flag, script = container(part)["command"]
        assert [shell, flag] == COMPOSE[service]["command"][:2]
        script = script.replace(" --web-login", "")  # Compose publishes the page on loopback only
        theirs = COMPOSE[service]["command"][2].replace("$$", "$").replace("locust-master", "stalewatch-master")
        assert script.split() == theirs.split()


def test_ports_and_labels_lead_to_the_master() -> None:
    service = found("Service", "stalewatch-master")
    assert service["spec"]["selector"] == MASTER["spec"]["selector"]["matchLabels"]
    assert service["spec"]["selector"] == MASTER["spec"]["template"]["metadata"]["labels"]
    inside = {port["name"]: port["containerPort"] for port in container("master")["ports"]}
    assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == inside
    exposed = re.search(r"^EXPOSE (.*)$", DOCKERFILE, re.MULTILINE)
    assert exposed
    assert set(map(int, exposed[1].split())) == set(inside.values())
    policy = found("NetworkPolicy", "stalewatch-master")["spec"]
    assert policy["podSelector"]["matchLabels"] == service["spec"]["selector"]
    workers, prometheus = policy["ingress"]
    (allowed,) = workers["from"]
    assert allowed["podSelector"]["matchLabels"] == WORKERS["spec"]["template"]["metadata"]["labels"]
    assert [port["port"] for port in workers["ports"]] == [inside["workers"]]
    assert [port["port"] for port in prometheus["ports"]] == [inside["metrics"]]  # and nobody reaches the page


def test_the_page_has_a_login_and_workers_have_a_token() -> None:
    def secrets(part: str) -> set[str]:
        return {one["secretRef"]["name"] for one in container(part)["envFrom"] if "secretRef" in one}

    assert secrets("workers") == {"stalewatch-database", "stalewatch-token"}
    assert secrets("master") == {"stalewatch-database", "stalewatch-token", "stalewatch-web"}
    assert "--web-login" in container("master")["command"][2].split()
    assert not any(one.get("optional") for part in PODS for row in container(part)["envFrom"] for one in row.values())


def test_the_autoscaler_scales_the_workers_and_takes_none_away() -> None:
    (scaler,) = source("autoscaled")
    assert scaler["spec"]["scaleTargetRef"]["name"] == WORKERS["metadata"]["name"]
    assert scaler["spec"]["behavior"]["scaleDown"] == {"selectPolicy": "Disabled"}
    assert container("workers")["resources"]["requests"]["cpu"]  # of which it takes its share


def test_prometheus_is_told_the_jobs_that_rules_and_dashboards_know() -> None:
    totals, workers = source("monitored")
    service = found("Service", "stalewatch-master")
    assert totals["spec"]["selector"]["matchLabels"] == service["metadata"]["labels"]
    (endpoint,) = totals["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    here = yaml.safe_load((ROOT / "prometheus.yml").read_text())
    assert endpoint["interval"] == workers["spec"]["scrapeInterval"] == here["global"]["scrape_interval"]
    jobs = [job["job_name"] for job in here["scrape_configs"]]
    for job, relabelings in zip(jobs, (endpoint["relabelings"], workers["spec"]["relabelings"]), strict=True):
        assert relabelings == [{"targetLabel": "job", "replacement": job}]
    url = here["scrape_configs"][1]["http_sd_configs"][0]["url"].replace("127.0.0.1", "stalewatch-master")
    assert workers["spec"]["httpSDConfigs"][0]["url"] == url


def test_the_masters_command_is_one_that_locust_takes() -> None:
    """It gives up waiting for a worker; what it did not know would end it at once with another exit code."""
    web, workers, metrics = map(str, ports.free(3))
    loopback = ("--web-host", "127.0.0.1", "--master-bind-host", "127.0.0.1", "--metrics-host", "127.0.0.1")
    elsewhere = ("--web-port", web, "--master-bind-port", workers, "--metrics-port", metrics)
    flags = ("--headless", "-u", "1", "-t", "1s", "--expect-workers", "1", "--expect-workers-max-wait", "1")
    environ = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "LOCUST_LOCUSTFILE": "locustfiles/memory_users.py",
        "LOCUST_FLAGS": " ".join((*loopback, *elsewhere, *flags)),
    }
    command = container("master")["command"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1, done.stderr
    assert "Gave up waiting for workers" in done.stderr
