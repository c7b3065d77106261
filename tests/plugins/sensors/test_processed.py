"""BEAM-DIMAP of SNAP, and Sentinel-1 RTC of ASF and OPERA: quantity, polarization,
time, incidence angles."""

import numpy as np
import pytest
import rasterio

from rsft.errors import DataError
from rsft.scenes.raster import open_scene
from tests.helpers.messages import mentions
from tests.helpers.products import SHAPE, read_band, write_xml
from tests.helpers.scenes import UTM, write_geotiff

VALUES = np.random.default_rng(1).gamma(1, 0.1, SHAPE).astype(np.float32)
GRANULE = "S1A_IW_20260501T161201_DVP_RTC20_G_{}uned_5A38"


def write_envi(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = {
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "count": 1,
        "dtype": pixels.dtype,
    }
    with rasterio.open(
        path, "w", driver="ENVI", crs="EPSG:32633", transform=UTM, **shape
    ) as file:
        file.write(pixels, 1)


def write_dimap(root, names):
    bands = [
        {"BAND_INDEX": n, "BAND_NAME": x, "DATA_TYPE": "float32"}
        for n, x in enumerate([*names, "Virtual_VV"])
    ]
    production = {
        "PRODUCT_TYPE": "GRD",
        "PRODUCT_SCENE_RASTER_START_TIME": "01-MAY-2026 03:16:53.120000",
    }
    document = {
        "Production": production,
        "Image_Interpretation": {"Spectral_Band_Info": bands},
    }
    document["Dataset_Sources"] = {
        "MDElem": {'MDATTR name="PASS" type="ascii"': "DESCENDING"}
    }
    write_xml(root / "S1.dim", {'Dimap_Document name="S1.dim"': document})
    for number, name in enumerate(names, 1):
        write_envi(root / f"S1.data/{name}.img", VALUES * number)
    return root


@pytest.mark.parametrize(
    ("names", "unit", "bands"),
    [(["Sigma0_VV", "Sigma0_VH", "Gamma0_VV", "Sigma0_VV_db"], "sigma0", ("VV", "VH")),
     (["Gamma0_VV"], "gamma0", ("VV",)), (["Sigma0_HH_db", "Intensity_HH"], "db", ("HH",)),
     (["Intensity_VH"], "intensity", ("VH",)),
     (["Amplitude_VV", "localIncidenceAngle"], "amplitude", ("VV",)), (["Beta0_VV"], "beta0", ("VV",))],
)  # fmt: skip
def test_dimap(tmp_path, names, unit, bands):
    root = write_dimap(tmp_path / "a", names)
    for path in (root, root / "S1.dim"):
        scene = open_scene(path)
        assert (scene.product.kind, scene.unit, scene.bands) == (
            "SNAP GRD",
            unit,
            bands,
        )
    np.testing.assert_allclose(
        read_band(scene, unit, len(bands) - 1), VALUES * len(bands), rtol=1e-6
    )
    assert (scene.product.acquired, scene.product.pass_direction) == (
        "2026-05-01T03:16:53.120000Z",
        "descending",
    )
    assert scene.georeference is not None


def test_other_dimap(tmp_path):
    with pytest.raises(DataError, match=mentions("SNAP", "complex")):
        open_scene(write_dimap(tmp_path / "a", ["i_VV", "q_VV"]))
    with pytest.raises(DataError):
        open_scene(write_dimap(tmp_path / "b", ["radiance_1"]))
    root = write_dimap(tmp_path / "c", ["Gamma0_VV", "incidenceAngleFromEllipsoid"])
    write_envi(
        root / "S1.data/incidenceAngleFromEllipsoid.img", np.full(SHAPE, 35, np.float32)
    )
    assert open_scene(root).product.incidence(np.zeros(1), np.zeros(1)).tolist() == [35]


@pytest.mark.parametrize(
    ("scale", "unit", "linear"),
    [
        ("gp", "gamma0", "gamma0"),
        ("sp", "sigma0", "sigma0"),
        ("gd", "gamma0_db", ""),
        ("ga", "amplitude", "gamma0"),
    ],
)
def test_asf(tmp_path, scale, unit, linear):
    stem = tmp_path / GRANULE.format(scale)
    stem.with_name(f"{stem.name}.README.md.txt").write_text(
        "ASF RTC Data Package (GAMMA)\n====\n"
    )
    write_geotiff(
        tmp_path / f"{stem.name}_VV.tif", VALUES, crs="EPSG:32633", transform=UTM
    )
    write_geotiff(
        tmp_path / f"{stem.name}_inc_map_ell.tif", np.full(SHAPE, 0.6, np.float32)
    )
    scene = open_scene(tmp_path)
    assert (scene.product.kind, scene.unit, scene.bands) == (
        "Sentinel-1 RTC (ASF)",
        unit,
        ("VV",),
    )
    assert scene.product.acquired == "2026-05-01T16:12:01Z"
    assert scene.product.incidence(np.zeros(1), np.zeros(1)) == pytest.approx(
        [np.degrees(0.6)]
    )
    if linear:
        expected = VALUES.astype(float) ** (2 if unit == "amplitude" else 1)
        np.testing.assert_allclose(read_band(scene, linear), expected, rtol=1e-6)


def test_opera(tmp_path):
    name = "PROCESSING_INFORMATION_OUTPUT_BACKSCATTER_{}_CONVENTION"
    tags = {
        name.format("NORMALIZATION"): "gamma0",
        name.format("EXPRESSION"): "linear power/intensity",
    }
    tags |= {
        "ZERO_DOPPLER_START_TIME": "2026-05-01T16:16:22.291741Z",
        "ORBIT_PASS_DIRECTION": "Ascending",
    }
    path = (
        tmp_path
        / "OPERA_L2_RTC-S1_T069-147170-IW1_20260501T161622Z_20260502T000000Z_S1A_30_v1.0_VH.tif"
    )
    scene = open_scene(
        write_geotiff(path, VALUES, crs="EPSG:32633", transform=UTM, tags=tags)
    )
    assert (scene.product.kind, scene.unit, scene.bands) == (
        "OPERA RTC-S1",
        "gamma0",
        ("VH",),
    )
    assert (scene.product.pass_direction, scene.product.acquired) == (
        "ascending",
        "2026-05-01T16:16:22.291741Z",
    )
