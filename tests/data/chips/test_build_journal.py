"""A damaged journal of a build gives the rows of an intact one, or says what is written
again."""

import hashlib

import pytest

from rsft.data.chips.build_journal import BuildJournal
from rsft.data.chips.record import ChipRecord
from rsft.errors import RsftError
from tests.helpers.messages import mentions

CHIP = b"a chip"
COUNT = 40


def no_pixels():
    raise AssertionError


def records(folder):
    if not (folder / "labels.txt").exists():
        (folder / "labels.txt").touch()
    return [
        ChipRecord(
            f"chip {number:03d}",
            "train",
            "ship",
            folder / "labels.txt",
            no_pixels,
            number,
        )
        for number in range(COUNT)
    ]


def outcome(record):
    if record.line % 7 == 0:
        return record.path_stem, (
            str(record.source_path),
            record.line,
            "the box lies outside the image",
        )
    row = {
        "name": record.name,
        "path": f"{record.path_stem}.png",
        "split": "train",
        "class": "ship",
        "bands": "gray",
    }
    return record.path_stem, row | {
        "sha256": hashlib.sha256(CHIP).hexdigest(),
        "flags": "",
        "unit": "uint8",
    }


def run_round(folder):
    """Finish a build; return the number of records that were written, and all that the
    store is made of."""
    journal = BuildJournal(folder / "journal.sqlite", folder)
    try:
        written = [record for record in records(folder) if journal.claim(record)]
        for record in written:
            (folder / record.path_stem).parent.mkdir(parents=True, exist_ok=True)
            (folder / f"{record.path_stem}.png").write_bytes(CHIP)
        journal.record([outcome(record) for record in written])
        journal.close_round()
        return len(written), [
            journal.bands,
            journal.train_counts(),
            journal.sources(),
            *journal.rows(),
            *journal.rejections(),
        ]
    finally:
        journal.close(finished=False)


def test_a_second_round_writes_nothing(tmp_path):
    written, expected = run_round(tmp_path)
    assert written == COUNT
    assert run_round(tmp_path) == (0, expected)


def test_lost_and_changed_chips_are_written_again(tmp_path):
    _, expected = run_round(tmp_path)
    chips = sorted(tmp_path.rglob("*.png"))
    chips[1].unlink()
    chips[2].write_bytes(b"other")
    assert run_round(tmp_path) == (2, expected)


def test_a_damaged_journal_begins_anew(tmp_path, caplog):
    _, expected = run_round(tmp_path)
    path = tmp_path / "journal.sqlite"
    path.write_bytes(path.read_bytes().replace(b"chip 005", b"chip 0Q5"))
    assert run_round(tmp_path) == (COUNT, expected)
    assert "is damaged; the job starts from the beginning" in caplog.text


def test_damage_during_the_build_stops_it(tmp_path):
    _, expected = run_round(tmp_path)
    journal = BuildJournal(tmp_path / "journal.sqlite", tmp_path)
    assert journal.round == 2
    for record in records(tmp_path):
        assert not journal.claim(record)
    checksum = "crc"
    # a checksum that is wrong: no public function writes one
    journal._database.create_function(checksum, -1, lambda *_: 0, deterministic=True)
    journal.execute("UPDATE entry SET reason = 'shop' WHERE line = 5")
    journal.commit()
    journal._database.create_function(checksum, -1, lambda *_: 1, deterministic=True)
    with pytest.raises(RsftError, match=mentions("journal", "damaged")) as caught:
        journal.close_round()
    assert "run the same command again" in caught.value.hint
    journal.close(finished=False)
    assert run_round(tmp_path) == (COUNT, expected)
