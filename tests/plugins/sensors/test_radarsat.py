"""RADARSAT-2 and RADARSAT Constellation: calibration by look-up tables, incidence
angles, times, damaged products."""

import shutil

import numpy as np
import pytest

from rsft.errors import DataError
from rsft.scenes.raster import open_scene
from tests.helpers.messages import mentions
from tests.helpers.products import (
    DN,
    SHAPE,
    check_band,
    check_tie_points,
    elements,
    read_band,
    tie_points,
    write_image,
    write_xml,
)

HEIGHT, WIDTH = SHAPE
RS2_NAMESPACE = 'product xmlns="http://www.rsi.ca/rs2/prod/xml/schemas"'
RCM_NAMESPACE = 'product xmlns="rcmGsProductSchema"'
SIGMA = 2.9e8 + 9e4 * np.arange(WIDTH)
BETA = 1.3e8 + 2e4 * np.arange(WIDTH)
GAMMA = 2.5e8 + 1e4 * np.arange(WIDTH)
FIRST = "2026-05-01T06:00:07.500000Z"
LAST = "2026-05-01T06:00:01.500000Z"
KINDS = {
    "Sigma": ("Sigma Nought", SIGMA),
    "Beta": ("Beta Nought", BETA),
    "Gamma": ("Gamma", GAMMA),
}


def text(values):
    return " ".join(f"{value:.15e}" for value in values)


def source(satellite):
    vector = {
        'xVelocity units="m/s"': 1391.0,
        'yVelocity units="m/s"': -1929.0,
        'zVelocity units="m/s"': -7270.0,
    }
    return {
        "satellite": satellite,
        "rawDataStartTime": FIRST,
        "radarParameters": {"antennaPointing": "Left"},
        "orbitAndAttitude": {
            "orbitInformation": {
                "passDirection": "Ascending",
                "stateVector": [vector, vector],
            }
        },
    }


def generation(kind):
    polynomial = {
        'groundRangeOrigin units="m"': 100,
        "groundToSlantRangeCoefficients": "6.5e5 0.44 6.8e-07",
    }
    times = {"zeroDopplerTimeFirstLine": FIRST, "zeroDopplerTimeLastLine": LAST}
    information = {
        "generalProcessingInformation": {"productType": kind},
        "sarProcessingInformation": times,
    }
    return information | {"slantRangeToGroundRange": polynomial}


def raster(**kinds):
    spacing = {
        'sampledPixelSpacing units="m"': 12.5,
        "lineTimeOrdering": "Decreasing",
        "pixelTimeOrdering": "Decreasing",
    }
    return kinds | spacing


def write_radarsat2(root, kind="SGF", data_type="Magnitude Detected", offset=250.0):
    images = {
        f'fullResolutionImageData pole="{band}"': f"imagery_{band}.tif"
        for band in ("HH", "HV")
    }
    tables = {
        f'lookupTable incidenceAngleCorrection="{name}"': f"lut{key}.xml"
        for key, (name, _) in KINDS.items()
    }
    attributes = {"rasterAttributes": raster(dataType=data_type)} | images | tables
    body = {
        "sourceAttributes": source("RADARSAT-2"),
        "imageGenerationParameters": generation(kind),
    }
    write_xml(
        root / "product.xml", {RS2_NAMESPACE: body | {"imageAttributes": attributes}}
    )
    for key, (_, gains) in KINDS.items():
        write_xml(
            root / f"lut{key}.xml", {"lut": {"offset": offset, "gains": text(gains)}}
        )
    for band in ("HH", "HV"):
        write_image(root / f"imagery_{band}.tif")
    return root


