"""A journal keeps the results of one job; a damaged one gives the same rows, or says
what is computed again."""

import errno
import json
import os
import random
import sqlite3
from collections import Counter
from contextlib import closing

import pandas as pd
import pytest
import shapely

from rsft.errors import RequestError
from rsft.inference.predict.resume_journal import BatchResult, ResumeJournal
from tests.helpers.messages import mentions

BATCHES = 4


def make_batch(number):
    names = [f"{number}/{index}.png" for index in range(4)]
    shares = [number + index / 8 for index in range(4)]
    points = [shapely.Point(number, index) for index in range(4)]
    rows = pd.DataFrame({"chip": names, "p": shares, "geometry": points})
    return BatchResult(
        rows, [(f"{number}.png", 0, "unreadable")], Counter(empty=number, gray=1)
    )


def write_journal(path):
    journal = ResumeJournal(path, "key")
    for number in range(BATCHES):
        journal.record(number, make_batch(number))
    journal.set_note("engine", "torch")
    journal.close(finished=False)
    return path.read_bytes()


def describe(results):
    return [
        json.dumps([result.rows.astype(str).to_dict("list"), *result[1:]])
        for result in results
    ]


def flip_bits(content, seed):
    generator = random.Random(seed)
    damaged = bytearray(content)
    for _ in range(generator.randint(1, 2)):
        damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
    return bytes(damaged)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [range(60), range(60, 200)], ids=str)
def test_flipped_bits_never_give_other_rows(tmp_path, caplog, seeds):
    content = write_journal(tmp_path / "j")
    path = tmp_path / "j"
    expected = describe([make_batch(number) for number in range(BATCHES)])
    for seed in seeds:
        path.write_bytes(flip_bits(content, seed))
        caplog.clear()
        journal = ResumeJournal(path, "key")
        finished = journal.finished_batches()
        note = journal.get_note("engine")
        assert describe(list(journal.results())) == [
            expected[number] for number in sorted(finished)
        ], seed
        is_whole = len(finished) == BATCHES and note == "torch"
        assert is_whole or "damaged" in caplog.text or "different job" in caplog.text, (
            seed
        )
        for number in set(range(BATCHES)) - finished:
            journal.record(number, make_batch(number))
        assert describe(list(journal.results())) == expected, seed
        journal.close(finished=True)
        assert not list(tmp_path.iterdir()), seed


@pytest.mark.parametrize("seed", range(4))
def test_truncated_journals(tmp_path, seed, caplog):
    content = write_journal(tmp_path / "j")
    (tmp_path / "j").write_bytes(
        content[: random.Random(seed).randrange(100, len(content))]
    )
    journal = ResumeJournal(tmp_path / "j", "key")
    assert journal.finished_batches() == set() and "is damaged" in caplog.text
    journal.close(finished=False)


def test_a_damaged_batch_is_dropped_and_the_others_are_kept(tmp_path, caplog):
    write_journal(tmp_path / "j")
    with sqlite3.connect(tmp_path / "j") as database:
        database.execute(
            "UPDATE batch SET counts = replace(counts, 'unreadable', 'unreadabla')"
            " WHERE number = 1"
        )
        database.execute("UPDATE batch SET rows = 7 WHERE number = 2")  # another type
        database.execute("UPDATE batch SET number = 9 WHERE number = 3")
    database.close()
    journal = ResumeJournal(tmp_path / "j", "key")
    assert (
        journal.finished_batches() == {0}
        and "3 batches are damaged; they are computed again" in caplog.text
    )
    assert describe(list(journal.results())) == describe([make_batch(0)])
    journal.close(finished=True)


def test_other_files_in_place_of_a_journal(tmp_path, caplog):
    (tmp_path / "text").write_text("no database " * 100)
    ResumeJournal(tmp_path / "text", "key").close(finished=False)
    assert (
        "is damaged (file is not a database); the job starts from the beginning"
        in caplog.text
    )
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RequestError, match="a pipe or a device has its name"):
        ResumeJournal(tmp_path / "pipe", "key")


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
    journal = ResumeJournal(path, "key")
    journal.record(1, BatchResult(pd.DataFrame(), [], Counter(empty=1)))
    journal.record(0, BATCH)
    journal.set_note("x", "y")
    journal.close(finished=False)
    again = ResumeJournal(path, "key")
    assert (
        again.finished_batches() == {0, 1}
        and again.get_note("x") == "y"
        and again.get_note("z") is None
    )
    first, second = again.results()
    pd.testing.assert_frame_equal(first.rows, ROWS, check_dtype=False)
    assert (
        first[1:] == BATCH[1:]
        and second.rows.empty
        and second.counts == Counter(empty=1)
    )
    again.close(finished=True)
    assert not path.exists()


def test_merged_results(tmp_path):
    journal = ResumeJournal(tmp_path / "j", "key")
    for number, batch in enumerate(
        [BATCH, BATCH, BatchResult(pd.DataFrame(), [], Counter(empty=1)), BATCH, BATCH]
    ):
        journal.record(number, batch)
    results = list(journal.results(4))
    assert [len(result.rows) for result in results] == [
        4,
        0,
        2,
        2,
    ]  # other columns, and the fifth batch
    pd.testing.assert_frame_equal(
        results[0].rows, pd.concat([ROWS, ROWS], ignore_index=True), check_dtype=False
    )
    assert results[0].rejected == BATCH.rejected * 2 and results[0].counts == Counter(
        empty=8, gray=10
    )
    journal.close(finished=True)


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
    (
        tmp_path / "taken"
    ).mkdir()  # SQLite cannot open a folder, as it cannot open a file without permission
    reasons = {
        tmp_path / "file/out/.journal": "a file is in the place of a folder",
        tmp_path / "taken": "a folder is in the place of a file",
        tmp_path / f".{'x' * 300}.journal": "the name of the file is too long",
        tmp_path / f".{'x' * 240}.journal": (
            "the name of the file is too long"
        ),  # SQLite adds a suffix
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
    assert (
        journal.finished_batches() == set()
        and "another version of rsft wrote it; the job starts" in caplog.text
    )
    journal.close(finished=False)


def test_full_disk_names_the_journal(tmp_path):
    journal = ResumeJournal(tmp_path / "j", "key")
    journal.record(0, BATCH)
    pages = journal.database.execute("PRAGMA page_count").fetchone()[0]
    journal.database.execute(
        f"PRAGMA max_page_count = {pages}"
    )  # SQLite answers as on a full disk
    with pytest.raises(OSError, match="full") as caught:
        journal.set_note("x", "y" * 100_000)
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(
        tmp_path / "j"
    )
    journal.close(finished=False)
    again = ResumeJournal(tmp_path / "j", "key")
    assert again.finished_batches() == {0} and again.get_note("x") is None
    again.close(finished=True)
