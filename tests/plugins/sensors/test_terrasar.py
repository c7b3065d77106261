"""TerraSAR-X and PAZ: calibration in radar geometry and in a map projection, incidence
angles, times, complex data."""

import numpy as np
import pytest
from pyproj import Transformer

from rsft.errors import DataError
from rsft.scenes.raster import open_scene
from tests.helpers.messages import mentions
from tests.helpers.products import (
    DN,
    SHAPE,
    check_band,
    check_tie_points,
    read_band,
    tie_points,
    write_image,
    write_xml,
)
from tests.helpers.scenes import UTM

HEIGHT, WIDTH = SHAPE
NAME = "TSX1_SAR__MGD_SE___SM_D_SRA_20260501T060000_20260501T060008"
FACTORS = {"HH": 9.29e-6, "VV": 1.1e-5}
ROWS, COLS = np.mgrid[:HEIGHT, :WIDTH].astype(float)


def angle(row, col):
    return 41.5 + 0.002 * row + 0.03 * col


def corner(row, col, projected):
    x, y = UTM @ (col, row)
    lon, lat = Transformer.from_crs(
        "EPSG:32633", "EPSG:4326", always_xy=True
    ).transform(x, y)
    point = {} if projected else {"refRow": row + 1, "refColumn": col + 1}
    point |= {
        "lat": f"{lat:.17e}",
        "lon": f"{lon:.17e}",
        "azimuthTimeUTC": f"2026-05-01T06:00:0{4 + row / HEIGHT:.6f}Z",
    }
    return point | {
        "rangeTime": f"{4.4e-3 + col * 1e-8:.17e}",
        "incidenceAngle": f"{angle(row, col):.17e}",
    }


def write_product(
    root,
    *,
    mission="TSX-1",
    variant="MGD",
    data_type="DETECTED",
    suffix="tif",
    georef=True,
):
    projected = variant != "MGD"
    images = {}
    constants = {}
    for layer, (band, factor) in enumerate(FACTORS.items(), 1):
        file = {
            "host": ".",
            "path": "IMAGEDATA",
            "filename": f"IMAGE_{band}_SRA_strip_007.{suffix}",
        }
        images[f'imageData layerIndex="{layer}"'] = {
            "polLayer": band,
            "file": {"location": file},
        }
        constants[f'calibrationConstant layerIndex="{layer}"'] = {
            "polLayer": band,
            "calFactor": factor,
        }
        write_image(
            root / f"IMAGEDATA/IMAGE_{band}_SRA_strip_007.tif", gcps=not projected
        )
    last = (HEIGHT, WIDTH) if projected else (HEIGHT - 1, WIDTH - 1)
    corners = [
        corner(row, col, projected) for row in (0, last[0]) for col in (0, last[1])
    ]
    info = {
        "missionInfo": {"mission": mission, "orbitDirection": "DESCENDING"},
        "acquisitionInfo": {"lookDirection": "RIGHT"},
        "productVariantInfo": {
            "productVariant": variant,
            "projection": "MAP" if projected else "GROUNDRANGE",
        },
        "imageDataInfo": {
            "pixelValueID": "RADAR BRIGHTNESS",
            "imageDataType": data_type,
        },
        "sceneInfo": {
            "start": {"timeUTC": "2026-05-01T06:00:04.000000Z"},
            "stop": {"timeUTC": "2026-05-01T06:00:05.000000Z"},
            "sceneCenterCoord": corner(HEIGHT / 2, WIDTH / 2, projected),
            "sceneCornerCoord": corners,
        },
    }
    orbit = {
        "stateVec": (
            [
                {
                    "timeUTC": "2026-05-01T06:00:00",
                    "velX": 1123.0,
                    "velY": 995.0,
                    "velZ": -7542.0,
                }
            ]
            * 2
        )
    }
    body = {
        "productComponents": images,
        "productInfo": info,
        "platform": {"orbit": orbit},
    }
    write_xml(
        root / f"{root.name}.xml", {"level1Product": body | {"calibration": constants}}
    )
    if georef and not projected:
        points = {}
        for iaz, row in enumerate((0, 20, HEIGHT - 1), 1):
            for irg, col in enumerate((0, 33, WIDTH - 1), 1):
                point = {
                    "inc": f"{angle(row, col):.17e}",
                    "row": row + 1,
                    "col": col + 1,
                }
                points[f'gridPoint iaz="{iaz}" irg="{irg}"'] = point
        write_xml(
            root / "ANNOTATION/GEOREF.xml",
            {"geoReference": {"geolocationGrid": points}},
        )
    return root