def write_rcm(root, sample_type="Magnitude Detected", kind="GRD"):
    tables = {}
    images = {}
    for band in ("HH", "HV"):
        for key, (name, gains) in KINDS.items():
            tables[f'lookupTableFileName sarCalibrationType="{name}" pole="{band}"'] = (
                f"lut{key}_{band}.xml"
            )
            lut = {
                "pixelFirstLutValue": WIDTH - 1,
                "stepSize": -1,
                "numberOfValues": WIDTH,
                "offset": 0,
            }
            lut["gains"] = text(gains[::-1] * (2 if band == "HV" else 1))
            write_xml(
                root / f"metadata/calibration/lut{key}_{band}.xml",
                {'lut xmlns="rcmGsProductSchema"': lut},
            )
        images[f'ipdf pole="{band}"'] = f"../imagery/1_{band}.tif"
        write_image(root / f"imagery/1_{band}.tif")
    angles = {
        "pixelFirstAnglesValue": WIDTH - 1,
        "stepSize": -1,
        'angles units="deg"': list(30 - 0.01 * np.arange(WIDTH)),
    }
    write_xml(
        root / "metadata/calibration/incidenceAngles.xml", {"incidenceAngles": angles}
    )
    reference = tables | {"incidenceAngleFileName": "incidenceAngles.xml"}
    reference["rasterAttributes"] = raster(sampleType=sample_type, dataType="Integer")
    body = {
        "sourceAttributes": source("RCM-2"),
        "imageGenerationParameters": generation(kind),
    }
    body |= {
        "imageReferenceAttributes": reference,
        "sceneAttributes": {"imageAttributes": images},
    }
    write_xml(root / "metadata/product.xml", {RCM_NAMESPACE: body})
    write_xml(
        root / "manifest.safe", {'xfdu:XFDU xmlns:xfdu="urn:ccsds:schema:xfdu:1"': ""}
    )
    return root


@pytest.mark.parametrize("write", [write_radarsat2, write_rcm])
def test_tie_points_of_the_header(tmp_path, write):
    root = write(tmp_path / "x")
    for image in root.rglob("*.tif"):
        write_image(image, gcps=None)
    assert open_scene(root).georeference is None
    header = next(root.rglob("product.xml"))
    points = [
        {
            "imageCoordinate": {"line": row, "pixel": col},
            "geodeticCoordinate": {
                'latitude units="deg"': lat,
                'longitude units="deg"': lon,
            },
        }
        for row, col, lon, lat in tie_points()
    ]
    text = header.read_text().replace(
        "</product>",
        elements({"geolocationGrid": {"imageTiePoint": points}}) + "</product>",
    )
    header.write_text(text)
    check_tie_points(open_scene(root))


def power(dn=DN):
    return dn.astype(np.float64) ** 2


def test_radarsat2(tmp_path):
    root = write_radarsat2(tmp_path / "RS2_OK1_SCNA")
    scene = open_scene(root)
    assert (scene.product.kind, scene.bands, scene.unit) == (
        "RADARSAT-2 SGF",
        ("HH", "HV"),
        "amplitude",
    )
    for unit, gains in (("sigma0", SIGMA), ("beta0", BETA), ("gamma0", GAMMA)):
        check_band(read_band(scene, unit, 1), (power() + 250) / gains)
    cols = np.arange(WIDTH, dtype=float)
    np.testing.assert_allclose(
        scene.product.incidence(cols * 0, cols),
        np.degrees(np.arcsin(BETA / SIGMA)),
        rtol=1e-9,
    )
    assert (
        scene.name == "RS2_OK1_SCNA"
        and open_scene(root / "product.xml").name == scene.name
    )


def test_rcm(tmp_path):
    root = write_rcm(tmp_path / "RCM2_OK1_GRD")
    for path in (root, root / "manifest.safe", root / "metadata/product.xml"):
        scene = open_scene(path)
        assert (
            scene.product.kind == "RADARSAT Constellation (RCM) GRD"
            and scene.bands == ("HH", "HV")
        )
        assert scene.path.name == root.name
    check_band(read_band(scene, "sigma0", 0), power() / SIGMA)
    check_band(read_band(scene, "gamma0", 1), power() / (2 * GAMMA))
    assert scene.product.incidence(np.zeros(2), np.array([0.0, 79.0])) == pytest.approx(
        [30 - 0.79, 30]
    )


@pytest.mark.parametrize("write", [write_radarsat2, write_rcm])
def test_times_and_orbit(tmp_path, write):
    """The lines and columns of this product run backwards."""
    product = open_scene(write(tmp_path / "x")).product
    assert (product.acquired, product.finished, product.pass_direction) == (
        LAST,
        FIRST,
        "ascending",
    )
    motion = product.motion
    assert motion.seconds(np.array([0, HEIGHT - 1.0]), np.zeros(2)).tolist() == [6, 0]
    assert (
        motion.velocity == pytest.approx(np.hypot(np.hypot(1391, 1929), 7270))
        and not motion.looks_right
    )
    meters = np.array([WIDTH - 1, 0]) * 12.5 - 100
    slant_range = motion.slant_range(np.zeros(2), np.array([0, WIDTH - 1.0]))
    assert slant_range == pytest.approx(6.5e5 + 0.44 * meters + 6.8e-7 * meters**2)


