"""A damaged journal of a build gives the rows of an intact one, or says what is written
again."""

import hashlib
import random

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
        bands = journal.close_round()
        paths = journal.paths("ship", bands, list(range(COUNT)))
        return len(written), [
            bands,
            journal.counts(bands),
            *paths,
            *journal.rows(bands),
            *journal.rejections(bands),
        ]
    finally:
        journal.close()


@pytest.mark.slow
def test_flipped_bits_never_give_other_rows(tmp_path, caplog):
    path = tmp_path / "journal.sqlite"
    _, expected = run_round(tmp_path)
    content = path.read_bytes()
    faults = []
    for seed in range(80):
        generator = random.Random(seed)
        damaged = bytearray(content)
        for _ in range(1 + seed % 2):
            damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        caplog.clear()
        written, result = run_round(tmp_path)
        if result != expected:
            faults.append(f"{seed}: other rows")
        if written and "damaged" not in caplog.text:
            faults.append(f"{seed}: {written} written again without a word")
    assert faults == []


@pytest.mark.parametrize(
    "content", [b"", b"garbage" * 1000, b"SQLite format 3\0" + bytes(4080)]
)
def test_other_files_begin_a_new_journal(tmp_path, content):
    (tmp_path / "journal.sqlite").write_bytes(content)
    written, _ = run_round(tmp_path)
    assert written == COUNT


def test_damage_during_the_build_stops_it(tmp_path):
    _, expected = run_round(tmp_path)
    journal = BuildJournal(tmp_path / "journal.sqlite", tmp_path)
    for record in records(tmp_path):
        assert not journal.claim(record)
    journal.database.execute("UPDATE entry SET class = 'shop' WHERE line = 5")
    with pytest.raises(RsftError, match=mentions("journal", "damaged")) as caught:
        journal.close_round()
    assert "resumes where it stopped" in caught.value.hint
    journal.database.commit()
    journal.close()
    assert run_round(tmp_path) == (1, expected)
