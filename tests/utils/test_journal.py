"""A journal keeps the rows of one job; a damaged one is noticed and begun anew."""

import errno
import random
import shutil
import sqlite3
from contextlib import closing

import pytest

from rsft.errors import RequestError, RsftError
from rsft.utils.journal import Journal, has_note, is_damage, remove_database
from tests.helpers.messages import mentions

TABLES = {"row": ("number", "value", "text")}
ROWS = [(number, bytes([number] * 40), f"text {number} é") for number in range(40)]


def open_journal(path, key="key"):
    return Journal(path, key, TABLES, ["row (text)"])


def read(journal):
    return list(journal.execute("SELECT number, value, text FROM row ORDER BY number"))


def write_journal(path):
    journal = open_journal(path)
    for row in ROWS:
        journal.insert("row", row)
    journal.set_note("engine", "torch")
    journal.close(finished=False)
    return path.read_bytes()


def test_rows_and_notes_are_read_back(tmp_path):
    path = tmp_path / "new/.journal"
    write_journal(path)
    journal = open_journal(path)
    assert read(journal) == ROWS
    assert (journal.get_note("engine"), journal.get_note("other")) == ("torch", None)
    journal.insert("row", (3, b"", "replaced"))
    journal.execute("UPDATE row SET text = 'changed' WHERE number = 4")
    journal.commit()
    journal.check()
    journal.close(finished=False)
    again = open_journal(path)
    assert read(again)[3:5] == [(3, b"", "replaced"), (4, ROWS[4][1], "changed")]
    again.close(finished=True)
    assert not path.exists()


def test_nothing_is_left_of_a_killed_job_that_is_only_read(tmp_path):
    killed = tmp_path / "killed"
    journal = open_journal(killed / ".journal")
    journal.set_note("engine", "torch")
    left = shutil.copytree(killed, tmp_path / "left")
    journal.close(finished=True)
    assert len(list(left.iterdir())) == 2  # that of SQLite as well
    again = open_journal(left / ".journal")
    assert again.get_note("engine") == "torch"
    again.close(finished=True)
    assert not list(left.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [range(60), range(60, 300)], ids=str)
def test_flipped_bits_never_give_other_rows(tmp_path, caplog, seeds):
    path = tmp_path / "j"
    content = write_journal(path)
    for seed in seeds:
        generator = random.Random(seed)
        damaged = bytearray(content)
        for _ in range(1 + seed % 2):
            damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        caplog.clear()
        journal = open_journal(path)
        rows = read(journal)
        is_whole = rows == ROWS and journal.get_note("engine") == "torch"
        has_told = "damaged" in caplog.text or "different job" in caplog.text
        assert is_whole or (rows == [] and has_told), seed
        journal.close(finished=True)
        assert not list(tmp_path.iterdir()), seed


@pytest.mark.parametrize("seed", range(4))
def test_truncated_journals(tmp_path, seed, caplog):
    content = write_journal(tmp_path / "j")
    length = random.Random(seed).randrange(100, len(content))
    (tmp_path / "j").write_bytes(content[:length])
    journal = open_journal(tmp_path / "j")
    assert read(journal) == [] and "is damaged" in caplog.text
    journal.close(finished=False)


def test_a_changed_row_is_damage(tmp_path, caplog):
    """A row that a program without the checksums has changed."""
    write_journal(tmp_path / "j")
    journal = open_journal(tmp_path / "j")
    # a checksum that is wrong: no public function writes one
    journal._database.create_function("crc", -1, lambda *_: 0, deterministic=True)
    journal.execute("UPDATE row SET text = 'other' WHERE number = 3")
    journal.commit()
    journal._database.create_function("crc", -1, lambda *_: 1, deterministic=True)
    with pytest.raises(RsftError, match=mentions("journal", "damaged")):
        journal.check()
    journal.close(finished=False)
    again = open_journal(tmp_path / "j")
    assert read(again) == [] and "is damaged; the job starts" in caplog.text
    again.close(finished=True)


