"""Scenes that look right: those that are give the right pixels at the right place, the
others are refused or have no georeference, never a wrong result."""

import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC
from rasterio.transform import Affine

from rsft.errors import DataError
from rsft.scenes.raster import PixelWindow, open_scene
from rsft.scenes.reader import SceneReader

BASE = np.random.default_rng(0).integers(1, 255, (300, 400)).astype(np.uint8)
UTM = {"crs": "EPSG:32633", "transform": Affine(10, 0, 5e5, 0, -10, 5e6)}
WINDOW = PixelWindow(100, 200, 130, 240)


def write(path, pixels=BASE, driver="GTiff", scaling=None, **options):
    pixels = np.atleast_3d(pixels.T).T
    with rasterio.open(
        path,
        "w",
        driver,
        pixels.shape[2],
        pixels.shape[1],
        len(pixels),
        dtype=pixels.dtype.name,
        **options,
    ) as file:
        file.write(pixels)
        if scaling:
            file.scales, file.offsets = [[value] for value in scaling]
    return path


def place(transform, crs, row, col):
    """Return longitude and latitude by another way than that of the code."""
    x, y = transform @ (col, row)
    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)


def mapped(crs, transform, **options):
    """Return a builder of a GeoTIFF with this geotransform."""

    def build(folder):
        path = write(folder / "a.tif", crs=crs, transform=transform, **options)
        return path, BASE, lambda row, col: place(transform, crs, row, col)

    return build


def points_in(crs, transform, turn=0.0):
    """Return a builder of a GeoTIFF with ground control points in a coordinate
    system."""

    def build(folder):
        points = []
        for row in np.linspace(0, 300, 4):
            for col in np.linspace(0, 400, 5):
                x, y = transform @ (col, row)
                if turn and x > 180:
                    x -= turn
                points.append(GroundControlPoint(row, col, x, y))
        path = write(folder / "a.tif", gcps=points, crs=crs)
        return path, BASE, lambda row, col: place(transform, crs, row, col)

    return build


def world_file(folder):
    path = write(folder / "a.tif", crs="EPSG:32633")
    (folder / "a.tfw").write_text("10\n0\n0\n-10\n500005\n4999995\n")
    return path, BASE, lambda row, col: place(UTM["transform"], UTM["crs"], row, col)


def scaled(folder):
    path = write(folder / "a.tif", scaling=(0.5, -3), **UTM)
    values = BASE * np.float32(0.5) - 3
    return path, values, lambda row, col: place(*reversed(UTM.values()), row, col)


def mosaic(folder):
    """Two halves of a scene, which a VRT of another encoding puts together."""
    bands = ""
    for number, half in enumerate(np.hsplit(BASE, 2)):
        write(folder / f"ä {number}.tif", half)
        bands += (
            "<SimpleSource><SourceFilename relativeToVRT='1'>"
            f"ä {number}.tif</SourceFilename><SourceBand>1</SourceBand><!-- half -->"
            "<SrcRect xOff='0' yOff='0' xSize='200' ySize='300'/>"
            f"<DstRect xOff='{200 * number}' yOff='0' xSize='200' ySize='300'/>"
            "</SimpleSource>"
        )
    text = (
        "<?xml version='1.0' encoding='latin-1'?><VRTDataset rasterXSize='400'"
        " rasterYSize='300'><SRS>EPSG:32633</SRS><GeoTransform>5e5, 10, 0, 5e6, 0, -10"
        "</GeoTransform><VRTRasterBand dataType='Byte' band='1'>"
        f"{bands}</VRTRasterBand></VRTDataset>"
    )
    (folder / "a.vrt").write_bytes(text.encode("latin-1"))
    return (
        folder / "a.vrt",
        BASE,
        lambda row, col: place(UTM["transform"], UTM["crs"], row, col),
    )


def raw(folder):
    path = write(folder / "a.img", BASE.astype(np.uint16) * 257, "ENVI", **UTM)
    values = BASE.astype(np.uint16) * 257
    return path, values, lambda row, col: place(UTM["transform"], UTM["crs"], row, col)


