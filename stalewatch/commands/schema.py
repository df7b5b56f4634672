"""`stalewatch schema`: print the JSON schema of results."""

import argparse
import json

from stalewatch.exit_codes import DONE
from stalewatch.reports.schema import schema


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command; it has no arguments."""
    parser.epilog = "Results are what bench, drill and check write with --json, and Locust with --report-json."


def run(_: argparse.Namespace) -> int:
    """Print the schema."""
    print(json.dumps(schema(), indent=1))
    return DONE
