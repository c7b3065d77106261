"""Every benchmark runs on small inputs, and its ways to compute the same agree."""

import json
import re
import sys
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from rsft.backbones import mae
from rsft.data.datasets.dota import DOTAObjects
from rsft.metrics.intervals import Interval
from tests.helpers.plugins import needs_plugin
from tests.helpers.sentinel1 import write_product
from tests.helpers.style import ROOT
from tools.benchmarks import (
    archive,
    calibration,
    crops,
    demo,
    growth,
    job,
    peft_row,
    predict_row,
    startup,
    weights,
)


def test_both_units_are_measured(tmp_path, monkeypatch, capsys):
    water = np.random.default_rng(0).gamma(4, 0.25, (300, 400)) ** 0.5 * 90
    water[150:158, 200:210] = 4000
    safe = write_product(tmp_path, {"vv": water.astype(np.uint16)})
    monkeypatch.setattr(sys, "argv", ["calibration", str(safe), "--rounds", "1"])
    calibration.main()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    cells = {
        row[1]: row[3]
        for row in rows
        if len(row) > 3 and row[1] in ("amplitude", "sigma0")
    }
    assert cells == {"amplitude": "1", "sigma0": "1"}


def test_both_ways_make_the_same_crops(tmp_path):
    crops.write_tree(tmp_path, side=256, objects=5)
    objects = DOTAObjects(tmp_path).objects
    assert len(objects) == 5
    for way in (crops.by_object, crops.rsft):
        (tmp_path / way.__name__).mkdir()
        way(objects, tmp_path / way.__name__)
    for item in objects:
        first = cv2.imread(str(tmp_path / f"by_object/{item.name}.png"))
        second = cv2.imread(str(tmp_path / f"rsft/chips/train/plane/{item.name}.png"))
        np.testing.assert_array_equal(first, second)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_an_epoch_of_metalora_has_fewer_steps(tmp_path):
    growth.write_chips(tmp_path / "images", 400, job.SIDE)
    growth.run_job(tmp_path, ("prepare", "folder", "images", "--root", "store"))
    rows = ("job, LoRA", "job, MetaLoRA, alternating")
    lora, meta = (
        job.run_training(tmp_path, row, (*job.JOBS[row], "train.epochs=2"), 1)
        for row in rows
    )
    assert (lora.steps, meta.steps) == (10, 9)
    assert lora.seconds > 0 and meta.seconds > 0


@pytest.mark.parametrize("row", sorted(set(peft_row.ROWS) - {"peft", "peft-bf16"}))
def test_every_row_runs_and_only_training_changes_weights(row):
    vit = VisionTransformer(
        img_size=32, patch_size=16, embed_dim=24, depth=3, num_heads=2, num_classes=15
    )
    before = vit.head.weight.clone()
    step = peft_row.ROWS[row](
        vit, peft_row.Batch(torch.randn(2, 3, 32, 32), torch.tensor([3, 5]))
    )
    step()
    trains = row not in ("products", "products-bf16", "bare", "merged")
    assert torch.equal(vit.head.weight, before) != trains


