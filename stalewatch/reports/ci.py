"""Results for CI systems: a JUnit file, and a Markdown summary such as that of a GitHub step.

Both speak of guarantees and expectations in the words of the terminal. Texts from a run (keys, errors, options) are
cut, escaped, and stripped of passwords.
"""

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stalewatch.engine.result import why_nothing_succeeded
from stalewatch.reports import expect
from stalewatch.reports.expect import Expectation
from stalewatch.reports.files import OutputFile, write_text
from stalewatch.reports.reasons import FACTS, first_broken_words, readable, verdict_clause, witness_words
from stalewatch.reports.table import labels
from stalewatch.reports.words import GUARANTEE_WORDS, NBSP, date, guarantee_sentence, percent, run_sentence, span

Result = Mapping[str, Any]
Results = Sequence[Result]
Expectations = Sequence[Expectation]

STEP_SUMMARY = "GITHUB_STEP_SUMMARY"
"""The environment variable that names the file of a GitHub step's summary."""

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 has no way to hold."""

MARKS: Mapping[str, str] = {"valid": "✅", "invalid": "❌", "unknown": "❔"}


def junit(results: Results, expectations: Expectations = ()) -> str:
    """Return a JUnit file: a test suite a run, a test case a guarantee and an expectation.

    A violated guarantee is a failure with a witness, one that nothing checked is skipped. `conflicts` never fails: it
    is a fact, not a broken promise. A run that could not be completed has an error of its own.
    """
    root = ET.Element("testsuites", name="stalewatch")
    for label, result in zip(labels(results), results, strict=True):
        _suite(root, label, result, expectations)
    totals = {name: sum(int(suite.get(name, 0)) for suite in root) for name in ("tests", "failures", "errors")}
    root.attrib.update({name: str(total) for name, total in totals.items()})
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="us-ascii").decode("ascii")}\n'


def _suite(root: ET.Element, label: str, result: Result, expectations: Expectations) -> None:
    name = ".".join(filter(None, ("stalewatch", result.get("database"), label)))
    suite = ET.SubElement(root, "testsuite", name=_xml(name))
    if (seconds := result.get("duration_s")) is not None:
        suite.set("time", f"{seconds:.3f}")
    if (started := date(result)) is not None:
        suite.set("timestamp", started.replace(" ", "T"))
    properties = ET.SubElement(suite, "properties")
    for field in ("verdict", "database", "run"):
        if result.get(field):
            ET.SubElement(properties, "property", name=field, value=_xml(result[field]))
    cases = [*_guarantee_cases(result, expectations), *_expectation_cases(result, expectations), *_trouble(result)]
    for case, kind, message, details in cases:
        element = ET.SubElement(suite, "testcase", classname=_xml(name), name=_xml(case), time="0")
        if kind is not None:
            found = ET.SubElement(element, kind, message=_xml(message))
            found.text = _xml(details)
    kinds = [kind for _, kind, _, _ in cases]
    counts = {"tests": len(cases), "failures": kinds.count("failure"), "errors": kinds.count("error")}
    suite.attrib.update({field: str(number) for field, number in counts.items()}, skipped=str(kinds.count("skipped")))


Case = tuple[str, str | None, str, str]
"""Name, kind of what is not a pass, message, details."""


def _guarantee_cases(result: Result, expectations: Expectations) -> Iterator[Case]:
    for name, row in result["guarantees"].items():
        about = [one for one in expectations if one.name.partition(".")[0] == name]
        if row["violated"] and name not in FACTS:
            details = "\n".join(map(witness_words, row["witnesses"]))
            yield name, "failure", guarantee_sentence(name, result), details or GUARANTEE_WORDS[name].promise
        elif row["checked"]:
            yield name, None, "", ""
        elif lines := expect.missed(about, result):
            yield name, "failure", "nothing was checked", "\n".join(lines)
        else:
            yield name, "skipped", row["verdict"].replace("_", " "), ""


def _expectation_cases(result: Result, expectations: Expectations) -> Iterator[Case]:
    for one in expectations:
        lines = expect.missed([one], result)
        yield f"expect {one}", "failure" if lines else None, "; ".join(lines), "\n".join(lines)


def _trouble(result: Result) -> Iterator[Case]:
    """Yield a test case only if the run itself failed: without it, a run that tested nothing would be a success."""
    fruitless = why_nothing_succeeded(result) if result.get("operations") else None
    for problem in (fruitless, result.get("drill_trouble"), result.get("ended_early")):
        if problem:
            yield "run", "error", str(problem), verdict_clause(result)
            return


def _xml(text: object) -> str:
    return NOT_XML.sub("\N{REPLACEMENT CHARACTER}", readable(text))


def markdown(results: Results, expectations: Expectations = ()) -> str:
    """Return a summary in GitHub's Markdown."""
    sections = zip(labels(results), results, strict=True)
    return "".join(f"{line}\n" for label, result in sections for line in _section(label, result, expectations))


