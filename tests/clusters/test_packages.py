import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stalewatch.clusters.local.packages import Lazy
from stalewatch.clusters.protocol import MissingPackage

BARE = """
import argparse, sys
sys.modules.update(psutil=None, rich=None)  # as where they are not installed
from stalewatch.clusters.local import mongo
from stalewatch.commands import cluster as command
parser = argparse.ArgumentParser()
command.add_arguments(parser)
sys.exit(command.run(parser.parse_args(["status", "mongo"])))
"""


def test_a_package_is_imported_when_it_is_used() -> None:
    assert Lazy("json").dumps is json.dumps


def test_a_missing_package_is_named_when_it_is_used() -> None:
    absent = Lazy("no_such_package")
    with pytest.raises(MissingPackage, match="pip install no_such_package"):
        absent.anything  # noqa: B018 -- looking is using


def test_nothing_heavy_is_imported_before_a_cluster_is_touched() -> None:
    program = (
        "import sys; import stalewatch.commands.cluster; print(sys.modules.keys() & {'psutil', 'pymongo', 'rich'})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_where_psutil_is_missing_the_rooms_load_and_a_cluster_says_what_to_install(tmp_path: Path) -> None:
    environment = {**os.environ, "STALEWATCH_HOME": str(tmp_path)}
    (tmp_path / "mongo" / "mongo1").mkdir(parents=True)
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 3
    assert "pip install psutil" in done.stderr
    assert "Traceback" not in done.stderr
