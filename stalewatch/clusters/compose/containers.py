"""The containers of the project's services, as the engine tells of them."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from stalewatch.clusters.compose.docker import docker, docker_json, project
from stalewatch.clusters.protocol import State

NETWORK = "replication_default"
"""The network that all of them are in; docker-compose.yml gives it that name whatever the project is called."""

_LABELS = "com.docker.compose."
_STATES: Mapping[str, State] = {"running": "running", "restarting": "running", "paused": "paused"}


class Container(NamedTuple):
    """One container.

    `pid` is that of its first process, as this machine counts them (None when it has ended); `address` what it has in
    the network (None when it has ended, or is disconnected), `published` where each of its ports is on this machine.
    """

    service: str
    id: str
    image: str
    state: State
    pid: int | None
    address: str | None
    connected: bool
    published: Mapping[int, str]


def containers(services: Collection[str]) -> dict[str, Container]:
    """Return the containers of those services that have one, in the order of the services."""
    label = f"label={_LABELS}project={project()}"
    ids = docker("ps", "--all", "--quiet", "--no-trunc", "--filter", label).split()
    found = [_container(told) for told in (docker_json("inspect", *ids) if ids else ()) if not _is_one_off(told)]
    by_service = {container.service: container for container in found}
    return {service: by_service[service] for service in services if service in by_service}


def _container(told: Mapping[str, Any]) -> Container:
    networks = told["NetworkSettings"]["Networks"]
    return Container(
        service=told["Config"]["Labels"][f"{_LABELS}service"],
        id=told["Id"],
        image=told["Image"],
        state=_STATES.get(told["State"]["Status"], "dead"),
        pid=told["State"]["Pid"] or None,
        address=networks.get(NETWORK, {}).get("IPAddress") or None,
        connected=NETWORK in networks,
        # What it was made with: of a container that has ended, the network settings know no ports.
        published={
            int(port.partition("/")[0]): f"{bindings[0]['HostIp']}:{bindings[0]['HostPort']}"
            for port, bindings in (told["HostConfig"]["PortBindings"] or {}).items()
        },
    )


def _is_one_off(told: Mapping[str, Any]) -> bool:
    """Tell whether it was made by ``run``, as a bench is."""
    return bool(told["Config"]["Labels"].get(f"{_LABELS}oneoff") == "True")
