"""Products of other sensors meet a model: polarization, all faults of a scene together,
gamma0 for sigma0."""

import numpy as np
import pytest

from rsft.data.imagery.products.options import ProductOptions
from rsft.data.imagery.stretch import Stretch
from rsft.errors import DataError, RequestError
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.job import predict
from rsft.scenes.preparation.builder import open_scenes
from rsft.scenes.query import Query
from rsft.scenes.raster import open_scene
from rsft.scenes.requirements import select_unit
from tests.helpers.messages import mentions
from tests.helpers.products import DN, read_band, write_image
from tests.helpers.scenes import (
    UTM,
    toy_bundle,
    toy_contract,
    use_toy_model,
    write_geotiff,
)
from tests.plugins.sensors.test_alos2 import write_product as write_alos2
from tests.plugins.sensors.test_gaofen3 import write_product as write_gaofen3
from tests.plugins.sensors.test_processed import GRANULE, VALUES, write_dimap
from tests.plugins.sensors.test_radarsat import write_radarsat2, write_rcm
from tests.plugins.sensors.test_terrasar import NAME as TERRASAR
from tests.plugins.sensors.test_terrasar import write_product as write_terrasar
from tests.plugins.sensors.test_vendor_folders import (
    capella,
    iceye_json,
    iceye_xml,
    umbra,
)

GAMMA0 = ProductOptions(gamma0_to_sigma0=True)


def use_model(patch, unit, band="VV", **fields):
    stretches = (Stretch(low=-30, high=10),) * 3
    contract = toy_contract(
        units={unit: stretches}, bands=(band,), planes=(band,) * 3, **fields
    )
    use_toy_model(patch, toy_bundle(contract=contract))
    return contract


def run(path, tmp_path, options=None):
    request = PredictionRequest(
        Query(grid=16), **({} if options is None else {"product_options": options})
    )
    return predict(tmp_path, [path], tmp_path / "out.csv", request)


@pytest.mark.parametrize(
    ("write", "band"),
    [(write_radarsat2, "HH, HV"), (write_rcm, "HH, HV"), (write_gaofen3, "HH, HV"), (write_alos2, "HH, HV"),
     (capella, "HH"), (iceye_json, "VV"), (iceye_xml, "VV"), (umbra, "VV"),
     (lambda root: write_dimap(root, ["Sigma0_HH"]), "HH")],
)  # fmt: skip
def test_another_polarization_does_not_pass(tmp_path, monkeypatch, write, band):
    """The hint says that declaring a band does not change what the product states."""
    model = "VH" if "VH" not in band else "VV"
    use_model(monkeypatch, "db", model)
    with pytest.raises(
        DataError, match=mentions(f"bands {band}, but the model takes {model}")
    ) as caught:
        run(write(tmp_path / "product"), tmp_path)
    assert f"give a file with {model}; --bands only names" in caught.value.hint


