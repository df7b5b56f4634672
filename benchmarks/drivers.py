"""Bare drivers: the operations that the bench performs, as a program without stalewatch would send them.

The drivers have the bench's settings (a socket time-out alone costs a timer per answer). Import this after gevent has
patched the standard library.
"""

import base64
import json
import time
import zlib
from collections.abc import Sequence
from itertools import count
from typing import Any, Protocol
from urllib.parse import urlsplit

KEYS = 1000


class BareDriver(Protocol):
    """Reads and writes keys at one database."""

    keys: Sequence[str]

    def read(self, key: str) -> None:
        """Read a key."""

    def write(self, key: str) -> None:
        """Write a key."""

    def close(self) -> None:
        """Delete the keys."""


class BareMongo:
    """pymongo; one counter for all versions, because a `$max` below what stands writes nothing, and costs less."""

    def __init__(self, addresses: Sequence[str], users: int) -> None:
        import pymongo  # noqa: PLC0415 # only the driver that is measured
        from pymongo.read_preferences import ReadPreference  # noqa: PLC0415

        client: Any = pymongo.MongoClient(
            addresses[0],
            retryReads=False,
            retryWrites=False,
            w=1,
            wTimeoutMS=1800,
            maxPoolSize=2 * users,
            socketTimeoutMS=2000,
            serverSelectionTimeoutMS=2000,
            waitQueueTimeoutMS=2000,
            connectTimeoutMS=1000,
            heartbeatFrequencyMS=1000,
        )
        self._collection = client.bench[f"bare{time.time_ns()}"]
        self._reads = self._collection.with_options(read_preference=ReadPreference.SECONDARY)
        self._versions = count(1)
        self.keys = [f"bare-{number}" for number in range(KEYS)]
        created = self._collection.with_options(write_concern=pymongo.WriteConcern("majority"))
        created.insert_many([{"_id": key, "d": {"v": 0, "author": ""}} for key in self.keys])

    def read(self, key: str) -> None:
        """Read a document from a secondary."""
        next(self._reads.find({"_id": key}, limit=-1), None)

    def write(self, key: str) -> None:
        """Raise the document's version."""
        self._collection.update_one({"_id": key}, {"$max": {"d": {"v": next(self._versions), "author": "s"}}})

    def close(self) -> None:
        """Drop the collection."""
        self._collection.drop()


