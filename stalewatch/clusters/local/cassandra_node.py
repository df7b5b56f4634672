"""One Cassandra node: its files, how it is started, and what its last words mean."""

import json
import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from stalewatch.clusters.local import management
from stalewatch.clusters.local.diagnosis import Sign
from stalewatch.clusters.protocol import NoMemory, PortTaken, ServerDied

DATA_CENTER, RACK = "dc1", "rack1"

BYTES_A_NODE = 250 << 20
"""Room on the disk for one node: its commit log is most of it."""

MEMORY_A_NODE = 850 << 20
"""Memory of one node: its heap, as much again for the virtual machine, and buffers outside the heap."""

_HEAP = ("-Xms128m", "-Xmx384m", "-XX:MaxDirectMemorySize=256m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError")

_PACKAGES = {
    # Without these the daemon ends at once: it looks into the Java runtime.
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
  <cors><allow-origin>{management.ORIGIN}</allow-origin><strict-checking/></cors>
</restrict>
"""
"""No page in a browser of this machine gives a node orders."""

SIGNS = (
    Sign(
        r"OutOfMemoryError|Cannot allocate memory|insufficient memory for the Java",
        NoMemory,
        "the machine has too little memory for it: end other programs",
    ),
    Sign(r"(?i)Address already in use|is in use by another process", PortTaken, "another program listens on its port"),
    Sign(
        r"Cannot start multiple instances|lock on .*denied|OverlappingFileLock",
        ServerDied,
        "another Cassandra uses its data: end that one, or set STALEWATCH_HOME to a folder elsewhere",
    ),
    Sign(
        r"CorruptSSTableException|Could not read commit log|CommitLogReplayException",
        ServerDied,
        "its files are damaged: begin anew with `stalewatch cluster down cassandra --wipe`",
    ),
    Sign(
        r"A node with address .* already exists",
        ServerDied,
        "the others know it, and its data are gone: `stalewatch cluster up cassandra` puts a new one in its place",
    ),
)

TELLING = r"\bERROR\b|Exception|^Caused by"


class Ports(NamedTuple):
    """Where a node listens, on its own host: for clients, for the other nodes, for orders (see `management`)."""

    native: int
    storage: int
    management: int


class Settings(NamedTuple):
    """What can be chosen about a ring; the defaults are Cassandra's own."""

    hints: bool = True
    """Whether nodes keep what another one missed."""
    commitlog_sync: str = "periodic"
    """When a write is safe from a crash: one of `COMMITLOG_SYNCS`."""


class Node(NamedTuple):
    """What a node's files say of it; `begins` is the part of all keys that is before its own."""

    host: str
    ports: Ports
    begins: Fraction
    seeds: Sequence[str]
    settings: Settings

    @property
    def address(self) -> str:
        """HOST:PORT for clients."""
        return f"{self.host}:{self.ports.native}"


def write_files(folder: Path, node: Node) -> None:
    """Write the files that a node reads at its start."""
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    # JSON is YAML.
    (folder / "cassandra.yaml").write_text(json.dumps(_settings(node), indent=1))
    (folder / "rackdc.properties").write_text(f"dc={DATA_CENTER}\nrack={RACK}\n")
    (folder / "logback.xml").write_text(_LOGGING)
    (folder / "management.xml").write_text(_MANAGEMENT)


def _settings(node: Node) -> Mapping[str, object]:
    return {
        "cluster_name": "stalewatch",
        "num_tokens": 1,
        # A fixed, even share each; and nobody waits half a minute for others to claim theirs.
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
        # With these two a coordinator reads its own replica at ONE, as it does not with the dynamic snitch.
        "endpoint_snitch": "GossipingPropertyFileSnitch",
        "dynamic_snitch": False,
        # A dead node is noticed after eleven silent seconds; with Cassandra's own 8, after eighteen.
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
    """Return the command line of one node; with `replaces` it takes the place of the one that had its address."""
    agent = next(jar for jar in jars if jar.name.startswith("jolokia-"))
    manage = f"host={node.host},port={node.ports.management},discoveryEnabled=false,policyLocation=file://{folder}/management.xml"
    return [
        str(java),
        *_HEAP,
        *(f"{flag}={package}=ALL-UNNAMED" for flag, packages in _PACKAGES.items() for package in packages),
        "-XX:-UsePerfData",
        f"-javaagent:{agent}={manage}",
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
