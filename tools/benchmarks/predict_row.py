"""Run one process of tools/benchmarks/predict.py, and print its result as JSON.

python -m tools.benchmarks.predict_row make FOLDER MODEL CHIPS
python -m tools.benchmarks.predict_row time FOLDER ROW STEPS
python -m tools.benchmarks.predict_row memory FOLDER CHIPS
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from rsft.backbones.card import weights_path
from rsft.backbones.simship import NAME
from rsft.backbones.timm_vits import timm_card
from rsft.data.chips.builder import build_store
from rsft.data.chips.record import StoreDescription
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.stretch import IDENTITY_STRETCH
from rsft.errors import WeightsError
from rsft.inference.engines.base import (
    CPU_BATCH_SIZE,
    InferenceFn,
)
from rsft.inference.export import export
from rsft.inference.export.export import export_bundle
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.engine import load_engine
from rsft.inference.predict.job import predict
from rsft.models.bundle.bundle import Bundle
from rsft.models.loading import build_classifier, load_encoder
from rsft.recipe.schema import Recipe
from rsft.utils.memory import retain_freed_memory
from tools.benchmarks.memory import CLASSES, peak_memory, random_records

MODELS = {
    "b": "vit_base_patch16_224.augreg_in21k",
    "s": "vit_small_patch16_224.augreg_in21k",
    "tiny": NAME,
}
SPECS: dict[str, tuple[str, str | None]] = {
    "eager": ("torch", "fp32"),
    "torch": ("torch", "fp32"),
    "torch-bf16": ("torch", "bf16"),
}
"""Engine and precision of the rows that need no export."""

SHARES = {"sixth": 1 / 6, "third": 1 / 3}
"""Share of the blocks that stays in floating point, by the last word of an int8 row."""

LABELED_CHIPS = 64
"""Simulated chips on which int8 is calibrated."""


def make(folder: Path, model: str, count: int) -> None:
    """Write weights, a bundle, its data, and the chips of the job.

    Args:
        folder: an existing folder.
        model: b, s or tiny.
        count: number of chips.
    """
    name = MODELS[model]
    size = 64 if model == "tiny" else 224
    if name != NAME:
        card = timm_card(name)
        assert card is not None
        torch.manual_seed(0)
        vit = timm.create_model(name, num_classes=0)
        save_file(vit.state_dict(), weights_path(card))
    build_store(
        folder / "data",
        random_records(LABELED_CHIPS),
        StoreDescription("noise", CLASSES, "bench"),
    )
    random_bundle(name, size, folder / "data").save(folder / "bundle")
    if model != "tiny":
        random_bundle(NAME, 64, folder / "data").save(folder / "small")
    write_chips(folder / "chips", count, size)
    print(json.dumps({}))


def random_bundle(backbone: str, size: int, data: Path) -> Bundle:
    """Return a bundle with LoRA at all sites and a linear head, both with random weights.

    Args:
        backbone: name of the encoder.
        size: size of the network's input in pixels.
        data: chip store of its recipe.
    """
    recipe = Recipe.model_validate(
        {
            "name": "bench",
            "data": {"root": str(data), "size": size, "augment": "none"},
            "backbone": {"name": backbone},
            "head": {"kind": "linear"},
            "train": {"epochs": 1},
        }
    )
    encoder = load_encoder(recipe, ("gray",))
    classifier = build_classifier(encoder, len(CLASSES), recipe)
    for parameter in classifier.theta:
        torch.nn.init.normal_(parameter, std=0.02)
    contract = Contract(
        units={"uint8": (IDENTITY_STRETCH,) * len(encoder.bands)},
        bands=("gray",),
        planes=encoder.bands,
        crop=None,
        size=size,
        mean=encoder.mean,
        std=encoder.std,
    )
    state = classifier.learned_state()
    return Bundle(
        recipe,
        CLASSES,
        {"head": CLASSES},
        (LABELED_CHIPS,) * len(CLASSES),
        contract,
        encoder.sha256,
        state,
    )


def write_chips(folder: Path, count: int, size: int) -> None:
    """Write square PNG files of noise on a smooth background.

    Args:
        folder: is made if missing.
        count: number of files.
        size: side in pixels.
    """
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        background = cv2.resize(
            rng.uniform(40, 200, (4, 4)), (size, size), interpolation=cv2.INTER_CUBIC
        )
        pixels = np.clip(
            background + rng.normal(0, 8, background.shape), 0, 255
        ).astype(np.uint8)
        cv2.imwrite(str(folder / f"{index:06}.png"), pixels)


def time_row(folder: Path, row: str, steps: int) -> None:
    """Time the engine alone before and after a whole job, and print the result.

    Args:
        folder: what `make` wrote.
        row: name of the row; "eager" is PyTorch without the allocator setting of the
            command.
        steps: calls of the engine before and after the job.
    """
    if row != "eager":
        retain_freed_memory()  # as the command does
    export_path = folder / f"export-{row}"
    options = SPECS.get(row, (str(export_path), None))
    try:
        if row not in SPECS:
            export_row(folder / "bundle", row, export_path)
        infer, contract, difference = load_row(folder, *options)
    # its outputs differ from PyTorch's, so rsft would not use it
    except WeightsError as error:
        print(f"{row} is left out: {error}", file=sys.stderr)
        print(json.dumps({}))
        return
    before = time_engine(infer, contract, steps)
    result = time_job(folder, *options)
    print(
        json.dumps(
            result
            | {
                "bare": before + time_engine(infer, contract, steps),
                "difference": difference,
            }
        )
    )


def export_row(bundle: Path, row: str, export_path: Path) -> None:
    """Export a bundle for a row such as onnx, openvino-bf16 or onnx-int8-third, once."""
    engine, _, precision = row.partition("-")
    share = SHARES.get(row.rpartition("-")[2], 0)
    if not export_path.exists():
        with mock.patch.object(export, "FLOAT_BLOCK_SHARES", (share,)):
            export_bundle(
                bundle,
                engine,
                precision.partition("-")[0] or "fp32",
                export_path,
                max_loss=100,
            )


def load_row(
    folder: Path, engine: str, precision: str | None
) -> tuple[InferenceFn, Contract, float]:
    """Load an engine, and compare it with PyTorch in float32.

    Args:
        folder: what `make` wrote.
        engine: an engine, or the path of an export.
        precision: number type; None for an export.

    Returns:
        The engine, its contract, and the largest difference of a logit.
    """
    bundle_dir = folder / "bundle"
    bundle = Bundle.load(bundle_dir)
    images = noise(bundle.contract)
    expected = load_engine(bundle, bundle_dir, "torch").infer(images[:4]).logits
    loaded = load_engine(bundle, bundle_dir, engine, precision)
    return (
        loaded.infer,
        bundle.contract,
        float(np.abs(loaded.infer(images).logits[:4] - expected).max()),
    )


def time_engine(infer: InferenceFn, contract: Contract, steps: int) -> list[float]:
    """Return images per second for each of `steps` calls of an engine."""
    images = noise(contract)
    infer(images)
    return [CPU_BATCH_SIZE / seconds(lambda: infer(images)) for _ in range(steps)]


def noise(contract: Contract) -> NDArray[np.float32]:
    """Return a batch of random network inputs."""
    shape = (CPU_BATCH_SIZE, len(contract.planes), contract.size, contract.size)
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def time_job(folder: Path, engine: str, precision: str | None) -> dict[str, object]:
    """Time a whole job without the loading of its engine.

    Args:
        folder: what `make` wrote.
        engine: an engine, or the path of an export.
        precision: number type; None for an export.

    Returns:
        "predict": chips per second; "open": seconds for loading the engine.
    """
    loading: list[float] = []

    def select(*arguments: Any) -> Any:
        start = time.perf_counter()
        selected = load_engine(*arguments)
        loading.append(time.perf_counter() - start)
        return selected

    chips = folder / "chips"
    request = PredictionRequest(
        device="cpu", engine=engine, precision=precision, overwrite=True
    )
    with mock.patch("rsft.inference.predict.job.load_engine", select):
        duration = seconds(
            lambda: predict(folder / "bundle", [chips], folder / "out.gpkg", request)
        )
    return {
        "predict": sum(1 for _ in chips.iterdir()) / (duration - loading[0]),
        "open": loading[0],
    }


def take_memory(folder: Path, count: int) -> None:
    """Print the peak memory of a job of small chips, run as the command runs it.

    Args:
        folder: what `make` wrote.
        count: number of chips.
    """
    retain_freed_memory()
    if (folder / "small").exists():
        bundle_dir = folder / "small"
    else:
        bundle_dir = folder / "bundle"
    chips = folder / f"small-{count}"
    write_chips(chips, count, 64)
    predict(
        bundle_dir,
        [chips],
        folder / f"{count}.gpkg",
        PredictionRequest(device="cpu", engine="torch"),
    )
    print(json.dumps({"peak": peak_memory()}))


def seconds(work: Callable[[], object]) -> float:
    """Return the duration of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    elif sys.argv[1] == "time":
        time_row(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        take_memory(Path(sys.argv[2]), int(sys.argv[3]))
