"""Archives of published data sets are found in and beside the folder of the chip store,
and nowhere else."""

import os
import shutil
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path

import pytest

from rsft.data.datasets.archive_search import locate_sources
from rsft.data.datasets.published_archives import (
    DOTA_ARCHIVE,
    FUSAR_SHIP_ARCHIVE,
    SRSDD_ARCHIVE,
    list_archives,
)
from rsft.data.datasets.source_errors import explain_wrong_source
from rsft.errors import RequestError
from tests.data.datasets.dota.data import row, write_pair
from tests.data.datasets.fusar_ship.data import make_names, write_fusar
from tests.data.datasets.srsdd.data import write_srsdd
from tests.helpers.clutter import write_clutter
from tests.helpers.messages import mentions

NAMES = make_names({"Cargo": 2, "Tanker": 1})


@pytest.fixture
def top(tmp_path):
    """Folder that contains ROOT."""
    (tmp_path / "top/data").mkdir(parents=True)
    return tmp_path / "top"


def write_fusar_at(folder):
    write_fusar(folder, NAMES)


def write_srsdd_at(folder):
    write_srsdd(folder / "train", {1: ["Fishing"]})
    write_srsdd(folder / "test", {2: ["Container"]})


def zip_folder(folder):
    shutil.make_archive(str(folder), "zip", folder.parent, folder.name)
    shutil.rmtree(folder)


def locate(top, **options):
    """Return the store and both sources, as paths below `top`."""
    archives = {FUSAR_SHIP_ARCHIVE: None, SRSDD_ARCHIVE: None}
    root, located = locate_sources(top / "data", archives, **options)
    return tuple(
        str(path.relative_to(top)) if path else None
        for path in (root, *located.values())
    )


@pytest.mark.parametrize(
    ("folder", "store"),
    [
        ("data", "data/fusrs"),
        ("data/raw", "data/fusrs"),
        (".", "data"),
        ("raw", "data"),
        ("a/b", "data"),
    ],
)
@pytest.mark.parametrize("is_zipped", [False, True])
def test_names_in_and_beside_root(top, folder, store, is_zipped):
    write_fusar_at(top / folder / "FUSAR_Ship1.0")
    write_srsdd_at(top / folder / "srsdd-V1.0")
    if is_zipped:
        zip_folder(top / folder / "FUSAR_Ship1.0")
        zip_folder(top / folder / "srsdd-V1.0")
    suffix = ".zip" if is_zipped else ""
    expected = [
        str(Path(folder, f"{name}{suffix}")) for name in ("FUSAR_Ship1.0", "srsdd-V1.0")
    ]
    assert locate(top) == (store, *expected)


@pytest.mark.parametrize("folder", ["下载 1", "a/下载 1", "raw/SAR", "data/x"])
def test_any_name_is_recognized_by_content(top, folder):
    write_fusar_at(top / folder)
    write_srsdd_at(top / "ships")
    assert locate(top)[1:] == (folder, "ships")


@pytest.mark.parametrize("place", ["data", "data/raw"])
def test_root_may_be_the_folder_of_the_data_sets_itself(top, place):
    write_fusar_at(top / place)
    write_srsdd_at(top / place)
    assert locate(top) == ("data/fusrs", place, place)


def test_content_decides_and_not_a_wrong_name(top):
    write_fusar_at(top / "SRSDD")
    write_srsdd_at(top / "FUSAR")
    assert locate(top)[1:] == ("SRSDD", "FUSAR")


def test_an_unpacked_archive_is_no_second_copy(top):
    write_srsdd_at(top / "SRSDD")
    write_fusar_at(top / "FUSAR")
    shutil.make_archive(str(top / "FUSAR"), "zip", top, "FUSAR")
    assert locate(top)[1:] == ("FUSAR", "SRSDD")
    next(top.glob("FUSAR/Cargo/*/*.tiff")).unlink()
    with pytest.raises(
        RequestError, match=mentions("2 folders", "FUSAR.zip", "--fusar")
    ):
        locate(top)


def test_two_copies_are_listed(top):
    write_srsdd_at(top / "SRSDD")
    write_fusar_at(top / "FUSAR")
    write_fusar_at(top / "data/fusar ship 2")
    with pytest.raises(
        RequestError,
        match=mentions("2 folders", "top/FUSAR", "data/fusar ship 2", "--fusar"),
    ):
        locate(top)


def test_links_are_followed_by_name_alone(top, tmp_path):
    write_fusar_at(tmp_path / "disk/ships")
    write_srsdd_at(tmp_path / "disk/images")
    (top / "FUSAR").symlink_to(tmp_path / "disk/ships")
    (top / "other").symlink_to(tmp_path / "disk/images")
    assert locate(top, allow_partial=True)[1:] == ("FUSAR", None)
    (top / "SRSDD").symlink_to(tmp_path / "disk/images")
    (top / "SRSDD-V1.0").symlink_to(tmp_path / "disk/images")  # the same folder again
    assert locate(top)[1:] == ("FUSAR", "SRSDD")


