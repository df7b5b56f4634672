"""What a run under Locust came to: its result, the lines and the files that show it, and what is said of workers."""

import json
from argparse import Namespace
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stalewatch.locust import flags
from stalewatch.locust.roster import Member
from stalewatch.recording.totals import Totals
from stalewatch.reports import page
from stalewatch.reports.lines import plain_lines
from stalewatch.reports.table import COLUMNS, rows, show


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

    def _write_json(self, path: Path) -> None:
        path.write_text(json.dumps(self.result, indent=1) + "\n")

    def _write_page(self, path: Path) -> None:
        page.write(path, [self.result])


def worker_row(member: Member) -> dict[str, Any]:
    """Return what the JSON result says of a worker."""
    return {
        "worker": member.worker,
        "id": member.client_id,
        "host": member.host,
        "state": member.state,
        "operations": member.operations,
        "clock_error_ns": member.clock_error_ns,
        "stalls": [{"start": stall.start, "end": stall.end} for stall in member.stalls],
        "stood_still_s": member.stood_still_ns / 1e9,
        "histories": [file.path for file in member.histories],
        "trouble": member.trouble,
        "unchecked": unchecked(member),
    }


NO_FINAL_READS = "final reads are missing, so lost writes were not, or not all, looked for"


def unchecked(member: Member) -> str | None:
    """Say what of a worker could not be checked."""
    if member.whole:
        return None
    if member.gap:
        return "a report of it never arrived, and what it told is not counted"
    if member.done:
        return f"it could not end in order, see its log; {NO_FINAL_READS}"
    if not member.lost:
        return f"it had not ended when the verdict was made; {NO_FINAL_READS}"
    if member.from_history:
        return f"counted to the end of its history file, which lacks at most its last second; {NO_FINAL_READS}"
    return (
        f"last heard of {member.silent_s:.1f} s before: what it did after its last report is not counted; "
        f"{NO_FINAL_READS}"
    )


def worker_lines(workers: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for every worker of which something is to be said."""
    for row in workers:
        name = f"worker {row['worker']} ({row['id']})"
        if row["stood_still_s"]:
            yield f"{name} stood still for {row['stood_still_s']:.1f} s: latencies of what was under way are left out"
        if row["trouble"]:
            yield f"{name}: {row['trouble']}"
        if row["unchecked"]:
            yield f"{name} is {row['state']}: {row['unchecked']}"
