"""A damaged journal gives the rows of an intact one, or says what is computed again."""

from __future__ import annotations

import json
import logging
import os
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import shapely

from rsft.errors import RequestError
from rsft.inference.predict.resume_journal import BatchResult, ResumeJournal
from tests.helpers.messages import mentions

BATCHES = 3


def make_batch(number: int) -> BatchResult:
    rows = pd.DataFrame(
        {
            "chip": [f"{number}/{index}.png" for index in range(4)],
            "p": [number + index / 8 for index in range(4)],
            "geometry": [shapely.Point(number, index) for index in range(4)],
        }
    )
    return BatchResult(rows, [(f"{number}.png", 0, "unreadable")], Counter(empty=number, gray=1))


def write_journal(path: Path) -> bytes:
    journal = ResumeJournal(path, "key")
    for number in range(BATCHES):
        journal.record(number, make_batch(number))
    journal.set_note("engine", "torch")
    journal.close(finished=False)
    return path.read_bytes()


def describe(results: list[BatchResult]) -> list[str]:
    return [json.dumps([result.rows.astype(str).to_dict("list"), *result[1:]]) for result in results]


def flip_bits(content: bytes, seed: int) -> bytes:
    generator, damaged = random.Random(seed), bytearray(content)
    for _ in range(generator.randint(1, 2)):
        damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
    return bytes(damaged)


def resume_damaged_copies(folder: Path, content: bytes, count: int) -> list[str]:
    """Resume `count` damaged copies to the end. Return the faults: other rows, or work done again without a word."""
    expected, faults, path = describe([make_batch(number) for number in range(BATCHES)]), [], folder / "copy"
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("rsft").addHandler(handler)
    for seed in range(count):
        path.write_bytes(flip_bits(content, seed))
        messages.clear()
        journal = ResumeJournal(path, "key")
        finished, note = journal.finished_batches(), journal.get_note("engine")
        if describe(list(journal.results())) != [expected[number] for number in sorted(finished)]:
            faults.append(f"{seed}: other rows")
        lost = len(finished) < BATCHES or note != "torch"
        if lost and not any("damaged" in text or "different job" in text for text in messages):
            faults.append(f"{seed}: {finished}, {note!r}, {messages}")
        for number in set(range(BATCHES)) - finished:
            journal.record(number, make_batch(number))
        if describe(list(journal.results())) != expected:
            faults.append(f"{seed}: other rows after the end")
        journal.close(finished=True)
        if left := [file.name for file in folder.iterdir()]:
            faults.append(f"{seed}: {left} are left")
    return faults


@pytest.mark.slow
def test_flipped_bits_never_give_other_rows(tmp_path):
    (tmp_path / "copies").mkdir()
    write_journal(tmp_path / "intact")
    command = [sys.executable, __file__, str(tmp_path / "intact"), str(tmp_path / "copies"), "200"]
    child = subprocess.run(command, capture_output=True, text=True, check=False)  # damage once crashed the process
    assert (child.returncode, child.stdout) == (0, "[]\n"), child.stderr


@pytest.mark.parametrize("seed", range(4))
def test_truncated_journals(tmp_path, seed, caplog):
    content = write_journal(tmp_path / "j")
    (tmp_path / "j").write_bytes(content[: random.Random(seed).randrange(100, len(content))])
    journal = ResumeJournal(tmp_path / "j", "key")
    assert journal.finished_batches() == set() and "is damaged" in caplog.text
    journal.close(finished=False)


def test_a_damaged_batch_is_dropped_and_the_others_are_kept(tmp_path, caplog):
    write_journal(tmp_path / "j")
    with sqlite3.connect(tmp_path / "j") as database:
        database.execute("UPDATE batch SET counts = replace(counts, 'unreadable', 'unreadabla') WHERE number = 1")
        database.execute("UPDATE batch SET rows = 7 WHERE number = 2")  # another type
    database.close()
    journal = ResumeJournal(tmp_path / "j", "key")
    assert journal.finished_batches() == {0} and "2 batches are damaged; they are computed again" in caplog.text
    assert describe(list(journal.results())) == describe([make_batch(0)])
    journal.close(finished=True)


def test_rows_of_another_batch_are_damage(tmp_path):
    write_journal(tmp_path / "j")
    with sqlite3.connect(tmp_path / "j") as database:
        database.execute("UPDATE batch SET number = 9 WHERE number = 1")
    database.close()
    journal = ResumeJournal(tmp_path / "j", "key")
    assert journal.finished_batches() == {0, 2}
    journal.close(finished=True)


def test_a_journal_of_rsft_0_1_is_begun_anew(tmp_path, caplog):
    with sqlite3.connect(tmp_path / "j") as database:
        database.execute("CREATE TABLE job (key TEXT NOT NULL)")
        database.execute("CREATE TABLE batch (number INTEGER PRIMARY KEY, rows BLOB NOT NULL, counts TEXT NOT NULL)")
        database.execute("INSERT INTO job VALUES ('key')")
    database.close()
    journal = ResumeJournal(tmp_path / "j", "key")
    assert journal.finished_batches() == set() and "another version of rsft wrote it" in caplog.text
    journal.close(finished=False)


def test_other_files_in_place_of_a_journal(tmp_path, caplog):
    (tmp_path / "text").write_text("no database " * 100)
    ResumeJournal(tmp_path / "text", "key").close(finished=False)
    assert "is damaged (file is not a database); the job starts from the beginning" in caplog.text
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RequestError, match=mentions("pipe", "device")):
        ResumeJournal(tmp_path / "pipe", "key")


if __name__ == "__main__":
    print(resume_damaged_copies(Path(sys.argv[2]), Path(sys.argv[1]).read_bytes(), int(sys.argv[3])))
