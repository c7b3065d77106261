"""Chip stores, tables of predictions, run folders and journals."""

from __future__ import annotations

import shutil
from collections import Counter
from functools import partial
from pathlib import Path
from random import Random

from tests.fuzz.mutate import Mutator, mutate_json, mutate_parquet, mutate_sqlite, mutate_text
from tests.fuzz.target import Target

RELEASE = Path(__file__).parents[2] / "compat/0.2"
"""Artifacts of rsft 0.2 with simulated chips."""
KEY = "0" * 64


def _build_store(folder: Path) -> None:
    shutil.copytree(RELEASE / "store", folder / "store")


def _read_store(folder: Path) -> None:
    from rsft.data.chips.additions import locked_store
    from rsft.data.chips.store import SPLITS, ChipStore
    from rsft.data.croissant import write_croissant
    from rsft.inference.inputs.chip_files import find_chips

    store = ChipStore.open(folder / "store")
    _ = store.group_indices, store.units  # computed when they are read
    for split in SPLITS:
        store.class_counts(split)
    find_chips([folder / "store"])
    with locked_store(folder / "store"):
        pass
    write_croissant(folder / "store", overwrite=True)


def _build_predictions(suffix: str, folder: Path) -> None:
    import pandas as pd
    import shapely

    from rsft.inference.writers.tables import PredictionLayer, write_prediction_table

    table = pd.DataFrame(
        {
            "chip": ["a.tif", "b.tif"],
            "scene": ["s.tif", "s.tif"],
            "path": ["cut/a.tif", "cut/b.tif"],
            "row": [3.5, 9.0],
            "col": [8.5, 2.25],
            "class": ["ship", "tanker"],
            "p_ship": [0.75, 0.25],
            "p_tanker": [0.25, 0.75],
            "class_set": ["ship | tanker", "tanker"],
            "ood_distance": [0.5, 1.5],
            "corrected": ["tanker", "not a target"],
            "geometry": pd.Series([shapely.Point(15, 45), shapely.Point(15, 45.1)], dtype=object),
        }
    )
    metadata = {"classes": ["ship", "tanker"], "train_counts": {"ship": 9, "tanker": 2}, "bundle_sha256": KEY}
    write_prediction_table(
        PredictionLayer(table, "EPSG:4326", ("ship", "tanker"), metadata), folder / f"predictions{suffix}"
    )


def _read_predictions(suffix: str, folder: Path) -> None:
    from rsft.errors import RsftError
    from rsft.inference.corrections.corrected_table import read_corrected_table
    from rsft.inference.suggestion.suggest import suggest_chips

    path = folder / f"predictions{suffix}"
    try:
        read_corrected_table(path)
    except RsftError:
        suggest_chips(path, 2)
        raise
    suggest_chips(path, 2)


def _build_run(folder: Path) -> None:
    shutil.copytree(RELEASE / "run", folder / "runs/ships/001")


def _list_runs(folder: Path) -> None:
    from rsft.cli.runs import runs_compare, runs_ls, runs_show

    runs_ls(folder / "runs")
    runs_show(folder / "runs/ships/001")
    runs_compare([folder / "runs/ships/001"])


def _read_report(folder: Path) -> None:
    from rsft.evaluation.report.run_page import write_report

    write_report(folder / "runs/ships/001", pictures=False)


def _build_journal(folder: Path) -> None:
    import pandas as pd
    import shapely

    from rsft.inference.predict.resume_journal import BatchResult, ResumeJournal

    rows = pd.DataFrame({"chip": ["a", "b"], "p": [0.1, None], "geometry": [shapely.Point(1, 2), None]})
    journal = ResumeJournal(folder / "out.journal", KEY)
    for number in range(3):
        journal.record(number, BatchResult(rows, [("f", 3, "why")], Counter(empty=4, gray=5)))
    journal.set_note("x", "y")
    journal.close(finished=False)


def _read_journal(folder: Path) -> None:
    from rsft.inference.predict.resume_journal import ResumeJournal

    journal = ResumeJournal(folder / "out.journal", KEY)
    try:
        journal.get_note("x")
        for result in journal.results():
            assert set(result.rows) <= {"chip", "p", "geometry"}
    finally:
        journal.close(finished=False)


STORE: dict[str, Mutator] = {
    "store/manifest.parquet": mutate_parquet,
    "store/dataset.json": mutate_json,
    "store/rejected.csv": mutate_text,
    "store/audit.json": mutate_json,
}
RUN = "runs/ships/001"


def _mutate_yaml_head(rng: Random, data: bytes) -> bytes:
    """Change the first lines of a recipe: YAML of 200 lines with comments takes long to parse."""
    return mutate_text(rng, b"\n".join(data.splitlines()[:40]) + b"\n")


PRELOAD = (
    "rsft.cli.runs",
    "rsft.data.chips.store",
    "rsft.data.croissant",
    "rsft.errors",
    "matplotlib.backends.backend_svg",
    "rsft.evaluation.report.run_page",
    "rsft.inference.corrections.corrected_table",
    "rsft.inference.inputs.chip_files",
    "rsft.inference.predict.resume_journal",
    "rsft.inference.suggestion.suggest",
    "rsft.inference.writers.tables",
)
"""Modules that the processes share: they are imported once."""


TARGETS = [
    Target("stores", _build_store, STORE, _read_store, outputs=("store/croissant.json",)),
    *(
        Target(
            f"predictions_{suffix[1:]}",
            partial(_build_predictions, suffix),
            {f"predictions{suffix}": mutator},
            partial(_read_predictions, suffix),
            share=share,
        )
        for suffix, mutator, share in (
            (".csv", mutate_text, 1),
            (".geojson", mutate_json, 1),
            (".parquet", mutate_parquet, 0.5),
            (".gpkg", mutate_sqlite, 0.25),
        )
    ),
    Target(
        "runs",
        _build_run,
        {
            f"{RUN}/run.json": mutate_json,
            f"{RUN}/recipe.yaml": _mutate_yaml_head,
            f"{RUN}/evaluation/metrics.json": mutate_json,
        },
        _list_runs,
        share=0.5,
    ),
    Target(
        "reports",
        _build_run,
        {
            f"{RUN}/run.json": mutate_json,
            f"{RUN}/metrics.csv": mutate_text,
            f"{RUN}/modulator.csv": mutate_text,
            f"{RUN}/evaluation/metrics.json": mutate_json,
            f"{RUN}/evaluation/contributions.csv": mutate_text,
            f"{RUN}/evaluation/predictions.parquet": mutate_parquet,
            f"{RUN}/evaluation/embedding.parquet": mutate_parquet,
        },
        _read_report,
        outputs=(f"{RUN}/report.html",),
        share=0.15,
    ),
    Target("journals", _build_journal, {"out.journal": mutate_sqlite}, _read_journal),
]
