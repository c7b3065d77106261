"""Inputs of a stranger read no file outside of their folder, and ask no server: by
rsft's readers, and by the walls of the cell.

Each layer is tested without the other. A run without both shows that the carriers work.
"""

import json
import os
import subprocess
import sys
from importlib import import_module

import pytest

from rsft.utils.cell.walls import landlock_version
from tests.helpers.file_server import serving_folder
from tests.security.carriers import (
    CHIPS,
    ITEMS,
    LAYERS,
    SCENES,
    build_all,
    contains_secret,
    honest_image,
    write_secrets,
)

import_module("tests.security.format_carriers")
NEEDS_LANDLOCK = pytest.mark.skipif(
    not landlock_version(), reason="the kernel has no Landlock"
)
_DRIVER = """
import json, os, sys
layer, folder, carriers = json.load(sys.stdin)
naive = layer in ("nothing", "walls")
if layer == "readers":
    os.environ["RSFT_GDAL_DRIVERS"] = "limited"
if layer == "walls":  # around this whole process, whose readers are naive
    from pathlib import Path
    from rsft.utils.cell import processes, walls
    inputs = [Path(folder, "in", name) for name in ("given", *carriers)]
    readable = (*inputs, Path("tests").absolute(), *processes._interpreter())
    walls.build_walls(walls.Walls(readable, 2**36, writable=(Path(folder, "out"), Path(folder, "temporary"))))
if naive:
    os.environ.pop("CPL_VSIL_CURL_ALLOWED_FILENAME", None)

import warnings
from pathlib import Path
import pyogrio, rasterio
from pytest import MonkeyPatch
from rsft.data.annotations import layers
from rsft.data.imagery import rasters, scene_uri, vectors
from rsft.inference.options import PredictionRequest, Query, ChipOptions
from rsft.scenes import inputs
from rsft.scenes.options import ChipSize
from rsft.inference.predict.job import predict
from rsft.inference.review import page
from rsft.plugins.stac_items import items as stac_items
from rsft.utils import remote_files
from tests.helpers.scenes import use_toy_model

warnings.simplefilter("ignore")
use_toy_model(MonkeyPatch())
remote_files._PAUSE = 0
assert hasattr(page, "_SCENE_SIDE")
page._SCENE_SIDE = 150  # the picture of a scene is made from its overviews
rasterio.Env(GDAL_HTTP_TIMEOUT=5, GDAL_HTTP_MAX_RETRY=0).__enter__()

def read_layer(path, layer=None):
    layers = {name: kind is not None for name, kind in pyogrio.list_layers(path)}
    layer = layer or next(iter(layers))
    header, table = pyogrio.read_arrow(path, layer=layer, return_fids=True)
    return layers, vectors.LayerContent(header["crs"], list(header["fields"]), table)

def resolve(uri, name, content):
    href = content["href"]
    return scene_uri.SceneUri.parse(href if ":" in href else os.path.join(os.path.dirname(uri.text), href))

if naive:
    rasters.open_raster = lambda name: rasterio.open(name)
    layers.read_layer = read_layer
    stac_items.check_host = lambda *names: None
    stac_items._resolve = resolve
    inputs.names_servers = lambda path: False

results = {}
for name, (kind, path) in carriers.items():
    out = Path(folder, "out", name)
    out.mkdir(parents=True)
    if not os.path.isabs(path):
        os.chdir(f"{folder}/in/{name}")
    at = Path(path) if kind == "layer" else Path(folder, "in/given/at.csv")
    scene = f"{folder}/in/given/honest.tif" if kind == "layer" else path.replace("a.json", "*.json")
    query = Query() if kind == "chip" else Query(at=at, crs="pixel" if kind == "layer" else None)
    request = PredictionRequest(query, chip_options=ChipOptions(size=ChipSize(32)), html_path=out / "o.html",
                                chips_dir=None if kind == "chip" else out / "chips")
    try:
        predict(Path("bundle"), [Path(path).parent if kind == "chip" else scene], out / "o.geojson", request)
        results[name] = "done"
    except Exception as error:
        results[name] = f"{type(error).__name__}: {error}"
json.dump(results, sys.stdout)
"""


def run(layer, folder):
    """Predict on every carrier with one layer, and return what each job gave, which
    secrets are out, and requests."""
    pytest.importorskip("rsft.plugins.stac_items", reason="STAC items are carriers")
    for name in ("in/given", "temporary", "out"):
        (folder / name).mkdir(parents=True)
    # HDF5 names ../far from the folder of a carrier
    secret = write_secrets(folder / "in/far")
    honest_image(folder / "in/given/honest.tif")
    (folder / "in/given/at.csv").write_text("row,col\n3,3\n200,200\n400,300\n")
    with serving_folder(folder / "in/far") as server:
        built = build_all(folder / "in", secret, server.url("secret.tif"))
        carriers = {name: (kind, str(path)) for name, (kind, path) in built.items()}
        environment = os.environ | {
            "TMPDIR": str(folder / "temporary"),
            "XDG_CACHE_HOME": str(folder / "cache"),
        }
        environment |= {
            "AWS_NO_SIGN_REQUEST": "YES",
            "AWS_HTTPS": "NO",
            "AWS_VIRTUAL_HOSTING": "NO",
        }
        environment |= {"AWS_S3_ENDPOINT": server.url("").split("//")[1].strip("/")}
        process = subprocess.run(
            [sys.executable, "-c", _DRIVER],
            input=json.dumps([layer, str(folder), carriers]),
            env=environment,
            capture_output=True,
            text=True,
        )
        assert process.returncode == 0, process.stderr
        return (
            json.loads(process.stdout),
            contains_secret(folder / "out"),
            server.requests,
        )


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "layer", ["readers", pytest.param("walls", marks=NEEDS_LANDLOCK)]
)
def test_no_carrier_gets_out(tmp_path, layer):
    results, leaks, requests = run(layer, tmp_path)
    assert len(results) >= 120
    assert (leaks, requests) == ([], []), json.dumps(results, indent=1)


@pytest.mark.exhaustive
def test_the_carriers_work_without_protection(tmp_path):
    _, leaks, requests = run("nothing", tmp_path)
    assert len({path.split("/")[0] for path in leaks}) >= 35 and len(requests) >= 20


def test_there_are_carriers_of_all_kinds():
    assert (
        len(SCENES | ITEMS | LAYERS | CHIPS)
        == len(SCENES) + len(ITEMS) + len(LAYERS) + len(CHIPS)
        >= 120
    )
