"""Tasks of unknown length."""

from rsft.utils.progress import announce, limit_rate, track


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


def test_each_item_is_reported_after_its_use():
    events = []
    for item in track("ab", 2, lambda *report: events.append(report), "chips"):
        events.append(item)
    assert events == ["a", (1, 2, "chips"), "b", (2, 2, "chips")]
    assert list(track(iter("ab"), 2, None, "chips")) == ["a", "b"]