def test_a_product_without_a_stated_polarization_is_noted(tmp_path, monkeypatch):
    use_model(monkeypatch, "db")
    root = capella(tmp_path / "a", receive_polarization=None)
    write_image(next(root.glob("*.tif")), DN // 10, gcps=False)
    notes = run(root, tmp_path).notes
    assert any(
        "does not state its polarization" in note and "VV" in note for note in notes
    )


def test_a_terrasar_product_is_classified(tmp_path, monkeypatch):
    use_model(monkeypatch, "db", spacing_m=None)
    root = write_terrasar(tmp_path / TERRASAR)
    for band in ("HH", "VV"):
        write_image(root / f"IMAGEDATA/IMAGE_{band}_SRA_strip_007.tif", DN // 100)
    result = run(root, tmp_path)
    assert any(
        "calibrated to sigma0 by calFactor" in note and "NEBN" in note
        for note in result.notes
    )
    assert result.table["incidence_deg"].between(41, 44.1).all()


def test_all_faults_of_a_scene_are_reported_together(tmp_path, monkeypatch):
    """The band, the unit and the spacing are wrong."""
    use_model(monkeypatch, "gamma0", spacing_m=3)
    with pytest.raises(
        DataError,
        match=mentions(
            "bands HH, HV", "VV", "amplitude pixels", "gamma0", "10 m", "3 m"
        ),
    ) as caught:
        run(write_gaofen3(tmp_path / "a"), tmp_path)
    assert caught.value.hint.count(";") >= 2 and caught.value.location == str(
        tmp_path / "a"
    )


def write_asf(folder, scale, angles=True):
    stem = GRANULE.format(scale)
    folder.mkdir()
    (folder / f"{stem}.README.md.txt").write_text("ASF RTC Data Package (GAMMA)")
    pixels = 10 * np.log10(VALUES) if scale[1] == "d" else VALUES
    write_geotiff(folder / f"{stem}_VV.tif", pixels, crs="EPSG:32633", transform=UTM)
    if angles:
        tilted = np.linspace(
            0.5, 0.7, VALUES.shape[1], dtype=np.float32
        ) + np.zeros_like(VALUES)
        write_geotiff(folder / f"{stem}_inc_map_ell.tif", tilted)
    return folder


@pytest.mark.parametrize("scale", ["gp", "gd", "ga"])
def test_gamma0_to_sigma0(tmp_path, monkeypatch, scale):
    contract = use_model(monkeypatch, "db")
    root = write_asf(tmp_path / "asf", scale)
    with pytest.raises(
        DataError, match="--read gamma0-to-sigma0" if scale != "ga" else "amplitude"
    ):
        run(root, tmp_path)
    scene = select_unit(open_scene(root, GAMMA0), contract, None)
    assert (scene.unit, scene.dtype) == ("sigma0", "float32")
    gamma0 = VALUES.astype(float) ** (2 if scale == "ga" else 1)
    cosine = np.cos(np.linspace(0.5, 0.7, VALUES.shape[1]))
    np.testing.assert_allclose(read_band(scene, "sigma0"), gamma0 * cosine, rtol=1e-5)
    result = run(root, tmp_path, GAMMA0)
    assert any(
        "sigma0 = gamma0 * cos" in note and "slopes" in note for note in result.notes
    )


def test_gamma0_to_sigma0_is_refused(tmp_path, monkeypatch):
    contract = use_model(monkeypatch, "gamma0")
    for path in (
        write_asf(tmp_path / "a", "gp", angles=False),
        write_asf(tmp_path / "b", "sp"),
        write_radarsat2(tmp_path / "c"),
        write_geotiff(tmp_path / "d.tif", VALUES),
    ):
        with pytest.raises(RequestError, match="--read gamma0-to-sigma0"):
            open_scene(path, GAMMA0)
    with pytest.raises(RequestError, match=mentions("calibrate", "--read")):
        ProductOptions(gamma0_to_sigma0=True, factor=1.0)
    scene = select_unit(
        open_scene(write_asf(tmp_path / "e", "gp"), GAMMA0), contract, None
    )
    assert scene.unit == "sigma0"  # which a model of gamma0 refuses


def test_a_folder_of_products(tmp_path):
    """An image of a product is no scene of its own; of a folder with two products, the
    images are."""
    for name in ("RS2_a", "RS2_b"):
        write_radarsat2(tmp_path / "scenes" / name)
    write_terrasar(tmp_path / "scenes" / TERRASAR)
    write_image(tmp_path / f"scenes/{TERRASAR}/PREVIEW/BROWSE.tif")
    write_gaofen3(tmp_path / "scenes/gf3")
    write_gaofen3(tmp_path / "scenes/gf3", mode="DH")
    names = [
        scene.path.name for scene in open_scenes([tmp_path / "scenes"], None, None)
    ]
    assert [name for name in names if not name.startswith("GF3")] == [
        "RS2_a",
        "RS2_b",
        TERRASAR,
    ]
    assert len(names) == 6
