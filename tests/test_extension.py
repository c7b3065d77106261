"""A component of another installed package is found by its name and used like one of
rsft's."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from tests.helpers.messages import mentions
from tests.helpers.registries import copy_registry
from tests.helpers.scenes import UTM, write_geotiff

Install = Callable[[str, str, str], Path]


@pytest.fixture
def install(tmp_path_factory, monkeypatch):
    """Install a package with one module, for copies of `registries`; return its
    folder."""

    def install(module, source, entry_points, *registries):
        for registry in registries:
            copy_registry(registry, monkeypatch)
        site = tmp_path_factory.mktemp("site")
        (site / f"{module}.py").write_text(source)
        metadata = site / f"{module}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n"
        )
        (metadata / "entry_points.txt").write_text(entry_points)
        monkeypatch.syspath_prepend(site)
        return site

    return install


PROGRAM = """
import json, sys
from rsft.cli import main

for sys.argv in json.loads(sys.argv[1]):
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, sys.argv
"""


def run_in_new_process(site, *commands):
    """Run commands in a process that finds the package in `site`; return what it prints
    in one line."""
    environment = os.environ | {"PYTHONPATH": str(site), "COLUMNS": "200"}
    words = json.dumps([["rsft", *command.split()] for command in commands])
    command = [sys.executable, "-c", PROGRAM, words]
    printed = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout
    return " ".join(printed.split())


ENGINE = """
from rsft.inference.engines.base import EXACT
from rsft.inference.engines.graph import GraphEngine
from rsft.inference.engines.graph import GraphModel, as_inference_fn


class ToyEngine(GraphEngine):
    name, title, extra, packages = "toy", "Toy Runtime", "toy", ("safetensors",)
    file_name, precisions = "toy.pt2", {"fp32": EXACT}

    def write_graph(self, program, folder, metadata):
        import torch

        torch.export.save(program, folder / self.file_name)

    def open_graph(self, path, precision):
        import torch

        return GraphModel(as_inference_fn(torch.export.load(path).module()))
"""


@pytest.mark.slow
def test_an_engine_and_format(rsft, run, root, tmp_path, install):
    from rsft.inference.engines.base import ENGINES, FORMATS

    entry_points = (
        "[rsft.engines]\ntoy = toy_engine:ToyEngine\n[rsft.export_formats]\ntoy ="
        " toy_engine:ToyEngine\n"
    )
    site = install("toy_engine", ENGINE, entry_points, ENGINES, FORMATS)
    chips = root / "chips/val"
    run = shutil.copytree(run, tmp_path / "run")
    assert rsft("export", run, "--format", "toy")[0] == 0
    code, printed = rsft("predict", run, chips, "-o", "toy.csv", "--engine", "toy")
    assert code == 0 and "engine: toy fp32" in printed
    assert rsft("predict", run, chips, "-o", "torch.csv", "--engine", "torch")[0] == 0
    expected = pd.read_csv("torch.csv")
    columns = [name for name in expected if name.startswith("p_")]
    pd.testing.assert_frame_equal(
        pd.read_csv("toy.csv")[columns], expected[columns], atol=1e-4
    )
    code, printed = rsft("export", run, "--format", "toy", "-o", "exported")
    assert code == 0 and Path("exported/toy.pt2").is_file()
    assert (
        rsft("predict", run, chips, "-o", "by_path.csv", "--engine", "exported")[0] == 0
    )
    code, printed = rsft("predict", run, chips, "-o", "x.csv", "--engine", "toy,int8")
    assert code == 2 and "no int8 for toy" in printed
    help_text = run_in_new_process(site, "predict --help", "export --help")
    assert (
        "torch, openvino, toy, or an export" in help_text
        and "peft, mlflow, toy." in help_text
    )


def test_a_package_that_cannot_be_imported_is_named(rsft, recipe_file, install):
    from rsft.inference.engines.base import find_engine

    install(
        "broken_engine",
        "import no_such_thing\n",
        "[rsft.engines]\nbroken = broken_engine:Engine\n",
    )
    with pytest.raises(ModuleNotFoundError, match="no_such_thing"):
        find_engine("broken")
    install(
        "broken_loss",
        "import no_such_thing\n",
        "[rsft.losses]\nbroken = broken_loss:Loss\n",
    )
    code, printed = rsft("recipes", "validate", recipe_file, "loss.name=broken")
    assert (
        code == 2
        and "this loss cannot be imported" in printed
        and "'no_such_thing'" in printed
    )


TOYS = """
from dataclasses import dataclass
from typing import Annotated, ClassVar
from rsft.utils.settings import Setting