@pytest.mark.parametrize("image", ["imagery_HV.tif", "imagery/1_HV.tif"])
def test_one_image_of_a_product(tmp_path, image):
    root = (write_rcm if "/" in image else write_radarsat2)(tmp_path / "x")
    scene = open_scene(root / image)
    assert scene.bands == ("HV",) and scene.path.name == (root / image).name
    expected = power() / (2 * SIGMA) if "/" in image else (power() + 250) / SIGMA
    check_band(read_band(scene, "sigma0"), expected)


def test_complex_products(tmp_path):
    write_radarsat2(tmp_path / "rs2", "SLC", "Complex")
    write_rcm(tmp_path / "rcm", "Complex", "SLC")
    for path, order in (("rs2", "SGF"), ("rs2/imagery_HH.tif", "SGF"), ("rcm", "GRD")):
        with pytest.raises(DataError, match=mentions("complex", "SNAP", order)):
            open_scene(tmp_path / path)


def test_a_product_in_a_map_projection_is_not_calibrated(tmp_path):
    product = open_scene(write_radarsat2(tmp_path / "x", "SSG")).product
    assert (
        not product.calibrations
        and product.motion is None
        and "map projection" in product.kind
    )


def test_all_missing_images_are_reported_together(tmp_path):
    root = write_radarsat2(tmp_path / "x")
    for band in ("HH", "HV"):
        (root / f"imagery_{band}.tif").unlink()
    with pytest.raises(
        DataError,
        match=mentions("RADARSAT-2", "imagery_HH.tif", "imagery_HV.tif", "missing"),
    ):
        open_scene(root)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("<offset>", "<x>", "product.xml"), ("<gains>", "<gains>-1 ", "not positive"), ("<gains>", "<gains>x ", "x"),
     ("</lut>", "", "lutSigma.xml"), ("<gains>", "<gains>1 </gains><y>", "1 gains do not cover 80 columns")],
)  # fmt: skip
def test_damaged_tables(tmp_path, old, new, message):
    root = write_radarsat2(tmp_path / "x")
    path = root / "lutSigma.xml"
    path.write_text(path.read_text().replace(old, new).replace("</offset>", "</x>" if new == "<x>" else "</offset>")
                    .replace("</gains></lut>", "</y></lut>" if "<y>" in new else "</gains></lut>"))  # fmt: skip
    with pytest.raises(DataError, match=mentions("cannot be used", message)):
        open_scene(root)


def test_missing_tables(tmp_path):
    root = write_radarsat2(tmp_path / "x")
    (root / "lutGamma.xml").unlink()
    assert set(open_scene(root).product.calibrations) == {"sigma0", "beta0"}
    (root / "lutSigma.xml").unlink()
    with pytest.raises(DataError, match=mentions("lutSigma.xml", "download")):
        open_scene(root)


def test_a_header_cannot_name_files_elsewhere(tmp_path):
    root = write_radarsat2(tmp_path / "x")
    write_image(tmp_path / "secret.tif")
    path = root / "product.xml"
    path.write_text(path.read_text().replace("imagery_HH.tif", "../secret.tif"))
    with pytest.raises(DataError, match=mentions("secret.tif", "outside")):
        open_scene(root)


def test_other_products_of_that_name(tmp_path):
    write_xml(
        tmp_path / "product.xml",
        {"product": {"sourceAttributes": {"satellite": "OTHER"}}},
    )
    image = write_image(tmp_path / "a.tif")
    assert open_scene(image).product.kind == "raster"
    (tmp_path / "product.xml").write_text("<!DOCTYPE x><product>RADARSAT-2</product>")
    with pytest.raises(DataError, match="cannot be used"):
        open_scene(tmp_path)


def test_archives(tmp_path):
    for name, write in (("rs2", write_radarsat2), ("rcm", write_rcm)):
        write(tmp_path / name / name)
        shutil.make_archive(str(tmp_path / name), "zip", tmp_path / name)
        with pytest.raises(DataError, match=mentions("archive", "unpack")):
            open_scene(tmp_path / f"{name}.zip")