class BareCassandra:
    """cassandra-driver, with its own event loop for gevent or, for comparison, with ours."""

    ours = False

    def __init__(self, addresses: Sequence[str], users: int) -> None:
        from cassandra import ConsistencyLevel  # noqa: PLC0415 # only the driver that is measured
        from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile  # noqa: PLC0415
        from cassandra.policies import (  # noqa: PLC0415
            ConstantReconnectionPolicy,
            FallthroughRetryPolicy,
            RoundRobinPolicy,
        )
        from cassandra.query import tuple_factory  # noqa: PLC0415

        del users
        loop: dict[str, Any] = {}
        if self.ours:
            from stalewatch.clients.cassandra.event_loop import GreenletConnection  # noqa: PLC0415

            loop["connection_class"] = GreenletConnection
        profile = ExecutionProfile(
            load_balancing_policy=RoundRobinPolicy(),
            retry_policy=FallthroughRetryPolicy(),
            request_timeout=3.0,
            row_factory=tuple_factory,
        )
        self._cluster = Cluster(
            [(host, int(port)) for host, port in (one.split(":") for one in addresses[0].split(","))],
            execution_profiles={EXEC_PROFILE_DEFAULT: profile},
            idle_heartbeat_interval=5.0,
            reconnection_policy=ConstantReconnectionPolicy(0.5, None),
            schema_metadata_enabled=False,
            token_metadata_enabled=False,
            **loop,
        )
        session = self._session = self._cluster.connect()
        session.use_client_timestamp = False
        session.execute(
            "CREATE TABLE IF NOT EXISTS bench.bare (k text PRIMARY KEY, "
            "d frozen<tuple<bigint, text, text, bigint, text, text>>) WITH speculative_retry = 'NEVER'",
            timeout=30,
        )
        self._cluster.control_connection.wait_for_schema_agreement(wait_time=20)
        self._write = session.prepare("INSERT INTO bench.bare (k, d) VALUES (?, ?) USING TIMESTAMP ?")
        self._read = session.prepare("SELECT d FROM bench.bare WHERE k = ?")
        self._write.consistency_level = self._read.consistency_level = ConsistencyLevel.ONE
        self._versions = count(1)
        self.keys = [f"bare-{number}" for number in range(KEYS)]
        for key in self.keys:
            self.write(key)

    def read(self, key: str) -> None:
        """Read a row at ONE."""
        self._session.execute_async(self._read, (key,)).result().one()

    def write(self, key: str) -> None:
        """Write a row at ONE."""
        value = (next(self._versions), "s", None, None, None, None)
        self._session.execute_async(self._write, (key, value, time.time_ns() // 1000)).result()

    def close(self) -> None:
        """Close the connections; the table stays for the next round."""
        self._cluster.shutdown()


class BareCassandraWithOurLoop(BareCassandra):
    """The same with the event loop that the bench uses, which shows what the rest of the bench costs."""

    ours = True


class BareCouch:
    """geventhttpclient: a write is a GET of the winner and a PUT on its revision, a read is a GET with conflicts.

    Writes go to the home leader of each key, because the number of requests that a conflict takes depends on chance.
    """

    def __init__(self, addresses: Sequence[str], users: int) -> None:
        self._leaders = [self._client(url, users) for url in addresses]
        self._versions = count(1)
        run = f"bare-{time.time_ns()}"
        self.keys = [f"{run}-{number}" for number in range(KEYS)]
        docs = [{"_id": key, "v": 0, "author": ""} for key in self.keys]
        self._ask(self._leaders[0], "POST", "/bench/_bulk_docs", json.dumps({"docs": docs}))
        while any("error" in row for row in self._rows(self._leaders[1])):
            time.sleep(0.1)

    @staticmethod
    def _client(url: str, users: int) -> Any:  # noqa: ANN401 # has no types
        from geventhttpclient import HTTPClient  # noqa: PLC0415 # only the driver that is measured

        parts = urlsplit(url)
        user = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()
        headers = {"Authorization": f"Basic {user}", "Content-Type": "application/json", "Accept": "application/json"}
        return HTTPClient(parts.hostname, parts.port, headers=headers, concurrency=users, network_timeout=5)

    @staticmethod
    def _ask(leader: Any, method: str, path: str, body: str = "") -> Any:  # noqa: ANN401 # JSON
        return json.loads(leader.request(method, path, body).read())

    def _rows(self, leader: Any) -> list[dict[str, Any]]:  # noqa: ANN401
        found = self._ask(leader, "POST", "/bench/_all_docs", json.dumps({"keys": self.keys}))
        rows: list[dict[str, Any]] = found["rows"]
        return rows

    def _home(self, key: str) -> Any:  # noqa: ANN401
        return self._leaders[zlib.crc32(key.encode()) & 1]

    def read(self, key: str) -> None:
        """Read a document with its conflicts."""
        self._ask(self._home(key), "GET", f"/bench/{key}?conflicts=true")

    def write(self, key: str) -> None:
        """Write a document on its current revision."""
        leader, version = self._home(key), next(self._versions)
        while True:
            found = self._ask(leader, "GET", f"/bench/{key}")
            body = json.dumps({"v": version, "author": "s", "_rev": found["_rev"]})
            if "error" not in self._ask(leader, "PUT", f"/bench/{key}", body):
                break

    def close(self) -> None:
        """Delete the documents."""
        rows = self._rows(self._leaders[0])
        gone = [{"_id": row["id"], "_rev": row["value"]["rev"], "_deleted": True} for row in rows if "value" in row]
        self._ask(self._leaders[0], "POST", "/bench/_bulk_docs", json.dumps({"docs": gone}))


class BareNull:
    """A socket per user of the null server, as its client uses it."""

    def __init__(self, addresses: Sequence[str], users: int) -> None:
        from benchmarks.null import NullSession  # noqa: PLC0415 # imports socket

        self.keys = [f"bare-{number}" for number in range(KEYS)]
        self._idle = [NullSession(int(addresses[0])) for _ in range(users)]
        self._versions = count(1)

    def read(self, key: str) -> None:
        """Read a key."""
        session = self._idle.pop()
        session._socket.sendall(b"r %s\n" % key.encode())  # noqa: SLF001 # without the answer's object
        int(session._socket.recv(64))  # noqa: SLF001
        self._idle.append(session)

    def write(self, key: str) -> None:
        """Write a key."""
        session = self._idle.pop()
        session._socket.sendall(b"w %s %d\n" % (key.encode(), next(self._versions)))  # noqa: SLF001
        session._socket.recv(64)  # noqa: SLF001
        self._idle.append(session)

    def close(self) -> None:
        """Do nothing."""


DRIVERS: dict[str, type[BareDriver]] = {
    "mongo": BareMongo,
    "cassandra": BareCassandra,
    "cassandra-with-our-event-loop": BareCassandraWithOurLoop,
    "couch": BareCouch,
    "null": BareNull,
}
