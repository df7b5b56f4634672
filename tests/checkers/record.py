"""Record again what `stalewatch check --json` prints of the stored histories, and print which fields changed.

    python -m tests.checkers.record [--write]

Run it after a change of the definitions. Without ``--write`` it only compares. Every change must be one that the new
definitions ask for.
"""

import argparse
import contextlib
import gzip
import io
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stalewatch.commands.main import main as stalewatch

FILE = Path(__file__).with_name("recorded.json.gz")


def judged(case: dict[str, Any]) -> tuple[int, str]:
    """Return the exit code and the output for the files of a case."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{index}.jsonl" for index in range(len(case["files"]))]
        for path, text in zip(paths, case["files"], strict=True):
            path.write_text(text)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            code = stalewatch(["check", "--json", *map(str, paths)])
    return code, out.getvalue()


def changes(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Yield the path of every value that differs, was added or was removed; lists are compared as a whole."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys([*before, *after]):
            inner = f"{path}.{name}" if path else name
            if name not in before:
                yield f"{inner} (added)"
            elif name not in after:
                yield f"{inner} (removed)"
            else:
                yield from changes(before[name], after[name], inner)
    elif before != after:
        yield path


def main() -> None:
    """Record, or only compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the new results")
    arguments = parser.parse_args()
    recorded = json.loads(gzip.decompress(FILE.read_bytes()))
    counted: Counter[str] = Counter()
    for case in recorded["histories"]:
        code, text = judged(case)
        counted.update(set(changes(json.loads(case["json"]), json.loads(text))))
        counted["exit code"] += code != case["exit"]
        case["exit"], case["json"] = code, text
    for name, times in sorted(counted.items()):
        print(f"{times:4} of {len(recorded['histories'])}: {name}")
    if arguments.write:
        FILE.write_bytes(gzip.compress(json.dumps(recorded).encode(), mtime=0))


if __name__ == "__main__":
    main()
