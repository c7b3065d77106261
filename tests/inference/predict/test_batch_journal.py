"""The journal of a prediction job keeps the result of each batch."""

from collections import Counter

import pandas as pd
import pytest
import shapely

from rsft.errors import RsftError
from rsft.inference.predict.batch_journal import BatchJournal, BatchResult
from tests.helpers.messages import mentions

ROWS = pd.DataFrame(
    {
        "chip": ["a", "b"],
        "at": [None, 2],
        "p": [0.1, None],
        "geometry": [shapely.Point(1, 2), None],
    }
)
BATCH = BatchResult(ROWS, [("f", 3, "why")], Counter(empty=4, gray=5))


def test_results_in_order(tmp_path):
    path = tmp_path / "new/.journal"
    journal = BatchJournal(path, "key")
    journal.record(1, BatchResult(pd.DataFrame(), [], Counter(empty=1)))
    journal.record(0, BATCH)
    journal.set_note("x", "y")
    journal.close(finished=False)
    again = BatchJournal(path, "key")
    assert (
        again.finished_batches() == {0, 1}
        and again.get_note("x") == "y"
        and again.get_note("z") is None
    )
    result = again.collect()
    pd.testing.assert_frame_equal(result.rows, ROWS, check_dtype=False)
    assert result.rejected == BATCH.rejected
    assert result.counts == Counter(empty=5, gray=5)
    again.close(finished=True)
    assert not path.exists()


def test_batches_with_other_columns_and_types(tmp_path):
    journal = BatchJournal(tmp_path / "j", "key")
    other = ROWS[["chip", "geometry"]].assign(at=[None, None], q="x")
    empty = BatchResult(pd.DataFrame(), [], Counter(empty=1))
    third = BatchResult(other, BATCH.rejected, BATCH.counts)
    for number, batch in enumerate([empty, third, BATCH]):
        journal.record(number, batch)
    result = journal.collect()
    expected = pd.concat([other, ROWS], ignore_index=True).astype({"at": float})
    pd.testing.assert_frame_equal(
        result.rows[expected.columns], expected, check_dtype=False
    )
    assert result.rejected == BATCH.rejected * 2
    assert result.counts == Counter(empty=9, gray=10)
    journal.close(finished=True)


def test_a_journal_without_rows(tmp_path):
    journal = BatchJournal(tmp_path / "j", "key")
    assert journal.collect().rows.empty
    journal.close(finished=True)


def test_a_damaged_journal_begins_anew(tmp_path, caplog):
    journal = BatchJournal(tmp_path / "j", "key")
    journal.record(0, BATCH)
    journal.close(finished=False)
    content = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(content.replace(b'"why"', b'"who"'))
    again = BatchJournal(tmp_path / "j", "key")
    assert again.finished_batches() == set()
    assert "is damaged; the job starts from the beginning" in caplog.text
    again.close(finished=True)


def test_damage_during_the_job_stops_it(tmp_path):
    journal = BatchJournal(tmp_path / "j", "key")
    journal.record(0, BATCH)
    # a checksum that is wrong: no public function writes one
    journal._database.create_function("crc", -1, lambda *_: 0, deterministic=True)
    with pytest.raises(RsftError, match=mentions("journal", "damaged")):
        journal.collect()
    journal.close(finished=False)
