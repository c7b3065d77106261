"""Classify a scene of 30,000 x 30,000 pixels: memory does not grow with the scene."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import torch
from rasterio.windows import Window

from tests.helpers.scenes import UTM, ground_control_points
from tests.helpers.sentinel1 import write_metadata

SIDE = 30_000
LIMIT_KB = 1_500_000 if torch.version.cuda is None else 2_000_000  # the libraries of CUDA need memory, too

JOB = """
import re, sys
from pathlib import Path
from types import SimpleNamespace
from rsft.data.imagery.stretch import Stretch
from rsft.inference.detection.options import CfarOptions
from rsft.inference.inputs.discovery import Declaration
from rsft.inference.predict import job
from rsft.inference.predict.request import PredictionRequest
from rsft.inference.predict.scene_plan import SceneQuery
from rsft.inference.scenes.chip_window import ChipOptions
from tests.helpers.scenes import brightness_logits, toy_bundle, toy_contract, toy_engine

unit = sys.argv[4]
units = {unit: (Stretch(low=-30.0, high=0.0) if unit == "db" else Stretch(high=1000.0),) * 3}
bundle = toy_bundle(contract=toy_contract(units=units, bands=("VV",), planes=("VV",) * 3))
job.Bundle = SimpleNamespace(load=lambda folder: bundle)
job.select_engine = lambda bundle, *_: toy_engine(brightness_logits, bundle)
detect = sys.argv[2] == "detect"
request = PredictionRequest(
    query=SceneQuery(detect=CfarOptions()) if detect else SceneQuery(grid=512, stride=512),
    declaration=Declaration("amplitude" if unit == "amplitude" else None),
    chip_options=ChipOptions(side=64) if detect else ChipOptions(),
    html_path=Path(sys.argv[3]) / "page.html",
)
result = job.predict(Path("bundle"), [Path(sys.argv[1])], Path(sys.argv[3]) / "out.gpkg", request)
peak = re.search("VmHWM: *(.+) kB", Path("/proc/self/status").read_text().replace(chr(9), ""))  # ru_maxrss is inherited
print(len(result.table), peak[1])
"""


@pytest.fixture(scope="module")
def cog(tmp_path_factory):
    """Write a sparse COG, with sea and one ship in eight blocks of 512 pixels."""
    folder = tmp_path_factory.mktemp("large")
    profile = {"width": SIDE, "height": SIDE, "count": 1, "dtype": "uint16", "crs": "EPSG:32633"}
    profile |= {"transform": rasterio.Affine(10, 0, 0, 0, -10, 6_000_000)}
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512, "SPARSE_OK": True, "compress": "deflate"}
    with rasterio.open(folder / "plain.tif", "w", "GTiff", **profile, **tiles) as file:
        for number in range(8):
            water = np.sqrt(np.random.default_rng(number).gamma(4, 2500, (512, 512)))
            water[200:204, 300:320] = 2000
            file.write(water.astype(np.uint16)[None], window=Window(512 * 7 * number, 512 * 6 * number, 512, 512))
    with rasterio.Env(GDAL_CACHEMAX=256):
        rasterio.shutil.copy(folder / "plain.tif", folder / "cog.tif", driver="COG", SPARSE_OK=True, COMPRESS="DEFLATE")
    return folder / "cog.tif"


@pytest.mark.slow
@pytest.mark.parametrize(("method", "expected_count"), [("grid", 8), ("detect", 8)])
def test_memory(cog, tmp_path, method, expected_count):
    count, peak = run_job(cog, method, tmp_path, "amplitude")
    assert count == expected_count and peak < LIMIT_KB


def run_job(scene, method, folder, unit):
    """Classify a scene in a process of its own; return the number of chips and the peak memory in kB."""
    done = subprocess.run([sys.executable, "-c", JOB, scene, method, folder, unit], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    count, peak = done.stdout.split()
    return int(count), int(peak)


@pytest.fixture(scope="module")
def grd_product(tmp_path_factory):
    """Write a Sentinel-1 product of ESA's size and layout (uncompressed lines), with sea and ships everywhere."""
    height, width = 17_000, 26_000
    safe = tmp_path_factory.mktemp("grd") / "product.SAFE"
    path = write_metadata(safe, "vv", 1, (height, width))
    profile = {"width": width, "height": height, "count": 1, "dtype": "uint16", "blockysize": 1}
    gcps = ground_control_points(UTM, height, width, "EPSG:32633")
    with rasterio.open(path, "w", "GTiff", **profile, crs="EPSG:4326", gcps=gcps) as file:
        for number, top in enumerate(range(0, height, 1000)):
            water = 90 * np.sqrt(np.random.default_rng(number).gamma(4, 0.25, (1000, width)).astype(np.float32))
            water[500:504, 13_000:13_020] = 4000
            file.write(water.astype(np.uint16)[None], window=Window(0, top, width, 1000))
    return safe


@pytest.mark.slow
def test_memory_of_a_calibrated_product(grd_product, tmp_path):
    count, peak = run_job(grd_product, "detect", tmp_path, "db")
    assert count >= 17 and peak < LIMIT_KB
