"""The folder of a finished run with a bundle of three classes of ships, which a test
may change."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch

from rsft.data.imagery.stretch import IDENTITY_STRETCH, Stretch
from rsft.models.bundle.bundle import Bundle, source_license
from rsft.models.loading import build_classifier, load_encoder
from rsft.models.uncertainty.calibrator import Calibrator
from rsft.recipe.schema import Recipe
from tests.helpers.fake_run import _metrics
from tests.helpers.scenes import toy_contract

CLASSES = ("cargo", "fishing", "tanker")
GROUPS = {"tail": ("cargo", "fishing", "tanker")}
UNITS = {
    "uint16": (Stretch(low=0.0, high=3686.0),) * 3,
    "uint8": (IDENTITY_STRETCH,) * 3,
}
NORMALIZATION = {"mean": (0.4,) * 3, "std": (0.2,) * 3}
CONTRACT = toy_contract(
    units=UNITS,
    bands=("gray",),
    planes=("gray",) * 3,
    crop=48,
    size=32,
    **NORMALIZATION,
)
RECIPE = {
    "name": "ships",
    "data": {"root": "data/ships", "size": 32, "crop": 48},
    "backbone": {"name": "vit_tiny_patch8_64.simship", "pool": "token"},
    "peft": {"method": "lora", "rank": 2},
    "meta": {},
    "train": {"epochs": 1},
}


@pytest.fixture(scope="session")
def ships_run(tmp_path_factory):
    """Run folder with a bundle of random weights, and an invented evaluation."""
    folder = tmp_path_factory.mktemp("ships")
    recipe = Recipe.model_validate(RECIPE)
    rng = np.random.default_rng(0)
    encoder = load_encoder(recipe, CONTRACT.bands)
    torch.manual_seed(0)
    classifier = build_classifier(encoder, len(CLASSES), recipe)
    labels = np.arange(27) % 3
    features = rng.normal(size=(27, encoder.width))
    logits = rng.normal(size=(27, 3))
    training = {"train_features": features + 1, "train_labels": labels}
    calibrator = Calibrator.fit(logits, labels, features, **training)
    accuracy = {"value": 0.4444, "low": 0.2963, "high": 0.5926}
    bundle = Bundle(
        recipe=recipe,
        classes=CLASSES,
        groups=GROUPS,
        train_counts=(12, 8, 4),
        contract=CONTRACT,
        backbone_sha256=encoder.sha256,
        tensors=classifier.learned_state(),
        metrics={
            "split": "val",
            "chips": 27,
            "micro": accuracy,
            "macro": accuracy,
            "tail": accuracy,
        },
        calibrator=calibrator,
        licenses=(
            source_license("backbone", encoder.name, "MIT"),
            source_license("data", "", "unknown"),
        ),
    )
    run = {"finished": "2026-11-26T06:30:38+01:00", "versions": {"torch": "2.5.1+cpu"}}
    (folder / "run.json").write_text(
        json.dumps(run | {"bundle_sha256": bundle.save(folder / "bundle")})
    )
    (folder / "evaluation").mkdir()
    metrics, _, _ = _metrics(rng, list(CLASSES), {"MetaLoRA": 0.85, "plain k-NN": 0.65})
    (folder / "evaluation/metrics.json").write_text(json.dumps(metrics))
    return folder


@pytest.fixture
def ships(ships_run, tmp_path):
    """Copy of the run folder."""
    return shutil.copytree(ships_run, tmp_path / "runs/ships/001")


@pytest.fixture
def chips(tmp_path):
    """Folder with chips that the bundle classifies."""
    (tmp_path / "chips").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 48), np.uint8)
        cv2.imwrite(str(tmp_path / f"chips/{number}.png"), pixels)
    return tmp_path / "chips"