RIGHT = {
    "east of the antimeridian": mapped(
        "EPSG:4326", Affine(0.001, 0, 179.75, 0, -0.001, 10)
    ),
    "from 359.8 degrees": mapped("EPSG:4326", Affine(0.001, 0, 359.8, 0, -0.001, 10)),
    "north polar": mapped("EPSG:3413", Affine(40, 0, -8000, 0, -40, 6000)),
    "turned by 90 degrees": mapped("EPSG:32633", Affine(0, 10, 5e5, -10, 0, 5e6)),
    "south up in degrees": mapped("EPSG:4326", Affine(0.001, 0, 20, 0, 0.001, -30)),
    "another datum": mapped("EPSG:27700", Affine(10, 0, 4e5, 0, -10, 3e5)),
    "tiled BigTIFF": mapped(
        **UTM, BIGTIFF="YES", tiled=True, blockxsize=64, blockysize=64
    ),
    "points in UTM": points_in("EPSG:32633", UTM["transform"]),
    "points across the antimeridian": points_in(
        "EPSG:4326", Affine(0.001, 0, 179.8, 0, -0.001, 10), turn=360
    ),
    "world file": world_file,
    "scale and offset": scaled,
    "mosaic": mosaic,
    "raw": raw,
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_scene_gives_its_pixels_at_their_place(name, tmp_path):
    path, pixels, to_lonlat = RIGHT[name](tmp_path)
    scene = open_scene(path)
    reader = SceneReader(scene)
    top, left, bottom, right = WINDOW
    assert (reader(WINDOW)[..., 0] == pixels[top:bottom, left:right]).all()
    reader.close()
    for row, col in ((10, 20), (150, 390), (299, 0.5)):
        lon, lat = to_lonlat(row, col)
        lon = (lon + 180) % 360 - 180
        found = scene.georeference.lonlat_to_pixels([lon], [lat])
        assert found == pytest.approx(np.array([[row, col]]), abs=0.1)
        lonlat = scene.georeference.pixels_to_lonlat([row], [col])
        assert lonlat == pytest.approx(np.array([[lon, lat]]), abs=1e-5)


def points(*positions):
    return {
        "gcps": [GroundControlPoint(*position) for position in positions],
        "crs": "EPSG:4326",
    }


def zero_rpc():
    zeros = [0.0] * 20
    return RPC(0, 1, 0, 1, zeros, zeros, 0, 1, 0, 1, zeros, zeros, 0, 1)


WITHOUT_PLACE = {
    "points on a line": points(*((30 * i, 40 * i, 15 + i, 45 - i) for i in range(6))),
    "points on a row": points(*((0, 40 * i, 15 + i, 45) for i in range(6))),
    "equal points": points(*[(0, 0, 15, 45)] * 5),
    "two places of a pixel": points(
        (0, 0, 15, 45), (0, 0, 16, 45), (0, 400, 15.5, 45), (300, 0, 15, 44.5)
    ),
    "points beyond the pole": points(
        *((row, col, 15 + col / 1e4, 145.0) for row in (0, 300) for col in (0, 400))
    ),
    "pixels without width": {
        "crs": "EPSG:32633",
        "transform": Affine(0, 0, 1, 0, 1, 1),
    },
    "pixels of an atom": {
        "crs": "EPSG:32633",
        "transform": Affine(1e-9, 0, 5e5, 0, -1e-9, 5e6),
    },
    "meters as degrees": {"crs": "EPSG:4326", "transform": UTM["transform"]},
    "latitudes beyond the pole": {
        "crs": "EPSG:4326",
        "transform": Affine(0.01, 0, 10, 0, -0.01, 92),
    },
    "RPCs of zeros": {"rpcs": zero_rpc()},
    "geocentric": {"crs": "EPSG:4978", "transform": UTM["transform"]},
}


@pytest.mark.parametrize("name", WITHOUT_PLACE)
def test_a_georeference_that_says_nothing_is_none(name, tmp_path):
    scene = open_scene(write(tmp_path / "a.tif", **WITHOUT_PLACE[name]))
    assert scene.georeference is None and scene.spacing is None


def cut_short(path):
    path.write_bytes(path.read_bytes()[:60_000])


def damage(path):
    data = path.read_bytes()
    path.write_bytes(data[:3000] + bytes(500) + data[3500:])


REFUSED = {
    "scale of zero": ({"scaling": (0, 3)}, None, "the scale 0"),
    "scale that is no number": ({"scaling": (float("nan"), 0)}, None, "the scale nan"),
    "scale beyond float32": ({"scaling": (1e300, 0)}, None, "the scale 1e\\+300"),
    "offset without end": ({"scaling": (1, float("inf"))}, None, "the offset inf"),
    "infinite values": (
        {"pixels": np.where(np.arange(400) == 210, np.inf, BASE).astype(np.float32)},
        None,
        "NaN or infinite",
    ),
    "half of a file": ({}, cut_short, "truncated or damaged"),
    "damaged blocks": ({"compress": "deflate"}, damage, "truncated or damaged"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_scene_without_values_is_refused(name, tmp_path):
    options, change, fault = REFUSED[name]
    path = write(tmp_path / "a.tif", **(UTM | options))
    if change is not None:
        change(path)
    with pytest.raises(DataError, match=fault) as caught:
        SceneReader(open_scene(path))(PixelWindow(0, 0, 300, 400))
    assert str(path) in str(caught.value)
