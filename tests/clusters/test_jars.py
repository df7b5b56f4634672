import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stalewatch.clusters.local import jars
from stalewatch.clusters.local.cassandra import LOCK
from stalewatch.clusters.protocol import MissingProgram

CONTENTS = b"what a jar holds"
INSIDE = Path("org/example/thing/1.0/thing-1.0-native.jar")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Maven repository on loopback, and a cache of the test's own."""
    folder = tmp_path / "repository"
    (folder / INSIDE).parent.mkdir(parents=True)
    (folder / INSIDE).write_bytes(CONTENTS)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        monkeypatch.setenv(jars.VARIABLE, f"http://user:secret@127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield folder
        server.shutdown()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "some.lock"
    sha256 = hashlib.sha256(CONTENTS).hexdigest()
    path.write_text(f"# a comment\n{sha256} {len(CONTENTS)} org.example:thing:1.0:native\n")
    return path


def test_the_lock_file_pins_all_that_cassandra_needs() -> None:
    locked = jars.read_lock(LOCK)
    assert len({jar.coordinate for jar in locked}) == len(locked) > 90
    assert all(len(jar.sha256) == 64 and jar.size > 0 for jar in locked)
    assert [jar.version for jar in locked if jar.artifact == "cassandra-all"] == ["5.0.5"]
    assert sum(jar.artifact == "jolokia-agent-jvm" for jar in locked) == 1


def test_a_jar_is_fetched_once_and_told(repository: Path, lock: Path) -> None:
    told: list[str] = []
    (path,) = jars.fetch(lock, told.append)
    assert path.read_bytes() == CONTENTS
    assert path.is_relative_to(jars.cache())
    assert any("1 jars" in line for line in told)
    (repository / INSIDE).unlink()
    told.clear()
    assert jars.fetch(lock, told.append) == [path]
    assert told == []


def test_a_damaged_jar_is_fetched_again(repository: Path, lock: Path) -> None:
    assert repository
    (path,) = jars.fetch(lock, print)
    path.write_bytes(CONTENTS[:5])
    assert jars.fetch(lock, print) == [path]
    assert path.read_bytes() == CONTENTS


@pytest.mark.parametrize(
    ("contents", "reason"), [(b"something else", "not what the lock file says"), (None, "not in the")]
)
def test_a_jar_that_cannot_be_had_is_named_without_secrets(
    repository: Path, lock: Path, contents: bytes | None, reason: str
) -> None:
    (repository / INSIDE).unlink()
    if contents is not None:
        (repository / INSIDE).write_bytes(contents)
    with pytest.raises(MissingProgram, match=f"org.example:thing:1.0:native.*{reason}") as caught:
        jars.fetch(lock, print)
    assert "secret" not in str(caught.value)


def test_no_network_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lock: Path) -> None:
    monkeypatch.setenv(jars.VARIABLE, "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(MissingProgram, match=r"ConnectionError.*check the network"):
        jars.fetch(lock, print)


SETTINGS = """<settings xmlns="http://maven.apache.org/SETTINGS/1.0.0"><mirrors>
<mirror><id>other</id><mirrorOf>other</mirrorOf><url>http://no.example/</url></mirror>
<mirror><id>m</id><mirrorOf>{of}</mirrorOf><url> http://mirror.example/maven/ </url></mirror>
</mirrors></settings>"""


@pytest.mark.parametrize("of", ["central", "*", "internal, central", "external:*"])
def test_a_mirror_of_mavens_settings_is_used(tmp_path: Path, of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(jars.VARIABLE, raising=False)
    file = tmp_path / "settings.xml"
    file.write_text(SETTINGS.format(of=of))
    assert jars.repositories(file) == {"mirror": "http://mirror.example/maven"}


def test_without_a_mirror_it_is_the_central_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(jars.VARIABLE, raising=False)
    file = tmp_path / "settings.xml"
    assert jars.repositories(file) is None
    for text in (SETTINGS.format(of="elsewhere"), "<settings/>", "no xml"):
        file.write_text(text)
        assert jars.repositories(file) is None
