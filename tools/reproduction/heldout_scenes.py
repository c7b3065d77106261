"""Measure class sets on held-out scenes of OpenSARShip, before and after `rsft predict` widens or withholds them.

    OMP_NUM_THREADS=1 python -m tools.reproduction.heldout_scenes OPENSARSHIP --out OUT
    --report TABLE.md

OPENSARSHIP is the folder of the data set. Every scene is left out once: a classifier on
the embedded backbone is trained and calibrated on the other scenes. The validation
chips are whole scenes ("by scene") or random chips ("random"). As a control, the same
is measured on a third of the validation chips, with a calibration on the other two
thirds. Each run takes about half a minute on one core. The same command continues a
stopped study; without the folder OUT/results, it measures the bundles again.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsft.data.chips.group_splits import split_groups
from rsft.data.chips.manifest import MANIFEST
from rsft.data.chips.record import stratified_split
from rsft.data.chips.store import DATASET, REJECTED, ChipStore
from rsft.data.loading.batches import ChipImages
from rsft.inference.predict.result_table import predictions_table
from rsft.inference.predict.scene_check import check_scenes
from rsft.models.batch_outputs import collect_outputs
from rsft.models.bundle.bundle import Bundle
from rsft.models.loading import load_classifier
from rsft.models.outputs import ClassifierOutputs
from rsft.models.uncertainty.calibrator import Calibrator
from rsft.plugins.opensarship.prepare import prepare_opensarship
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.training.finetune import train_single_run
from rsft.utils.atomic_files import write_text
from tools.errors import explained_errors

KINDS = ("by scene", "random")
"""How the validation chips are chosen."""

VALIDATION_SHARE = 0.35
RECIPE = (
    "data.crop=64",
    "data.unit=db",
    "meta=null",
    "train.epochs=12",
    "train.lr=0.1",
    "evaluate.every=100",
)
CONTROL = "same scenes"


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the missing runs, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--report", type=Path, help="table to write")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    options = parser.parse_args(arguments)
    root = options.out / "store"
    if not root.exists():
        prepare_opensarship(
            options.source, root, product="cal", bands=("VV",), label="ais"
        )
    store = ChipStore.open(root)
    rows = []
    for seed in range(options.seeds):
        for scene in sorted(set(store.table["group_key"])):
            for kind in KINDS:
                rows += _run(store, scene, kind, seed, options.out)
    table = format_table(rows)
    print(table)
    if options.report is not None:
        write_text(options.report, table)


def _run(
    store: ChipStore, scene: str, kind: str, seed: int, out: Path
) -> list[dict[str, Any]]:
    """Return the measurements of one run: those of its file, or those of a new run."""
    name = f"{scene[:32]}-{kind.replace(' ', '-')}-{seed}"
    result = out / "results" / f"{name}.json"
    if not result.exists():
        fold = split_store(store, scene, kind, seed, out / "folds" / name)
        rows = [
            row | {"kind": kind, "seed": seed}
            for row in _measure_fold(fold, seed, out / "runs" / name)
        ]
        result.parent.mkdir(exist_ok=True)
        write_text(result, json.dumps(rows, indent=1))
        print(f"{name}: done", flush=True)
    return list(json.loads(result.read_text()))


def split_store(
    store: ChipStore, scene: str, kind: str, seed: int, root: Path
) -> ChipStore:
    """Write a chip store with the same chips and other splits.

    Args:
        store: the chips.
        scene: the scene whose chips are the test split.
        kind: how the validation chips are chosen; see `KINDS`.
        seed: seed of the choice.
        root: folder of the new store; an existing one is replaced.

    Returns:
        The new store.
    """
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for file in (DATASET, REJECTED):
        shutil.copy(store.root / file, root / file)
    (root / "chips").symlink_to((store.root / "chips").resolve())
    table = store.table.copy()
    rest = np.flatnonzero(table["group_key"] != scene)
    labels = table["class"].iloc[rest].tolist()
    scenes = table["group_key"].iloc[rest].tolist()
    if kind == "by scene":
        shares = {"train": 1 - VALIDATION_SHARE, "val": VALIDATION_SHARE}
        split_of = split_groups(labels, scenes, shares, seed)
        splits = [split_of[name] for name in scenes]
    else:
        validation = set(stratified_split(labels, VALIDATION_SHARE, seed)[1])
        splits = [
            "val" if index in validation else "train" for index in range(len(rest))
        ]
    table["split"] = "test"
    table.loc[table.index[rest], "split"] = splits
    table.to_parquet(root / MANIFEST)
    return ChipStore.open(root)


def _measure_fold(store: ChipStore, seed: int, runs: Path) -> list[dict[str, Any]]:
    recipe = load_recipe(
        find_recipe("quickstart"),
        [*RECIPE, f"data.root={store.root}", f"seed={seed}", "name=run"],
    )
    folders = sorted((runs / "run").glob("*/bundle"))
    bundle = Bundle.load(
        folders[0] if folders else train_single_run(recipe, runs).bundle_dir
    )
    model = load_classifier(bundle, "cpu")
    outputs = {}
    labels = {}
    for split in ("train", "val", "test"):
        chips = ChipImages(
            store.root, store.split(split), store.classes, bundle.contract
        )
        outputs[split] = collect_outputs(model, chips.batches(64))
        labels[split] = chips.labels
    assert bundle.calibrator is not None
    scene = str(store.split("test")["group_key"].iloc[0])
    rows = [
        measure(bundle.calibrator, outputs["test"], labels["test"], store.classes)
        | {"scene": scene}
    ]
    order = np.random.default_rng(seed).permutation(len(labels["val"]))
    third, rest = np.split(order, [len(order) // 3])
    calibrator = Calibrator.fit(
        outputs["val"].logits[rest],
        labels["val"][rest],
        outputs["val"].features[rest],
        train_features=outputs["train"].features,
        train_labels=labels["train"],
    )
    control = ClassifierOutputs(*(x[third] for x in outputs["val"]))
    return [
        *rows,
        measure(calibrator, control, labels["val"][third], store.classes)
        | {"scene": CONTROL},
    ]


def measure(
    calibrator: Calibrator,
    outputs: ClassifierOutputs,
    labels: NDArray[np.integer],
    classes: Sequence[str],
) -> dict[str, Any]:
    """Measure the class sets of the chips of one scene, as `rsft predict` makes them.

    Args:
        calibrator: the calibrator.
        outputs: outputs of the N chips.
        labels: (N,) class indices.
        classes: class names.

    Returns:
        chips, correct and unlike (numbers), probability (mean of the predicted class),
        shifted (names of the failed tests), tested; and for "plain" and "guarded" sets:
        issued, covered, size (sum over the issued sets), and by_class (covered and
        issued of each class).
    """
    plain = predictions_table(outputs, classes, calibrator)
    guarded, (check,) = check_scenes(plain, calibrator, classes)
    names = np.array(classes)[labels]
    return {
        "chips": len(labels),
        "correct": int((plain["class"] == names).sum()),
        "probability": float(plain["probability"].mean()),
        "ood": check.ood,
        "shifted": list(check.test.shifted),
        "tested": not check.test.reason,
        "plain": _measure_sets(plain["class_set"], names, classes),
        "guarded": _measure_sets(guarded["class_set"], names, classes),
    }


def _measure_sets(
    sets: pd.Series, names: NDArray[np.str_], classes: Sequence[str]
) -> dict[str, Any]:
    issued = sets.notna().to_numpy()
    members = [[] if text is None else text.split(" | ") for text in sets]
    covered = np.array(
        [
            name in names_of_set
            for name, names_of_set in zip(names, members, strict=True)
        ]
    )
    by_class = {
        name: [int(covered[names == name].sum()), int(issued[names == name].sum())]
        for name in classes
    }
    size = sum(map(len, members))
    return {
        "issued": int(issued.sum()),
        "covered": int(covered.sum()),
        "size": size,
        "by_class": by_class,
    }


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the results as Markdown, one row per scene and kind of validation chips, summed over the seeds.

    Args:
        rows: the measurements of all runs.
    """
    lines = [
        (
            "| held-out scene | validation | chips | accuracy | mean probability |"
            " unlike | test failed | coverage without | with | worst class without |"
            " with | classes per set without | with |"
        ),
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    scenes = sorted(
        {row["scene"] for row in rows}, key=lambda scene: (scene == CONTROL, scene)
    )
    for kind in KINDS:
        of_kind = [row for row in rows if row["kind"] == kind]
        held_out = [row for row in of_kind if row["scene"] != CONTROL]
        groups = {
            _short(scene): [row for row in of_kind if row["scene"] == scene]
            for scene in scenes
        }
        groups = groups | {"**all held-out scenes**": held_out}
        lines += [_format_row(name, kind, group) for name, group in groups.items()]
    return "\n".join(lines) + "\n"


def _short(scene: str) -> str:
    """Return the satellite, mode, product, polarization and date of a Sentinel-1 scene."""
    parts = [part for part in scene.split("_") if part]
    if len(parts) < 5:
        return scene
    return " ".join([*parts[:4], parts[4][:8]])


def _format_row(name: str, kind: str, rows: Sequence[Mapping[str, Any]]) -> str:
    chips = sum(row["chips"] for row in rows)
    probability = sum(row["probability"] * row["chips"] for row in rows) / chips
    cells = [
        name,
        kind,
        f"{chips / len({row['seed'] for row in rows}):.0f}",
        _percent(sum(row["correct"] for row in rows), chips),
        f"{probability:.2f}",
        _percent(sum(row["ood"] for row in rows), chips),
        (
            f"{sum(bool(row['shifted']) for row in rows)} of"
            f" {sum(row['tested'] for row in rows)}"
        ),
    ]
    for measure_cell in (_coverage, _worst_class, _size):
        cells += [
            measure_cell([row[sets] for row in rows]) for sets in ("plain", "guarded")
        ]
    return f"| {' | '.join(cells)} |"


def _coverage(sets: Sequence[Mapping[str, Any]]) -> str:
    return _percent(sum(x["covered"] for x in sets), sum(x["issued"] for x in sets))


def _size(sets: Sequence[Mapping[str, Any]]) -> str:
    issued = sum(x["issued"] for x in sets)
    if issued:
        return f"{sum(x['size'] for x in sets) / issued:.2f}"
    return "-"


def _worst_class(sets: Sequence[Mapping[str, Any]]) -> str:
    shares = {}
    for name in sets[0]["by_class"]:
        covered = sum(x["by_class"][name][0] for x in sets)
        issued = sum(x["by_class"][name][1] for x in sets)
        if issued:
            shares[name] = covered / issued
    worst = min(shares, key=lambda name: shares[name], default=None)
    if worst is None:
        return "-"
    return f"{100 * shares[worst]:.0f} % {worst}"


def _percent(count: int, total: int) -> str:
    if total:
        return f"{100 * count / total:.0f} %"
    return "-"


if __name__ == "__main__":
    with explained_errors():
        main()