def _section(label: str, result: Result, expectations: Expectations) -> Iterator[str]:
    name = " ".join(filter(None, (result.get("database"), label)))
    yield f"### {MARKS[result['verdict']]} {result['verdict']}: {_escaped(name)}"
    yield f"\n{_escaped(run_sentence(result))}"
    yield f"\n**{result['verdict']}**: {_escaped(verdict_clause(result))}."
    if (first := first_broken_words(result)) is not None:
        yield f"\n**Broke first**: {_escaped(first)}."
    for problem in (one for _, _, one, _ in _trouble(result)):
        yield f"\n**The run failed**: {_escaped(problem)}."
    if expectations:
        yield "\n| | expectation |\n|---|---|"
        for one in expectations:
            missed = expect.missed([one], result)
            yield f"| {'❌' if missed else '✅'} | {_escaped('; '.join(missed) or one)} |"
    yield from _table(result)
    yield from _speed(result)
    yield ""


def _table(result: Result) -> Iterator[str]:
    rows = [(name, row) for name, row in result["guarantees"].items() if row["checked"]]
    if rows:
        yield "\n| guarantee | checked | violated | rate | 95 % interval | verdict |\n|---|--:|--:|--:|--:|---|"
    for name, row in rows:
        low, high = row["interval"]
        mark = "✅" if not row["violated"] else "ℹ️" if name in FACTS else "❌"  # noqa: RUF001 # GitHub's emoji
        cells = (row["checked"], row["violated"], percent(row["rate"]).replace(NBSP, " "), f"{low:.4f}-{high:.4f}")
        yield f"| `{name}` | {' | '.join(map(str, cells))} | {mark} {row['verdict']} |"
    unchecked = [f"`{name}`" for name, row in result["guarantees"].items() if not row["checked"]]
    if unchecked:
        yield f"\nNothing checked: {', '.join(unchecked)}"


def _speed(result: Result) -> Iterator[str]:
    latency = result.get("latency")
    if not latency:
        return
    total = sum(sum(counts.values()) for counts in result["operations"].values())
    rate = f", {total / result['duration_s']:.0f}/s" if result["duration_s"] else ""
    yield f"\n{total} operations in {_escaped(span(result['duration_s']))}{rate}"
    yield "\n| ms | p50 | p95 | p99 | max |\n|---|--:|--:|--:|--:|"
    for kind in ("read", "write"):
        times = latency[kind]["service_ms"]
        cells = ("" if times[one] is None else f"{times[one]:.2f}" for one in ("p50", "p95", "p99", "max"))
        yield f"| {kind} | {' | '.join(cells)} |"


_SPECIAL = re.compile(r"[\\`*_{}\[\]#|~@!$<>&]")


def _escaped(text: object) -> str:
    """Return a text that Markdown shows as it is: its special characters become entities, which are never markup."""
    return _SPECIAL.sub(lambda one: f"&#{ord(one[0])};", " ".join(_xml(text).split()))


def write_junit(path: Path, results: Results, expectations: Expectations = ()) -> None:
    """Write a JUnit file; raise OSError."""
    write_text(junit(results, expectations), path)


def write_markdown(path: Path, results: Results, expectations: Expectations = ()) -> None:
    """Write a summary in Markdown, or add it to that of the GitHub step; raise OSError."""
    write_text(markdown(results, expectations), path, append=is_step_summary(path))


def is_step_summary(path: Path) -> bool:
    """Return whether a file is the summary of the GitHub step, to which other commands add as well."""
    name = os.environ.get(STEP_SUMMARY)
    return bool(name) and path.resolve() == Path(str(name)).resolve()


def add_flags(add: Callable[..., object]) -> None:
    """Add the flags of these files with a parser's `add_argument`."""
    for flag, keywords in FLAGS.items():
        add(flag, type=Path, **keywords)


FLAGS: Mapping[str, Mapping[str, str]] = {
    "--junit": {
        "metavar": "FILE",
        "help": "write a JUnit file with a test case for each guarantee and each expectation; - is standard output",
    },
    "--markdown": {
        "metavar": "FILE",
        "help": "write a summary in Markdown; if FILE is $GITHUB_STEP_SUMMARY, add to it; - is standard output",
    },
}


def ci_files(junit_path: Path | None, markdown_path: Path | None) -> list[OutputFile]:
    """Return the files that are asked for."""
    files = [] if junit_path is None else [OutputFile("--junit", junit_path)]
    if markdown_path is not None:
        files.append(OutputFile("--markdown", markdown_path, appends=is_step_summary(markdown_path)))
    return files


WRITERS: Mapping[str, Callable[..., None]] = {
    "--junit": write_junit,
    "--markdown": write_markdown,
}
