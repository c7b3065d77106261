"""A journal keeps the results of one job."""

from __future__ import annotations

import pandas as pd
import pytest
import shapely

from rsft.errors import RequestError
from rsft.inference.predict.resume_journal import BatchResult, ResumeJournal

ROWS = pd.DataFrame({"chip": ["a", "b"], "at": [None, 2], "p": [0.1, None], "geometry": [shapely.Point(1, 2), None]})
BATCH = BatchResult(ROWS, [("f", 3, "why")], 4, 5)


def test_results_in_order(tmp_path):
    path = tmp_path / "new/.journal"
    journal = ResumeJournal(path, "key")
    journal.record(1, BatchResult(pd.DataFrame(), [], 1, 0))
    journal.record(0, BATCH)
    journal.set_note("x", "y")
    journal.close(finished=False)
    again = ResumeJournal(path, "key")
    assert again.finished_batches() == {0, 1} and again.get_note("x") == "y" and again.get_note("z") is None
    first, second = again.results()
    pd.testing.assert_frame_equal(first.rows, ROWS, check_dtype=False)
    assert first[1:] == BATCH[1:] and second.rows.empty and second.empty == 1
    again.close(finished=True)
    assert not path.exists()


def test_one_job_at_a_time(tmp_path):
    journal = ResumeJournal(tmp_path / "j", "key")
    journal.record(0, BATCH)
    with pytest.raises(RequestError, match="in use by another job"):
        ResumeJournal(tmp_path / "j", "key")
    journal.close(finished=False)
    other = ResumeJournal(tmp_path / "j", "another")
    assert other.finished_batches() == set()
    other.close(finished=False)
    assert not (tmp_path / "j").exists()  # it held no results


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "taken").mkdir()  # SQLite cannot open a folder, as it cannot open a file without permission
    for path in (tmp_path / "file/out/.journal", tmp_path / "taken"):
        with pytest.raises(RequestError, match="the folder of the output cannot be written") as caught:
            ResumeJournal(path, "key")
        assert "permission" in caught.value.hint and "another job" not in str(caught.value)
