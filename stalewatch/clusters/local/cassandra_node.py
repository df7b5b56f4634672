"""One local Cassandra node: its settings, its files, its command line, and the failures known from its log."""

import json
import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from stalewatch.clusters.local.cassandra_members import ORIGIN
from stalewatch.clusters.local.process import KnownFailure
from stalewatch.clusters.protocol import NoMemory, PortTaken, ServerDied

DATA_CENTER, RACK = "dc1", "rack1"

HOSTS = {"cassandra1": "127.0.0.1", "cassandra2": "127.0.0.2", "cassandra3": "127.0.0.3"}

BYTES_PER_NODE = 250 << 20
"""Disk space for one node, most of it for the commit log."""

MEMORY_PER_NODE = 850 << 20
"""Memory for one node: its heap, as much again for the virtual machine, and buffers outside the heap."""

_HEAP = ("-Xms128m", "-Xmx384m", "-XX:MaxDirectMemorySize=256m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError")

_PACKAGES = {
    # Cassandra uses internals of the Java runtime, and exits at once without access to them.
    "--add-exports": (
        "java.base/jdk.internal.misc",
        "java.base/jdk.internal.ref",
        "java.base/sun.nio.ch",
        "java.management.rmi/com.sun.jmx.remote.internal.rmi",
        "java.rmi/sun.rmi.registry",
        "java.rmi/sun.rmi.server",
        "java.sql/java.sql",
    ),
    "--add-opens": ("java.base/java.io", "java.base/java.lang.module", "java.base/java.net", "java.base/sun.nio.ch"),
}

_FIRST_TOKEN, _TOKENS = -(2**63), 2**64

_LOGGING = """<configuration>
  <appender name="ERR" class="ch.qos.logback.core.ConsoleAppender">
    <target>System.err</target>
    <encoder><pattern>%d{HH:mm:ss.SSS} %-5level %logger{0}: %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="ERR"/></root>
</configuration>
"""

_MANAGEMENT = f"""<restrict>
  <cors><allow-origin>{ORIGIN}</allow-origin><strict-checking/></cors>
</restrict>
"""
"""Keeps pages in a local browser from managing the node."""

FAILURES = (
    KnownFailure(
        r"OutOfMemoryError|Cannot allocate memory|insufficient memory for the Java",
        NoMemory,
        "this machine has too little free memory for it: end other programs",
    ),
    KnownFailure(
        r"(?i)Address already in use|is in use by another process", PortTaken, "another program listens on its port"
    ),
    KnownFailure(
        r"Cannot start multiple instances|lock on .*denied|OverlappingFileLock",
        ServerDied,
        "another Cassandra uses its data: stop that one, or set STALEWATCH_HOME to another folder",
    ),
    KnownFailure(
        r"CorruptSSTableException|Could not read commit log|CommitLogReplayException",
        ServerDied,
        "its files are damaged: start over with `stalewatch cluster down cassandra --wipe`",
    ),
    KnownFailure(
        r"A node with address .* already exists",
        ServerDied,
        "the ring still has its lost predecessor: `stalewatch cluster up cassandra` starts a replacement",
    ),
)

ERROR_LINES = r"\bERROR\b|Exception|^Caused by"
"""Matches the errors in Cassandra's log."""


class Ports(NamedTuple):
    """A node's ports: for clients, for other nodes, and for management (Jolokia)."""

    native: int
    storage: int
    management: int


USUAL_PORTS = Ports(native=9042, storage=7000, management=7199)


class Settings(NamedTuple):
    """The configurable settings of a ring; the defaults are Cassandra's own."""

    hints: bool = True
    """Whether nodes store hints: writes that another node missed."""
    commitlog_sync: str = "periodic"
    """When the commit log is synced to disk: one of `COMMITLOG_SYNCS`."""


class Node(NamedTuple):
    """The configuration of one node; its token range starts at the fraction `begins` of the whole range."""

    host: str
    ports: Ports
    begins: Fraction
    seeds: Sequence[str]
    settings: Settings

    @property
    def address(self) -> str:
        """HOST:PORT for clients."""
        return f"{self.host}:{self.ports.native}"


