"""A journal keeps the results of one job."""

from __future__ import annotations

import errno
import sqlite3
from collections import Counter
from contextlib import closing

import pandas as pd
import pytest
import shapely

from rsft.errors import RequestError
from rsft.inference.predict.resume_journal import BatchResult, ResumeJournal
from tests.helpers.messages import mentions

ROWS = pd.DataFrame({"chip": ["a", "b"], "at": [None, 2], "p": [0.1, None], "geometry": [shapely.Point(1, 2), None]})
BATCH = BatchResult(ROWS, [("f", 3, "why")], Counter(empty=4, gray=5))


def test_results_in_order(tmp_path):
    path = tmp_path / "new/.journal"
    journal = ResumeJournal(path, "key")
    journal.record(1, BatchResult(pd.DataFrame(), [], Counter(empty=1)))
    journal.record(0, BATCH)
    journal.set_note("x", "y")
    journal.close(finished=False)
    again = ResumeJournal(path, "key")
    assert again.finished_batches() == {0, 1} and again.get_note("x") == "y" and again.get_note("z") is None
    first, second = again.results()
    pd.testing.assert_frame_equal(first.rows, ROWS, check_dtype=False)
    assert first[1:] == BATCH[1:] and second.rows.empty and second.counts == Counter(empty=1)
    again.close(finished=True)
    assert not path.exists()


def test_one_job_at_a_time(tmp_path):
    journal = ResumeJournal(tmp_path / "j", "key")
    journal.record(0, BATCH)
    with pytest.raises(RequestError, match=mentions("another job")):
        ResumeJournal(tmp_path / "j", "key")
    journal.close(finished=False)
    other = ResumeJournal(tmp_path / "j", "another")
    assert other.finished_batches() == set()
    other.close(finished=False)
    assert not (tmp_path / "j").exists()  # it held no results


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "taken").mkdir()  # SQLite cannot open a folder, as it cannot open a file without permission
    reasons = {
        tmp_path / "file/out/.journal": "a file is in the place of a folder",
        tmp_path / "taken": "a folder is in the place of a file",
        tmp_path / f".{'x' * 300}.journal": "the name of the file is too long",
        tmp_path / f".{'x' * 240}.journal": "the name of the file is too long",  # SQLite adds a suffix
    }
    for path, reason in reasons.items():
        with pytest.raises(RequestError, match=reason) as caught:
            ResumeJournal(path, "key")
        assert "another job" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]


def test_database_with_other_tables_is_begun_anew(tmp_path, caplog):
    with closing(sqlite3.connect(tmp_path / "j")) as database, database:
        database.execute("CREATE TABLE job (other TEXT)")
    journal = ResumeJournal(tmp_path / "j", "key")
    assert journal.finished_batches() == set() and "another version of rsft wrote it; the job starts" in caplog.text
    journal.close(finished=False)


def test_full_disk_names_the_journal(tmp_path):
    journal = ResumeJournal(tmp_path / "j", "key")
    journal.record(0, BATCH)
    pages = journal.database.execute("PRAGMA page_count").fetchone()[0]
    journal.database.execute(f"PRAGMA max_page_count = {pages}")  # SQLite answers as on a full disk
    with pytest.raises(OSError, match="full") as caught:
        journal.set_note("x", "y" * 100_000)
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(tmp_path / "j")
    journal.close(finished=False)
    again = ResumeJournal(tmp_path / "j", "key")
    assert again.finished_batches() == {0} and again.get_note("x") is None
    again.close(finished=True)