@pytest.mark.slow
def test_a_row_and_its_memory(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    predict_row.make(tmp_path, "tiny", 5)
    predict_row.time_row(tmp_path, "eager", 2)
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (
        len(result["bare"]) == 4
        and result["difference"] < 1e-3
        and result["predict"] > 0
        and result["open"] > 0
    )
    predict_row.take_memory(tmp_path, 3)
    assert json.loads(capsys.readouterr().out)["peak"] > 100


@pytest.mark.slow
def test_a_job_runs_to_its_end_or_to_a_line(tmp_path):
    clock, processor = startup.run_job(startup.Job(("--version",)), ROOT, tmp_path)
    assert clock > 0 and processor > 0
    assert (
        startup.run_job(
            startup.Job(
                ("recipes", "show", "mstar_lt_small"), stop_at="# No pre-training"
            ),
            ROOT,
            tmp_path,
        )[0]
        > 0
    )
    assert "rsft" in startup.slowest_imports(
        startup.Job(("--version",)), ROOT, tmp_path
    )


def test_seconds_of_a_package_are_those_of_its_modules():
    log = (
        "import time: self [us] | cumulative | imported package\n"
        "import time:       500 |       1500 |   torch.nn\n"
        "import time:   1000000 |    2000000 | torch\n"
        "a line of the command\n"
        "import time:       250 |        250 | timm\n"
    )
    assert startup.package_seconds(log) == {
        "torch": pytest.approx(1.0005),
        "timm": pytest.approx(0.00025),
    }


def test_all_loaders_return_the_same_tensors(monkeypatch, tmp_path):
    shape = {"embed_dim": 64, "depth": 2, "num_heads": 4}
    small = replace(
        mae.CARDS_SATMAE[0], build=partial(mae.build_mae_vit, "narrow", shape, False)
    )
    monkeypatch.setattr(weights, "find_card", lambda name: small)
    monkeypatch.setattr(
        weights, "DECODER", {"embed_dim": 32, "depth": 1, "num_heads": 4}
    )
    size = weights.write_checkpoint(tmp_path / "net.pth")
    first, *others = (
        load(tmp_path / "net.pth").state_dict() for load in weights.LOADERS.values()
    )
    assert size == sum(tensor.nbytes for tensor in first.values())
    assert all(
        torch.equal(tensor, other[name])
        for other in others
        for name, tensor in first.items()
    )


def test_accuracies_of_several_seeds_and_the_lowest_limit_of_their_gains():
    def evaluation(head, tail, gain):
        accuracy = {
            "head": level(head),
            "tail": level(tail),
            "macro": level((head + tail) / 2),
        }
        differences = {
            "k-NN": dict.fromkeys(
                demo.MEASURES, Interval(gain, gain - 0.05, gain + 0.05)
            )
        }
        methods = {name: SimpleNamespace(**accuracy) for name in ("MetaLoRA", "k-NN")}
        return SimpleNamespace(methods=methods, differences=differences)

    def level(value):
        return Interval(value, value - 0.05, value + 0.05)

    runs = [
        {"quickstart": evaluation(*values), "lora": evaluation(0.5, 0.5, 0)}
        for values in SEEDS
    ]
    assert demo.accuracy_table(runs).splitlines()[2:] == [
        (
            "| MetaLoRA | 85.0 (80.0 to 90.0) | 65.0 (60.0 to 70.0) | 75.0 (75.0 to"
            " 75.0) |  |  |  |"
        ),
        "| k-NN | 85.0 (80.0 to 90.0) | 65.0 (60.0 to 70.0) | 75.0 (75.0 to 75.0)"
        + 3 * " | +2.0 to +10.0, above -3.0"
        + " |",
        (
            "| LoRA | 50.0 (50.0 to 50.0) | 50.0 (50.0 to 50.0) | 50.0 (50.0 to 50.0) |"
            "  |  |  |"
        ),
    ]


SEEDS = ((0.8, 0.7, 0.1), (0.9, 0.6, 0.02))


@needs_plugin("demo")
@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_demo_is_trained_and_its_scene_searched(tmp_path):
    evaluations = demo.train(tmp_path, 5, 3, ("train.epochs=1", "evaluate.baselines=0"))
    assert {name: next(iter(x.methods)) for name, x in evaluations.items()} == {
        "quickstart": "MetaLoRA",
        "lora": "LoRA",
    }
    assert evaluations["lora"].count == 12
    assert re.match(
        r"\d+ of 32 true objects found, \d+ of them", demo.find_ships(tmp_path, 5)
    )


def test_a_simulated_archive_is_classified_and_then_skipped(tmp_path, capfd):
    archive.measure(tmp_path, 1200)
    rows = [line.split(" | ") for line in capfd.readouterr().out.splitlines()[2:]]
    assert [row[:2] for row in rows] == [
        ["| 1,200 done", "1,200"],
        ["| 1,200 skipped", "0"],
    ]
    assert all(float(row[2]) > 0 for row in rows)
