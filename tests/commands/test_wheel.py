"""The built wheel: its files, and its commands in a venv, run in a folder full of modules with risky names."""

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import stalewatch
from stalewatch.commands import locustfile

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120
Command = Callable[..., subprocess.CompletedProcess[str]]


def build(kind: str, source: Path, target: Path) -> Path:
    """Build with the hatchling of this environment; no build isolation, so nothing is downloaded."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=TIMEOUT_S)
    (built,) = target.glob({"wheel": "*.whl", "sdist": "*.tar.gz"}[kind])
    return built


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="hatchling is not installed: pip install -e '.[dev]'")
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


def test_the_wheel_installs_one_package_and_nothing_else(wheel: Path) -> None:
    top = {name.partition("/")[0] for name in names(wheel)}
    assert {name for name in top if not name.endswith(".dist-info")} == {"stalewatch"}
    assert len(top) == 2


def test_the_wheel_follows_the_links_of_the_checkout(wheel: Path) -> None:
    sources = {
        "clients": (ROOT / "clients").rglob("*.py"),
        "checkers": (ROOT / "checkers").rglob("*.py"),
        "data/locustfiles": (ROOT / "locustfiles").glob("*.py"),
        "data/rules": (ROOT / "rules").glob("*.yml"),
        "data/grafana": [path for path in (ROOT / "grafana").rglob("*.*") if path.suffix in {".json", ".yml"}],
        "data": [ROOT / "prometheus.yml"],
    }
    for folder, paths in sources.items():
        root = ROOT / folder.removeprefix("data").strip("/")
        expected = {f"stalewatch/{folder}/{path.relative_to(root).as_posix()}" for path in paths}
        assert expected
        assert expected <= names(wheel)


def test_the_wheel_holds_types_templates_and_data(wheel: Path) -> None:
    found = names(wheel)
    drawn = {f"stalewatch/reports/page.{suffix}" for suffix in ("html", "css", "js")}
    assert found >= {"stalewatch/py.typed", "stalewatch/drills/catalogue.toml", *drawn}
    assert "stalewatch/clusters/local/cassandra.lock" in found
    pouch = {path.name for path in (ROOT / "stalewatch/clusters/local/pouch").glob("*.js*")}
    assert found >= {f"stalewatch/clusters/local/pouch/{name}" for name in pouch}
    assert not {name for name in found if name.startswith("stalewatch/data/grafana/") and name.endswith(".py")}
    assert not {name for name in found if "__pycache__" in name or "/tests/" in name}


def test_a_wheel_built_from_the_sdist_holds_the_same_files(wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(build("sdist", ROOT, tmp_path)) as archive:
        assert not [member.name for member in archive if member.issym()]
        archive.extractall(tmp_path / "sources", filter="data")
    (sources,) = (tmp_path / "sources").iterdir()
    again = build("wheel", sources, tmp_path / "again")
    assert names(again) == names(wheel)
    member = "stalewatch/data/prometheus.yml"
    assert zipfile.ZipFile(again).read(member) == (ROOT / "prometheus.yml").read_bytes()


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of a venv with the wheel, which borrows the dependencies of the running environment.

    A .pth file adds the folder with the dependencies. Python does not read the .pth files in a folder that is added
    this way, so the editable install of the checkout, which is one, stays out.
    """
    folder = tmp_path_factory.mktemp("venv")
    has_pip = importlib.util.find_spec("pip") is not None  # an environment that uv made has none
    venv.create(folder, with_pip=not has_pip)
    python, binaries = folder / "bin" / "python", folder / "bin"
    pip = [sys.executable, "-m", "pip", "--python", python] if has_pip else [python, "-m", "pip"]
    install = [*pip, "install", "--quiet", "--no-index", "--no-deps", wheel]
    subprocess.run(install, check=True, timeout=TIMEOUT_S)
    (own,) = (folder / "lib").glob("python*/site-packages")
    borrowed = [path for path in sys.path if Path(path).name in {"site-packages", "dist-packages"}]
    (own / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    script = binaries / "locust"  # as pip writes it
    script.write_text(f"#!{python}\nimport sys\nfrom locust.main import main\nsys.exit(main())\n")
    script.chmod(0o755)
    return binaries


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with modules whose names a package might import by accident; each raises when it is imported."""
    folder = tmp_path_factory.mktemp("hostile")
    packages = ("clients/__init__", "random_names/__init__", "random_names/words")
    for name in (*packages, "metrics", "history", "load", "cassandra"):
        path = folder / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"raise RuntimeError('{name} of the current folder was imported')\n")
    return folder


@pytest.fixture(scope="module")
def command(scripts: Path, hostile: Path) -> Command:
    """Run a script of the venv in the user's folder."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "STALEWATCH_"))}
    clean |= {"STALEWATCH_HOME": str(hostile / "clusters"), "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}

    def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        program = [str(scripts / arguments[0]), *arguments[1:]]
        done = subprocess.run(
            program, cwd=hostile, env=clean, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "of the current folder was imported" not in done.stdout + done.stderr
        return done

    return run


def test_the_package_is_imported_from_the_venv(command: Command, scripts: Path) -> None:
    shown = command("python", "-P", "-c", "import stalewatch; print(stalewatch.__file__)").stdout.strip()
    assert Path(shown).is_relative_to(scripts.parent)
    assert command("stalewatch", "--version").stdout == f"stalewatch {stalewatch.__version__}\n"


def test_bench_check_and_report_work_on_each_others_files(command: Command, hostile: Path) -> None:
    outputs = ("--history", "h.jsonl.zst", "--json", "r.json")
    assert "verdict: " in command("stalewatch", "bench", "memory", "--ops", "300", *outputs).stdout
    result = json.loads((hostile / "r.json").read_text())
    code = {"valid": 0, "invalid": 1, "unknown": 2}[result["verdict"]]
    checked = json.loads(command("stalewatch", "check", "h.jsonl.zst", "--json", code=code).stdout)
    assert checked["guarantees"] == result["guarantees"]
    assert "side by side" in command("stalewatch", "report", "r.json").stdout
    assert "<html" in (hostile / "report.html").read_text()


def test_a_drill_breaks_the_simulated_store(command: Command) -> None:
    times = ("--at", "0.5", "--for", "0.5", "--duration", "2", "--rate", "200")
    done = command("stalewatch", "drill", "memory", "--fault", "kill-replica", *times)
    assert "fault: kill" in done.stdout


def test_the_status_of_a_cluster_that_is_not_running_is_shown(command: Command) -> None:
    assert "mongo is not running" in command("stalewatch", "cluster", "status", "mongo", code=3).stdout


def test_locust_runs_a_bundled_locustfile(command: Command, scripts: Path) -> None:
    path = command("stalewatch", "locustfile", "memory").stdout.strip()
    assert Path(path).is_relative_to(scripts.parent)
    load = ("--headless", "-u", "5", "-r", "5", "-t", "3s")
    assert "verdict: " in command("locust", "-f", path, *load).stdout


def test_every_bundled_locustfile_is_listed(command: Command) -> None:
    listed = [line.split()[0] for line in command("stalewatch", "locustfile").stdout.splitlines()]
    assert listed == list(locustfile.bundled()) == ["cassandra", "couch", "memory", "mongo", "mongo_mix"]


def test_grafana_files_are_copied_from_the_wheel(command: Command, hostile: Path) -> None:
    command("stalewatch", "grafana-files", "out")
    for name in ("prometheus.yml", "rules/alerts.yml", "grafana/dashboards/overview.json"):
        assert (hostile / "out" / name).read_bytes() == (ROOT / name).read_bytes()
