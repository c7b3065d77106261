"""Folders and metadata beside the image of Capella, ICEYE (both generations) and Umbra;
their polarization."""

import numpy as np
import pytest

from rsft.errors import DataError
from rsft.scenes.raster import open_scene
from tests.helpers.messages import mentions
from tests.helpers.products import (
    DN,
    check_band,
    read_band,
    write_image,
    write_json,
    write_xml,
)

CAPELLA = "CAPELLA_C05_SM_GEO_HH_20260501060000_20260501060005"
ICEYE = "ICEYE_X7_GRD_SM_154171_20260501T183203"
UMBRA = "2026-05-01-02-30-32_UMBRA-04"
POWER = DN.astype(float) ** 2


def capella(root, **radar):
    image = {
        "scale_factor": 2e-4,
        "radiometry": "sigma_nought",
        "center_pixel": {"incidence_angle": 38.2},
    }
    radar = {"transmit_polarization": "H", "receive_polarization": "H"} | radar
    times = {
        "start_timestamp": "2026-05-01T06:00:00Z",
        "stop_timestamp": "2026-05-01T06:00:05Z",
    }
    content = {
        "product_type": "GEO",
        "collect": times | {"image": image, "radar": radar},
    }
    write_json(root / f"{CAPELLA}_extended.json", content)
    write_json(root / f"{CAPELLA}.json", {"type": "Feature"})
    return write_image(root / f"{CAPELLA}.tif", gcps=False).parent


def iceye_xml(root):
    vectors = {
        "orbit_vector": [
            {"number": n, "time": "2026-05-01T18:32:00.000000"} for n in range(1200)
        ]
    }
    fields = {
        "product_name": ICEYE,
        "satellite_name": "ICEYE-X7",
        "polarization": "VV",
        "orbit_direction": "DESCENDING",
    }
    fields |= {
        "acquisition_start_utc": "2026-05-01T18:32:03.6",
        "acquisition_end_utc": "2026-05-01T18:32:13.6",
    }
    fields |= {
        "incidence_center": 17.02742328957619,
        "calibration_factor": 7.889466891336197e-06,
    }
    write_xml(
        root / f"{ICEYE}.xml",
        {"Metadata": {"spec_version": 2.3, "Orbit_State_Vectors": vectors} | fields},
    )
    return write_image(root / f"{ICEYE}.tif").parent


def iceye_json(root):
    properties = {
        "iceye:calibration_factor": 2e-5,
        "sar:polarizations": ["VV"],
        "sat:orbit_state": "ascending",
    }
    properties |= {
        "start_datetime": "2026-05-01T06:00:00Z",
        "view:incidence_angle": 31.9,
    }
    write_json(
        root / f"{ICEYE}.json",
        {"type": "Feature", "id": ICEYE, "properties": properties},
    )
    return write_image(root / f"{ICEYE}.tif").parent


def umbra(root, image=f"{UMBRA}_GEC.tif"):
    collect = {
        "startAtUTC": "2026-05-01T02:30:33+00:00",
        "endAtUTC": "2026-05-01T02:30:36+00:00",
        "polarizations": ["VV"],
    }
    collect |= {
        "angleIncidenceDegrees": 47.4,
        "satelliteTrack": "ASCENDING",
        "observationDirection": "LEFT",
    }
    write_json(
        root / f"{UMBRA}_METADATA.json",
        {"version": "1.0.0", "vendor": "Umbra Space", "collects": [collect]},
    )
    if image.endswith(".tif"):
        write_image(root / image, (DN // 256).astype("uint8"), gcps=False)
    else:
        (root / image).write_bytes(b"NITF02.10")
    return root


def test_capella(tmp_path):
    root = capella(tmp_path / "a")
    for path in (root, root / f"{CAPELLA}_extended.json", root / f"{CAPELLA}.tif"):
        scene = open_scene(path)
        assert (scene.product.kind, scene.bands, scene.product.acquired) == (
            "Capella",
            ("HH",),
            "2026-05-01T06:00:00Z",
        )
        check_band(read_band(scene, "sigma0"), 4e-8 * POWER)


@pytest.mark.parametrize("write", [iceye_xml, iceye_json])
def test_iceye(tmp_path, write):
    root = write(tmp_path / "a")
    for path in (root, root / f"{ICEYE}.tif"):
        scene = open_scene(path)
        assert (scene.product.kind, scene.bands) == ("ICEYE", ("VV",))
        check_band(
            read_band(scene, "sigma0"),
            (7.889466891336197e-06 if write is iceye_xml else 2e-5) * POWER,
        )
    product = scene.product
    assert product.pass_direction == (
        "descending" if write is iceye_xml else "ascending"
    )
    assert product.incidence(np.zeros(1), np.zeros(1)) == pytest.approx(
        [17.02742328957619 if write is iceye_xml else 31.9]
    )


def test_complex_products_of_iceye(tmp_path):
    root = iceye_xml(tmp_path / "a")
    header = root / f"{ICEYE}.xml"
    header.write_text(
        header.read_text().replace(
            "<polarization>", "<product_level>SLC</product_level><polarization>"
        )
    )
    (root / f"{ICEYE}.tif").unlink()
    with pytest.raises(DataError, match=mentions("ICEYE", "complex", "GRD")):
        open_scene(root)


def test_amplitude_and_phase_of_iceye_with_json(tmp_path):
    root = iceye_json(tmp_path / "a")
    header = root / f"{ICEYE}.json"
    header.write_text(
        header.read_text().replace(
            '"properties": {', '"properties": {"sar:product_type": "SLC-COG", '
        )
    )
    for path in (root, root / f"{ICEYE}.tif"):
        with pytest.raises(
            DataError, match=mentions("ICEYE", "complex", "SLC-COG", "GRD")
        ):
            open_scene(path)


def test_umbra(tmp_path):
    root = umbra(tmp_path / "a")
    for path in (root, root / f"{UMBRA}_METADATA.json", root / f"{UMBRA}_GEC.tif"):
        scene = open_scene(path)
        assert scene.product.kind.startswith("Umbra") and (scene.bands, scene.unit) == (
            ("VV",),
            None,
        )
        assert scene.product.pass_direction == "ascending" and scene.product.incidence(
            np.zeros(1), np.zeros(1)
        ).tolist() == [47.4]
    assert open_scene(umbra(tmp_path / "b", f"{UMBRA}.tif")).bands == ("VV",)
    with pytest.raises(DataError, match=mentions("Umbra", "complex", "GEC")):
        open_scene(umbra(tmp_path / "c", f"{UMBRA}_SICD.nitf"))


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '{"vendor": "Umbra Space", "collects": []}',
        '{"vendor": "Umbra", "collects": 3}',
    ],
)
def test_damaged_metadata(tmp_path, text):
    root = umbra(tmp_path / "a")
    (root / f"{UMBRA}_METADATA.json").write_text(
        f'{text[:-1]},"x": "collects"{text[-1]}' if text != "[]" else '["collects"]'
    )
    with pytest.raises(DataError, match=mentions("METADATA.json", "cannot be used")):
        open_scene(root)


def test_a_polarization_that_is_unknown(tmp_path):
    assert open_scene(capella(tmp_path / "a", receive_polarization=None)).bands is None
