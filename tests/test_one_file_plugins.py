"""A component in one file of a plug-in is found by its name and used like one of rsft's."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.helpers.registries import copy_registry
from tests.helpers.scenes import UTM, write_geotiff

LABEL_SMOOTHING = """
from dataclasses import replace

from rsft.training.parts.base import Part

class LabelSmoothing(Part):
    name, title = "label-smoothing", "label smoothing"

    def prepare(self, moment, objective):
        def smoothed(logits, labels):
            uniform = -logits.log_softmax(dim=-1).mean()
            return 0.9 * objective.inner(logits, labels) + 0.1 * uniform

        return replace(objective, inner=smoothed)
"""

CONVOLUTIONS = """
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from rsft.backbones.card import Card, Remote

def build_vit(size, **options):
    vit = VisionTransformer(size, 8, embed_dim=24, depth=2, num_heads=2, num_classes=0, **options)
    vit.patch_embed.proj = nn.Sequential(nn.Conv2d(3, 12, 4, 4), nn.GELU(), nn.Conv2d(12, 24, 2, 2))
    return vit

CARDS = [
    Card(
        name="toy_vit", about="a ViT with a stem of convolutions", size=32, patch=8,
        bands=("R", "G", "B"), unit="uint8", mean=(0.5,) * 3, std=(0.25,) * 3,
        license="MIT", weights=Remote("toy.safetensors"), build=build_vit,
    )
]
"""

STRIX = """
from rsft.data.imagery.products.calibration import FactorCalibration
from rsft.data.imagery.products.elements import read_number, read_text
from rsft.data.imagery.products.headers import HeaderProduct, read_header_xml
from rsft.data.imagery.products.product import Product

class Strix(HeaderProduct):
    name, title, headers, marker = "strix", "StriX", ("PAR-*.xml",), b"<satellite>STRIX"
    detected = "a detected product"

    def load(self):
        self.product = read_header_xml(self.header)
        return {"VV": self.root / read_text(self.product, "image")}

    def describe(self, handles):
        factor = FactorCalibration(10 ** (read_number(self.product, "CalibrationFactor") / 10))
        return Product(
            kind=self.title, unit="amplitude", bands=self.bands,
            calibrations={"sigma0": (factor,)}, calibration_source="CalibrationFactor",
            acquired=read_text(self.product, "start"),
        )
"""

VIA = """
from rsft.data.annotations.objects import DocumentFormat
from rsft.data.annotations.shapes import make_box, try_shape

class Via(DocumentFormat):
    name, title, suffixes = "via", "VGG Image Annotator", (".json",)

    def matches(self, content):
        return isinstance(content, dict) and all("regions" in x for x in content.values())

    def parse_content(self, content, objects):
        for image in content.values():
            objects.add_image(image["filename"])
            for region in image["regions"]:
                objects.add(
                    try_shape(make_box, *region["box"]),
                    {"class": region["class"]},
                    image=image["filename"],
                )
"""

UNSURE = """
from pathlib import Path

from rsft.cli.display.console import console

def unsure(predictions: Path, count: int = 5) -> None:
    \"""List the chips whose class is least sure.

    Args:
        predictions: Table of predictions as .csv.
        count: Number of chips.
    \"""
    from pandas import read_csv

    for name in read_csv(predictions).nsmallest(count, "probability")["chip"]:
        console.print(name)
"""


@pytest.fixture
def plugin(tmp_path_factory, monkeypatch):
    """Write a plug-in with one module beside those of rsft; its folder is its name."""
    from rsft.utils import registry

    def write(module, source, group, name, component, *registries):
        plugins = tmp_path_factory.mktemp("plugins")
        for file in registry.PLUGINS.glob("*/plugin.toml"):
            (plugins / file.parent.name).mkdir()
            shutil.copy(file, plugins / file.parent.name)
        folder = plugins / "toys"
        folder.mkdir()
        (folder / f"{module}.py").write_text(source)
        (folder / "plugin.toml").write_text(
            'title = "Toys"\nabout = "Play."\n\n'
            f'[entry-points."{group}"]\n{name} = "{module}:{component}"\n'
        )
        for components in registries:
            copy_registry(components, monkeypatch)
        monkeypatch.setattr(registry, "PLUGINS", plugins)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, module, raising=False)

    return write


def test_a_command_is_one_file_of_a_plug_in(rsft, plugin, tmp_path):
    plugin("toy_unsure", UNSURE, "rsft.commands", "unsure", "unsure")
    (tmp_path / "t.csv").write_text("chip,probability\na,0.9\nb,0.4\nc,0.6\n")
    code, printed = rsft("unsure", tmp_path / "t.csv", "--count", "2")
    assert code == 0 and printed.split() == ["b", "c"]


@pytest.mark.slow
def test_a_training_part_is_one_file_of_a_plug_in(rsft, recipe_file, plugin):
    from rsft.recipe.registries import PARTS

    group = "rsft.training_parts"
    plugin("smooth", LABEL_SMOOTHING, group, "label-smoothing", "LabelSmoothing", PARTS)
    losses = []
    for parts in ("[]", "[label-smoothing]"):
        words = ("train.epochs=1", "meta=null", f"train.parts={parts}", "--no-report")
        code, printed = rsft("finetune", recipe_file, *words)
        assert code == 0, printed
        run = max(Path("runs/bars").glob("0*"))
        losses.append(pd.read_csv(run / "metrics.csv")["train_loss"][0])
    assert losses[0] != losses[1]


