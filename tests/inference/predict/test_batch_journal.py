"""The journal of a prediction job keeps the result of each batch."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
import shapely

from rsft.errors import RsftError
from rsft.inference.predict.batch_journal import BatchJournal, BatchResult
from rsft.inference.writers.columns import Classification, classified_columns
from rsft.models.uncertainty.calibrator import ConfidenceEstimate
from rsft.utils.journal import Journal
from tests.helpers.messages import mentions

ROWS = pd.DataFrame(
    {
        "chip": ["a", "b"],
        "at": [None, 2],
        "score": [0.1, None],
        "p_x": [0.25, 0.333333],
        "geometry": [shapely.Point(1, 2), None],
    }
)
BATCH = BatchResult(ROWS, [("f", 3, "why")], Counter(empty=4, gray=5))


def test_results_in_order(tmp_path):
    path = tmp_path / "new/.journal"
    journal = BatchJournal(path, "key", ["x"])
    journal.record(1, BatchResult(pd.DataFrame(), [], Counter(empty=1)))
    journal.record(0, BATCH)
    journal.set_note("x", "y")
    journal.close(finished=False)
    again = BatchJournal(path, "key", ["x"])
    assert (
        again.finished_batches() == {0, 1}
        and again.get_note("x") == "y"
        and again.get_note("z") is None
    )
    result = again.collect()
    pd.testing.assert_frame_equal(result.rows[list(ROWS)], ROWS, check_dtype=False)
    assert result.rejected == BATCH.rejected
    assert result.counts == Counter(empty=5, gray=5)
    again.close(finished=True)
    assert not path.exists()


def test_batches_with_other_columns_and_types(tmp_path):
    journal = BatchJournal(tmp_path / "j", "key", ["x"])
    other = ROWS[["chip", "p_x", "geometry"]].assign(at=[None, None], q="x")
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
    journal = BatchJournal(tmp_path / "j", "key", ["x"])
    assert journal.collect().rows.empty
    journal.close(finished=True)


def test_a_damaged_journal_begins_anew(tmp_path, caplog):
    journal = BatchJournal(tmp_path / "j", "key", ["x"])
    journal.record(0, BATCH)
    journal.close(finished=False)
    content = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(content.replace(b'"why"', b'"who"'))
    again = BatchJournal(tmp_path / "j", "key", ["x"])
    assert again.finished_batches() == set()
    assert "is damaged; the job starts from the beginning" in caplog.text
    again.close(finished=True)


def test_damage_during_the_job_stops_it(tmp_path):
    journal = BatchJournal(tmp_path / "j", "key", ["x"])
    journal.record(0, BATCH)
    # a checksum that is wrong: no public function writes one
    journal._database.create_function("crc", -1, lambda *_: 0, deterministic=True)
    with pytest.raises(RsftError, match=mentions("journal", "damaged")):
        journal.collect()
    journal.close(finished=False)


@pytest.mark.parametrize("spread", [0.3, 3.0])
def test_a_thousand_classes_take_five_kilobytes_a_chip(tmp_path, spread):
    """Every class set names all classes, as with few validation chips for each."""
    classes = [f"class {number}" for number in range(1_000)]
    rng = np.random.default_rng(0)
    journal = BatchJournal(tmp_path / "j", "key", classes)
    batches = []
    for number in range(4):
        likelihoods = np.exp(spread * rng.normal(size=(32, 1_000)))
        probabilities = likelihoods / likelihoods.sum(1, keepdims=True)
        sets = np.ones(probabilities.shape, bool)
        estimate = ConfidenceEstimate(probabilities, sets, np.ones(32))
        rows = classified_columns(Classification(classes, probabilities, estimate))
        rows = rows.assign(chip=[f"{number}_{row}" for row in range(32)], geometry=None)
        batches.append(rows)
        journal.record(number, BatchResult(rows, [], Counter()))
    assert (tmp_path / "j").stat().st_size <= 128 * 5 * 1024
    expected = pd.concat(batches, ignore_index=True)
    pd.testing.assert_frame_equal(
        journal.collect().rows[list(expected)],
        expected,
        check_dtype=False,
        check_exact=True,
    )
    journal.close(finished=True)


def test_every_value_of_six_decimals_comes_back(tmp_path):
    values = (np.arange(1_000_001) / 1e6).round(6).reshape(101, -1)
    columns = [f"p_{number}" for number in range(values.shape[1])]
    rows = pd.DataFrame(values, columns=columns)
    journal = BatchJournal(tmp_path / "j", "key", range(values.shape[1]))
    journal.record(0, BatchResult(rows.assign(geometry=None), [], Counter()))
    assert (journal.collect().rows[columns].to_numpy() == values).all()
    journal.close(finished=True)


def test_a_journal_of_an_earlier_version_begins_anew(tmp_path, caplog):
    path = tmp_path / "j"
    earlier = Journal(path, "key", {"batch": ("number", "rows", "counts")})
    earlier.insert("batch", (0, b"one column for each class", "[]"))
    earlier.commit()
    earlier.close(finished=False)
    again = BatchJournal(path, "key", ["x"])
    assert again.finished_batches() == set()
    assert "another version of rsft wrote it; the job starts" in caplog.text
    again.record(0, BATCH)
    assert len(again.collect().rows) == 2
    again.close(finished=True)
