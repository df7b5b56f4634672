"""The JSON result of a run under Locust, from what its workers reported."""

from argparse import Namespace
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.options import parse_options, public_values
from stalewatch.engine.database_run import added_up
from stalewatch.engine.result import run_result
from stalewatch.locust import flags
from stalewatch.locust.outcome import Outcome, worker_row
from stalewatch.locust.run import Aside, Run
from stalewatch.reports import expect
from stalewatch.workloads import workload_names
from stalewatch.workloads.options import LoadOptions

DONE, MISSED = 0, 1


def outcome(run: Run, aside: Aside) -> Outcome:
    """Say what the totals of all workers mean, and what came of what went on beside them."""
    totals, members = run.totals, list(run.roster)
    totals.findings.complete = run.complete
    settings = {database: found for member in members for database, found in member.settings.items()}
    databases = sorted(settings) or list(run.databases)
    result = run_result(
        totals,
        database=",".join(databases),
        run=run.name,
        options=_options(run.options, databases) | {"users": run.users, "driver": _of_one(settings)},
        duration_s=run.duration_s,
        workload_results=_workload_results(run.options, [member.beyond for member in members]),
        extra={**aside.result, "workers": [worker_row(member) for member in members]},
    )
    missed = expect.missed(flags.expectations(run.options), result)
    trouble = max((aside.exit_code, *(member.exit_code for member in members)))
    return Outcome(result, totals, missed, trouble or (MISSED if missed else DONE))


def _workload_results(options: Namespace, told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what workloads know beyond the guarantees, and their names: the options' if no worker reported any."""
    return {"workloads": sorted(workload_names(parse_options(LoadOptions, options).workload)), **added_up(told)}


def _options(options: Namespace, databases: Collection[str]) -> dict[str, Any]:
    """Return the options in force; those of several databases by database, for flags may mean different things."""
    each = {database: public_values(parse_options(DATABASES[database].options, options)) for database in databases}
    return flags.shown_load(parse_options(LoadOptions, options)) | _of_one(each)


def _of_one(by_database: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what is there for the one database, or everything by database where there are several."""
    return next(iter(by_database.values())) if len(by_database) == 1 else dict(by_database)