def test_one_job_at_a_time(tmp_path, caplog):
    write_journal(tmp_path / "j")
    journal = open_journal(tmp_path / "j")
    with pytest.raises(RequestError, match=mentions("another job")):
        open_journal(tmp_path / "j")
    journal.close(finished=False)
    other = open_journal(tmp_path / "j", "another")
    assert read(other) == [] and "results of a different job" in caplog.text
    other.close(finished=False)
    assert not (tmp_path / "j").exists()  # it has no rows


def test_has_note_changes_nothing(tmp_path):
    content = write_journal(tmp_path / "j")
    assert has_note(tmp_path / "j", "key", "engine", "torch")
    assert not has_note(tmp_path / "j", "another", "engine", "torch")
    assert not has_note(tmp_path / "j", "key", "engine", "onnx")
    assert (tmp_path / "j").read_bytes() == content
    journal = open_journal(tmp_path / "j")
    assert not has_note(tmp_path / "j", "key", "engine", "torch")
    journal.close(finished=False)
    (tmp_path / "j").write_bytes(content[:5000])
    assert not has_note(tmp_path / "j", "key", "engine", "torch")


@pytest.mark.parametrize(
    "content", [b"", b"garbage" * 1000, b"SQLite format 3\0" + bytes(4080)]
)
def test_other_files_begin_a_new_journal(tmp_path, content, caplog):
    (tmp_path / "j").write_bytes(content)
    journal = open_journal(tmp_path / "j")
    assert read(journal) == [] and ("is damaged" in caplog.text) == bool(content)
    journal.close(finished=False)


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "taken").mkdir()
    # SQLite cannot open a folder, as it cannot open a file without permission
    reasons = {
        tmp_path / "file/out/.journal": "a file is in the place of a folder",
        tmp_path / "taken": "a folder is in the place of a file",
        tmp_path / f".{'x' * 300}.journal": "the name of the file is too long",
        # SQLite adds a suffix
        tmp_path / f".{'x' * 240}.journal": "the name of the file is too long",
    }
    for path, reason in reasons.items():
        with pytest.raises(RsftError, match=reason) as caught:
            open_journal(path)
        assert "another job" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]


def test_database_with_other_tables_is_begun_anew(tmp_path, caplog):
    with closing(sqlite3.connect(tmp_path / "j")) as database, database:
        database.execute("CREATE TABLE job (other TEXT)")
    journal = open_journal(tmp_path / "j")
    assert read(journal) == []
    assert "another version of rsft wrote it; the job starts" in caplog.text
    journal.close(finished=False)


def test_full_disk_names_the_journal(tmp_path):
    write_journal(tmp_path / "j")
    journal = open_journal(tmp_path / "j")
    pages = journal.execute("PRAGMA page_count").fetchone()[0]
    # SQLite answers as on a full disk
    journal.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OSError, match="full") as caught:
        journal.set_note("x", "y" * 100_000)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "j")
    journal.close(finished=False)
    again = open_journal(tmp_path / "j")
    assert read(again) == ROWS and again.get_note("x") is None
    again.close(finished=True)


def test_kinds_of_errors(tmp_path):
    path = tmp_path / "garbage"
    path.write_bytes(b"garbage" * 99)
    for suffix in ("-journal", "-wal"):
        (tmp_path / f"garbage{suffix}").touch()
    database = sqlite3.connect(path)
    with pytest.raises(sqlite3.DatabaseError) as damaged:
        database.execute("SELECT * FROM sqlite_master")
    database.close()
    assert is_damage(damaged.value, path)
    with pytest.raises(sqlite3.OperationalError) as no_file:
        sqlite3.connect(tmp_path)
    assert not is_damage(no_file.value, tmp_path)
    remove_database(path)
    assert list(tmp_path.iterdir()) == []
