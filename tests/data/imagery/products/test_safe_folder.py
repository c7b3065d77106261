"""Find the files of a Sentinel-1 product, in folders and archives."""

import zipfile

import numpy as np
import pytest

from rsft.data.imagery.products import sentinel1
from rsft.data.imagery.products.sentinel1 import Sentinel1
from rsft.errors import DataError
from tests.helpers.messages import mentions
from tests.helpers.sentinel1 import write_product, zip_product

BAND = np.ones((20, 20), np.uint16)


def read_tag(folder, measurement):
    return folder.read_xml("annotation", measurement, lambda root: root.tag)


@pytest.mark.parametrize("cog", [False, True])
def test_folder_manifest_and_archive(tmp_path, cog):
    safe = write_product(tmp_path, {"vv": BAND, "vh": BAND}, cog=cog)
    folders = [
        Sentinel1.find(path)
        for path in (safe, safe / "manifest.safe", zip_product(safe))
    ]
    for folder in folders:
        assert [name.split("-")[3] for name in folder.measurements] == ["vh", "vv"]
        for name in folder.measurements:
            for kind in ("calibration-", "noise-"):
                tag = folder.read_xml(
                    "annotation/calibration", name, lambda root: root.tag, kind
                )
                assert tag == kind[:-1]
            assert read_tag(folder, name) == "product"
    assert (
        folders[2].files[0].startswith(f"/vsizip/{{{tmp_path}")
        and folders[2].prefix == f"{safe.name}/"
    )


def test_an_archive_without_folder(tmp_path):
    safe = write_product(tmp_path, {"vv": BAND})
    with zipfile.ZipFile(tmp_path / "flat.zip", "w") as archive:
        for file in safe.rglob("*.*"):
            archive.write(file, file.relative_to(safe).as_posix())
    folder = Sentinel1.find(tmp_path / "flat.zip")
    assert read_tag(folder, folder.measurements[0]) == "product"
    assert folder.files[0].startswith(
        f"/vsizip/{{{tmp_path / 'flat.zip'}}}/measurement/"
    )


def test_one_measurement(tmp_path):
    safe = write_product(tmp_path, {"vv": BAND, "vh": BAND})
    path = sorted((safe / "measurement").iterdir())[1]
    assert Sentinel1.find(path).measurements == (f"measurement/{path.name}",)


def test_annotation_names_of_cog_products_may_lack_the_mark(tmp_path):
    safe = write_product(tmp_path, {"vv": BAND}, cog=True)
    for path in safe.glob("annotation/**/*-cog.xml"):
        path.rename(path.with_name(path.name.replace("-cog", "")))
    folder = Sentinel1.find(safe)
    (name,) = folder.measurements
    tag = folder.read_xml(
        "annotation/calibration", name, lambda root: root.tag, "noise-"
    )
    assert tag == "noise"


def test_other_paths(tmp_path):
    (tmp_path / "empty").mkdir()
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.tif", "x")
    for name in ("empty", "other.zip", "missing.tif"):
        assert Sentinel1.find(tmp_path / name) is None


def test_products_without_images(tmp_path):
    safe = write_product(tmp_path, {"vv": BAND})
    (image,) = (safe / "measurement").iterdir()
    image.unlink()
    for path in (safe, safe / "manifest.safe"):
        with pytest.raises(DataError, match="no images in measurement/"):
            Sentinel1.find(path)
    assert Sentinel1.find(zip_product(safe)) is None


def test_damaged_archives(tmp_path):
    (tmp_path / "bad.zip").write_bytes(b"no archive")
    with pytest.raises(DataError, match=mentions("archive", "cannot be read")):
        Sentinel1.find(tmp_path / "bad.zip")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        for name in ("a", "b"):
            archive.writestr(f"{name}.SAFE/manifest.safe", "x")
    with pytest.raises(DataError, match="contains 2 products"):
        Sentinel1.find(tmp_path / "two.zip")


def test_a_damaged_member_of_an_archive(tmp_path):
    archive = zip_product(write_product(tmp_path, {"vv": BAND}))
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as file:
        (damaged,) = (x for x in file.infolist() if "annotation/s1a" in x.filename)
    start = damaged.header_offset + 30 + len(damaged.filename)
    content[start : start + 20] = b"\xff" * 20
    archive.write_bytes(content)
    product = Sentinel1.find(archive)
    with pytest.raises(DataError, match=mentions("cannot be used")):
        read_tag(product, product.measurements[0])


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_is_too_large(tmp_path, monkeypatch, packed):
    monkeypatch.setattr(sentinel1, "MAX_XML_BYTES", 1000)
    safe = write_product(tmp_path, {"vv": BAND})
    folder = Sentinel1.find(zip_product(safe) if packed else safe)
    with pytest.raises(DataError, match="larger than 1,000 bytes"):
        read_tag(folder, folder.measurements[0])
