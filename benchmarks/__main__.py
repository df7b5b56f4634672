"""Run benchmarks: `python -m benchmarks [NAME ...] [--json FILE]`, or `make benchmarks` for all of them.

Prints one table, medians over rounds with the smallest and the largest value, and ratios before costs. What is compared
is measured in turns (A B A B ...), since on a shared machine only ratios within one run mean much.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import check, judge, master, operation, parts, rates, scale, soak, ten_million
from benchmarks.measurement import Row, print_table, progress
from stalewatch import __version__

ROUNDS = 7
DRIVERS = ("locust", "gevent", "pymongo", "cassandra-driver", "geventhttpclient", "msgspec", "pyzmq")
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- measured: `python -m benchmarks --page FILE` -->", "<!-- end of what was measured -->"


class Benchmark(NamedTuple):
    """A benchmark: what it measures, and the function that yields its rows, given the number of rounds."""

    help: str
    measure: Callable[[int], Iterator[Row]]


def _operation(database: str) -> Benchmark:
    what = f"an operation on {database}: bare driver, plain Locust user, bench, our Locust user"
    return Benchmark(what, lambda rounds: operation.measure(database, rounds))


BENCHMARKS: Mapping[str, Benchmark] = {
    "start": Benchmark("the start of commands", scale.measure_start),
    **{name: _operation(name) for name in operation.SUBJECTS},
    "rates": Benchmark("response times over a stall of the server", rates.measure),
    "workers": Benchmark("two and four workers over one", scale.measure_workers),
    "master": Benchmark("a master with up to 200 workers", master.measure),
    "spawn": Benchmark("5,000 users", scale.measure_spawn),
    "memory": Benchmark("a worker's memory over millions of operations", scale.measure_memory),
    "metrics": Benchmark("metrics that are scraped", parts.measure_metrics),
    "watch": Benchmark("the blocks of Watch", parts.measure_watch),
    "judge": Benchmark("the judge", judge.measure),
    "check": Benchmark("`stalewatch check`, beside porcupine", check.measure),
}
ON_REQUEST: Mapping[str, Benchmark] = {
    ten_million.NAME: Benchmark(ten_million.HELP, ten_million.measure),
    soak.NAME: Benchmark(soak.HELP, soak.measure),
}
"""Those that take long."""

TABLES = (BENCHMARKS, ON_REQUEST)

COLUMNS = ("benchmark", "what", "median", "range", "goal", "")


def main(arguments: Sequence[str]) -> None:
    """Run the chosen benchmarks, print their table, and write their figures."""
    parsed = _parser().parse_args(arguments)
    known = {**BENCHMARKS, **ON_REQUEST}
    if unknown := set(parsed.names) - set(known):
        raise SystemExit(f"there is no benchmark {min(unknown)!r}; choose from {', '.join(known)}")
    if parsed.page is not None:
        update_page(parsed.page)
        return
    rows: list[Row] = []
    result = {**circumstances(), "rounds": parsed.rounds, "took_s": {}, "failed": {}, "rows": []}
    for name in parsed.names or BENCHMARKS:
        begun = time.monotonic()
        try:
            for one in known[name].measure(parsed.seconds if name == soak.NAME else parsed.rounds):
                rows.append(one)
                result["rows"].append({**one._asdict(), "reached": one.reached})
        except (SystemExit, Exception) as error:  # noqa: BLE001 # the others can still be measured
            result["failed"][name] = str(error)
        result["took_s"][name] = round(time.monotonic() - begun, 1)
        progress(f"{name}: {result['failed'].get(name, 'done')} ({result['took_s'][name]:.0f} s)")
        if parsed.json is not None:  # each time, so that nothing is lost
            parsed.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print_table(title(result), COLUMNS, [_cells(one) for one in rows])
    for line in _notes(rows):
        print(line)
    if result["failed"]:
        sys.exit(f"failed: {', '.join(result['failed'])}")


def _parser() -> argparse.ArgumentParser:
    listed, others = ("\n".join(f"  {name:11} {one.help}" for name, one in table.items()) for table in TABLES)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"Measure stalewatch. Benchmarks (default: all of these):\n{listed}\nonly by name:\n{others}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="a benchmark")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds of what is measured in turns (%(default)s)")
    parser.add_argument("--for", dest="seconds", type=_seconds, default=1800.0, help="length of a soak, as in 30m")
    parser.add_argument(
        "--page",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="only update docs/performance.md from such files; of a benchmark in several, the last counts",
    )
    return parser


def _seconds(text: str) -> float:
    units = {"s": 1, "m": 60, "h": 3600}
    return float(text[:-1]) * units[text[-1]] if text[-1:] in units else float(text)


def circumstances() -> dict[str, Any]:
    """Return when and where this was measured."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "stalewatch": __version__,
        "judge": judge.kind(),
        "versions": {name: version(name) for name in DRIVERS},
    }


def title(result: Mapping[str, Any]) -> str:
    """Return the circumstances in one line."""
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return (
        f"{result['date']}, {result['cores']} cores ({result['system']} {result['machine']}, load average at the start "
        f"of the table {result['load_average']}), Python {result['python']}, judge {result['judge']}, {versions}"
    )


def _notes(rows: Sequence[Row]) -> list[str]:
    return [f"{one.benchmark}, {one.what}: {one.note}" for one in rows if one.note]


def _cells(one: Row) -> tuple[str, ...]:
    reached = {None: "", True: "reached", False: "missed"}[one.reached]
    spread = "" if one.low == one.high else f"{_number(one.low)} to {_number(one.high)}"
    return (one.benchmark, one.what, f"{_number(one.value)} {one.unit}", spread, one.goal, reached)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 10 else f"{value:.2f}"  # noqa: PLR2004


def update_page(files: Sequence[Path]) -> None:
    """Replace the measured part of docs/performance.md by the table of results."""
    try:
        results = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    except (OSError, json.JSONDecodeError) as error:
        raise SystemExit(f"python -m benchmarks: --page: {error}") from None
    latest = {one["benchmark"]: number for number, result in enumerate(results) for one in result["rows"]}
    rows = [
        Row(**{name: one[name] for name in Row._fields})
        for number, result in enumerate(results)
        for one in result["rows"]
        if latest[one["benchmark"]] == number
    ]
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{PAGE} has no lines {BEGIN!r} and {END!r}")
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    lines += [f"| {' | '.join(_cells(one))} |" for one in rows]
    notes = [f"* {line}" for line in _notes(rows)]
    text = "\n".join([title(results[0]) + ":", "", *lines, "", *notes])
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