@pytest.mark.slow
def test_an_encoder_is_one_file_of_a_plug_in(rsft, recipe_file, plugin, tmp_path):
    from safetensors.torch import save_file

    plugin("toy_convolutions", CONVOLUTIONS, "rsft.encoders", "toy", "CARDS")
    from toy_convolutions import build_vit

    save_file(build_vit(32).state_dict(), tmp_path / "toy.safetensors")
    keys = ("backbone.name=toy_vit", "backbone.blocks=null", "train.epochs=1")
    weights = f"backbone.weights={tmp_path / 'toy.safetensors'}"
    code, printed = rsft("finetune", recipe_file, *keys, weights, "--no-report")
    assert code == 0, printed
    assert (
        "toy_vit"
        in rsft("bundle", "show", next(Path("runs/bars").glob("0*/bundle")))[1]
    )


def write_strix(folder):
    """Write a product of the toy sensor, with a ship in it."""
    pixels = np.random.default_rng(0).integers(50, 90, (64, 64)).astype(np.uint16)
    pixels[20:26, 10:30] = 4000
    folder.mkdir()
    write_geotiff(folder / "image.tif", pixels, crs="EPSG:32633", transform=UTM)
    (folder / "PAR-1.xml").write_text(
        "<product><satellite>STRIX-1</satellite><image>image.tif</image>"
        "<CalibrationFactor>-60</CalibrationFactor>"
        "<start>2026-05-01T09:54:49Z</start></product>"
    )
    return folder, pixels


@pytest.mark.slow
def test_a_sensor_is_one_file_of_a_plug_in(rsft, plugin, tmp_path):
    from rsft.data.chips.store import ChipStore
    from rsft.data.imagery.products.product import PRODUCTS
    from rsft.data.imagery.reader import read_chip

    plugin("toy_strix", STRIX, "rsft.products", "strix", "Strix", PRODUCTS)
    folder, pixels = write_strix(tmp_path / "scene")
    (tmp_path / "ships.csv").write_text("row,col,class\n23,20,cargo\n50,40,tug\n")
    words = ("--at", "ships.csv", "--root", "store", "--size", "16", "--unit", "sigma0")
    code, printed = rsft(
        "prepare", "scenes", folder, *words, "--jobs", "1", "--split", "object"
    )
    assert code == 0, printed
    table = ChipStore.open(tmp_path / "store").table
    assert set(table["class"]) == {"cargo", "tug"} and set(table["unit"]) == {"sigma0"}
    ship = table[table["class"] == "cargo"]["path"].item()
    chip = read_chip(tmp_path / "store" / ship)[..., 0]
    expected = pixels[15:31, 12:28].astype(float) ** 2 * 1e-6
    np.testing.assert_allclose(chip, expected, rtol=1e-4)


@pytest.mark.slow
def test_a_label_format_is_one_file_of_a_plug_in(rsft, plugin, tmp_path):
    from rsft.data.annotations.base import ANNOTATIONS
    from rsft.data.chips.store import ChipStore

    plugin("toy_via", VIA, "rsft.annotations", "via", "Via", ANNOTATIONS)
    pixels = np.random.default_rng(0).integers(1, 200, (64, 64)).astype(np.uint8)
    write_geotiff(tmp_path / "s.tif", pixels, crs="EPSG:32633", transform=UTM)
    regions = [
        {"box": [10, 20, 30, 26], "class": "cargo"},
        {"box": [40, 40, 44, 48], "class": "tug"},
    ]
    content = {"s": {"filename": "s.tif", "regions": regions}}
    (tmp_path / "ships.json").write_text(json.dumps(content))
    words = (
        "--at",
        "ships.json",
        "--root",
        "store",
        "--size",
        "16",
        "--jobs",
        "1",
        "--split",
        "object",
    )
    code, printed = rsft("prepare", "scenes", tmp_path / "s.tif", *words)
    assert code == 0, printed
    table = ChipStore.open(tmp_path / "store").table
    assert sorted(table["class"]) == ["cargo", "tug"]


@pytest.mark.slow
def test_an_output_column_has_one_place(rsft, run, root, monkeypatch):
    from rsft.inference.writers import columns

    def margin(chips):
        ordered = np.sort(chips.probabilities, axis=1)
        return (ordered[:, -1] - ordered[:, -2]).round(6)

    column = columns.TableColumn(
        "margin", "float64", "Margin", "difference of the best two", compute=margin
    )
    monkeypatch.setattr(
        columns, "COLUMNS", [*columns.COLUMNS[:4], column, *columns.COLUMNS[4:]]
    )
    code, printed = rsft("predict", run, root / "chips/val", "-o", "t.csv")
    assert code == 0, printed
    table = pd.read_csv("t.csv")
    difference = table["probability"] - table["probability_2"]
    np.testing.assert_allclose(table["margin"], difference, atol=2e-6)
