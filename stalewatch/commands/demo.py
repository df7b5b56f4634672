"""`make demo`: three MongoDB members on this machine, three ways to write and read, one table and a page.

Runs the very commands that it prints, so that they can be tried one by one afterwards.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parents[2]
RESULTS = HERE / "results" / "demo"
SCENARIOS = (("1", "secondary"), ("majority", "primary"), ("majority", "secondary"))


def command(*arguments: str) -> int:
    """Show a command of this project, run it, and return its exit code."""
    print(f"\n$ python {' '.join(arguments)}", flush=True)
    return subprocess.run([sys.executable, *arguments], cwd=HERE, check=False).returncode  # noqa: S603 # our own command


def scenarios() -> int:
    """Run the scenarios and show them side by side; return the first exit code that is not 0."""
    for number, (write_concern, read_from) in enumerate(SCENARIOS, start=1):
        result = RESULTS / f"{number}-w-{write_concern}-read-{read_from}.json"
        levels = ("--write-concern", write_concern, "--read-from", read_from)
        load = ("--ops", "5000", "--keys", "1000", "--write-ratio", "0.3")
        if code := command("bench.py", "mongo", *levels, *load, "--json", str(result.relative_to(HERE))):
            return code
    return command("-m", "stalewatch", "report", str(RESULTS.relative_to(HERE)))


def main() -> int:
    """Start the cluster where none runs, run the scenarios, and stop what was started."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    running = subprocess.run(
        [sys.executable, "-m", "stalewatch", "cluster", "status", "mongo"], cwd=HERE, check=False, capture_output=True
    )
    try:
        return scenarios()
    except KeyboardInterrupt:
        return 130
    finally:
        if running.returncode:
            command("-m", "stalewatch", "cluster", "down", "mongo")


if __name__ == "__main__":
    sys.exit(main())
