"""The commands that are killed, and their small inputs."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from rsft.plugins.demo.archives import write_fusar_tree, write_srsdd_tree
from rsft.plugins.demo.prepare import prepare_demo
from rsft.plugins.demo.scene import write_scene

RECIPE = """\
# Ships, small, with every kind of state
# python -m tools.kill_runs
data: {root: ROOT, size: 32, crop: 96, augment: sar}
peft: {rank: 4, dropout: 0.2}
meta: {outer_every: 2, lr: 0.05, warmup: 0.5}
train: {epochs: 3, batch_size: 8, lr: 0.1, max_grad_norm: 1.0, accumulate_grad_batches: 3,
        patience: 8, checkpoint_steps: 2}
evaluate: {every: 2, baselines: 0}
track: {to: []}
"""
_SWEEP = (
    "recipe: RECIPE\noverrides: {train.epochs: 1, meta: null}\ngrid: {peft.rank: [1,"
    " 2]}\nmetric: val_macro\n"
)
_ASHA = (
    "recipe: RECIPE\noverrides: {train.epochs: 4, evaluate.every: 1}\n"
    "grid: {train.lr: [0.1, 0.01, 0.001, 0.0001]}\nmetric: val_macro\n"
    "scheduler: asha\n"
)
_ENCODER = "vit_tiny_patch16_224"
_CLASSES = ("cargo", "fishing", "tanker", "dredger")
_CHIPS = {"train": dict(zip(_CLASSES, (40, 20, 8, 6), strict=True))} | {
    split: dict.fromkeys(_CLASSES, 6) for split in ("val", "test")
}


@dataclass(frozen=True)
class Verb:
    """A command that is killed.

    Attributes:
        name: its name in the table.
        command: the arguments after `rsft`; INPUTS stands for the folder of inputs.
        resume: the arguments that continue it; None repeats the command.
        copies: files of the inputs that the command changes, copied into its working
            folder.
    """

    name: str
    command: tuple[str, ...]
    resume: tuple[str, ...] | None = None
    copies: tuple[str, ...] = ()


def _verb(name: str, command: str, resume: str | None = None, *copies: str) -> Verb:
    return Verb(
        name, tuple(command.split()), tuple(resume.split()) if resume else None, copies
    )


_TABLE = "-o out.gpkg --engine torch --batch-size 4"

VERBS = {
    verb.name: verb
    for verb in (
        _verb("prepare-demo", "prepare demo --root demo --scene scene"),
        _verb(
            "prepare-scenes",
            "prepare scenes INPUTS/scenes --at INPUTS/labels --root store --split"
            " object",
        ),
        _verb(
            "prepare-folder", "prepare folder INPUTS/folder --root store --imbalance 4"
        ),
        _verb("prepare-dota", "prepare dota INPUTS/dota --root store"),
        _verb(
            "prepare-fusrs",
            "prepare fusrs --root store --fusar INPUTS/fusar.zip --srsdd"
            " INPUTS/srsdd.zip",
        ),
        _verb("finetune", "finetune INPUTS/ships.yaml", "finetune --resume"),
        _verb(
            "finetune-from",
            "finetune --from INPUTS/runs/ships train.epochs=2",
            "finetune --resume",
        ),
        # a smaller budget ends a trial at an epoch that depends on the machine
        _verb("finetune-chips", "finetune INPUTS/folder budget=10min"),
        _verb("evaluate", "evaluate INPUTS/runs/ships INPUTS/store --overwrite"),
        _verb("report-run", "report runs/ships", None, "runs"),
        _verb("sweep", "sweep INPUTS/sweep.yaml"),
        # of several trials at once, those that are ahead decide which trials stop
        _verb("sweep-asha", "sweep INPUTS/asha.yaml --jobs 1"),
        _verb(
            "predict-chips",
            f"predict INPUTS/runs/ships INPUTS/store/chips --html page.html {_TABLE}",
        ),
        _verb(
            "predict-scene",
            "predict INPUTS/runs/ships INPUTS/scene/scene.tif --grid 96 --chips cut"
            f" {_TABLE}",
        ),
        _verb(
            "predict-detect",
            "predict INPUTS/runs/ships INPUTS/scene/scene.tif --detect --html page.html"
            " --picture map.png " + _TABLE,
        ),
        _verb(
            "predict-archive",
            "predict INPUTS/runs/ships INPUTS/scenes/*.tif --detect -o maps --engine"
            " torch",
        ),
        _verb("detect", "detect INPUTS/scenes/*.tif -o objects.gpkg --chips cut"),
        _verb(
            "ais-match",
            "ais match INPUTS/scene/scene.tif --ais INPUTS/scene/ais.csv --html"
            " page.html -o matches.gpkg",
        ),
        _verb(
            "data-add",
            "data add store corrected.csv --source INPUTS/new",
            None,
            "store",
            "corrected.csv",
        ),
        _verb(
            "data-suggest",
            "data suggest INPUTS/store -o page.html",
        ),
        _verb("data-croissant", "data croissant store", None, "store"),
        _verb("audit", "audit INPUTS/folder -o audit.json"),
        _verb("export", "export INPUTS/runs/ships --format onnx -o exported"),
        _verb(
            "export-torch",
            "export INPUTS/runs/ships --format torch-export -o exported",
        ),
        _verb("bundle-stac", "bundle stac INPUTS/runs/ships -o item.json"),
        _verb("bundle-card", "bundle card INPUTS/runs/ships -o README.md"),
        _verb(
            "weights-convert",
            f"weights convert INPUTS/encoder.pth encoder.safetensors --as {_ENCODER}",
        ),
    )
}
"""The commands, by name."""

CHEAP = ("prepare-folder", "prepare-dota", "data-add")
"""Commands that need a second or two and no bundle."""


def write_inputs(folder: Path, jobs: int = 1) -> None:
    """Write the inputs of all commands but the bundle, which `rsft finetune` trains there.

    Args:
        folder: an empty folder.
        jobs: number of processes.
    """
    write_cheap_inputs(folder)
    fusar = {"Cargo": 12, "Fishing": 8, "Tanker": 8, "Dredger": 6}
    write_fusar_tree(folder / "fusar", fusar, size=64, jobs=jobs)
    write_srsdd_tree(folder / "srsdd", 10, jobs=jobs)
    for name in ("fusar", "srsdd"):
        shutil.make_archive(str(folder / name), "zip", folder / name)
        shutil.rmtree(folder / name)
    store = prepare_demo(folder / "store", counts=_CHIPS, scenes=4, jobs=jobs)
    (folder / "ships.yaml").write_text(RECIPE.replace("ROOT", str(store.root)), "utf-8")
    (folder / "sweep.yaml").write_text(
        _SWEEP.replace("RECIPE", str(folder / "ships.yaml")), "utf-8"
    )
    (folder / "asha.yaml").write_text(
        _ASHA.replace("RECIPE", str(folder / "ships.yaml")), "utf-8"
    )
    write_scene(folder / "scene")
    _write_scenes(folder)
    _write_encoder(folder / "encoder.pth")
    _write_corrections(folder, _CLASSES, "HH")


def write_cheap_inputs(folder: Path) -> None:
    """Write the inputs of the commands in `CHEAP`.

    Args:
        folder: an empty folder.
    """
    rng = np.random.default_rng(0)
    for index in range(80):
        path = folder / "folder" / ("a", "b")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (32, 32), np.uint8)).save(path)
    for index in range(12):
        _write_dota_image(folder / "dota", index, rng)


def write_small_store(folder: Path) -> None:
    """Write a store and corrections for `rsft data add` from the files of `write_cheap_inputs`.

    Args:
        folder: the folder of the inputs.
    """
    from rsft.data.prepare.image_folder import prepare_folder

    prepare_folder(folder / "folder", folder / "store")
    _write_corrections(folder, ("a", "b"), "gray")


def _write_scenes(folder: Path) -> None:
    """Write three scenes, and a layer with the ships of each."""
    for seed in range(3):
        scene = folder / f"scene{seed}"
        write_scene(scene, seed=seed)
        for kind, name in (("scenes", "scene.tif"), ("labels", "ships.gpkg")):
            (folder / kind).mkdir(exist_ok=True)
            target = folder / kind / f"{seed}{Path(name).suffix}"
            (scene / name).rename(target)
        shutil.rmtree(scene)


def _write_encoder(path: Path) -> None:
    """Write a checkpoint with an encoder of random weights."""
    import timm
    import torch

    torch.manual_seed(0)
    torch.save(timm.create_model(_ENCODER).state_dict(), path)


def _write_dota_image(folder: Path, index: int, rng: np.random.Generator) -> None:
    for name in ("images", "labelTxt"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 255, (300, 300, 3), np.uint8)).save(
        folder / f"images/P{index}.png"
    )
    corners = [(20 + 60 * (i % 4), 20 + 60 * (i // 4)) for i in range(16)]
    rows = [
        f"{x} {y} {x + 30} {y} {x + 30} {y + 20} {x} {y + 20}"
        f" {('plane', 'ship')[i % 2]} 0\n"
        for i, (x, y) in enumerate(corners)
    ]
    (folder / f"labelTxt/P{index}.txt").write_text("".join(rows))


def _write_corrections(folder: Path, classes: tuple[str, ...], band: str) -> None:
    """Write new chips and their labels, as the review page saves them."""
    rng = np.random.default_rng(1)
    rows = ["path,class,verdict"]
    for index in range(24):
        path = folder / "new" / f"new{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (64, 64), np.uint8)).save(path)
        rows.append(f"{path},{classes[index % len(classes)]},class")
    (folder / "corrected.csv").write_text("\n".join(rows) + "\n", "utf-8")