def test_nothing_names_places_downloads_and_command(top):
    with pytest.raises(RequestError) as error:
        locate(top)
    assert error.value.message == "FUSAR-Ship and SRSDD not found"
    assert (
        str(top / "data/raw") in error.value.location
        and str(top / "raw") in error.value.location
    )
    hint = error.value.hint
    assert (
        "16,144 chips" in hint
        and "emwlab.fudan.edu.cn" in hint
        and "10.3390/rs13245104" in hint
    )
    assert (
        f"rsft prepare fusrs --root {top}/data --fusar FUSAR-Ship --srsdd SRSDD" in hint
    )
    for archive in list_archives():
        with pytest.raises(
            RequestError, match=mentions(archive.name, archive.download)
        ):
            locate_sources(top / "data", {archive: None}, allow_partial=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("FUSAR.zip.001", "one part of an archive: extract all parts by hand"),
        (
            "FUSAR/FUSAR_Ship1.0.zip.002",
            "one part of an archive: extract all parts by hand",
        ),
        ("FUSAR.part1.rar", "one part of an archive: extract all parts by hand"),
        ("FUSAR.7z", "rsft does not extract"),
        ("FUSAR/readme.txt", "FUSAR does not contain folders Cargo"),
    ],
)
def test_what_cannot_be_used_is_named(top, name, message):
    write_srsdd_at(top / "SRSDD")
    (top / name).parent.mkdir(exist_ok=True)
    (top / name).write_bytes(b"PK")
    with pytest.raises(RequestError, match=mentions("FUSAR-Ship not found", message)):
        locate(top)


def test_the_last_part_of_a_zip_is_no_archive(top):
    write_srsdd_at(top / "SRSDD")
    for name in ("FUSAR.zip", "FUSAR.z01"):
        (top / name).write_bytes(b"PK")
    with pytest.raises(RequestError, match="one part of an archive"):
        locate(top)


def test_a_chip_store_is_no_archive(top):
    write_srsdd_at(top / "SRSDD")
    write_fusar_at(top / "fusar chips")
    (top / "fusar chips/dataset.json").write_text("{}")
    with pytest.raises(RequestError, match="FUSAR-Ship not found"):
        locate(top)


def test_folders_of_the_system_are_not_searched(top, monkeypatch):
    write_srsdd_at(top / "SRSDD")
    write_fusar_at(top / "tmp/FUSAR")
    assert locate(top)[1] == "tmp/FUSAR"
    # the folders of the system, in a folder of the test
    monkeypatch.setattr(
        "rsft.data.datasets.archive_search._SYSTEM_FOLDERS", {str(top / "tmp")}
    )
    with pytest.raises(RequestError, match="FUSAR-Ship not found"):
        locate(top)


def test_wrong_options_are_explained(top):
    write_fusar_at(top / "a")
    write_srsdd_at(top / "b")
    (top / "c").mkdir()
    (top / "c/x.tar.gz.001").touch()
    for archive, folder, message in (
        (FUSAR_SHIP_ARCHIVE, "b", "contains SRSDD: exchange --fusar and --srsdd"),
        (SRSDD_ARCHIVE, "a", "contains FUSAR-Ship: exchange --srsdd and --fusar"),
        (
            DOTA_ARCHIVE,
            "b",
            "contains SRSDD, which `rsft prepare fusrs` reads",
        ),
        (DOTA_ARCHIVE, "c", "is one part of an archive"),
    ):
        with (
            pytest.raises(RequestError, match=mentions(message, "hint")),
            explain_wrong_source(archive, top / folder),
        ):
            raise RequestError("no data set", top, "hint")


def test_dota(top):
    write_pair(top / "dota_v1/train", row(10, 10, 30, 20), "P0001")
    assert locate_sources(top / "data", {DOTA_ARCHIVE: None}) == (
        top / "data",
        {DOTA_ARCHIVE: top / "dota_v1"},
    )
    shutil.move(top / "dota_v1", top / "aerial")
    assert locate_sources(top / "data", {DOTA_ARCHIVE: None}) == (
        top / "data",
        {DOTA_ARCHIVE: top / "aerial"},
    )


def locate_as_another_user(top):
    if os.geteuid() == 0:  # root reads everything
        os.setgid(65534)
        os.setuid(65534)
    try:
        return locate(top)
    except RequestError as error:
        return str(error)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="special files")
def test_special_and_closed_folders_do_not_stop_the_search():
    with (
        tempfile.TemporaryDirectory() as name,
        get_context("fork").Pool(1, maxtasksperchild=1) as pool,
    ):
        top = Path(name).resolve()
        top.chmod(0o755)
        write_clutter(top)
        message = pool.apply(locate_as_another_user, (top,))
        assert (
            "FUSAR-Ship and SRSDD not found" in message
            and f"{top}/FUSAR closed cannot be read" in message
        )
        write_fusar_at(top / "x/y/ships")
        write_srsdd_at(top / "x/y/images")
        assert pool.apply(locate_as_another_user, (top,)) == (
            "data",
            "x/y/ships",
            "x/y",
        )
