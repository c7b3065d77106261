"""What a raster says of its bands: names and their contradictions, and units."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from rsft.data.imagery.band_names import (
    parse_band_name,
    read_band_names,
    unit_from_tags,
)
from rsft.data.imagery.reader import check_declared_bands
from rsft.errors import DataError
from tests.helpers.messages import mentions

pytestmark = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning"
)


def names_in(path, descriptions=(), band_tags=None, tags=None, count=1):
    with rasterio.open(
        path, "w", "GTiff", width=4, height=4, count=count, dtype="uint8"
    ) as file:
        file.write(np.zeros((count, 4, 4), np.uint8))
        file.update_tags(**(tags or {}))
        for index, description in enumerate(descriptions, 1):
            file.set_band_description(index, description)
        for index, values in (band_tags or {}).items():
            file.update_tags(index, **values)
    with rasterio.open(path) as file:
        return read_band_names(file)


@pytest.mark.parametrize(
    ("description", "band"),
    [("VV", "VV"), ("Sigma0_VH_db", "VH"), ("Gamma0 HV (RTC)", "HV"), ("Intensity_VV_VH", None), ("VVV", None),
     ("ratio", None), ("B4", "B04"), ("b8a", "B8A"), ("", None)],
)  # fmt: skip
def test_descriptions(tmp_path, description, band):
    assert names_in(tmp_path / "a.tif", [description]) == ((band,) if band else None)


def test_tags_of_bands_and_of_the_file(tmp_path):
    assert names_in(
        tmp_path / "a.tif", band_tags={1: {"name": "sigma0_HV", "dataType": "6"}}
    ) == ("HV",)
    assert names_in(tmp_path / "b.tif", tags={"POLARISATION": "vh"}) == ("VH",)
    assert names_in(tmp_path / "c.tif", tags={"POLARISATION": "vh"}, count=2) is None
    both = {1: {"NETCDF_VARNAME": "Sigma0_VV"}, 2: {"polarization": "VH"}}
    assert names_in(tmp_path / "d.tif", band_tags=both, count=2) == ("VV", "VH")
    # the description goes first
    assert names_in(tmp_path / "e.tif", ["HH"], {1: {"name": "sigma0_HV"}}) == ("HH",)
    assert names_in(tmp_path / "f.tif", ["VV", "VV"], count=2) is None
    assert names_in(tmp_path / "g.tif", ["VV", "incidence"], count=2) is None


def test_names_of_measurements(tmp_path):
    assert names_in(tmp_path / "s1c-iw-grd-vh-20260101t0-2-3-4-002-cog.tiff") == ("VH",)


@pytest.mark.parametrize(
    ("declared", "actual"),
    [(None, ("HV",)), (("VV",), None), (("VV", "VH"), ("VV", "VH")), (("gray",), ("HV",)), (("VV",), ("gray",)),
     (("incidence", "VV"), ("HH", "VV")), (("VV",), ("VV", "VH"))],
)  # fmt: skip
def test_names_that_do_not_contradict(declared, actual):
    check_declared_bands(declared, actual, Path("a.tif"))


@pytest.mark.parametrize(
    ("declared", "actual"), [(("VV",), ("HV",)), (("VV", "VH"), ("VH", "VV"))]
)
def test_names_that_contradict(declared, actual):
    with pytest.raises(
        DataError,
        match=mentions(f"bands {', '.join(actual)}", f"not {', '.join(declared)}"),
    ) as caught:
        check_declared_bands(declared, actual, Path("a.tif"))
    assert caught.value.location == "a.tif" and "leave out --bands" in caught.value.hint


@pytest.mark.realdata
def test_the_metadata_of_a_real_scene(shared):
    (path,) = shared("s1_ew_gcp").glob("S1A*.tif")
    with rasterio.open(path) as file:
        assert read_band_names(file) == ("HV",)


FILE = Path("x.tif")


@pytest.mark.parametrize(
    ("tags", "unit"),
    [(("dB", "dB"), "db"), (("dB", "degrees"), "db"), (("Sigma_Nought",), "sigma0"), (("gamma0",), "gamma0"),
     ((None, ""), None), (("m",), None)],
)  # fmt: skip
def test_units(tags, unit):
    assert unit_from_tags(tags, FILE) == unit


def test_bands_with_different_units():
    with pytest.raises(DataError, match="several units: db, sigma0"):
        unit_from_tags(("dB", "sigma0"), FILE)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Sigma0_VV_db", "VV"),
        (" vh ", "VH"),
        ("B4", "B04"),
        ("B8A", "B8A"),
        ("VV_VH_ratio", None),
        ("band 1", None),
    ],
)
def test_names_in_texts(text, name):
    assert parse_band_name(text) == name
