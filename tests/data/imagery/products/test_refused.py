"""Products that are recognized, named and refused, as folder and as file; and files
that only look like them."""

import pytest

from rsft.data.imagery.products.refused import REFUSALS
from rsft.errors import DataError
from rsft.scenes.raster import open_scene
from tests.helpers.messages import mentions
from tests.helpers.products import write_image

FILES = {
    "COSMO-SkyMed": (
        "CSKS2_SCS_B.h5",
        b"\x89HDF\r\n\x1a\n" + b"\0" * 3000 + b"CSKS2\0SCS_B",
        "SNAP",
    ),
    "NISAR": (
        "NISAR_L2_GCOV.h5",
        b"\x89HDF\r\n\x1a\n" + b"\0" * 600 + b"science\0LSAR\0",
        "GCOV/grids",
    ),
    "SAOCOM": (
        "Data/gtc-acqId1-a-tna-0-hh-m.xml",
        b"<?xml?><SAOCOM_XMLProduct xmlns:at='x'>",
        "SNAP",
    ),
    "ENVISAT ASAR": ("ASA_IMP_1PNUPA.N1", b'PRODUCT="ASA_IMP_1PNUPA2010"\n', "SNAP"),
    "ERS SAR": ("SAR_IMP_1PXASI.E1", b'PRODUCT="SAR_IMP_1PXASI1995"\n', "SNAP"),
    "SICD": (
        "a_SICD.nitf",
        b"NITF02.10" + b"\0" * 2**20 + b'<SICD xmlns="urn:SICD:1.2.1">',
        "GEC",
    ),
    "SIDD": (
        "a_SIDD.ntf",
        b"NITF02.10" + b"\0" * 2**20 + b'<SIDD xmlns="urn:SIDD:2.0.0">',
        "gdal_translate",
    ),
}


def test_all_are_tried():
    assert list(FILES) == [refusal.title for refusal in REFUSALS]


@pytest.mark.parametrize("title", FILES)
def test_refused_products(tmp_path, title):
    name, content, hint = FILES[title]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    for given in (tmp_path, path):
        with pytest.raises(DataError, match=mentions(title, path.name, hint)):
            open_scene(given)


def test_an_image_of_saocom(tmp_path):
    image = write_image(tmp_path / "a.tif").rename(
        tmp_path / "di--acqId0001-a-tna-hh-m"
    )
    assert open_scene(image).product.kind == "raster"
    image.with_name(f"{image.name}.xml").write_bytes(FILES["SAOCOM"][1])
    with pytest.raises(DataError, match="SAOCOM"):
        open_scene(image)


def test_other_files(tmp_path):
    (tmp_path / "a.xml").write_text("<annotation>a ship called SAO1A</annotation>")
    write_image(tmp_path / "a.tif")
    assert open_scene(tmp_path / "a.tif").count == 1
