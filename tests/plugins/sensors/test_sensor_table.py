"""The table of sensors in docs/sar-bands.md says what the registered products do."""

import re

import pytest
import rasterio

from rsft.data.imagery.products.product import PRODUCTS
from rsft.data.imagery.products.refused import REFUSALS
from rsft.scenes.raster import open_scene
from tests.helpers.products import DN
from tests.helpers.sentinel1 import write_product as write_safe
from tests.helpers.style import ROOT
from tests.plugins.sensors.test_alos2 import write_product as write_alos2
from tests.plugins.sensors.test_gaofen3 import write_product as write_gaofen3
from tests.plugins.sensors.test_processed import write_dimap
from tests.plugins.sensors.test_radarsat import write_radarsat2, write_rcm
from tests.plugins.sensors.test_terrasar import write_product as write_terrasar
from tests.plugins.sensors.test_vendor_folders import (
    capella,
    iceye_json,
    iceye_xml,
    umbra,
)

TABLES = re.findall(
    r"((?:^\|.*\|\n)+)",
    (ROOT / "docs/sar-bands.md").read_text().split("## Sensors")[1].split("\n## ")[0],
    re.MULTILINE,
)
SENSORS, REFUSED = (
    [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()[2:]
    ]
    for table in TABLES
)
WRITERS = {
    "radarsat-2": write_radarsat2,
    "rcm": write_rcm,
    "terrasar-x": lambda root: write_terrasar(root / "TSX1_SAR"),
    "gaofen-3": write_gaofen3,
    "alos-2": write_alos2,
    "capella": capella,
    "iceye": iceye_json,
    "umbra": umbra,
    "snap-dimap": lambda root: write_dimap(root, ["Sigma0_VV"]),
    "sentinel-1": lambda root: write_safe(root, {"vv": DN}),
}


def test_every_product_has_a_row():
    assert [row[1].strip("`") for row in SENSORS] == [
        name for name in PRODUCTS.names() if name != "refused"
    ]
    assert [row[0] for row in REFUSED[:-1]] == [refusal.title for refusal in REFUSALS]
    assert all(all(row) for row in SENSORS + REFUSED)


@pytest.mark.parametrize("name", WRITERS)
def test_units_and_drivers(tmp_path, name):
    row = next(row for row in SENSORS if row[1] == f"`{name}`")
    scene = open_scene(WRITERS[name](tmp_path / "product"))
    product = scene.product
    units = {product.unit, product.digital_unit, *product.calibrations} - {None}
    listed = set(re.split(r", | or ", row[2])) - {"none"}
    assert units <= listed if name == "snap-dimap" else units == listed
    with rasterio.open(scene.files[0]) as file:
        assert file.driver in row[5].split(", ")
    assert scene.bands  # the polarization is known


def test_both_generations_of_iceye(tmp_path):
    assert (
        open_scene(iceye_xml(tmp_path / "a")).product.kind
        == open_scene(iceye_json(tmp_path / "b")).product.kind
    )
