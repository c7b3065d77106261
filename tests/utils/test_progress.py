"""Tasks of unknown length."""

from rsft.utils.progress import announce


def test_a_task_begins_with_nothing_of_an_unknown_total():
    reports = []
    announce(lambda *report: reports.append(report), "weights")
    announce(None, "weights")
    assert reports == [(0, 0, "weights")]
