"""`rsft evaluate`: measure a bundle on labeled chips."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rsft.cli.display import console as display
from rsft.cli.display.console import console, progress, show_paths
from rsft.cli.display.evaluation import comparison_table, show_evaluation
from rsft.cli.options import (
    OUT,
    BundleArgument,
    documented,
)
from rsft.errors import RequestError

app = typer.Typer()


@app.command()
@documented
def evaluate(
    bundle: BundleArgument,
    data: Path,
    split: str | None = None,
    out: Annotated[Path, OUT] = Path("evaluation"),
    compare: Path | None = None,
    *,
    overwrite: bool,
) -> None:
    """Evaluate a bundle and baselines on labeled chips.

    The baselines are a linear probe, a discriminant, k-NN and a small network.

    Args:
        data: Chip store with the classes of the bundle; with --split all also class
            folders.
        split: Split: train, val, test, or all chips whatever their split, for those of
            another source (default: evaluate.split of the recipe).
        out: Folder for metrics.json and predictions.parquet.
        compare: Run, runs/<recipe>, or output of `rsft evaluate`, for a paired
            comparison.
    """
    from rsft.data.chips.manifest import MANIFEST
    from rsft.evaluation.files import compare_runs, find_evaluation
    from rsft.evaluation.schema import ALL_CHIPS, CHIPS_DIR, EVALUATION_FILE
    from rsft.utils.atomic_files import check_is_free, write_json

    all_chips = split == ALL_CHIPS
    if not all_chips and not (data / MANIFEST).is_file():
        raise RequestError(
            "the folder is not a chip store",
            data,
            "build it with `rsft prepare`, or evaluate all chips of class folders:"
            " --split all",
        )
    check_is_free(out / EVALUATION_FILE, overwrite)
    if compare:
        find_evaluation(compare)  # before the long work
    with progress() as report:
        report(0, 0, display.IMPORTS)
        from rsft.evaluation.evaluate import evaluate as evaluate_bundle

        evaluation = evaluate_bundle(
            bundle,
            data,
            out,
            split=split,
            progress=report,
        )
    comparison_file = out / "comparison.json"
    comparison_file.unlink(missing_ok=True)  # of the evaluation before
    show_evaluation(evaluation, bundle)
    files = {"metrics": EVALUATION_FILE, "predictions": "predictions.parquet"}
    if all_chips and not (data / MANIFEST).is_file():
        files["chips"] = CHIPS_DIR
    show_paths({name: out / file for name, file in files.items()})
    if compare:
        comparison = compare_runs(out, compare)
        write_json(comparison_file, asdict(comparison))
        console.print(comparison_table(comparison))
