"""Sign tests of outer signals: signals by hand, runs that recording does not change, tables by hand, real runs."""

import json
import math

import numpy as np
import pytest
import torch

from tools.reproduction import signal_runs
from tools.reproduction.outer_signals import run_signal_run
from tools.reproduction.signal_recorder import SignalRecorder, ValidationSample, train_short_run
from tools.reproduction.signal_report import read_signal_results, report_markdown
from tools.reproduction.signal_runs import SIGNED, UNSIGNED, SignalRun, perturbed_runs

SGD = signal_runs.InnerOptimizer("sgd", 0.02)
SITES = [f"blocks.{block}.{position}" for block in range(2) for position in ("q", "v", "mlp1")]


@pytest.fixture
def study(recipe_file):
    """Study with one optimizer, two starts and one seed, on the chips of `root`."""
    kinds = ["all", "positions", "blocks"]
    return signal_runs.SignalStudy(recipe_file, ["train.epochs=1", "data.augment=none"], [SGD], [1.0, 4.0], [0], kinds)


def test_optimizers_groups_and_scales(study):
    assert signal_runs.parse_optimizer("sgd:0.3") == ("sgd", 0.3, None)
    adamw = signal_runs.parse_optimizer("adamw:0.012:0.01")
    assert str(adamw) == "adamw 0.012 decay 0.01"
    assert adamw.overrides()[1:] == ["train.lr=0.012", "train.weight_decay=0.01"]
    for text in ("sgd", "sgd:1:2:3", "sgd:fast"):
        with pytest.raises(ValueError):
            signal_runs.parse_optimizer(text)
    assert study.groups(SITES) == ["all", "q", "v", "mlp1", "block 0", "block 1"]
    start = signal_runs.Start(SGD, 0, 4.0, "d")
    larger, smaller = perturbed_runs(start, ["block 1"])
    assert larger.scale_override() == 'peft.scale={"blocks.1.*": 8.055011, "*": 4.0}'  # 4 exp(0.7)
    assert smaller.scale_override() == 'peft.scale={"blocks.1.*": 1.986341, "*": 4.0}'
    assert SignalRun(start).scale_override() == "peft.scale=4.0"


def test_signals_by_hand():
    a, b = (torch.tensor(values, requires_grad=True) for values in ([1.0, 2.0], [0.0, 0.0]))
    recorder = SignalRecorder([(a, b)])
    for step in (torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])):
        recorder.begin_step()
        with torch.no_grad():
            b.sub_(step)
        recorder.end_step()
    for _ in range(2):
        recorder.add_loss("random", (torch.tensor([3.0, 4.0]) * b).sum() + 0 * a.sum())
    sums = {name: float(values[0]) for name, values in recorder.sums.items()}
    assert sums["random B dot h=1"] == 2 * 8  # <(3, 4), (0, 2)>, recorded twice
    assert sums["random B dot h=5"] == pytest.approx(2 * (3 * 0.8 + 8))
    assert sums["random B dot h=inf"] == 2 * (3 + 8)
    assert sums["random B cosine h=inf"] == pytest.approx(2 * 11 / (5 * math.sqrt(5)))
    assert sums["random A dot h=inf"] == sums["random A cosine h=1"] == 0  # A has not moved
    assert sums["random Fisher"] == 2 * 25 and b.grad is None and b.tolist() == [-1, -2]


def test_the_displacement_of_b_gives_the_gradient_of_the_log_scale():
    rng = torch.Generator().manual_seed(0)
    a, x, target = (torch.randn(shape, generator=rng) for shape in ((2, 5), (7, 5), (7, 3)))
    a.requires_grad_()
    b, log_scale = torch.zeros(3, 2, requires_grad=True), torch.tensor(0.7, requires_grad=True)
    recorder = SignalRecorder([(a, b)])
    for _ in range(3):
        recorder.begin_step()
        loss = (log_scale.exp() * x @ a.T @ b.T - target).square().mean()
        with torch.no_grad():
            for parameter, gradient in zip((a, b), torch.autograd.grad(loss, (a, b)), strict=True):
                parameter.sub_(gradient, alpha=0.1)
        recorder.end_step()
    loss = (log_scale.exp() * x @ a.T @ b.T - target).square().mean()
    (expected,) = torch.autograd.grad(loss, log_scale, retain_graph=True)
    recorder.add_loss("random", loss)
    assert recorder.sums["random B dot h=inf"] == pytest.approx([-float(expected)], rel=1e-4)


