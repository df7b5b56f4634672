"""Apache CouchDB as the leaders' server: its files, its command line and environment, and its failures.

CouchDB itself is not available as a package. A stand-in of the same name and layout takes its place. It reads the
configuration as CouchDB does, records how it was started, and becomes the PouchDB server on the configured port.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import requests

from stalewatch.clusters.local import couch, couch_servers, home, ports
from stalewatch.clusters.local.couch import CouchCluster
from stalewatch.clusters.local.couch_leaders import PASSWORD, USER
from stalewatch.clusters.protocol import ClusterError, DiskFull, MissingProgram, PortTaken, ServerDied
from stalewatch.commands import cluster as command

STAND_IN = """\
#!{python}
import json, os, sys
from configparser import ConfigParser
from pathlib import Path

root = Path(sys.argv[0]).resolve().parents[1]
os.chdir(root)  # as CouchDB's own script does
flag, *inis = sys.argv[1:]
settings = ConfigParser(interpolation=None)
settings.optionxform = str
for ini in inis:
    with open(ini) as file:
        settings.read_file(file)
port = settings["chttpd"]["port"]
address = f"{{settings['chttpd']['bind_address']}}:{{port}}"
failure = Path({records!r}, "failure")
if failure.exists():
    sys.exit(failure.read_text())
texts = {{name: Path(name).read_text() for name in [*inis, os.environ["COUCHDB_ARGS_FILE"]]}}
record = dict(pid=os.getpid(), arguments=sys.argv, environment=dict(os.environ), texts=texts)
Path({records!r}, port + ".json").write_text(json.dumps(record))
if not settings.has_option("couchdb", "uuid"):
    with open(inis[-1], "a") as file:
        file.write("[couchdb]\\nuuid = generated-once\\n")
((user, password),) = settings["admins"].items()
environment = dict(os.environ, NODE_PATH={packages!r}, COUCH_USER=user, COUCH_PASSWORD=password)
os.execve({node!r}, [{node!r}, {server!r}, address, settings["couchdb"]["database_dir"]], environment)
"""

SHIPPED = """\
; a release's defaults, which must not apply to local leaders
[couchdb]
database_dir = ./data
view_index_dir = ./data
[cluster]
n = 3
[chttpd]
port = 5984
bind_address = 0.0.0.0
[log]
level = info
"""


def install(root: Path, version: str = "3.5.0", program: str = "#!/bin/sh\nexit 1\n") -> Path:
    """Create the files of a CouchDB release that are read, and return the program."""
    for folder in ("bin", "releases", "etc/default.d"):
        (root / folder).mkdir(parents=True)
    (root / "releases" / "start_erl.data").write_text(f"14.2.5 {version}\n")
    (root / "etc" / "default.ini").write_text(SHIPPED)
    (root / "etc" / "default.d" / "README").write_text("not a configuration file")
    (root / "etc" / "default.d" / "10-filelog.ini").write_text("[log]\nwriter = file\nfile = /var/log/couchdb.log\n")
    path = root / "bin" / "couchdb"
    path.write_text(program)
    path.chmod(0o755)
    return path


@pytest.fixture
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove all servers from PATH and from the environment."""
    for spec in couch_servers.SERVERS:
        monkeypatch.delenv(spec.program.variable, raising=False)
    monkeypatch.setenv("PATH", "/nowhere")


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a cluster with its own ports; the name contains a space, as some folders of users do."""
    path = tmp_path / "of a cluster"
    monkeypatch.setenv(home.VARIABLE, str(path))
    cluster = CouchCluster(path)
    cluster.folder.mkdir(parents=True)
    chosen = dict(zip(couch.USUAL_PORTS, ports.free(len(couch.USUAL_PORTS)), strict=True))
    home.remember(cluster._state_file, {"ports": chosen})
    try:
        yield path
    finally:
        CouchCluster(path).stop(print, wipe=True)


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """The folder where the stand-in records how it was started, and reads the error to fail with, if any."""
    folder = tmp_path / "records"
    folder.mkdir()
    return folder


@pytest.fixture
def stand_in(
    pouch: tuple[Path, Path], records: Path, tmp_path: Path, nothing_named: None, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The stand-in on PATH, behind a symbolic link as in packages."""
    assert nothing_named is None
    program, packages = pouch
    text = STAND_IN.format(
        python=sys.executable,
        records=str(records),
        packages=str(packages),
        node=str(program),
        server=str(couch_servers.POUCH / "server.js"),
    )
    real = install(tmp_path / "couchdb-3.5.0", program=text)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "couchdb").symlink_to(real)
    monkeypatch.setenv("PATH", str(tmp_path / "links"))
    return real


