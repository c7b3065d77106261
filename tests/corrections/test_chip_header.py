"""What the file of a corrected chip declares, with and without the reader cell."""

import numpy as np
from PIL import Image
from rasterio import Affine

from rsft.corrections.chip_header import ChipHeader, read_chip_header
from rsft.utils.cell.processes import ReaderCell
from rsft.utils.cell.walls import Walls
from tests.helpers.scenes import UTM, write_geotiff


def test_the_cell_reads_the_same_header(tmp_path):
    georeference = {"crs": "EPSG:32633", "transform": UTM}
    declared = {"names": ("VV",), "units": ("sigma0",), "tags": {"RSFT_SCENE": "s"}}
    pixels = np.ones((4, 4), np.float32)
    chip = write_geotiff(tmp_path / "a.tif", pixels, **georeference, **declared)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "b.png")
    header = read_chip_header(chip)
    assert (header.bands, header.unit, header.scene) == (("VV",), "sigma0", "s")
    assert np.allclose(header.spacing, 10, rtol=0.01)
    assert read_chip_header(tmp_path / "b.png") == ChipHeader()
    cell = ReaderCell(Walls((tmp_path,), 2**34), 60)
    assert cell.call(read_chip_header, chip) == header
    cell.close()


def test_the_spacing_is_that_of_the_center(tmp_path):
    degrees = Affine(0.1, 0, 10, 0, -2, 80)
    path = write_geotiff(
        tmp_path / "a.tif",
        np.ones((20, 20), np.uint8),
        crs="EPSG:4326",
        transform=degrees,
    )
    # at 60 degrees, a degree of longitude is half as long as at the equator
    spacing = read_chip_header(path).spacing
    assert np.isclose(min(spacing), 0.1 * 55_800, rtol=0.01)
