"""Tasks run in a process that may crash or hang."""

import json
from types import SimpleNamespace

import pytest

from rsft.errors import RequestError
from tests.helpers.gpu_check_tasks import (
    MACHINE,
    make_hanging_tasks,
    make_none,
    make_tasks,
)
from tools.gpu_check import supervisor
from tools.gpu_check.__main__ import write_report
from tools.gpu_check.supervisor import Limits, run_supervised

LONG = Limits(600, 600)


@pytest.mark.slow
def test_every_failure_is_a_row_and_ends_no_other(tmp_path, capsys):
    path = tmp_path / "report.json"
    report = write_report(path, make_tasks, LONG)
    assert json.loads(path.read_text()) == report
    assert report["machine"] == MACHINE and report["schema"] == 1
    assert report["counts"] == {"ok": 3, "failed": 3, "not run": 1, "left out": 0}
    rows = [
        [row[key] for key in ("name", "value", "peer", "ratio", "status", "reason")]
        for row in report["rows"]
    ]
    assert rows == [
        ["measure", 2.0, "", None, "ok", ""],
        ["error, measure", 0.1, "tolerance", 0.2, "ok", ""],
        ["fail", None, "measure", None, "failed", "RuntimeError out of memory"],
        ["crash", None, "measure", None, "failed", rows[3][-1]],
        ["refuse", None, "measure", None, "not run", "no such device"],
        ["measure_badly", 3.0, "measure", 1.5, "ok", ""],
        ["error, measure_badly", None, "tolerance", None, "failed", rows[6][-1]],
    ]
    assert rows[3][-1] == "the process ended with exit code 3"
    assert rows[6][-1] == "the value is nan"
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 7
    assert printed[5] == "ok       a: measure_badly; 3 m; 1.5 of measure"


@pytest.mark.slow
def test_a_hanging_task_fails_and_the_time_limit_names_what_is_left_out(monkeypatch):
    """The clock is set by hand, because a busy machine starts processes slowly."""
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr(supervisor, "time", clock)
    outcomes = run_supervised(make_hanging_tasks, LONG)
    assert next(outcomes)[2].status == "ok"
    now[0] = LONG.total - 0.1
    _, title, outcome = next(outcomes)
    assert title.name == "hang" and outcome.status == "left out"
    assert outcome.reason == "the time limit of 600 s was reached during it"
    now[0] = LONG.total
    _, title, outcome = next(outcomes)
    assert title.name == "measure" and outcome.status == "left out"
    assert outcome.reason == "the time limit of 600 s was reached before it"
    assert list(outcomes) == []

    now[0] = 0.0
    outcomes = [
        outcome for _, _, outcome in run_supervised(make_hanging_tasks, Limits(600, 1))
    ]
    assert [outcome.status for outcome in outcomes] == ["ok", "failed", "ok"]
    assert outcomes[1].reason == "took over 1 s"


@pytest.mark.slow
def test_tasks_that_cannot_be_made_are_an_error(tmp_path):
    with pytest.raises(RequestError, match="no GPU") as error:
        write_report(tmp_path / "report.json", make_none, LONG)
    assert error.value.location == "--device" and "--dry-run" in error.value.hint
    assert not list(tmp_path.iterdir())