def ring(hosts: Mapping[str, str], ports: Mapping[str, Sequence[int]], settings: Settings) -> dict[str, Node]:
    """Return the configuration of every node by name; a node without known ports has the usual ones."""
    chosen = {name: Ports(*ports.get(name, USUAL_PORTS)) for name in hosts}
    seeds = [f"{host}:{chosen[name].storage}" for name, host in hosts.items()]
    return {
        name: Node(host, chosen[name], Fraction(number, len(hosts)), seeds, settings)
        for number, (name, host) in enumerate(hosts.items())
    }


def write_files(folder: Path, node: Node) -> None:
    """Write the node's configuration files."""
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    # JSON is YAML.
    (folder / "cassandra.yaml").write_text(json.dumps(_configuration(node), indent=1))
    (folder / "rackdc.properties").write_text(f"dc={DATA_CENTER}\nrack={RACK}\n")
    (folder / "logback.xml").write_text(_LOGGING)
    (folder / "management.xml").write_text(_MANAGEMENT)


def _configuration(node: Node) -> Mapping[str, object]:
    return {
        "cluster_name": "stalewatch",
        "num_tokens": 1,
        # A fixed, even share each, without the wait of half a minute for other nodes to claim theirs.
        "initial_token": str(_FIRST_TOKEN + int(_TOKENS * node.begins)),
        "auto_bootstrap": False,
        "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
        "seed_provider": [
            {
                "class_name": "org.apache.cassandra.locator.SimpleSeedProvider",
                "parameters": [{"seeds": ",".join(node.seeds)}],
            }
        ],
        "listen_address": node.host,
        "rpc_address": node.host,
        "native_transport_port": node.ports.native,
        "storage_port": node.ports.storage,
        # With these two a coordinator reads its own replica at ONE; with the dynamic snitch it may read another.
        "endpoint_snitch": "GossipingPropertyFileSnitch",
        "dynamic_snitch": False,
        # A dead node is noticed after eleven silent seconds; with Cassandra's default of 8, after eighteen.
        "phi_convict_threshold": 5,
        "hinted_handoff_enabled": node.settings.hints,
        "hints_flush_period": "1s",
        **_COMMITLOG[node.settings.commitlog_sync],
        "commitlog_segment_size": "8MiB",
        "memtable_heap_space": "64MiB",
        "memtable_offheap_space": "64MiB",
        "read_request_timeout": "1500ms",
        "range_request_timeout": "3000ms",
        "write_request_timeout": "1500ms",
        "cas_contention_timeout": "1500ms",
    }


_COMMITLOG: Mapping[str, Mapping[str, str]] = {
    "periodic": {"commitlog_sync": "periodic", "commitlog_sync_period": "10s"},
    "batch": {"commitlog_sync": "batch"},
}
COMMITLOG_SYNCS = tuple(_COMMITLOG)


def arguments(java: Path, jars: Sequence[Path], folder: Path, node: Node, *, replaces: bool) -> list[str]:
    """Return the command line of one node; with `replaces` it replaces the lost node that had its address."""
    agent = next(jar for jar in jars if jar.name.startswith("jolokia-"))
    policy = f"policyLocation=file://{folder}/management.xml"
    listen = f"host={node.host},port={node.ports.management},discoveryEnabled=false,{policy}"
    return [
        str(java),
        *_HEAP,
        *(f"{flag}={package}=ALL-UNNAMED" for flag, packages in _PACKAGES.items() for package in packages),
        "-XX:-UsePerfData",
        f"-javaagent:{agent}={listen}",
        f"-Djava.io.tmpdir={folder / 'tmp'}",
        f"-Djna.tmpdir={folder / 'tmp'}",
        f"-Dlogback.configurationFile=file://{folder}/logback.xml",
        f"-Dcassandra.config=file://{folder}/cassandra.yaml",
        f"-Dcassandra-rackdc.properties=file://{folder}/rackdc.properties",
        f"-Dcassandra.storagedir={folder}/data",
        "-Dcassandra.ring_delay_ms=2000",
        "-Dcassandra.skip_wait_for_gossip_to_settle=0",
        "-Dcassandra.superuser_setup_delay_ms=0",
        *(_replacing(node) if replaces else ()),
        *("-classpath", os.pathsep.join(map(str, (jar for jar in jars if jar != agent)))),
        "org.apache.cassandra.service.CassandraDaemon",
    ]


def _replacing(node: Node) -> Sequence[str]:
    return (
        f"-Dcassandra.replace_address_first_boot={node.host}:{node.ports.storage}",
        "-Dcassandra.allow_unsafe_replace=true",
    )