def found() -> tuple[str | None, list[str]]:
    """Return the title of the CouchDB that is found, and the progress reported."""
    reported: list[str] = []
    server = couch_servers.find_couchdb(reported.append)
    return server and server.title, reported


@pytest.mark.usefixtures("nothing_named")
def test_the_variable_precedes_the_path_which_precedes_pouchdb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found() == (None, [])
    monkeypatch.setenv("PATH", str(install(tmp_path / "on-path", "3.4.2").parent))
    assert found() == ("Apache CouchDB 3.4.2", [])
    monkeypatch.setenv(couch_servers.COUCHDB.variable, str(install(tmp_path / "named", "3.5.1")))
    assert found() == ("Apache CouchDB 3.5.1", [])
    assert CouchCluster(tmp_path)._choose(print).name == "couchdb"


@pytest.mark.usefixtures("nothing_named")
def test_since_3_4_a_library_names_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = install(tmp_path / "installed")
    with_an_erlang_alone(tmp_path / "installed")
    for name in ("couch-3.5.0", "couch_replicator-3.5.0", "couch_index-3.5.0"):
        (tmp_path / "installed" / "lib" / name).mkdir(parents=True)
    monkeypatch.setenv("PATH", str(program.parent))
    assert found() == ("Apache CouchDB 3.5.0", [])


@pytest.mark.usefixtures("stand_in")
@pytest.mark.server
def test_a_node_named_by_the_variable_precedes_a_couchdb_on_the_path(
    tmp_path: Path, pouch: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CouchCluster(tmp_path)._choose(print).name == "couchdb"
    monkeypatch.setenv(couch_servers.NODE.variable, str(pouch[0]))
    assert CouchCluster(tmp_path)._choose(print).name == "pouchdb"


def without_defaults(root: Path) -> None:
    (root / "etc" / "default.ini").unlink()


def without_release(root: Path) -> None:
    (root / "releases" / "start_erl.data").unlink()


def with_an_invalid_release(root: Path) -> None:
    (root / "releases" / "start_erl.data").write_text("no numbers")


def with_an_erlang_alone(root: Path) -> None:
    (root / "releases" / "start_erl.data").write_text("13.1.5 ")


def with_an_old_library(root: Path) -> None:
    with_an_erlang_alone(root)
    (root / "lib" / "couch-2.3.1").mkdir(parents=True)


def with_an_old_release(root: Path) -> None:
    (root / "releases" / "start_erl.data").write_text("9.2 2.3.1")


@pytest.mark.usefixtures("nothing_named")
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (without_defaults, r"default\.ini"),
        (without_release, r"start_erl\.data"),
        (with_an_invalid_release, "is not part of a usable CouchDB"),
        (with_an_erlang_alone, "names its version"),
        (with_an_old_library, r"CouchDB 2\.3\.1, which is too old"),
        (with_an_old_release, r"CouchDB 2\.3\.1, which is too old"),
    ],
)
def test_an_unusable_couchdb_is_skipped_on_the_path_and_refused_if_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None], why: str
) -> None:
    program = install(tmp_path / "installed")
    spoil(tmp_path / "installed")
    monkeypatch.setenv("PATH", str(program.parent))
    title, (line,) = found()
    assert title is None
    assert line.startswith(f"not used: {program}")
    monkeypatch.setenv(couch_servers.COUCHDB.variable, str(program))
    with pytest.raises(MissingProgram, match=rf"{why}.*STALEWATCH_COUCHDB"):
        found()


