import sqlite3

import pytest

from rsft.utils.atomic_files import (
    compute_checksum,
    is_damage,
    is_in_use,
    is_intact,
    remove_database,
)


def test_checksums_tell_values_and_their_borders_apart():
    rows = [
        ("ab", "c"),
        ("a", "bc"),
        ("abc", None),
        ("abc", "None"),
        ("abc", ""),
        ("abc",),
        ("abc", 1),
    ]
    assert len({compute_checksum(*row) for row in rows}) == len(rows)
    assert compute_checksum("é", 5) == compute_checksum("é".encode(), "5")


def test_values_of_other_types_are_damaged():
    assert is_intact(compute_checksum("a", 1, None), "a", 1, None)
    assert not is_intact(compute_checksum("a", 1), "a", 2) and not is_intact("x", "a")
    assert not is_intact(compute_checksum("1.5"), 1.5)


def test_kinds_of_errors(tmp_path):
    path = tmp_path / "garbage"
    path.write_bytes(b"garbage" * 99)
    for suffix in ("-journal", "-wal"):
        (tmp_path / f"garbage{suffix}").touch()
    database = sqlite3.connect(path)
    with pytest.raises(sqlite3.DatabaseError) as damaged:
        database.execute("SELECT * FROM sqlite_master")
    database.close()
    assert is_damage(damaged.value, path) and not is_in_use(damaged.value)
    with pytest.raises(sqlite3.OperationalError) as no_file:
        sqlite3.connect(tmp_path)
    assert not is_damage(no_file.value, tmp_path)
    remove_database(path)
    assert list(tmp_path.iterdir()) == []
