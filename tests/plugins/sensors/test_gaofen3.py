"""Gaofen-3: the formula of detected products, incidence angles, time, complex pixels,
missing numbers."""

import numpy as np
import pytest

from rsft.errors import DataError
from rsft.scenes.raster import open_scene
from tests.helpers.messages import mentions
from tests.helpers.products import (
    DN,
    SHAPE,
    check_band,
    read_band,
    write_image,
    write_xml,
)

STEM = "GF3_SAY_FSI_023228_W65.3_S18.7_20260501_L2_{}_L20005379609"
QUALIFY = {"HH": 997.1026, "HV": 466.574951}
CONSTANT = {"HH": 24.46, "HV": 24.53}


def write_product(
    root,
    *,
    kind="SLP",
    level=2,
    mode="HHHV",
    pixels=DN,
    angles=None,
    constants=CONSTANT,
):
    bands = [
        band for band in QUALIFY if band in mode or (mode == "DH" and band == "HH")
    ]
    numbers = [
        {
            band: values[band] if band in bands and band in values else "NULL"
            for band in ("HH", "HV", "VH", "VV")
        }
        for values in (QUALIFY, constants)
    ]
    times = {"start": "2026-05-01 09:54:49.286464", "end": "2026-05-01 09:54:58.238015"}
    info = {"imagingTime": times, "width": SHAPE[1], "QualifyValue": numbers[0]}
    body = {"satellite": "GF3", "Direction": "DEC", "sensor": {"lookDirection": "R"}}
    body |= {
        "productinfo": {
            "productLevel": level,
            "productType": kind,
            "productPolar": mode,
        },
        "imageinfo": info,
    }
    header = root / f"{STEM.format(mode)}.meta.xml"
    write_xml(
        header, {"product": body | {"processinfo": {"CalibrationConst": numbers[1]}}}
    )
    for band in bands:
        write_image(
            root / f"{STEM.format(band if mode == 'HHHV' else mode)}.tiff", pixels
        )
    if angles is not None:
        path = header.with_name(header.name.replace(".meta.", ".incidence."))
        write_xml(
            path,
            {
                "incidenceAngle": {
                    "numberofIncidenceValue": len(angles),
                    "incidenceValue": list(angles),
                }
            },
        )
    return root


def sigma0(band, dn, largest):
    with np.errstate(divide="ignore"):
        decibel = (
            20 * np.log10(dn.astype(float) * QUALIFY[band] / largest) - CONSTANT[band]
        )
    return 10 ** (decibel / 10)


def test_detected_products(tmp_path):
    scene = open_scene(write_product(tmp_path / "a"))
    assert (scene.product.kind, scene.bands, scene.unit) == (
        "Gaofen-3 level 2",
        ("HH", "HV"),
        "amplitude",
    )
    check_band(read_band(scene, "sigma0", 1), sigma0("HV", DN, 65535))
    assert (scene.product.acquired, scene.product.pass_direction) == (
        "2026-05-01T09:54:49.286464Z",
        "descending",
    )
    assert (
        scene.product.finished == "2026-05-01T09:54:58.238015Z"
        and scene.product.incidence is None
    )


def test_signed_pixels(tmp_path):
    dn = (DN // 2).astype(np.int16)
    scene = open_scene(write_product(tmp_path / "a", pixels=dn))
    check_band(read_band(scene, "sigma0"), sigma0("HH", dn, 32767), dn)


def test_one_polarization_header_and_image(tmp_path):
    root = write_product(
        tmp_path / "a", mode="DH", angles=np.linspace(30, 34, SHAPE[1])
    )
    scene = open_scene(root)
    assert scene.bands == ("HH",)
    assert scene.product.incidence(
        np.zeros(1), np.array([SHAPE[1] - 1.0])
    ) == pytest.approx([34])
    other = write_product(tmp_path / "a")  # two scenes in one folder
    with pytest.raises(DataError, match=mentions("2 products", "DH", "HHHV")):
        open_scene(other)
    assert open_scene(other / f"{STEM.format('HHHV')}.meta.xml").bands == ("HH", "HV")
    assert open_scene(other / f"{STEM.format('HV')}.tiff").bands == ("HV",)


def test_complex_products(tmp_path):
    pair = np.stack([DN, DN]).astype(np.int16)
    write_product(tmp_path / "named", kind="SLC", level="1A", pixels=pair)
    root = write_product(tmp_path / "unnamed", kind="", level="", pixels=pair)
    for path in (tmp_path / "named", root, root / f"{STEM.format('HH')}.tiff"):
        with pytest.raises(
            DataError, match=mentions("Gaofen-3", "complex", "level 1B or 2")
        ):
            open_scene(path)


def test_missing_numbers(tmp_path):
    assert not open_scene(
        write_product(tmp_path / "a", constants={"HH": 24.46})
    ).product.calibrations
    root = write_product(tmp_path / "b", angles=[30.0, 31.0])
    with pytest.raises(DataError, match=mentions("2 angles for 80 columns")):
        open_scene(root)
