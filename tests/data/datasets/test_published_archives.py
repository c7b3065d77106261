"""How the archives of the core are recognized."""

from rsft.data.datasets.published_archives import (
    ARCHIVES,
    DOTA_ARCHIVE,
    FUSAR_SHIP_ARCHIVE,
    SRSDD_ARCHIVE,
    list_archives,
)

BOX = "1 2 3 2 3 4 1 4"


def test_one_file_tells_the_data_set(tmp_path):
    for folder, name, text in (
        (FUSAR_SHIP_ARCHIVE, "Ship_C01S01N0001.tiff", ""),
        (SRSDD_ARCHIVE, "1.txt", f"{BOX} ore-oil 0"),
        (DOTA_ARCHIVE, "P0001.txt", f"{BOX} plane 0"),
    ):
        path = tmp_path / folder.name / "a" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    for archive in ARCHIVES:
        for other in ARCHIVES:
            assert archive.is_in(tmp_path / other.name) == (archive is other)


def test_plug_ins_add_their_archives():
    archives = list_archives()
    assert archives[: len(ARCHIVES)] == list(ARCHIVES)
    assert len({archive.name for archive in archives}) == len(archives)
