"""The processes that read chips."""

import pytest

from rsft.training.assembly import worker_count

pytestmark = pytest.mark.slow


def test_not_more_processes_read_chips_than_there_are_cores(monkeypatch, caplog):
    monkeypatch.setattr("rsft.training.assembly.available_cores", lambda: [0, 1])
    worker_count.cache_clear()
    assert [worker_count(count) for count in (0, 2, 8, 8)] == [0, 2, 2, 2]
    worker_count.cache_clear()
    assert caplog.messages == [
        "data.workers: 2 processes read chips instead of 8, one for each core"
    ]
