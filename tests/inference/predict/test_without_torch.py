"""Prediction with an exported graph runs without PyTorch and its companions. Each job
runs in a process of its own."""

import importlib.metadata
import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.helpers.plugins import OPENVINO
from tests.helpers.scenes import UTM, write_geotiff

DOC = (Path(__file__).parents[3] / "docs/engines.md").read_text("utf-8")
ABSENT = [
    "torch",
    "torchvision",
    "torchgeo",
    "timm",
    "lightning",
    "torchmetrics",
    "albumentations",
    "tensorboard",
    "sklearn",
    "scipy",
    "matplotlib",
]
PROGRAM = """
import json, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is not installed")

sys.meta_path.insert(0, Blocked())
import rsft.cli.reading  # by the program before a prediction
from rsft.cli import main

for arguments in json.loads(sys.argv[1]):
    sys.argv = ["rsft", "predict", *arguments]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, stop.code
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=open("modules.json", "w"))
"""


@pytest.fixture(scope="session")
def scene(tmp_path_factory):
    """A scene with a georeference, and positions in it as GeoJSON."""
    folder = tmp_path_factory.mktemp("scene")
    pixels = np.random.default_rng(0).integers(0, 200, (96, 128), np.uint8)
    x, y = UTM @ (64, 48)
    point = {"type": "Point", "coordinates": [x, y]}
    features = [
        {"type": "Feature", "id": 7, "properties": {"name": "ship"}, "geometry": point}
    ]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    layer = {"type": "FeatureCollection", "crs": crs, "features": features}
    (folder / "positions.geojson").write_text(json.dumps(layer))
    return write_geotiff(folder / "scene.tif", pixels, crs="EPSG:32633", transform=UTM)


def predict_in_process(folder, *jobs, blocked=()):
    """Run `rsft predict` in a new process in which packages are missing, and return the
    packages that it imported."""
    program = PROGRAM.replace("BLOCKED", repr(set(blocked)))
    command = [
        sys.executable,
        "-c",
        program,
        json.dumps([[*map(str, arguments)] for arguments in jobs]),
    ]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return set(json.loads((folder / "modules.json").read_text()))


def job_arguments(kind, root, scene):
    """Return inputs and options of a job with chips, positions or tiles."""
    if kind == "chips":
        return [root / "chips/val"]
    at = ["--at", scene.with_name("positions.geojson"), "--size", "32"]
    return [scene, *(at if kind == "positions" else ["--grid", "32"])]


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["chips", "positions", "tiles"])
@pytest.mark.parametrize("engine", ["onnx", OPENVINO])
@pytest.mark.parametrize("is_blocked", [False, True])
def test_a_graph_engine_needs_no_torch(
    run, root, exported, scene, tmp_path, kind, engine, is_blocked
):
    arguments = job_arguments(kind, root, scene)
    blocked = ABSENT if is_blocked else ()
    job = (run, *arguments, "-o", "out.gpkg", "--engine", exported(engine))
    packages = predict_in_process(tmp_path, job, blocked=blocked)
    assert not packages & set(ABSENT)
    assert (tmp_path / "out.gpkg").stat().st_size > 0


@pytest.mark.exhaustive
def test_chips_without_georeference_need_no_gdal(run, root, exported, tmp_path):
    first = (run, root / "chips/val", "-o", "out.csv", "--engine", exported("onnx"))
    (tmp_path / "out.geojson").write_text(
        '{"features": [{"properties": {"corrected": null}}]}'
    )
    second = (
        run,
        root / "chips/val",
        "-o",
        "out.geojson",
        "--overwrite",
        "--engine",
        exported("onnx"),
    )
    packages = predict_in_process(tmp_path, first, second)
    assert {"pandas", "cv2", "onnxruntime"} <= packages
    assert not packages & {"rasterio", "pyogrio", "geopandas", "pyproj"}


@pytest.fixture(scope="module")
def documented_jobs(run, root, exported, scene, tmp_path_factory):
    """Run a job of each kind with the documented packages alone; return the outputs'
    folder and the imported ones."""
    distributions = packages_distributions()
    needed = with_requirements(documented_packages())
    others = {
        package
        for package, names in distributions.items()
        if not needed & {*map(_normalize, names), "rsft"}
    }
    assert (
        others >= set(ABSENT) & set(distributions)
        and {"torch", "scipy", "requests"} <= others
    )
    folder = tmp_path_factory.mktemp("documented")
    onnx = exported("onnx")
    outputs = {"chips": "out.csv", "positions": "out.geojson", "tiles": "out.gpkg"}
    jobs = [
        (
            run,
            *job_arguments(kind, root, scene),
            "-o",
            output,
            "--html",
            f"{kind}.html",
            "--engine",
            onnx,
        )
        for kind, output in outputs.items()
    ]
    packages = predict_in_process(folder, *jobs, blocked=others)
    return folder, {
        _normalize(name)
        for package in packages
        for name in distributions.get(package, ())
    }


@pytest.mark.exhaustive
def test_the_predictions_are_those_of_pytorch(
    run, root, documented_jobs, tmp_path, rsft
):
    code, printed = rsft(
        "predict",
        run,
        root / "chips/val",
        "-o",
        tmp_path / "torch.csv",
        "--engine",
        "torch",
    )
    assert code == 0, printed
    graph = pd.read_csv(documented_jobs[0] / "out.csv")
    reference = pd.read_csv(tmp_path / "torch.csv")
    numbers = [name for name in reference if name.startswith(("p_", "ood_distance"))]
    np.testing.assert_allclose(graph[numbers], reference[numbers], atol=1e-3)
    assert graph.drop(columns=numbers).equals(reference.drop(columns=numbers)) or len(
        graph
    ) == len(reference)


@pytest.mark.slow
def test_the_documented_packages_are_needed_and_suffice(documented_jobs):
    assert documented_packages() <= documented_jobs[1]


def documented_packages():
    """Return the packages that docs/engines.md lists for prediction without PyTorch."""
    section = DOC.partition("## Predict without PyTorch")[2]
    commands = re.findall(r"^    pip install (?!--no-deps)(.*)$", section, re.MULTILINE)
    return {_normalize(word) for command in commands for word in command.split()}


def with_requirements(packages):
    """Return packages with everything that they require without extras."""
    closure = set(packages)
    pending = list(packages)
    while pending:
        lines = requires(pending.pop()) or []
        found = {
            _normalize(re.match(r"[\w.-]+", line)[0])
            for line in lines
            if "extra ==" not in line
        }
        pending += [name for name in found - closure if name in INSTALLED]
        closure |= found
    return closure


def _normalize(name):
    return re.sub(r"[-_.]+", "-", name).lower()


INSTALLED = {
    _normalize(distribution.name) for distribution in importlib.metadata.distributions()
}
