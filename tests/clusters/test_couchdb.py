"""Apache CouchDB as the leaders' server: its files, its command line and environment, and what goes wrong with it.

No package source has CouchDB itself. In its place stands a program of that name, laid out as CouchDB is. It reads the
configuration as CouchDB does, notes what it was started with, and becomes the PouchDB server on the port it was told.
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

from stalewatch.clusters.local import couch, couchdb, home, node, ports
from stalewatch.clusters.local.couch import CouchCluster
from stalewatch.clusters.local.leaders import PASSWORD, USER
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
words = Path({notes!r}, "last-words")
if words.exists():
    sys.exit(words.read_text())
texts = {{name: Path(name).read_text() for name in [*inis, os.environ["COUCHDB_ARGS_FILE"]]}}
note = dict(pid=os.getpid(), arguments=sys.argv, environment=dict(os.environ), texts=texts)
Path({notes!r}, port + ".json").write_text(json.dumps(note))
if not settings.has_option("couchdb", "uuid"):
    with open(inis[-1], "a") as file:
        file.write("[couchdb]\\nuuid = made-up-once\\n")
((user, password),) = settings["admins"].items()
environment = dict(os.environ, NODE_PATH={packages!r}, COUCH_USER=user, COUCH_PASSWORD=password)
os.execve({node!r}, [{node!r}, {server!r}, address, settings["couchdb"]["database_dir"]], environment)
"""

SHIPPED = """\
; what a release ships, with values that no local leader may have
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
    """Lay out what a release of CouchDB has, as far as it is looked at, and return the program."""
    for folder in ("bin", "releases", "etc/default.d"):
        (root / folder).mkdir(parents=True)
    (root / "releases" / "start_erl.data").write_text(f"14.2.5 {version}\n")
    (root / "etc" / "default.ini").write_text(SHIPPED)
    (root / "etc" / "default.d" / "README").write_text("no configuration")
    (root / "etc" / "default.d" / "10-filelog.ini").write_text("[log]\nwriter = file\nfile = /var/log/couchdb.log\n")
    path = root / "bin" / "couchdb"
    path.write_text(program)
    path.chmod(0o755)
    return path


@pytest.fixture
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable and no PATH leads to a server."""
    for kind in couch.SERVERS:
        monkeypatch.delenv(kind.program.variable, raising=False)
    monkeypatch.setenv("PATH", "/nowhere")


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a cluster on ports of its own; its name holds a blank, as people's folders do."""
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
def notes(tmp_path: Path) -> Path:
    """Where the program notes what it was started with, and finds what it shall say before it dies."""
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


@pytest.fixture
def stand_in(
    pouch: tuple[Path, Path], notes: Path, tmp_path: Path, nothing_named: None, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A program on PATH that speaks CouchDB's protocol, behind a link as packages make it."""
    assert nothing_named is None
    program, packages = pouch
    text = STAND_IN.format(
        python=sys.executable,
        notes=str(notes),
        packages=str(packages),
        node=str(program),
        server=str(node.SERVER / "server.js"),
    )
    real = install(tmp_path / "couchdb-3.5.0", program=text)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "couchdb").symlink_to(real)
    monkeypatch.setenv("PATH", str(tmp_path / "links"))
    return real


def found() -> tuple[str | None, list[str]]:
    """What is found, and what is said meanwhile."""
    told: list[str] = []
    server = couchdb.find(told.append)
    return server and server.title, told


@pytest.mark.usefixtures("nothing_named")
def test_the_variable_goes_before_the_path_which_goes_before_pouchdb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found() == (None, [])
    monkeypatch.setenv("PATH", str(install(tmp_path / "on-path", "3.4.2").parent))
    assert found() == ("Apache CouchDB 3.4.2", [])
    monkeypatch.setenv(couchdb.PROGRAM.variable, str(install(tmp_path / "named", "3.5.1")))
    assert found() == ("Apache CouchDB 3.5.1", [])
    assert CouchCluster(tmp_path)._choose(print).name == "couchdb"


@pytest.mark.usefixtures("stand_in")
@pytest.mark.server
def test_a_node_that_is_named_goes_before_a_couchdb_that_happens_to_be_there(
    tmp_path: Path, pouch: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CouchCluster(tmp_path)._choose(print).name == "couchdb"
    monkeypatch.setenv(node.PROGRAM.variable, str(pouch[0]))
    assert CouchCluster(tmp_path)._choose(print).name == "pouchdb"


def without_defaults(root: Path) -> None:
    (root / "etc" / "default.ini").unlink()


def without_release(root: Path) -> None:
    (root / "releases" / "start_erl.data").unlink()


def with_an_odd_release(root: Path) -> None:
    (root / "releases" / "start_erl.data").write_text("no numbers")


def with_an_old_release(root: Path) -> None:
    (root / "releases" / "start_erl.data").write_text("9.2 2.3.1")


@pytest.mark.usefixtures("nothing_named")
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (without_defaults, r"default\.ini"),
        (without_release, r"start_erl\.data"),
        (with_an_odd_release, "belongs to no CouchDB"),
        (with_an_old_release, r"CouchDB 2\.3\.1, which is too old"),
    ],
)
def test_one_of_no_use_is_passed_over_on_the_path_and_refused_where_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None], why: str
) -> None:
    program = install(tmp_path / "installed")
    spoil(tmp_path / "installed")
    monkeypatch.setenv("PATH", str(program.parent))
    title, (told,) = found()
    assert title is None
    assert told.startswith(f"not used: {program}")
    monkeypatch.setenv(couchdb.PROGRAM.variable, str(program))
    with pytest.raises(MissingProgram, match=rf"{why}.*STALEWATCH_COUCHDB"):
        found()