@dataclass(frozen=True)
class ToyMethod:
    name: ClassVar[str] = "toy-method"
    title: ClassVar[str] = "Toy tuning"
    is_identity_at_init: ClassVar[bool] = True
    kind: Annotated[str, Setting("kind", pattern="^(bias|weight)$", words="bias | weight")] = "bias"

    def build_modules(self, vit):
        from rsft.peft.modules.unscaled import SelectiveTuning
        return [SelectiveTuning(vit, self.name, "last:1", lambda module, name: name == self.kind)]

@dataclass(frozen=True)
class ToyLoss:
    name: ClassVar[str] = "toy-loss"
    title: ClassVar[str] = "smoothed cross entropy"
    smoothing: Annotated[float, Setting("share of uniform labels", ge=0, lt=1)] = 0.1

    def make(self, class_counts):
        from torch.nn import functional as F
        return lambda logits, labels: F.cross_entropy(logits, labels, label_smoothing=self.smoothing)

@dataclass(frozen=True)
class ToySampler:
    name: ClassVar[str] = "toy-sampler"
    title: ClassVar[str] = "in the order of the manifest"

    def draw(self, labels, members, size, rng):
        return members[:size]

class ToyTracker:
    name, title, packages = "toy-tracker", "Toy tracker", ()

    def open(self, recipe, folder, record_id):
        return ToyRecord(recipe.track.project, folder / "toy.txt")

class ToyRecord:
    def __init__(self, name, path):
        self.version, self.file = name, path.open("a")

    def log_metrics(self, metrics, step):
        print(step, *sorted(metrics), file=self.file)

    def finalize(self, status):
        print(status, file=self.file)
        self.file.close()
"""

TOY_KINDS = {
    "peft_methods": "Method",
    "losses": "Loss",
    "samplers": "Sampler",
    "trackers": "Tracker",
}
TOY_POINTS = "".join(
    f"[rsft.{group}]\ntoy-{kind.lower()} = toys:Toy{kind}\n"
    for group, kind in TOY_KINDS.items()
)


@pytest.fixture
def toys(install, monkeypatch):
    """A package with a PEFT method, a loss, a sampler and a tracker."""
    from rsft.peft.methods.registry import METHODS
    from rsft.recipe.registries import LOSSES, SAMPLERS, TRACKERS

    monkeypatch.delitem(sys.modules, "toys", raising=False)
    return install("toys", TOYS, TOY_POINTS, METHODS, LOSSES, SAMPLERS, TRACKERS)


@pytest.mark.slow
def test_a_recipe_names_a_method_a_loss_a_sampler_and_a_tracker(
    rsft, root, run, recipe_file, toys
):
    names = [
        "peft.method=toy-method",
        "peft.kind=weight",
        "loss.name=toy-loss",
        "train.sampler=toy-sampler",
    ]
    names += ["track.to=[toy-tracker]", "track.project=toys", "track.every=1"]
    code, printed = rsft(
        "finetune",
        recipe_file,
        "meta=null",
        *names,
        "loss.smoothing=0.2",
        "train.epochs=1",
    )
    assert code == 0, printed
    (folder,) = Path("runs/bars").glob("0*")
    assert all(
        words in (folder / "recipe.yaml").read_text()
        for words in ("toy-method", "smoothing: 0.2")
    )
    page = next(folder.glob("**/*.html")).read_text()
    expected = (
        "toy-method",
        "smoothing: 0.2",
        "toy-sampler",
    )
    assert all(words in page for words in expected)
    assert json.loads((folder / "run.json").read_text())["tracking"] == {
        "toy-tracker": "toys"
    }
    lines = (folder / "toy.txt").read_text().splitlines()
    assert (
        "train/loss" in lines[0]
        and "epoch/val_macro" in lines[-2]
        and lines[-1] == "success"
    )
    # the bundle rebuilds the method
    assert rsft("predict", folder, root / "chips/val", "-o", "toy.csv")[0] == 0
    code, printed = rsft("runs", "compare", folder, run)
    assert code == 0 and "peft.kind" in printed and "loss.smoothing" in printed


def test_faults_of_a_component_of_another_package(rsft, recipe_file, toys):
    code, printed = rsft(
        "recipes",
        "validate",
        recipe_file,
        "loss.name=toy-loss",
        "loss.smoothing=1",
        "loss.tau=1",
    )
    printed = " ".join(printed.split())
    assert code == 2
    assert "loss.smoothing found 1 (command line) a number >= 0 and < 1" in printed
    assert (
        "loss.tau found 1 (command line) nothing: the loss toy-loss takes smoothing"
        in printed
    )
    code, printed = rsft(
        "recipes", "validate", recipe_file, "peft.method=toymethod", "peft.kind=norm"
    )
    assert "lora+adaptformer" in printed and "| toy-method" in printed


CUT_MIX = """
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from rsft.data.loading.batches import EpochBatches
from rsft.training.objective import Mixing
from rsft.training.parts.base import Part

