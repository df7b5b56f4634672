"""The result of a run under Locust: one verdict over all workers, its files, its lines and its exit code."""

import json
from argparse import Namespace
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from clients.options import shown
from load import flags
from load.roster import Member, Roster
from load.totals import Totals
from reports import expect, page
from reports.lines import plain_lines
from reports.result import run_result
from reports.table import COLUMNS, rows, show

DONE, MISSED = 0, 1


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    result: dict[str, Any]
    totals: Totals
    missed: list[str]
    exit_code: int

    def tell(self) -> None:
        """Print the lines and the table that the bench prints, and what is to be said of workers."""
        for line in (*plain_lines(self.result), *worker_lines(self.result["workers"])):
            print(line)
        title = f"{self.result['database']} {self.result['run']}"
        show(title, COLUMNS, rows(self.totals.findings.verdicts))
        for line in self.missed:
            print(line, flush=True)

    def write(self, options: Namespace) -> list[str]:
        """Write the files that were asked for; return a line for each that could not be written."""
        failed = []
        for name, write in (("report_json", self._write_json), ("report", self._write_page)):
            path = flags.path(options, name)
            try:
                if path is not None:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write(path)
            except OSError as error:
                failed.append(f"{path}: {error.strerror or error}")
        return failed

    def _write_json(self, path: Any) -> None:  # noqa: ANN401 # a path
        path.write_text(json.dumps(self.result, indent=1) + "\n")

    def _write_page(self, path: Any) -> None:  # noqa: ANN401 # a path
        page.write(path, [self.result])


def outcome(
    run: str, roster: Roster, totals: Totals, options: Namespace, databases: Iterable[str], duration_s: float
) -> Outcome:
    """Say what the totals of all workers mean."""
    members = list(roster)
    totals.findings.complete = all(member.whole for member in members)
    used = sorted({database for member in members for database in member.settings})
    about = {
        "database": ",".join(used or databases),
        "run": run,
        "options": {**shown(flags.options_of(databases), options), "driver": _settings(members)},
        "duration_s": duration_s,
        **totals.statistics.figures(),
        "workers": [worker_row(member, roster) for member in members],
    }
    result = run_result(totals.findings, about, totals.statistics.latencies())
    missed = expect.missed(flags.expectations(options), result)
    trouble = max((member.exit_code for member in members), default=0)
    return Outcome(result, totals, missed, trouble or (MISSED if missed else DONE))


def _settings(members: Iterable[Member]) -> dict[str, Any]:
    """Return the driver's settings in force: of the one database, or by database where there are several."""
    found = {database: settings for member in members for database, settings in member.settings.items()}
    return next(iter(found.values())) if len(found) == 1 else dict(found)


def worker_row(member: Member, roster: Roster) -> dict[str, Any]:
    """Return what the JSON result says of a worker."""
    return {
        "worker": member.worker,
        "id": member.client_id,
        "host": member.host,
        "state": member.state,
        "operations": member.operations,
        "clock_error_ns": member.clock_error_ns,
        "stalls": [{"start": stall.start, "end": stall.end} for stall in member.stalls],
        "histories": [file.path for file in member.histories],
        "trouble": member.trouble,
        "unchecked": unchecked(member, roster),
    }


def unchecked(member: Member, roster: Roster) -> str | None:
    """Say what of a worker could not be checked."""
    if member.whole:
        return None
    if not member.lost and not member.gap:
        return "it had not ended when the verdict was made: no final reads, so lost writes were not looked for"
    if member.from_history:
        return (
            "judged from its history file, which holds all but what it had not written in its last second; "
            "no final reads, so lost writes were not looked for"
        )
    reason = "a report of it never arrived" if member.gap else f"last heard of {roster.silent_s(member):.1f} s before"
    return (
        f"{reason}: what it did after its last report is not counted, and no final reads were made, "
        "so lost writes were not looked for"
    )


def worker_lines(workers: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for every worker of which something is to be said."""
    for row in workers:
        name = f"worker {row['worker']} ({row['id']})"
        for stall in row["stalls"]:
            seconds = (stall["end"] - stall["start"]) / 1e9
            yield f"{name} stood still for {seconds:.1f} s: latencies of what was under way are left out"
        if row["trouble"]:
            yield f"{name}: {row['trouble']}"
        if row["unchecked"]:
            yield f"{name} is {row['state']}: {row['unchecked']}"
