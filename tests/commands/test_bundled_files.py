"""`stalewatch locustfile` and `stalewatch grafana-files`."""

import ast
from pathlib import Path

import pytest
import yaml

from stalewatch.commands import locustfile
from stalewatch.commands.main import main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["cassandra", "couch", "memory", "mongo", "mongo_mix"])
def test_the_path_of_a_locustfile_is_all_that_is_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["locustfile", name]) == 0
    (path,) = capsys.readouterr().out.splitlines()
    assert Path(path) == ROOT / "locustfiles" / f"{name}_users.py"
    assert ast.parse(Path(path).read_text())


def test_without_a_name_all_locustfiles_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["locustfile"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(locustfile.bundled())
    assert lines[0] == "cassandra   Users of a Cassandra ring"


def test_an_unknown_locustfile_is_refused_with_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["locustfile", "oracle"])
    assert exit_.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "'oracle'" in captured.err
    assert all(name in captured.err for name in locustfile.bundled())


FILES = {
    "prometheus.yml",
    "rules/alerts.yml",
    "rules/recording.yml",
    *(f"grafana/dashboards/{name}.json" for name in ("consistency", "failover", "overview", "workers")),
    "grafana/provisioning/dashboards/stalewatch.yml",
    "grafana/provisioning/datasources/prometheus.yml",
}


def copied(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_grafana_files_are_copied_and_the_next_steps_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["grafana-files", "new folder/out"]) == 0
    folder = tmp_path / "new folder" / "out"
    assert copied(folder) == FILES
    assert all((folder / name).read_bytes() == (ROOT / name).read_bytes() for name in FILES)
    out = capsys.readouterr().out
    assert all(f"wrote {folder / name}\n" in out for name in FILES)
    assert (
        f"prometheus --config.file '{folder}'/prometheus.yml --storage.tsdb.path '{folder}'/prometheus-data \\\n" in out
    )
    assert f"GF_PATHS_PROVISIONING='{folder}'/grafana/provisioning grafana server\n" in out


def test_the_copied_configuration_finds_its_rules(tmp_path: Path) -> None:
    assert main(["grafana-files", str(tmp_path)]) == 0
    named = yaml.safe_load((tmp_path / "prometheus.yml").read_text())["rule_files"]
    assert named
    assert all((tmp_path / name).is_file() for name in named)


@pytest.mark.parametrize("make", [lambda path: path.write_text("mine"), lambda path: path.symlink_to("nowhere")])
def test_existing_files_are_overwritten_only_with_force(
    make: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "prometheus.yml"
    make(mine)  # type: ignore[operator] # one of two functions
    assert main(["grafana-files", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert str(mine) in captured.err
    assert "--force" in captured.err
    assert copied(tmp_path) <= {"prometheus.yml"}
    assert mine.is_symlink() or mine.read_text() == "mine"
    assert main(["grafana-files", str(tmp_path), "--force"]) == 0
    assert mine.read_bytes() == (ROOT / "prometheus.yml").read_bytes()


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["grafana-files", str(tmp_path / "file" / "out")]) == 2
    assert f"stalewatch grafana-files: {tmp_path / 'file'}" in capsys.readouterr().err
