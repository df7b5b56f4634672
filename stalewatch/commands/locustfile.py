"""`stalewatch locustfile NAME`: the path of a bundled locustfile, for ``locust -f $(stalewatch locustfile mongo)``."""

import argparse
import ast
from pathlib import Path

from stalewatch.exit_codes import DONE

FOLDER = Path(__file__).parents[1] / "data" / "locustfiles"
SUFFIX = "_users.py"


def bundled() -> dict[str, Path]:
    """Return the bundled locustfiles by name."""
    return dict(sorted((path.name.removesuffix(SUFFIX), path.resolve()) for path in FOLDER.glob(f"*{SUFFIX}")))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the argument of `stalewatch locustfile`."""
    parser.add_argument("name", nargs="?", choices=bundled(), metavar="NAME", help="its name; omit to list all of them")
    parser.epilog = "Run one with: locust -f $(stalewatch locustfile mongo)"


def run(arguments: argparse.Namespace) -> int:
    """Print the path, or the names of all bundled locustfiles."""
    if arguments.name is not None:
        print(bundled()[arguments.name])
        return DONE
    for name, path in bundled().items():
        print(f"{name:<12}{_summary(path)}")
    return DONE


def _summary(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition(":")[0]
