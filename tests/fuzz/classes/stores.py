"""Chip stores, tables of predictions, run folders and journals."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import matplotlib.backends.backend_svg  # the processes share it  # noqa: F401
import pandas as pd
import shapely

from rsft.cli.runs import runs_compare, runs_ls, runs_show
from rsft.corrections.corrected_table import read_corrected_table
from rsft.data.chips.additions import locked_store
from rsft.data.chips.manifest import SPLITS
from rsft.data.chips.store import ChipStore
from rsft.evaluation.report.pages import write_report
from rsft.inference.predict.batch_journal import BatchJournal, BatchResult
from rsft.inference.writers.layer import PredictionLayer
from rsft.inference.writers.tables import write_prediction_table
from rsft.scenes.inputs import find_chips
from tests.fuzz.mutate import (
    Mutator,
    mutate_json,
    mutate_parquet,
    mutate_sqlite,
    mutate_text,
)
from tests.fuzz.target import Target
from tests.helpers.report_charts import equal_charts_drawn_once

RELEASE = Path(__file__).parents[2] / "compat/0.2"
"""Artifacts of rsft 0.2 with simulated chips."""
KEY = "0" * 64


def copy_of(name: str, target: str) -> Callable[[Path], object]:
    """Return the function that writes an artifact of the release."""
    return lambda folder: shutil.copytree(RELEASE / name, folder / target)


def _read_store(folder: Path) -> None:
    store = ChipStore.open(folder / "store")
    _ = store.group_indices, store.units  # computed when they are read
    for split in SPLITS:
        store.class_counts(split)
    find_chips([folder / "store"])
    with locked_store(folder / "store"):
        pass


def build_predictions(suffix: str, folder: Path) -> None:
    """Write a table of predictions with corrected labels."""
    table = pd.DataFrame(
        {
            **{
                "chip": ["a.tif", "b.tif"],
                "scene": ["s.tif", "s.tif"],
                "path": ["cut/a.tif", "cut/b.tif"],
            },
            **{
                "row": [3.5, 9.0],
                "col": [8.5, 2.25],
                "class": ["ship", "tanker"],
                "p_ship": [0.75, 0.25],
            },
            **{
                "p_tanker": [0.25, 0.75],
                "class_set": ["ship | tanker", "tanker"],
                "ood_distance": [0.5, 1.5],
            },
            **{"corrected": ["tanker", "not a target"]},
            "geometry": pd.Series(
                [shapely.Point(15, 45), shapely.Point(15, 45.1)], dtype=object
            ),
        }
    )
    metadata = {
        "classes": ["ship", "tanker"],
        "train_counts": {"ship": 9, "tanker": 2},
        "bundle_sha256": KEY,
    }
    layer = PredictionLayer(table, "EPSG:4326", ("ship", "tanker"), metadata)
    write_prediction_table(layer, folder / f"predictions{suffix}")


def _read_predictions(suffix: str, folder: Path) -> None:
    read_corrected_table(folder / f"predictions{suffix}")


def _list_runs(folder: Path) -> None:
    runs_ls.function(folder / "runs")
    runs_show.function(folder / "runs/ships/001")
    runs_compare.function([folder / "runs/ships/001"])


def _read_report(folder: Path) -> None:
    with equal_charts_drawn_once():
        write_report(folder / "runs/ships/001", pictures=False)


def _build_journal(folder: Path) -> None:
    rows = pd.DataFrame(
        {"chip": ["a", "b"], "p_x": [0.1, 0.2], "geometry": [shapely.Point(1, 2), None]}
    )
    journal = BatchJournal(folder / "out.journal", KEY, ["x"])
    for number in range(3):
        journal.record(
            number, BatchResult(rows, [("f", 3, "why")], Counter(empty=4, gray=5))
        )
    journal.set_note("x", "y")
    journal.close(finished=False)


def _read_journal(folder: Path) -> None:
    journal = BatchJournal(folder / "out.journal", KEY, ["x"])
    try:
        journal.get_note("x")
        assert set(journal.collect().rows) <= {"chip", "p_x", "geometry"}
    finally:
        journal.close(finished=False)


RUN = "runs/ships/001"
MUTATORS: dict[str, Mutator] = {
    ".parquet": mutate_parquet,
    ".json": mutate_json,
    ".csv": mutate_text,
}


def _mutators(folder: str, *names: str) -> dict[str, Mutator]:
    return {f"{folder}/{name}": MUTATORS[Path(name).suffix] for name in names}


def _mutate_yaml_head(rng: Random, data: bytes) -> bytes:
    """Change the first lines of a recipe: YAML of 200 lines with comments takes long to
    parse."""
    return mutate_text(rng, b"\n".join(data.splitlines()[:40]) + b"\n")


STORE = _mutators(
    "store", "manifest.parquet", "dataset.json", "rejected.csv", "audit.json"
)
RUN_FILES = _mutators(RUN, "run.json", "evaluation/metrics.json")
REPORT_FILES = _mutators(
    RUN, "run.json", "metrics.csv", "modulator.csv", "evaluation/metrics.json"
)
REPORT_FILES |= _mutators(
    f"{RUN}/evaluation", "predictions.parquet", "embedding.parquet"
)
TABLES: list[tuple[str, Mutator]] = [
    (".csv", mutate_text),
    (".geojson", mutate_json),
    (".parquet", mutate_parquet),
]
TARGETS = [
    Target(
        "stores",
        copy_of("store", "store"),
        STORE,
        _read_store,
    ),
    *(
        Target(
            f"predictions_{suffix[1:]}",
            partial(build_predictions, suffix),
            {f"predictions{suffix}": mutator},
            partial(_read_predictions, suffix),
        )
        for suffix, mutator in (*TABLES, (".gpkg", mutate_sqlite))
    ),
    Target(
        "runs",
        copy_of("run", RUN),
        RUN_FILES | {f"{RUN}/recipe.yaml": _mutate_yaml_head},
        _list_runs,
    ),
    Target(
        "reports",
        copy_of("run", RUN),
        REPORT_FILES,
        _read_report,
        outputs=(f"{RUN}/report.html",),
    ),
    Target("journals", _build_journal, {"out.journal": mutate_sqlite}, _read_journal),
]