@pytest.mark.usefixtures("nothing_named")
def test_a_variable_that_names_no_file_is_a_one_line_error(
    where: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(couch_servers.COUCHDB.variable, str(where / "missing"))
    assert do("up", "couch") == command.UNREACHABLE
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"stalewatch: STALEWATCH_COUCHDB names {where / 'missing'}, which is not a file"


@pytest.mark.usefixtures("nothing_named")
def test_files_command_line_and_environment_of_a_leader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, folder = tmp_path / "installed", tmp_path / "couch1"
    program = install(root)
    monkeypatch.setenv(couch_servers.COUCHDB.variable, str(program))
    server = couch_servers.find_couchdb(print)
    assert server
    arguments, environment = server.prepare(folder, "127.0.0.1:5990")
    assert list(arguments) == [
        program,
        "-couch_ini",
        root / "etc" / "default.ini",
        root / "etc" / "default.d" / "10-filelog.ini",
        folder / "etc" / "stalewatch.ini",
        folder / "etc" / "local.ini",
    ]
    assert environment == {
        "COUCHDB_ARGS_FILE": str(folder / "etc" / "vm.args"),
        "ERL_CRASH_DUMP": str(folder / "erl_crash.dump"),
        "COUCHDB_INI_FILES": "",
        "ERL_FLAGS": "",
        "ERL_AFLAGS": "",
        "ERL_ZFLAGS": "",
    }
    data = folder / "data"
    assert data.is_dir()
    assert (folder / "etc" / "stalewatch.ini").read_text() == (
        f"[couchdb]\ndatabase_dir = {data}\nview_index_dir = {data}\nsingle_node = true\n\n"
        "[cluster]\nn = 1\n\n"
        "[chttpd]\nbind_address = 127.0.0.1\nport = 5990\n\n"
        "[prometheus]\nadditional_port = false\n\n"
        f"[admins]\n{USER} = {PASSWORD}\n\n"
        "[log]\nwriter = stderr\nlevel = warning\n\n"
    )
    flags = [line.split()[0] for line in (folder / "etc" / "vm.args").read_text().splitlines()]
    assert flags == ["-kernel", "-sasl", "+Bd"]  # without -name and -sname it does not listen for other Erlang nodes


@pytest.mark.usefixtures("nothing_named")
def test_couchdbs_own_settings_survive_a_start_on_another_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(couch_servers.COUCHDB.variable, str(install(tmp_path / "installed")))
    server = couch_servers.find_couchdb(print)
    assert server
    own = tmp_path / "couch1" / "etc" / "local.ini"
    server.prepare(tmp_path / "couch1", "127.0.0.1:5990")
    own.write_text("[couchdb]\nuuid = 1234\n")
    server.prepare(tmp_path / "couch1", "127.0.0.1:5991")
    assert own.read_text() == "[couchdb]\nuuid = 1234\n"
    assert "port = 5991" in (own.parent / "stalewatch.ini").read_text()


def do(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(arguments))


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def recorded(records: Path, address: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((records / f"{address.rpartition(':')[2]}.json").read_text())
    return record


def effective(record: dict[str, Any]) -> ConfigParser:
    """Return the settings of all files, of which later ones take precedence."""
    settings = ConfigParser(interpolation=None)
    for name in record["arguments"][2:]:
        settings.read_string(record["texts"][name])
    return settings


@pytest.mark.server
def test_up_status_and_down_with_couchdb(
    stand_in: Path, records: Path, where: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ERL_FLAGS", "-couch_ini /elsewhere.ini")
    installed = contents(stand_in.parents[1])
    cluster = CouchCluster(where)
    assert do("up", "couch") == command.DONE
    shown = capsys.readouterr()
    assert shown.out.split() == [f"http://{USER}:{PASSWORD}@{address}/" for address in cluster.nodes()]
    assert shown.err.count("starting Apache CouchDB 3.5.0") == 2
    assert "replication works" in shown.err
    for address, node_status in zip(cluster.nodes(), cluster.status(), strict=True):
        record, folder = recorded(records, address), cluster.folder / node_status.name
        settings = effective(record)
        assert node_status.pid == record["pid"]
        assert record["arguments"][0] == str(stand_in)
        assert record["environment"]["ERL_FLAGS"] == ""
        assert record["environment"]["COUCHDB_ARGS_FILE"] == str(folder / "etc" / "vm.args")
        assert settings["chttpd"]["bind_address"] == "127.0.0.1"
        assert f"127.0.0.1:{settings['chttpd']['port']}" == address
        assert settings["couchdb"]["database_dir"] == settings["couchdb"]["view_index_dir"] == str(folder / "data")
        assert settings["cluster"]["n"] == "1"
        assert settings["log"]["writer"] == "stderr"
        assert "generated-once" in (folder / "etc" / "local.ini").read_text()
        assert requests.get(f"http://{address}/bench", timeout=30).status_code == 401
    assert do("status", "couch") == command.DONE
    assert capsys.readouterr().out.count(" leader ") == 2
    assert contents(stand_in.parents[1]) == installed
    assert do("down", "couch", "--wipe") == command.DONE
    assert not cluster.folder.exists()


@pytest.mark.server
def test_a_killed_leader_restarts_with_its_data(stand_in: Path, records: Path, where: Path) -> None:
    assert stand_in
    cluster = CouchCluster(where)
    cluster.start(print)
    first, second = cluster.nodes()
    document = f"http://{USER}:{PASSWORD}@{first}/bench/kept"
    requests.put(document, json={"v": 1}, timeout=30).raise_for_status()
    before = recorded(records, first)["pid"]
    cluster.kill(first)
    cluster.restart(first)
    assert recorded(records, first)["pid"] != before
    assert requests.get(document, timeout=30).json()["v"] == 1
    assert cluster.prove() > 0
    assert (recorded(records, second)["pid"], True) in [(one.pid, one.healthy) for one in cluster.status()]


@pytest.mark.usefixtures("stand_in")
@pytest.mark.server
@pytest.mark.parametrize(
    ("line", "error", "advice"),
    [
        ("[error] 2026 nonode@nohost <0.1.0> -------- it is all wrong", ServerDied, "see its log"),
        ("Failure to start Mochiweb: eaddrinuse", PortTaken, "another program listens on its port"),
        ("[error] 2026 nonode@nohost could not write: enospc", DiskFull, "the disk is full"),
        ("[error] 2026 nonode@nohost could not open: {file_error,eacces}", ServerDied, "check who owns them"),
    ],
)
def test_a_couchdb_that_dies_at_its_start_is_diagnosed(
    records: Path, where: Path, line: str, error: type[ClusterError], advice: str
) -> None:
    (records / "failure").write_text(f"{line}\n\n[os_mon] cpu supervisor port: Erlang has closed\n")
    with pytest.raises(error, match=rf"(?s)couch\d exited with code 1: .*{advice}") as died:
        CouchCluster(where).start(print)
    assert line in str(died.value)
    assert "os_mon" not in str(died.value)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.server
def test_data_of_another_server_are_refused(
    where: Path, pouch: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    CouchCluster(where).start(print)
    CouchCluster(where).stop(print)
    monkeypatch.setenv(couch_servers.NODE.variable, str(pouch[0]))
    capsys.readouterr()
    assert do("up", "couch") == command.UNREACHABLE
    (line,) = capsys.readouterr().err.splitlines()
    assert "were written by couchdb, and PouchDB cannot read them" in line
    assert "--wipe" in line
    assert do("down", "couch", "--wipe") == command.DONE
    assert CouchCluster(where)._choose(print).name == "pouchdb"
