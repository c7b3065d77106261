"""Classify large scenes: memory does not grow with the scene."""

import json
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

pytestmark = pytest.mark.slow

# the libraries of CUDA need memory, too
LIMIT_KB = 1_500_000 if torch.version.cuda is None else 2_000_000
MORE_KB = 100_000
"""A scene of 21 million more pixels needs at most this much more memory: a cache of
GDAL, not a copy of the scene."""

JOB = """
import json, re, sys
from pathlib import Path
from types import SimpleNamespace
from rsft.data.imagery.stretch import Stretch
from rsft.inference.options import PredictionRequest
from rsft.scenes.options import ChipSize, ChipOptions, Declaration
from rsft.scenes.query import CfarOptions, Query
from rsft.inference.predict import job
from tests.helpers.scenes import brightness_logits, toy_bundle, toy_contract, toy_engine

unit, method, folder, *scenes = sys.argv[1:]
units = {unit: (Stretch(low=-30.0, high=0.0) if unit == "db" else Stretch(high=1000.0),) * 3}
bundle = toy_bundle(contract=toy_contract(units=units, bands=("VV",), planes=("VV",) * 3))
job.Bundle = SimpleNamespace(load=lambda folder: bundle)
job.choose_engine = lambda *_: "torch"
job.load_engine = lambda bundle, *_: toy_engine(brightness_logits, bundle)
detect = method == "detect"
results = []
for number, scene in enumerate(scenes):
    request = PredictionRequest(
        query=Query(detect=CfarOptions()) if detect else Query(grid=512, stride=512),
        declaration=Declaration("amplitude" if unit == "amplitude" else None),
        chip_options=ChipOptions(size=ChipSize(64)) if detect else ChipOptions(),
        html_path=Path(folder) / f"{number}.html",
    )
    result = job.predict(Path("bundle"), [Path(scene)], Path(folder) / f"{number}.gpkg", request)
    status = Path("/proc/self/status").read_text()
    results.append((len(result.table), int(re.search("VmHWM:(.+)kB", status)[1])))  # ru_maxrss is inherited
print(json.dumps(results))
"""


def write_cog(folder, side):
    """Write a sparse COG, with sea and one ship in eight blocks of 512 pixels."""
    profile = {
        "width": side,
        "height": side,
        "count": 1,
        "dtype": "uint16",
        "crs": "EPSG:32633",
    }
    profile |= {"transform": rasterio.Affine(10, 0, 0, 0, -10, 6_000_000)}
    tiles = {
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "SPARSE_OK": True,
        "compress": "deflate",
    }
    plain = folder / f"plain{side}.tif"
    cog = folder / f"{side}.tif"
    step = side // 512 // 8
    with rasterio.open(plain, "w", "GTiff", **profile, **tiles) as file:
        for number in range(8):
            water = np.sqrt(np.random.default_rng(number).gamma(4, 2500, (512, 512)))
            water[200:204, 300:320] = 2000
            top = 512 * step * (number - number % 2)
            left = 512 * step * number
            file.write(
                water.astype(np.uint16)[None], window=Window(left, top, 512, 512)
            )
    with rasterio.Env(GDAL_CACHEMAX=256):
        rasterio.shutil.copy(
            plain, cog, driver="COG", SPARSE_OK=True, COMPRESS="DEFLATE"
        )
    return cog


def write_product(folder, height, width):
    """Write a Sentinel-1 product in ESA's layout (uncompressed lines), with sea and one
    ship per 1,000 lines."""
    safe = folder / f"{height}.SAFE"
    path = write_metadata(safe, "vv", 1, (height, width))
    profile = {
        "width": width,
        "height": height,
        "count": 1,
        "dtype": "uint16",
        "blockysize": 1,
    }
    gcps = ground_control_points(UTM, height, width, "EPSG:32633")
    with rasterio.open(
        path, "w", "GTiff", **profile, crs="EPSG:4326", gcps=gcps
    ) as file:
        for number, top in enumerate(range(0, height, 1000)):
            water = 90 * np.sqrt(
                np.random.default_rng(number)
                .gamma(4, 0.25, (1000, width))
                .astype(np.float32)
            )
            water[500:504, width // 2 : width // 2 + 20] = 4000
            file.write(
                water.astype(np.uint16)[None], window=Window(0, top, width, 1000)
            )
    return safe


def run_job(folder, unit, method, *scenes):
    """Classify scenes in one process; return the number of chips of each, and the peak
    memory in kB after each."""
    command = [sys.executable, "-c", JOB, unit, method, folder, *scenes]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return zip(*json.loads(done.stdout.splitlines()[-1]), strict=True)


@pytest.mark.parametrize(
    "method", [pytest.param("grid", marks=pytest.mark.exhaustive), "detect"]
)
def test_memory(tmp_path, method):
    scenes = [write_cog(tmp_path, side) for side in (4_096, 6_144)]
    counts, (small, large) = run_job(tmp_path, "amplitude", method, *scenes)
    assert counts == (8, 8) and large < small + MORE_KB


@pytest.mark.exhaustive
@pytest.mark.parametrize("method", ["grid", "detect"])
def test_memory_of_the_largest_scene(tmp_path, method):
    (count,), (peak,) = run_job(
        tmp_path, "amplitude", method, write_cog(tmp_path, 30_000)
    )
    assert count == 8 and peak < LIMIT_KB


@pytest.mark.exhaustive
def test_memory_of_a_calibrated_product_of_the_size_of_esa(tmp_path):
    (count,), (peak,) = run_job(
        tmp_path, "db", "detect", write_product(tmp_path, 17_000, 26_000)
    )
    assert count >= 17 and peak < LIMIT_KB
