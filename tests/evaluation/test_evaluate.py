import json
import re
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest

from rsft.data.chips.store import ChipStore
from rsft.errors import RequestError
from rsft.evaluation.evaluate import evaluate
from rsft.evaluation.schema import SMALL_NETWORK, Evaluation, Leaks
from rsft.metrics.accuracy import summarize_accuracy
from rsft.models.bundle.bundle import Bundle
from rsft.training.finetune import finetune
from rsft.training.small_network import small_network_recipe
from tests.helpers.messages import mentions

CLASSES = ["flat", "slanted", "steep"]


@pytest.fixture(scope="module")
def out(run, root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated") / "evaluation"
    evaluate(run, root, folder, split="val")
    return folder


@pytest.fixture(scope="module")
def metrics(out):
    return json.loads((out / "metrics.json").read_text())


@pytest.fixture(scope="module")
def predictions(out):
    return pd.read_parquet(out / "predictions.parquet")


def test_metrics_are_those_of_the_predictions(metrics, predictions):
    labels = predictions["class"].map(CLASSES.index).to_numpy()
    probabilities = predictions[[f"p_{name}" for name in CLASSES]].to_numpy()
    expected = summarize_accuracy(probabilities, labels, 3, metrics["groups"]).to_dict(
        CLASSES
    )
    summary = metrics["methods"]["MetaLoRA"]
    for name in ("micro", "macro", "head", "tail", "top2", "log_loss"):
        assert summary[name]["value"] == pytest.approx(
            expected[name]["value"], abs=1e-5
        )
    assert summary["medium"] is None
    assert (
        predictions["predicted"] == np.array(CLASSES)[probabilities.argmax(1)]
    ).all()
    baselines = [
        "logit-adjusted linear probe",
        "discriminant on frozen features",
        "class-balanced k-NN",
        "plain k-NN",
        "plain k-NN on pixels",
    ]
    assert list(metrics["methods"]) == ["MetaLoRA", *baselines]


def test_sets_contain_the_predicted_class_and_have_the_reported_coverage(
    metrics, predictions
):
    covered = [
        name in names
        for name, names in zip(
            predictions["class"], predictions["class_set"], strict=True
        )
    ]
    assert all(
        name in names
        for name, names in zip(
            predictions["predicted"], predictions["class_set"], strict=True
        )
    )
    level = next(
        level for level in metrics["confidence"]["coverage"] if level["target"] == 0.9
    )
    assert level["groups"]["all"]["value"] == pytest.approx(np.mean(covered))
    assert level["groups"]["all"]["size"] == pytest.approx(
        predictions["class_set"].map(len).mean()
    )
    assert (predictions["ood"] > 1).mean() == pytest.approx(
        metrics["confidence"]["ood_share"]["all"]
    )


def test_six_validation_chips_per_class_are_too_few_for_90_percent_and_a_note_says_so(
    metrics,
):
    level = next(
        level for level in metrics["confidence"]["coverage"] if level["target"] == 0.9
    )
    assert level["classes_without_coverage"] == [0, 1, 2]
    assert any(
        "takes 9 validation chips of the class" in note for note in metrics["notes"]
    )


@pytest.mark.slow
def test_a_note_says_that_coverage_on_the_fitted_chips_is_too_good(
    metrics, run, root, tmp_path
):
    assert metrics["confidence"]["fitted_on_these_chips"]
    assert any("coverage is too good" in note for note in metrics["notes"])
    other = evaluate(run, root, tmp_path, split="train", baselines=False)
    assert not other.confidence.fitted_on_these_chips and not any(
        "too good" in note for note in other.notes
    )


def test_a_map_before_and_after(out):
    table = pd.read_parquet(out / "embedding.parquet")
    columns = [
        "name",
        "path",
        "class",
        "frozen_x",
        "frozen_y",
        "adapted_x",
        "adapted_y",
    ]
    assert list(table.columns) == columns and len(table) == 18


def test_accuracy_only(out, metrics, run, root, tmp_path):
    evaluation = evaluate(run, root, tmp_path, baselines=False)
    assert (
        evaluation.methods["MetaLoRA"].macro.value
        == metrics["methods"]["MetaLoRA"]["macro"]["value"]
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "metrics.json",
        "predictions.parquet",
    ]


@pytest.mark.slow
def test_a_bundle_without_confidence_says_so(run, root, tmp_path):
    replace(Bundle.load(run), calibrator=None).save(tmp_path / "bundle")
    evaluation = evaluate(tmp_path / "bundle", root, tmp_path / "out", baselines=False)
    assert evaluation.confidence is None and any(
        "no calibration" in note for note in evaluation.notes
    )
    assert not {"class_set", "ood"} & set(
        pd.read_parquet(tmp_path / "out/predictions.parquet").columns
    )


@pytest.mark.slow
def test_leaking_chips_are_counted_and_a_note_tells_it_first(
    metrics, run, root, tmp_path
):
    assert metrics["leaks"] == {"chips": 0}
    assert not any("leak" in note for note in metrics["notes"])
    store = shutil.copytree(root, tmp_path / "root")
    table = pd.read_parquet(store / "manifest.parquet")
    rows = table.index[table["split"] == "val"]
    train = table.index[table["split"] == "train"]
    # two chips are copies of training chips
    for pairs, column in (
        (2, "path"),
        (2, "sha256"),
    ):
        table.loc[rows[:pairs], column] = table.loc[train[:pairs], column].to_numpy()
    table.loc[[rows[1], rows[2], train[5]], "mmsi"] = "211000000"
    table.loc[[rows[3], rows[4], train[6]], "group_key"] = "scene"
    table.to_parquet(store / "manifest.parquet")
    evaluation = evaluate(run, store, tmp_path / "out", split="val", baselines=False)
    assert evaluation.leaks == Leaks(chips=5) and evaluation.mark == "*"
    assert evaluation.notes[0].startswith("* 5 of 18 val chips leak from train")
    assert (
        json.loads((tmp_path / "out/metrics.json").read_text())["leaks"]["chips"] == 5
    )
    assert (
        evaluate(
            run,
            store,
            tmp_path / "train",
            split="train",
            baselines=False,
        ).mark
        == ""
    )


@pytest.mark.slow
def test_all_chips_of_class_folders_are_test_chips(run, root, class_folders, tmp_path):
    held_out = shutil.copytree(class_folders, tmp_path / "held_out")
    shutil.rmtree(held_out / "train/flat")
    rng = np.random.default_rng(0)
    for file in sorted(held_out.glob("val/flat/*.png")):
        # all others are chips of the training
        cv2.imwrite(str(file), rng.integers(0, 99, (32, 32), np.uint8))
    evaluation = evaluate(run, held_out, tmp_path / "out", split="all")
    assert (evaluation.count, evaluation.split, evaluation.data) == (
        34,
        "test",
        str(held_out),
    )
    assert (
        np.sum(evaluation.confusion, axis=1).tolist() == [6, 10, 18]
        and len(evaluation.methods) == 6
    )
    assert evaluation.leaks == Leaks(chips=28)
    assert "leak" in evaluation.notes[0] and re.search(
        mentions("every chip is a test", root), evaluation.notes[1]
    )
    predictions = pd.read_parquet(tmp_path / "out/predictions.parquet")
    assert len(predictions) == 34 and all(
        (tmp_path / "out/chips" / path).is_file() for path in predictions["path"]
    )
    again = evaluate(
        run,
        held_out,
        tmp_path / "out",
        split="all",
        baselines=False,
    )
    assert again.summary == evaluation.summary


@pytest.mark.slow
def test_all_chips_of_a_store_without_the_chips_of_the_training(run, root, tmp_path):
    bundle = Bundle.load(run)
    data = bundle.recipe.data.model_copy(update={"root": str(tmp_path / "gone")})
    replace(bundle, recipe=bundle.recipe.model_copy(update={"data": data})).save(
        tmp_path / "bundle"
    )
    evaluation = evaluate(tmp_path / "bundle", root, tmp_path / "out", split="all")
    assert (evaluation.count, list(evaluation.methods), evaluation.leaks.chips) == (
        58,
        ["MetaLoRA"],
        0,
    )
    assert (
        "for baselines and leaks, are not here" in evaluation.notes[0]
        and not (tmp_path / "out/chips").exists()
    )


@pytest.mark.slow
def test_folders_that_cannot_be_evaluated(run, class_folders, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        RequestError, match=mentions("empty", "no labeled image", "give class folders")
    ):
        evaluate(run, tmp_path / "empty", tmp_path / "out", split="all")
    shutil.copytree(class_folders / "val/flat", tmp_path / "ships/tug")
    with pytest.raises(
        RequestError,
        match=mentions("the data has the classes tug", "the bundle has flat"),
    ):
        evaluate(run, tmp_path / "ships", tmp_path / "out", split="all")


@pytest.mark.slow
def test_a_class_without_chips_is_left_out_and_a_note_names_it(run, root, tmp_path):
    store = shutil.copytree(root, tmp_path / "root")
    table = pd.read_parquet(store / "manifest.parquet")
    table[(table["split"] != "val") | (table["class"] != "steep")].to_parquet(
        store / "manifest.parquet"
    )
    evaluation = evaluate(run, store, tmp_path / "out", split="val", baselines=False)
    assert (
        "no chips in val, so left out of all means over classes: steep"
        in evaluation.notes
    )
    assert evaluation.methods["MetaLoRA"].absent == [2]


@pytest.fixture
def with_baselines(run, root, tmp_path, monkeypatch):
    """Return a function that evaluates the run beside all baselines."""
    monkeypatch.setattr("rsft.training.small_network.STEPS", 9)

    def evaluate_with(data=root, split="val", cpu_seconds=1e4, seed=0):
        bundle = Bundle.load(run)
        section = bundle.recipe.evaluate.model_copy(update={"baselines": cpu_seconds})
        recipe = bundle.recipe.model_copy(update={"evaluate": section, "seed": seed})
        replace(bundle, recipe=recipe).save(tmp_path / "bundle")
        return evaluate(
            tmp_path / "bundle",
            data,
            tmp_path / "out",
            split=split,
        )

    return evaluate_with


@pytest.mark.slow
def test_the_small_network_is_the_first_baseline(with_baselines, tmp_path, metrics):
    evaluation = with_baselines()
    assert list(evaluation.methods)[:3] == [
        "MetaLoRA",
        SMALL_NETWORK,
        "logit-adjusted linear probe",
    ]
    small = evaluation.small_network
    assert small.epochs == 5
    macros = [
        evaluation.methods[name].macro.value for name in ("MetaLoRA", SMALL_NETWORK)
    ]
    assert small.macro_difference.value == pytest.approx(macros[0] - macros[1])
    assert list(evaluation.differences) == list(evaluation.baselines)
    assert evaluation.differences[SMALL_NETWORK]["macro"] == small.macro_difference
    for name, differences in evaluation.differences.items():
        for measure, gain in differences.items():
            values = [
                getattr(evaluation.methods[x], measure).value
                for x in ("MetaLoRA", name)
            ]
            assert (
                gain.value == pytest.approx(values[0] - values[1])
                and gain.low <= gain.value <= gain.high
            )
    assert not any(SMALL_NETWORK in note for note in evaluation.notes)
    stored = json.loads((tmp_path / "out/metrics.json").read_text())
    assert (
        Evaluation.model_validate(stored) == evaluation
        and stored["small_network"]["epochs"] == 5
    )
    assert metrics["small_network"] is None and SMALL_NETWORK not in metrics["methods"]
    stored["small_network"]["full_epochs"] = 50  # as in a file of an earlier version
    assert Evaluation.model_validate(stored) == evaluation
    del stored["small_network"], stored["differences"]  # as in a file of rsft 0.2
    assert Evaluation.model_validate(stored).small_network is None
    assert with_baselines().to_dict() == evaluation.to_dict()


@pytest.mark.slow
def test_no_small_network_beside_a_small_network(run, root, tmp_path):
    recipe = small_network_recipe(Bundle.load(run).recipe, ChipStore.open(root))
    train = recipe.train.model_copy(update={"epochs": 1, "warmup_epochs": 0.0})
    folder = finetune(
        recipe.model_copy(update={"train": train}), tmp_path / "runs"
    ).folder
    assert recipe.evaluate.baselines > 0
    evaluation = evaluate(folder, root, tmp_path / "out", split="val")
    assert list(evaluation.methods)[:2] == [
        "Full fine-tuning",
        "logit-adjusted linear probe",
    ]
    assert evaluation.small_network is None and not any(
        SMALL_NETWORK in note for note in evaluation.notes
    )


@pytest.mark.slow
def test_a_small_network_that_is_cut_off_is_no_baseline_and_a_note_says_so(
    with_baselines, monkeypatch
):
    for module in ("baselines", "evaluate"):
        monkeypatch.setattr(f"rsft.evaluation.{module}.MAX_PROBE_CHIPS", 8)
    evaluation = with_baselines(cpu_seconds=1e-9, seed=77)  # not in the cache
    (note,) = [note for note in evaluation.notes if "linear probe" in note]
    assert f"8 of {sum(evaluation.train_counts)} training chips" in note
    notes = [note for note in evaluation.notes if "evaluate.baselines" in note]
    assert len(notes) == 1 and "cut off in epoch 1 of 5" in notes[0]
    assert evaluation.small_network is None and SMALL_NETWORK not in evaluation.methods


@pytest.mark.slow
def test_a_failing_small_network_does_not_fail_the_evaluation(
    with_baselines, root, tmp_path
):
    store = shutil.copytree(root, tmp_path / "store")
    table = pd.read_parquet(store / "manifest.parquet")
    table.assign(split=table["split"].replace("val", "test")).to_parquet(
        store / "manifest.parquet"
    )
    evaluation = with_baselines(data=store, split="test")
    note = (
        "the small network without pre-training was not trained: the split val has no"
        f" chips: {store}"
    )
    assert (
        note in evaluation.notes
        and evaluation.small_network is None
        and len(evaluation.methods) == 6
    )


@pytest.mark.slow
def test_classes_of_the_bundle_that_the_store_lacks(with_baselines, root, tmp_path):
    store = shutil.copytree(
        root, tmp_path / "store", ignore=shutil.ignore_patterns(".cache")
    )
    table = pd.read_parquet(store / "manifest.parquet")
    table[table["class"] != "flat"].to_parquet(store / "manifest.parquet")
    description = json.loads((store / "dataset.json").read_text())
    description["classes"] = ["steep", "slanted"]  # in another order, too
    description["groups"] = {"tail": ["steep", "slanted"]}
    (store / "dataset.json").write_text(json.dumps(description))
    summary = with_baselines(data=store).methods[SMALL_NETWORK]
    assert summary.absent == [0] and summary.recall[0] is None
    labels = table.loc[
        (table["split"] == "val") & (table["class"] != "flat"), "class"
    ].to_numpy()
    (file,) = (store / ".cache").glob("*.small-network.npy")
    predicted = np.array(["steep", "slanted"])[np.load(file).argmax(1)]
    assert summary.micro.value == pytest.approx((predicted == labels).mean())
