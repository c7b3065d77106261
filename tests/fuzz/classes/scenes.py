"""Chips, scenes and products of Sentinel-1."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from rsft.data.imagery.products.options import ProductOptions
from rsft.data.imagery.stretch import Stretch
from rsft.inference.predict.chip_files import ChipFiles
from rsft.inference.predict.pipeline import ChipBatch, prepare_batch
from rsft.scenes.options import ChipOptions, Declaration
from rsft.scenes.raster import PixelWindow, gdal_environment, open_scene
from rsft.scenes.reader import SceneReader
from tests.fuzz.mutate import PORT, mutate_bytes, mutate_text
from tests.fuzz.target import Target, read_by_name
from tests.helpers.geokeys import ODD_GEOKEYS, with_geokeys
from tests.helpers.scenes import UTM, toy_contract, write_geotiff, write_hdf5
from tests.helpers.sentinel1 import NAME, write_product

UNITS = ("uint8", "uint16", "amplitude")
CHIPS = ("a.png", "b.jpg", "c.bmp", "d.webp", "e.tif", "f.tif", "g.png")
COLOR = ("R", "G", "B")
CONTRACTS = {
    ("a.png", "b.jpg", "e.tif", "g.png"): toy_contract(
        units={x: (Stretch(),) * 3 for x in UNITS}
    ),
    ("c.bmp", "d.webp", "f.tif"): toy_contract(bands=COLOR, planes=COLOR),
}
STEM = "s1a-iw-grd-vv-20210119t031653-20210119t031718-036201-043ed0-001"
OTHER_FORMATS = [
    (
        '<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="Byte"'
        ' band="1" subClass="VRTRawRasterBand"><SourceFilename'
        ' relativetoVRT="0">/etc/hostname</SourceFilename></VRTRasterBand></VRTDataset>'
    ),
    (
        '<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="Byte"'
        ' band="1"><SimpleSource><SourceFilename>'
        f"/vsicurl/http://127.0.0.1:{PORT.decode()}/x.tif</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    ),
    (
        "<GDAL_WMS><Service"
        f' name="WMS"><ServerUrl>http://127.0.0.1:{PORT.decode()}/w?</ServerUrl></Service><DataWindow>'
        "<SizeX>9</SizeX><SizeY>9</SizeY></DataWindow></GDAL_WMS>"
    ),
]


def mutate_raster(rng: Random, data: bytes) -> bytes:
    """Change bytes or GeoKeys of a raster; sometimes give it the content of a format
    that names other files."""
    if rng.random() < 0.02:
        return rng.choice(OTHER_FORMATS).encode()
    return mutate_geokeys(rng, data) if rng.random() < 0.15 else mutate_bytes(rng, data)


def mutate_geokeys(rng: Random, data: bytes) -> bytes:
    """Change the list of GeoKeys of a GeoTIFF; bytes of any other file."""
    keys = list(rng.choice([*ODD_GEOKEYS.values()]))
    for _ in range(rng.choice((0, 1, 2, 4))):
        number = rng.choice(
            (
                0,
                1,
                2,
                9,
                1024,
                2048,
                3072,
                3074,
                3075,
                4326,
                32633,
                32767,
                34736,
                34737,
                65535,
            )
        )
        keys.insert(rng.randrange(len(keys) + 1), number)
        keys = keys[: rng.choice((len(keys), len(keys), len(keys) - 1))]
    try:
        return with_geokeys(data, keys)
    except ValueError:
        return mutate_bytes(rng, data)


def _build_chips(folder: Path) -> None:
    rng = np.random.default_rng(0)
    gray = rng.integers(0, 255, (16, 16), np.uint8)
    color = rng.integers(0, 255, (16, 16, 3), np.uint8)
    for name, pixels in zip(CHIPS[:4], (gray, gray, color, color), strict=True):
        Image.fromarray(pixels).save(folder / name)
    write_geotiff(
        folder / CHIPS[4],
        rng.gamma(2, 1, (16, 16)).astype(np.float32),
        crs="EPSG:32633",
        transform=UTM,
    )
    write_geotiff(
        folder / CHIPS[5],
        color.transpose(2, 0, 1),
        compress="deflate",
        tiled=True,
        blockxsize=16,
        blockysize=16,
    )
    Image.fromarray(rng.integers(0, 65_535, (16, 16)).astype(np.uint16)).save(
        folder / CHIPS[6]
    )


def _read_chips(folder: Path) -> list[str]:
    """Read the chips as a job does, and return those that it lists as rejected."""
    rejected = []
    for names, contract in CONTRACTS.items():
        files = {
            str(folder / name): Declaration("amplitude" if name == "e.tif" else None)
            for name in names
        }
        source = ChipFiles(files, contract, ChipOptions())
        batch = prepare_batch(ChipBatch(0, source, range(len(source))), contract)
        rejected += [source.location_of(number)[0] for number, _ in batch.rejected]
    return rejected


def _build_scene(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 999, (2, 48, 64)).astype(np.uint16)
    options = {
        "crs": "EPSG:32633",
        "transform": UTM,
        "nodata": 0,
        "names": ("VV", "VH"),
        "compress": "lzw",
    }
    write_geotiff(
        folder / "a.tif", pixels, **options, tiled=True, blockxsize=16, blockysize=16
    )
    write_geotiff(
        folder / "b.tif",
        pixels[0].astype(np.complex64),
        crs="EPSG:4326",
        units=("sigma0",),
        scales=(0.5,),
    )


def read_scene(name: str, folder: Path) -> None:
    """Read two windows of a scene."""
    with gdal_environment():
        scene = open_scene(
            folder / name,
            ProductOptions(modulus=True) if name == "b.tif" else ProductOptions(),
        )
        reader = SceneReader(scene)
        try:
            reader(PixelWindow(-4, -4, 20, 20))
            row, col = scene.height // 2, scene.width // 2
            reader(PixelWindow(row - 8, col - 8, row + 8, col + 8))
        finally:
            reader.close()


def _read_scenes(folder: Path) -> list[str]:
    return read_by_name(
        {name: partial(read_scene, name, folder) for name in ("a.tif", "b.tif")}
    )


def _build_hdf5(folder: Path) -> None:
    write_hdf5(
        folder / "a.h5", np.random.default_rng(0).integers(0, 255, (48, 64), np.uint8)
    )
    shutil.copy(folder / "a.h5", folder / "b.h5")  # linked files would be read


def _build_product(folder: Path) -> None:
    write_product(
        folder,
        {"vv": np.random.default_rng(0).integers(1, 999, (40, 60)).astype(np.uint16)},
    )


FOLDER = f"{NAME}.SAFE/annotation"
XML = (
    f"{FOLDER}/{STEM}.xml",
    *(f"{FOLDER}/calibration/{name}-{STEM}.xml" for name in ("calibration", "noise")),
)
TARGETS = [
    Target("chips", _build_chips, dict.fromkeys(CHIPS, mutate_raster), _read_chips),
    Target(
        "scenes",
        _build_scene,
        dict.fromkeys(("a.tif", "b.tif"), mutate_raster),
        _read_scenes,
    ),
    Target(
        "scenes_hdf5",
        _build_hdf5,
        {"a.h5": mutate_bytes},
        partial(read_scene, "a.h5"),
    ),
    Target(
        "sentinel1",
        _build_product,
        dict.fromkeys(XML, mutate_text),
        partial(read_scene, f"{NAME}.SAFE"),
    ),
]
