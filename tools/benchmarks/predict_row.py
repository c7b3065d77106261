"""One process of tools/benchmarks/predict.py; prints its result as JSON.

python -m tools.benchmarks.predict_row make PLACE MODEL CHIPS
python -m tools.benchmarks.predict_row time PLACE ROW STEPS
python -m tools.benchmarks.predict_row memory PLACE CHIPS
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

from rsft.backbones.simship import NAME
from rsft.backbones.timm_vits import card
from rsft.backbones.weights import path_of
from rsft.data.chips.builder import Plan, build_store
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.stretch import AS_IT_IS
from rsft.errors import WeightsError
from rsft.inference.engines.engines import CHUNK, Engine, Kind, open_engine, open_file
from rsft.inference.engines.selection import choose_engine
from rsft.inference.export import quantize
from rsft.inference.export.export import export
from rsft.inference.predict.job import predict
from rsft.inference.predict.request import Request
from rsft.models.bundle.bundle import Bundle
from rsft.models.factory import build_classifier, load_encoder
from rsft.recipe.schema import Recipe
from rsft.utils.malloc import keep_freed_memory
from tools.benchmarks.memory import CLASSES, peak, simulated

MODELS = {"b": "vit_base_patch16_224.augreg_in21k", "s": "vit_small_patch16_224.augreg_in21k", "tiny": NAME}
KINDS = {
    "eager": Kind("torch"),
    "torch": Kind("torch"),
    "torch-bf16": Kind("torch", "bf16", compiled=True),
    "onnx": Kind("onnx"),
}
KINDS |= {"openvino": Kind("openvino"), "openvino-bf16": Kind("openvino", "bf16")}
SHARES = {"sixth": 1 / 6, "third": 1 / 3}  # of the blocks, beside int8
LABELLED = 64  # simulated chips that int8 is calibrated on


def make(place: Path, model: str, count: int) -> None:
    """Weights, a bundle, its data and the chips of the job."""
    name, size = MODELS[model], 64 if model == "tiny" else 224
    if name != NAME:
        found = card(name)
        assert found is not None
        torch.manual_seed(0)
        vit = timm.create_model(name, num_classes=0)
        save_file(vit.state_dict(), path_of(found))
    build_store(place / "data", simulated(LABELLED), Plan("noise", CLASSES, "bench"))
    bundle(name, size, place / "data").save(place / "bundle")
    if model != "tiny":
        bundle(NAME, 64, place / "data").save(place / "small")
    write_chips(place / "chips", count, size)
    print(json.dumps({}))


def bundle(backbone: str, size: int, data: Path) -> Bundle:
    """Not trained: LoRA at all sites and a linear head, both random."""
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
    classifier = build_classifier(recipe, len(CLASSES), encoder)
    for parameter in classifier.theta:
        torch.nn.init.normal_(parameter, std=0.02)
    contract = Contract(
        units={"uint8": (AS_IT_IS,) * len(encoder.bands)},
        bands=("gray",),
        planes=encoder.bands,
        crop=None,
        size=size,
        mean=encoder.mean,
        std=encoder.std,
    )
    state = classifier.learned_state()
    return Bundle(recipe, CLASSES, {"head": CLASSES}, (LABELLED,) * len(CLASSES), contract, encoder.sha256, state)


def write_chips(folder: Path, count: int, size: int) -> None:
    """PNG files of noise under a smooth ground."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        ground = cv2.resize(rng.uniform(40, 200, (4, 4)), (size, size), interpolation=cv2.INTER_CUBIC)
        pixels = np.clip(ground + rng.normal(0, 8, ground.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{index:06}.png"), pixels)


def time_row(place: Path, row: str, steps: int) -> None:
    """The bare loop before and after the whole job; "eager" is PyTorch as it comes, memory included."""
    if row != "eager":
        keep_freed_memory()  # as the command does
    file = place / f"export-{row}"
    if "int8" in row and not file.exists():
        with mock.patch.object(quantize, "SHARES", (SHARES.get(row.rpartition("-")[2], 0),)):
            export(place / "bundle", row.partition("-")[0], "int8", file, max_loss=100)
    asked = ("torch", "fp32") if row == "eager" else (str(file), None) if file.exists() else tuple(KINDS[row][:2])
    try:
        run, contract, difference = ready(place, row, file)
    except WeightsError as error:  # it says something else than PyTorch: nobody would get to run it
        print(f"{row} is left out: {error}", file=sys.stderr)
        print(json.dumps({}))
        return
    before = passes(run, contract, steps)
    told = whole(place, *asked)
    print(json.dumps(told | {"bare": before + passes(run, contract, steps), "difference": difference}))


def ready(place: Path, row: str, file: Path) -> tuple[Engine, Contract, float]:
    """The engine, its contract, and the largest difference from PyTorch in float32."""
    found = Bundle.load(place / "bundle")
    images = noise(found.contract)
    wanted = open_engine(found, KINDS["eager"], "cpu").run(images[:4]).logits
    run = (open_file(found, file) if file.exists() else open_engine(found, KINDS[row], "cpu")).run
    return run, found.contract, float(np.abs(run(images)[0][:4] - wanted).max())


def passes(run: Engine, contract: Contract, steps: int) -> list[float]:
    """Images a second of every pass of the bare loop."""
    images = noise(contract)
    run(images)
    return [CHUNK / seconds(lambda: run(images)) for _ in range(steps)]


def noise(contract: Contract) -> NDArray[np.float32]:
    """A pass of images that lie ready."""
    shape = (CHUNK, len(contract.planes), contract.size, contract.size)
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def whole(place: Path, engine: str, precision: str | None) -> dict[str, object]:
    """Chips a second of a job, and the seconds that its engine takes to open, which are not counted."""
    opening: list[float] = []

    def timed(*arguments: Any) -> Any:
        start = time.perf_counter()
        chosen = choose_engine(*arguments)
        opening.append(time.perf_counter() - start)
        return chosen

    chips, request = place / "chips", Request(device="cpu", engine=engine, precision=precision, overwrite=True)
    with mock.patch("rsft.inference.predict.job.choose_engine", timed):
        took = seconds(lambda: predict(place / "bundle", [chips], place / "out.gpkg", request))
    return {"predict": sum(1 for _ in chips.iterdir()) / (took - opening[0]), "open": opening[0]}


def take_memory(place: Path, count: int) -> None:
    """Of a job of small chips, as the command runs it."""
    keep_freed_memory()
    small = place / "small" if (place / "small").exists() else place / "bundle"
    chips = place / f"small-{count}"
    write_chips(chips, count, 64)
    predict(small, [chips], place / f"{count}.gpkg", Request(device="cpu", engine="torch"))
    print(json.dumps({"peak": peak()}))


def seconds(work: Callable[[], object]) -> float:
    """Of one call."""
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
