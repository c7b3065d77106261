"""What was noted is there again, and for nobody else."""

from __future__ import annotations

import pandas as pd
import pytest
import shapely

from rsft.errors import RequestError
from rsft.inference.predict.resume_journal import Done, Journal

ROWS = pd.DataFrame({"chip": ["a", "b"], "at": [None, 2], "p": [0.1, None], "geometry": [shapely.Point(1, 2), None]})
BATCH = Done(ROWS, [("f", 3, "why")], 4, 5)


def test_batches_come_back_in_order(tmp_path):
    file = tmp_path / "new/.journal"
    journal = Journal(file, "key")
    journal.settle(1, Done(pd.DataFrame(), [], 1, 0))
    journal.settle(0, BATCH)
    journal.note("x", "y")
    journal.close(finished=False)
    again = Journal(file, "key")
    assert again.done() == {0, 1} and again.noted("x") == "y" and again.noted("z") is None
    first, second = again.batches()
    pd.testing.assert_frame_equal(first.rows, ROWS, check_dtype=False)
    assert first[1:] == BATCH[1:] and second.rows.empty and second.empty == 1
    again.close(finished=True)
    assert not file.exists()


def test_one_job_at_a_time(tmp_path):
    journal = Journal(tmp_path / "j", "key")
    journal.settle(0, BATCH)
    with pytest.raises(RequestError, match="another job writes there"):
        Journal(tmp_path / "j", "key")
    journal.close(finished=False)
    other = Journal(tmp_path / "j", "another")
    assert other.done() == set()
    other.close(finished=False)
    assert not (tmp_path / "j").exists()  # nothing was done
