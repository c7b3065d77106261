"""Skip the tests of a tool that uses a deleted plug-in."""

import re

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """A module that is missing in an existing plug-in stays an error."""
    report = yield
    missing = re.search(r"No module named '(rsft\.plugins\.\w+)'", str(report.longrepr))
    if report.failed and missing:
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), None, f"{missing[1]} is deleted")
    return report