@dataclass
class CutMix(Part):
    name: ClassVar[str] = "cutmix"
    title: ClassVar[str] = "CutMix"
    batches: EpochBatches

    @classmethod
    def make(cls, context):
        return cls(context.batches)

    def prepare(self, moment, objective):
        rng = np.random.default_rng((self.batches.seed, 70, moment.epoch, moment.batch))
        chips = len(self.batches.batch_indices(moment.epoch, moment.batch))
        order = torch.from_numpy(rng.permutation(chips))
        return replace(objective, mixing=Mixing(0.75, order, paste))

def paste(inputs, partners, share):
    side = round(inputs.shape[-1] * (1 - share) ** 0.5)
    mixed = inputs.clone()
    mixed[..., :side, :side] = partners[..., :side, :side]
    return mixed
"""


@pytest.mark.slow
def test_a_training_part_is_one_file(recipe_file, tmp_path, install, monkeypatch):
    from rsft.errors import RecipeError
    from rsft.recipe.load import load_recipe
    from rsft.recipe.registries import PARTS
    from rsft.training.finetune import finetune

    with pytest.raises(RecipeError, match=r"train\.parts"):
        load_recipe(recipe_file, ["train.parts=[cutmix]"])
    monkeypatch.delitem(sys.modules, "cut_mix", raising=False)
    install(
        "cut_mix", CUT_MIX, "[rsft.training_parts]\ncutmix = cut_mix:CutMix\n", PARTS
    )
    losses = {}
    for parts in ("[]", "[cutmix]"):
        overrides = [f"train.parts={parts}", "train.epochs=1"]
        run = finetune(load_recipe(recipe_file, overrides), tmp_path / "runs")
        losses[parts] = pd.read_csv(run.folder / "metrics.csv")["train_loss"][0]
        assert f"parts: {parts}" in (run.bundle_dir / "recipe.yaml").read_text()
    assert losses["[]"] != losses["[cutmix]"]


DATA_SET = """
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rsft.data.prepare.registry import data_set, format_prepare_command

if TYPE_CHECKING:
    from rsft.data.chips.store import ChipStore
    from rsft.types import Progress

