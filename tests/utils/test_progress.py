"""Tasks of unknown length."""

from rsft.utils.progress import announce, limit_rate


def test_a_task_begins_with_nothing_of_an_unknown_total():
    reports = []
    announce(lambda *report: reports.append(report), "weights")
    announce(None, "weights")
    assert reports == [(0, 0, "weights")]


def test_reports_are_limited_to_one_per_period(monkeypatch):
    clock = iter([10.0, 10.5, 10.9, 11.0, 11.1])
    monkeypatch.setattr("rsft.utils.progress.time.monotonic", lambda: next(clock))
    calls = []
    report = limit_rate(lambda *step: calls.append(step))
    for done in range(1, 6):
        report(done, 5, "scenes")
    assert calls == [(done, 5, "scenes") for done in (1, 4, 5)]