@pytest.mark.usefixtures("nothing_named")
def test_a_variable_that_names_no_file_is_an_error_in_one_line(
    where: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(couchdb.PROGRAM.variable, str(where / "gone"))
    assert do("up", "couch") == command.UNREACHABLE
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"stalewatch: STALEWATCH_COUCHDB names {where / 'gone'}, which is not a file"


@pytest.mark.usefixtures("nothing_named")
def test_files_command_line_and_environment_of_a_leader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, folder = tmp_path / "installed", tmp_path / "couch1"
    program = install(root)
    monkeypatch.setenv(couchdb.PROGRAM.variable, str(program))
    server = couchdb.find(print)
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
    assert flags == ["-kernel", "-sasl", "+Bd"]  # no -name, no -sname: it listens for no other Erlang node


@pytest.mark.usefixtures("nothing_named")
def test_what_couchdb_wrote_for_itself_outlives_a_start_on_another_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(couchdb.PROGRAM.variable, str(install(tmp_path / "installed")))
    server = couchdb.find(print)
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


def listed(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def noted(notes: Path, address: str) -> dict[str, Any]:
    note: dict[str, Any] = json.loads((notes / f"{address.rpartition(':')[2]}.json").read_text())
    return note


def effective(note: dict[str, Any]) -> ConfigParser:
    """The settings that come of all files, the last one first asked."""
    settings = ConfigParser(interpolation=None)
    for name in note["arguments"][2:]:
        settings.read_string(note["texts"][name])
    return settings


@pytest.mark.server
def test_the_whole_command_runs_on_it(
    stand_in: Path, notes: Path, where: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ERL_FLAGS", "-couch_ini /elsewhere.ini")
    installed = listed(stand_in.parents[1])
    cluster = CouchCluster(where)
    assert do("up", "couch") == command.DONE
    shown = capsys.readouterr()
    assert shown.out.split() == [f"http://{USER}:{PASSWORD}@{address}/" for address in cluster.nodes()]
    assert shown.err.count("starting Apache CouchDB 3.5.0") == 2
    assert "replication works" in shown.err
    for address, node_status in zip(cluster.nodes(), cluster.status(), strict=True):
        note, folder = noted(notes, address), cluster.folder / node_status.name
        settings = effective(note)
        assert node_status.pid == note["pid"]
        assert note["arguments"][0] == str(stand_in)
        assert note["environment"]["ERL_FLAGS"] == ""
        assert note["environment"]["COUCHDB_ARGS_FILE"] == str(folder / "etc" / "vm.args")
        assert settings["chttpd"]["bind_address"] == "127.0.0.1"
        assert f"127.0.0.1:{settings['chttpd']['port']}" == address
        assert settings["couchdb"]["database_dir"] == settings["couchdb"]["view_index_dir"] == str(folder / "data")
        assert settings["cluster"]["n"] == "1"
        assert settings["log"]["writer"] == "stderr"
        assert "made-up-once" in (folder / "etc" / "local.ini").read_text()
        assert requests.get(f"http://{address}/bench", timeout=30).status_code == 401
    assert do("status", "couch") == command.DONE
    assert capsys.readouterr().out.count(" leader ") == 2
    assert listed(stand_in.parents[1]) == installed
    assert do("down", "couch", "--wipe") == command.DONE
    assert not cluster.folder.exists()


@pytest.mark.server
def test_a_killed_leader_comes_back_with_what_it_had(stand_in: Path, notes: Path, where: Path) -> None:
    assert stand_in
    cluster = CouchCluster(where)
    cluster.start(print)
    first, second = cluster.nodes()
    document = f"http://{USER}:{PASSWORD}@{first}/bench/kept"
    requests.put(document, json={"v": 1}, timeout=30).raise_for_status()
    before = noted(notes, first)["pid"]
    cluster.kill(first)
    cluster.restart(first)
    assert noted(notes, first)["pid"] != before
    assert requests.get(document, timeout=30).json()["v"] == 1
    assert cluster.prove() > 0
    assert (noted(notes, second)["pid"], True) in [(one.pid, one.healthy) for one in cluster.status()]


@pytest.mark.usefixtures("stand_in")
@pytest.mark.server
@pytest.mark.parametrize(
    ("words", "kind", "says"),
    [
        ("[error] 2026 nonode@nohost <0.1.0> -------- it is all wrong", ServerDied, "its log says why"),
        ("Failure to start Mochiweb: eaddrinuse", PortTaken, "another program listens on its port"),
        ("[error] 2026 nonode@nohost could not write: enospc", DiskFull, "the disk is full"),
        ("[error] 2026 nonode@nohost could not open: {file_error,eacces}", ServerDied, "see who owns them"),
    ],
)
def test_one_that_ends_at_its_start_says_why(
    notes: Path, where: Path, words: str, kind: type[ClusterError], says: str
) -> None:
    (notes / "last-words").write_text(f"{words}\n\n[os_mon] cpu supervisor port: Erlang has closed\n")
    with pytest.raises(kind, match=rf"(?s)couch\d ended with exit code 1: .*{says}") as died:
        CouchCluster(where).start(print)
    assert words in str(died.value)
    assert "os_mon" not in str(died.value)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.server
def test_leaders_never_go_on_with_the_data_of_another_server(
    where: Path, pouch: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    CouchCluster(where).start(print)
    CouchCluster(where).stop(print)
    monkeypatch.setenv(node.PROGRAM.variable, str(pouch[0]))
    capsys.readouterr()
    assert do("up", "couch") == command.UNREACHABLE
    (line,) = capsys.readouterr().err.splitlines()
    assert "are those of couchdb, and PouchDB cannot go on with their data" in line
    assert "--wipe" in line
    assert do("down", "couch", "--wipe") == command.DONE
    assert CouchCluster(where)._choose(print).name == "pouchdb"
