"""From published archives to a map of ships: the four commands of the paper's SAR data,
typed in an empty folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyogrio
import pytest
from PIL import Image
from rasterio import Affine

from rsft.backbones import registered
from rsft.backbones.card import weights_path
from rsft.backbones.mae import CARDS_SATMAE
from rsft.data.chips.store import ChipStore
from rsft.training import small_network
from tests.data.datasets.fusar_ship.data import make_names, write_fusar
from tests.data.datasets.srsdd.data import HEADER, write_srsdd
from tests.helpers import satmae_data, tiny_backbones
from tests.helpers.scenes import write_geotiff

RECIPE = "satmae_sar_metalora"
SMALL_ENCODER = """
import sys
from rsft.backbones import registered
from rsft.cli import run
from tests.helpers.tiny_backbones import CARDS
registered.CARDS.update({card.name: card for card in CARDS})
if sys.argv[1] == "finetune":
    from rsft.training import small_network
    small_network.STEPS = 10
run()
"""
"""The command `rsft` with an encoder of 13 blocks of width 64, and with few steps for
the network beside the run."""

COUNTS = {"Cargo": 9, "Fishing": 6, "Tanker": 6, "Dredger": 6, "Tug": 3}
SHIPS = ["Cell-Container", "Fishing", "ore-oil", "Dredger"]


def write_archives(folder: Path, is_zipped: bool) -> None:
    """Write FUSAR-Ship and SRSDD as published, unpacked or zipped."""
    write_fusar(folder / "FUSAR_Ship1.0", make_names(COUNTS))
    write_srsdd(
        folder / "SRSDD-V1.0/train",
        {number: SHIPS for number in range(1, 4)},
        header=HEADER,
    )
    write_srsdd(
        folder / "SRSDD-V1.0/test",
        {number: SHIPS for number in range(4, 6)},
        header=HEADER,
        seed=1,
    )
    for name in ("FUSAR_Ship1.0", "SRSDD-V1.0") if is_zipped else ():
        shutil.make_archive(str(folder / name), "zip", folder, name)
        shutil.rmtree(folder / name)


def write_scene(path: Path) -> int:
    """Write a scene of dark water with bright ships, in the pixels of FUSAR-Ship;
    return the number of ships."""
    pixels = np.random.default_rng(0).gamma(4, 4, (900, 900))
    corners = [(x, y) for x in range(100, 900, 200) for y in range(100, 850, 250)]
    for x, y in corners:
        pixels[y : y + 8, x : x + 30] += 200
    write_geotiff(
        path,
        pixels.clip(0, 255).astype(np.uint8),
        transform=Affine(1.2, 0, 500_000, 0, -1.2, 5_000_000),
        crs="EPSG:32631",
    )
    return len(corners)


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """Return an empty folder of a user with an empty home."""
    home = tmp_path / "home"
    folder = tmp_path / "empty"
    home.mkdir()
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith(("RSFT_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    return folder


def run_program(program: list[str], folder: Path, *arguments: object) -> str:
    """Run `rsft` in a process of its own, and return what it printed."""
    command = [sys.executable, *program, *map(str, arguments)]
    result = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def check_four_commands(run: Callable[..., str], top: Path, is_zipped: bool) -> None:
    """Run the four commands, and check what each of them writes."""
    root = top / "data"
    folder = top / "empty"
    write_archives(root, is_zipped)
    printed = run("prepare", "fusrs", "--root", root)
    store = ChipStore.open(root / "fusrs")
    assert store.size == 27 + 20 and f"{store.size} chips in {store.root}" in printed
    short = ("train.epochs=1", "train.ensemble_size=2")
    run("finetune", f"recipes/{RECIPE}.yaml", *short)
    [run_folder] = (folder / f"runs/{RECIPE}").iterdir()
    report = json.loads((run_folder / "run.json").read_text("utf-8"))
    assert report["status"] == "done"
    (folder / "new").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (512, 512), np.uint8)
        Image.fromarray(pixels).save(folder / f"new/{number}.png")
    run("predict", f"runs/{RECIPE}", "new", "-o", "chips.csv")
    rows = (folder / "chips.csv").read_text("utf-8").splitlines()
    assert len(rows) == 4
    ships = write_scene(folder / "scene.tif")
    scene_options = ("--detect", "-o", "map.gpkg", "--picture", "map.png")
    run("predict", f"runs/{RECIPE}", "scene.tif", *scene_options)
    layer = pyogrio.read_dataframe(folder / "map.gpkg", layer="predictions")
    assert (
        len(layer) == ships
        and layer.crs == "EPSG:4326"
        and set(layer["class"]) <= {*store.classes}
    )
    assert Image.open(folder / "map.png").size > (100, 100)


@pytest.fixture
def small_checkpoint(empty):
    """Write a checkpoint with the names and the format of SatMAE's; its width and depth
    are smaller."""
    path = weights_path(CARDS_SATMAE[0])
    path.parent.mkdir(parents=True)
    tiny_backbones.write(tiny_backbones.CARDS[0], path.parent)


@pytest.mark.slow
@pytest.mark.usefixtures("small_checkpoint")
def test_archives_become_a_map(rsft, empty, tmp_path, monkeypatch):
    """The commands run in this process, which has imported the libraries."""
    monkeypatch.chdir(empty)
    monkeypatch.setattr(small_network, "STEPS", 10)
    for card in tiny_backbones.CARDS:
        monkeypatch.setitem(registered.CARDS, card.name, card)

    def run(*arguments: object) -> str:
        code, printed = rsft(*arguments)
        assert code == 0, printed
        return printed

    check_four_commands(run, tmp_path, is_zipped=True)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_checkpoint")
def test_archives_become_a_map_by_programs(empty, tmp_path):
    run = partial(run_program, ["-c", SMALL_ENCODER], empty)
    check_four_commands(run, tmp_path, is_zipped=False)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_archives_become_a_map_at_full_size(empty, tmp_path):
    """The checkpoint has 1.2 GB of random values."""
    path = weights_path(CARDS_SATMAE[0])
    path.parent.mkdir(parents=True)
    satmae_data.write(
        path,
        CARDS_SATMAE[0].build(224).state_dict() | satmae_data.decoder(14),
        optimizer=False,
    )
    run = partial(run_program, ["-m", "rsft"], empty)
    check_four_commands(run, tmp_path, is_zipped=True)
