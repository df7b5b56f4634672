from pathlib import Path

import pytest

from stalewatch.clusters.local import diagnosis, mongod
from stalewatch.clusters.local.process import ServerProcess
from stalewatch.clusters.protocol import ClusterError, DiskFull, MissingLibrary, MissingProgram, PortTaken, ServerDied

LOADER = "mongod: error while loading shared libraries: {}: cannot open shared object file: No such file or directory"

DEATHS = [
    (LOADER.format("libcurl.so.4"), 127, MissingLibrary, "apt-get install libcurl4"),
    (LOADER.format("libcrypto.so.3"), 127, MissingLibrary, "apt-get install libssl3"),
    (LOADER.format("libodd.so.9"), 127, MissingLibrary, "libodd.so.9 is missing"),
    ("mongod: /lib/libc.so.6: version `GLIBC_2.34' not found", 1, MissingLibrary, "GLIBC_2.34 is missing"),
    ('"error":"WiredTigerError: 28: No space left on device"', 14, DiskFull, "make room"),
    ('{"error":"SocketException: Address already in use"}', 48, PortTaken, "another program listens"),
    ('{"error":"DBPathInUse: Unable to lock the lock file"}', 100, ServerDied, "another mongod uses its data"),
    ('{"msg":"** IMPORTANT: UPGRADE PROBLEM"}', 62, ServerDied, "another version of MongoDB"),
    ("who knows", 9, ServerDied, "its log says why"),
]


def ended(folder: Path, script: str) -> ServerProcess:
    server = ServerProcess("mongo1", folder / "mongo1")
    server.start(["sh", "-c", script])
    assert server.await_end(10)
    return server


@pytest.mark.parametrize(("words", "code", "kind", "advice"), DEATHS)
def test_last_words_are_understood(
    tmp_path: Path, words: str, code: int, kind: type[ClusterError], advice: str
) -> None:
    (tmp_path / "words").write_text(f"{words}\n")
    server = ended(tmp_path, f"cat {tmp_path / 'words'}; exit {code}")
    error = diagnosis.of_death(server, mongod.SIGNS)
    assert type(error) is kind
    for part in (f"mongo1 ended with exit code {code}", advice, words, str(server.log)):
        assert part in str(error)


def test_a_processor_without_the_instructions_is_named(tmp_path: Path) -> None:
    error = diagnosis.of_death(ended(tmp_path, "kill -ILL $$"))
    assert type(error) is MissingProgram
    assert "AVX" in str(error)


def test_long_last_words_are_cut(tmp_path: Path) -> None:
    error = diagnosis.of_death(ended(tmp_path, "printf '%9999s\\n' x; seq 100"))
    assert len(str(error)) < 1000
    assert "\n  100" in str(error)
    assert "\n  95" not in str(error)
