"""What all tests share: real servers, and the rule that nothing is skipped where everything must run."""

import os
from collections.abc import Generator

import pytest

REQUIRE_ALL = "STALEWATCH_REQUIRE_ALL"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a skipped test a failed one where everything must run."""
    report = yield
    if os.environ.get(REQUIRE_ALL) == "1" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but {REQUIRE_ALL}=1: {report.longrepr}"
    return report