def expected(band, unit):
    theta = np.radians(angle(ROWS, COLS))
    return (
        FACTORS[band]
        * DN.astype(float) ** 2
        * {"beta0": 1, "sigma0": np.sin(theta), "gamma0": np.tan(theta)}[unit]
    )


@pytest.mark.parametrize("variant", ["MGD", "EEC", "corners"])
@pytest.mark.parametrize("unit", ["sigma0", "beta0", "gamma0"])
def test_calibration(tmp_path, variant, unit):
    """The plane of a product in a map projection is that of UTM here, so it is
    exact."""
    options = {"georef": False} if variant == "corners" else {"variant": variant}
    scene = open_scene(write_product(tmp_path / NAME, **options))
    assert scene.bands == ("HH", "VV") and scene.unit == "amplitude"
    check_band(read_band(scene, unit, 1), expected("VV", unit))
    rows, cols = np.array([0.0, 17.0]), np.array([50.0, 3.0])
    np.testing.assert_allclose(
        scene.product.incidence(rows, cols), angle(rows, cols), rtol=1e-8
    )


def test_times_and_orbit(tmp_path):
    product = open_scene(write_product(tmp_path / NAME)).product
    assert (product.kind, product.pass_direction) == ("TerraSAR-X MGD", "descending")
    assert (product.acquired, product.finished) == (
        "2026-05-01T06:00:04.000000Z",
        "2026-05-01T06:00:05.000000Z",
    )
    motion = product.motion
    end = np.array([0, HEIGHT - 1.0])
    assert motion.seconds(end, np.zeros(2)) == pytest.approx(
        [0, 1 - 1 / HEIGHT], abs=1e-6
    )
    assert motion.slant_range(np.zeros(2), np.array([0, 40.0])) == pytest.approx(
        np.array([4.4e-3, 4.4e-3 + 40e-8]) * 299_792_458 / 2
    )
    assert (
        motion.velocity == pytest.approx(np.sqrt(1123**2 + 995**2 + 7542**2))
        and motion.looks_right
    )
    assert (
        open_scene(write_product(tmp_path / "eec", variant="EEC")).product.motion
        is None
    )


def test_tie_points_of_the_grid(tmp_path):
    root = write_product(tmp_path / NAME)
    points = {
        f'gridPoint iaz="{row}" irg="{col}"': {
            "inc": 40,
            "row": row + 1,
            "col": col + 1,
            "lon": lon,
            "lat": lat,
        }
        for row, col, lon, lat in tie_points()
    }
    write_xml(
        root / "ANNOTATION/GEOREF.xml", {"geoReference": {"geolocationGrid": points}}
    )
    for image in root.rglob("*.tif"):
        write_image(image, gcps=None)
    check_tie_points(open_scene(root))


def test_paz_header_and_one_image(tmp_path):
    root = write_product(tmp_path / NAME, mission="PAZ-1")
    assert open_scene(root / f"{NAME}.xml").product.kind == "PAZ MGD"
    scene = open_scene(root / "IMAGEDATA/IMAGE_VV_SRA_strip_007.tif")
    assert scene.bands == ("VV",)
    check_band(read_band(scene, "sigma0"), expected("VV", "sigma0"))


def test_complex_products(tmp_path):
    root = write_product(tmp_path / NAME, data_type="COMPLEX", suffix="cos")
    with pytest.raises(
        DataError, match=mentions("TerraSAR-X", "complex", "SNAP", "MGD")
    ):
        open_scene(root)


def test_without_calibration_or_angles(tmp_path):
    root = write_product(tmp_path / NAME, georef=False)
    header = root / f"{NAME}.xml"
    text = header.read_text()
    header.write_text(text.replace("<refRow>", "<x>").replace("</refRow>", "</x>"))
    assert list(open_scene(root).product.calibrations) == ["beta0"]
    header.write_text(
        text.replace(
            "<polLayer>VV</polLayer><calFactor>", "<polLayer>HV</polLayer><calFactor>"
        )
    )
    assert not open_scene(root).product.calibrations
    header.write_text(text.replace("<calFactor>9", "<calFactor>a"))
    with pytest.raises(DataError, match=mentions(header.name, "cannot be used")):
        open_scene(root)