@data_set("toy-ships")
def prepare_toy_ships(
    source: Path, root: Path, bands: tuple[str, ...] | None = None, val: float = 0.5, overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    '''Build a chip store of the toy data set.

    Args:
        source: Folder of the images.
        bands: Bands to store,
            such as VV.
    '''
    from rsft.data.chips.builder import build_store
    from rsft.data.chips.record import ChipRecord, StoreDescription

    paths = sorted(source.glob("*.png"))
    splits = ["train"] * round(len(paths) * (1 - val)) + ["val"] * len(paths)
    records = [
        ChipRecord(path.stem, split, path.stem.split("_")[0], path, selected_bands=bands)
        for path, split in zip(paths, splits)
    ]
    command = format_prepare_command("toy-ships", source, root=root, bands=bands, val=val)
    description = StoreDescription("toy", sorted({record.label for record in records}), command)
    return build_store(root, records, description, overwrite=overwrite, progress=progress)
"""


@pytest.mark.slow
def test_a_data_set_is_a_command(tmp_path, install):
    site = install(
        "toy_ships",
        DATA_SET,
        "[rsft.datasets]\ntoy-ships = toy_ships:prepare_toy_ships\nbad = absent:x\n",
    )
    for name in ("ferry_1", "tug_1", "tug_2", "tug_3"):
        cv2.imwrite(
            str(tmp_path / f"{name}.png"),
            np.arange(64, dtype=np.uint8).reshape(8, 8) + len(name),
        )
    prepare = (
        f"prepare toy-ships {tmp_path} --root {tmp_path}/store --bands HH --val 0.25"
    )
    printed = run_in_new_process(
        site, "prepare --help", "prepare toy-ships --help", prepare
    )
    assert "toy-ships Build a chip store of the toy data set." in printed
    assert (
        "Folder of the images." in printed and "Bands to store, such as VV." in printed
    )
    assert (
        "[default: 0.5]" in printed
        and "--overwrite" in printed
        and "--progress" not in printed
    )
    assert "4 chips in" in printed and "no chip in val: ferry" in printed
    assert "--bands HH --val 0.25" in (tmp_path / "store/README.md").read_text("utf-8")


PRODUCT = """
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
import numpy as np
from rsft.data.imagery.products.calibration import CalibratedPlane
from rsft.data.imagery.products.product import Product, SensorProduct

@dataclass(frozen=True)
class Doubled:
    gain: float

    def __call__(self, values, top, left):
        rows = np.arange(top, top + len(values), dtype=np.float32)[:, None]
        return CalibratedPlane(values * np.float32(self.gain) + rows, 0)

@dataclass(frozen=True)
class ToyProduct(SensorProduct):
    name: ClassVar[str] = "toy-sat"
    title: ClassVar[str] = "Toy satellite"

    path: Path
    files: tuple[str, ...]
    header: dict[str, str]

    @classmethod
    def find(cls, path):
        header = path / "header.txt" if path.is_dir() else path.with_suffix(".txt")
        if not header.is_file() or not header.read_text().startswith("toy = 1"):
            return None
        lines = [line.split(" = ") for line in header.read_text().splitlines()]
        raster = path / "image.tif" if path.is_dir() else path
        return cls(path, (str(raster),), dict(lines))

    def read(self, handles, keep_noise):
        calibration = (Doubled(float(self.header["gain"])),) * handles[0].count
        return Product(
            kind=self.title,
            unit="amplitude",
            bands=("HH",),
            calibrations={"gamma0": calibration},
            calibration_source="the gain in its header",
            acquired=self.header["time"],
            pass_direction=self.header["pass"],
            incidence=lambda rows, cols: 30 + rows / 10,
        )
"""


def test_a_product_of_a_sensor(tmp_path, install, monkeypatch):
    """A folder, or a raster with a header beside it, is read with the calibration and
    geometry of its product."""
    from rsft.data.imagery.products.options import ProductOptions
    from rsft.data.imagery.products.product import PRODUCTS
    from rsft.errors import RequestError
    from rsft.scenes.raster import PixelWindow, open_scene
    from rsft.scenes.reader import SceneReader

    install(
        "toy_sat", PRODUCT, "[rsft.products]\ntoy-sat = toy_sat:ToyProduct\n", PRODUCTS
    )
    header = "toy = 1\ngain = 2\ntime = 2030-05-06T07:08:09Z\npass = ascending\n"
    pixels = np.arange(1, 601, dtype=np.uint16).reshape(20, 30)
    (tmp_path / "scene").mkdir()
    (tmp_path / "scene/header.txt").write_text(header)
    (tmp_path / "file.txt").write_text(header)
    write_geotiff(tmp_path / "file.tif", pixels, crs="EPSG:32633", transform=UTM)
    shutil.copy(tmp_path / "file.tif", tmp_path / "scene/image.tif")
    for name in ("scene", "file.tif"):
        scene = open_scene(tmp_path / name)
        assert (scene.unit, scene.dtype, scene.bands) == (
            "amplitude",
            "uint16",
            ("HH",),
        ) and scene.path.name == name
        assert (scene.product.kind, scene.product.pass_direction) == (
            "Toy satellite",
            "ascending",
        )
        assert (
            scene.product.acquired == "2030-05-06T07:08:09Z"
            and scene.georeference is not None
        )
        assert scene.product.incidence(np.array([10.0]), np.array([0.0])).tolist() == [
            31.0
        ]
        calibrated = SceneReader(scene.in_unit("gamma0"))
        values = calibrated(PixelWindow(5, 6, 7, 8))[:, :, 0]
        calibrated.close()
        assert values.dtype == np.float32
        assert (
            values.tolist() == (pixels[5:7, 6:8] * 2.0 + np.array([[5], [6]])).tolist()
        )
    with pytest.raises(
        RequestError, match=mentions("--read calibrate", "gain in its header")
    ):
        open_scene(tmp_path / "scene", ProductOptions(factor=2.0))
    (tmp_path / "file.txt").unlink()
    install(
        "broken_sat",
        "import no_such_thing\n",
        "[rsft.products]\nbroken = broken_sat:Product\n",
    )
    # all kinds of products are asked
    with pytest.warns(UserWarning, match=mentions("broken", "no_such_thing")):
        assert open_scene(tmp_path / "file.tif").product.kind == "raster"


POINTS = """
from geopandas import points_from_xy
from pandas import read_csv
from rsft.data.annotations.base import AnnotationFormat, Annotations, annotation_table

class Points(AnnotationFormat):
    name, title = "points", "Points of My Tool"

    def recognizes(self, path):
        return path.suffix == ".csv" and path.read_text().startswith("#points")

    def read(self, path, layer=None):
        rows = read_csv(path, skiprows=1, names=["x", "y", "class"])
        table = annotation_table(points_from_xy(rows["x"], rows["y"]), rows.index.tolist(), [rows["class"]])
        return Annotations(table, "pixel")
"""


def test_an_annotation_format(tmp_path, monkeypatch, install):
    """A format of another package is asked first, and one that cannot be imported is
    left out with a warning."""
    from rsft.data.annotations.base import ANNOTATIONS
    from rsft.scenes.positions import read_positions
    from rsft.scenes.raster import open_scene

    entry_points = (
        "[rsft.annotations]\npoints = points_format:Points\nbroken ="
        " no_such_module:Format\n"
    )
    install("points_format", POINTS, entry_points, ANNOTATIONS)
    scene = open_scene(write_geotiff(tmp_path / "s.tif", np.zeros((30, 40), np.uint8)))
    (tmp_path / "ships.csv").write_text("#points\n12.5,7,tanker\n3,4,tug\n")
    with pytest.warns(UserWarning, match="broken cannot be imported"):
        positions = read_positions(tmp_path / "ships.csv", scene)
    assert [(x.row, x.col, x.name) for x in positions.locations] == [
        (7, 12.5, "s_000000"),
        (4, 3, "s_000001"),
    ]
    assert positions.attributes["class"].tolist() == ["tanker", "tug"]
    (tmp_path / "own.csv").write_text("row,col\n1,2\n")
    with pytest.warns(UserWarning, match="broken cannot be imported"):
        assert len(read_positions(tmp_path / "own.csv", scene).locations) == 1


def test_a_function_of_the_package(install):
    import rsft as package

    source = "def count(items):\n    return len(items)\n"
    entry_points = "[rsft.functions]\ncount = counting:count\n"
    install("counting", source, entry_points)
    assert package.count("abc") == 3 and "count" in dir(package)
    with pytest.raises(AttributeError, match="no attribute 'counts'"):
        package.counts  # noqa: B018
