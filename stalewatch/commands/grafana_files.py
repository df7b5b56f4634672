"""`stalewatch grafana-files DIR`: copy the bundled dashboards, their provisioning and the Prometheus configuration."""

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from stalewatch.exit_codes import DONE, USAGE

DATA = Path(__file__).parents[1] / "data"
PATTERNS = (
    "prometheus.yml",
    "rules/*.yml",
    "grafana/dashboards/*.json",
    "grafana/provisioning/*/*.yml",
)

NEXT_STEPS = """
next, start Prometheus and Grafana, and give `stalewatch bench`, `stalewatch drill` or `locust` --metrics-port 9646:
    prometheus --config.file {folder}/prometheus.yml --storage.tsdb.path {folder}/prometheus-data \\
        --web.listen-address 127.0.0.1:9090
    export STALEWATCH_PROMETHEUS_URL=http://127.0.0.1:9090 STALEWATCH_DASHBOARDS={folder}/grafana/dashboards
    GF_PATHS_PROVISIONING={folder}/grafana/provisioning grafana server"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `stalewatch grafana-files`."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="the folder to copy to; created if it does not exist")
    parser.add_argument("--force", action="store_true", help="overwrite files that exist")


def run(arguments: argparse.Namespace) -> int:
    """Copy the files and print the next steps; refuse to overwrite any without `--force`."""
    folder = arguments.folder.absolute()
    copies = {
        folder / source.relative_to(DATA): source for pattern in PATTERNS for source in sorted(DATA.glob(pattern))
    }
    existing = [target for target in copies if target.is_symlink() or target.exists()]
    if existing and not arguments.force:
        listed = "".join(f"\n    {target}" for target in existing)
        print(f"stalewatch grafana-files: nothing was written, because these exist:{listed}", file=sys.stderr)
        print("Use another folder, or --force to overwrite them.", file=sys.stderr)
        return USAGE
    try:
        _copy(copies)
    except OSError as error:
        print(f"stalewatch grafana-files: {error.filename}: {error.strerror}", file=sys.stderr)
        return USAGE
    print(NEXT_STEPS.format(folder=shlex.quote(str(folder))))
    return DONE


def _copy(copies: Mapping[Path, Path]) -> None:
    for target, source in copies.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        print(f"wrote {target}")