class Chips:
    """Chips whose input is their number."""

    labels = np.array([0, 0, 2, 0, 2, 2, 2, 0])

    def batch(self, indices):
        return torch.from_numpy(indices), torch.from_numpy(self.labels[indices])


def test_the_validation_sample_is_balanced(monkeypatch):
    monkeypatch.setattr("tools.reproduction.signal_recorder.SAMPLE_PER_CLASS", 3)
    sample = ValidationSample.draw(Chips())
    assert sample.labels.tolist() == [0, 0, 0, 2, 2, 2] and len(set(sample.inputs.tolist())) == 6


@pytest.mark.slow
def test_recording_does_not_change_a_run(study):
    recipe = study.recipe(SGD, "data.augment=sar", "train.batch_size=4", "peft={dropout: 0.1}", "seed=3")
    recorded, plain = (train_short_run(recipe, record=record) for record in (True, False))
    assert (recorded.loss, recorded.accuracy, recorded.sites) == plain[:3] and plain.signals == {}
    assert len(recorded.sites) == 36 and set(recorded.signals) == {*SIGNED, *UNSIGNED}
    values = np.array(list(recorded.signals.values()))
    assert values.shape == (63, 36) and np.isfinite(values).all()
    assert np.all(np.array([recorded.signals[name] for name in UNSIGNED]) > 0)


def test_report_by_hand(study, tmp_path):
    out, (first, second), name = tmp_path, study.starts(), SIGNED[0]

    def write(run, loss, signals=None):
        values = {"loss": loss, "accuracy": 0.5, "sites": SITES, "signals": signals or {}}
        run.result_file(out).write_text(json.dumps(values))

    write(SignalRun(first), 1.5, {name: [1, -3, 1, 1, 1, 1], UNSIGNED[0]: [1, 2, 3, 4, 5, 6]})
    write(SignalRun(second), 2.0, {name: [-1] * 6})
    truths = [(first, "all", 0.2), (first, "q", 0.01), (first, "v", -0.3), (first, "mlp1", 0.4), (second, "all", 0.5)]
    for start, group, truth in truths:
        larger, smaller = perturbed_runs(start, [group])
        write(larger, 1.0)
        write(smaller, 1.0 + truth)
    write(perturbed_runs(first, ["block 0"])[0], 1.0)  # its other run is missing
    results = read_signal_results(study, out)
    signals = {x.group: x.signals[name] for x in results.starts[0].comparisons}
    assert signals == {"all": 2, "q": 2, "v": -2, "mlp1": 2}
    lines = report_markdown(results, 0.015).splitlines()
    assert "| always larger | 100 (2) | 67 (3) | 50 (2) | 75 (4) | 100 (1) | - |" in lines
    assert f"| {name} | 50 (2) | 100 (3) | 100 (2) | 100 (4) | 0 (1) | 0.87 (1) |" in lines  # ranks 2.5, 1, 2.5
    assert f"| {UNSIGNED[0]} |  |  |  |  |  | 0.50 (1) |" in lines  # 5, 7 and 9
    assert "| sgd 0.02 | 0 | 1 | 1.500 | 50.0 | 0.200 | 0.010 | -0.300 | 0.400 |" in lines
    assert lines[-1] == "Runs: 13 of 26."


@pytest.mark.slow
def test_real_runs(study, tmp_path):
    start = study.starts()[0]
    runs = [SignalRun(start), *perturbed_runs(start, ["block 1"])]
    for run in runs:
        run_signal_run(study, tmp_path, run)
    base, larger, smaller = (json.loads(run.result_file(tmp_path).read_text()) for run in runs)
    assert base["recipe"]["peft"]["scale"] == 1 and base["recipe"]["meta"] is None
    assert larger["recipe"]["peft"]["scale"] == {"blocks.1.*": 2.013753, "*": 1.0} and larger["signals"] == {}
    (result,) = read_signal_results(study, tmp_path).starts
    (comparison,) = result.comparisons
    assert (comparison.kind, comparison.truth) == ("blocks", smaller["loss"] - larger["loss"])
    assert comparison.signals["random Fisher"] == pytest.approx(sum(base["signals"]["random Fisher"][6:12]))
