"""`rsft evaluate`: measure a bundle on labeled chips."""

from __future__ import annotations

import json
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
    DeviceOption,
    check_store,
    documented,
)
from rsft.errors import RequestError
from rsft.utils.command_options import Option

app = typer.Typer()


@app.command()
@documented
def evaluate(
    bundle: BundleArgument,
    data: Path,
    split: str | None = None,
    all_chips: Annotated[bool, Option(name="--all")] = False,
    out: Annotated[Path, OUT] = Path("evaluation"),
    compare: Path | None = None,
    device: DeviceOption = "auto",
) -> None:
    """Evaluate a bundle and baselines on labeled chips.

    The baselines are a linear probe, k-nearest neighbors and a small network.

    Args:
        data: Chip store with the classes of the bundle; with --all also class folders.
        split: Split: train, val or test (default: evaluate.split of the recipe).
        all_chips: Every chip is a test chip, whatever its split: for chips of another
            source.
        out: Folder for metrics.json and predictions.parquet.
        compare: Run, runs/<recipe>, or output of `rsft evaluate`, for a paired
            comparison.
    """
    from rsft.data.chips.store import MANIFEST
    from rsft.evaluation.schema import ALL_CHIPS, CHIPS_DIR
    from rsft.utils.atomic_files import write_text

    if all_chips and split is not None:
        message = "--all takes the chips of all splits"
        raise RequestError(message, "--split", "leave out --split or --all")
    if not all_chips:
        check_store(data)
    elif not data.exists():  # before PyTorch is imported
        message = "the folder does not exist"
        raise RequestError(message, data, "name a chip store, or class folders")
    with progress() as report:
        report(0, 0, display.IMPORTS)
        from rsft.evaluation.evaluate import evaluate as evaluate_bundle
        from rsft.evaluation.files import compare_runs

        evaluation = evaluate_bundle(
            bundle,
            data,
            out,
            split=ALL_CHIPS if all_chips else split,
            device=device,
            progress=report,
        )
    show_evaluation(evaluation, bundle)
    files = {"metrics": "metrics.json", "predictions": "predictions.parquet"}
    if all_chips and not (data / MANIFEST).is_file():
        files["chips"] = CHIPS_DIR
    show_paths({name: out / file for name, file in files.items()})
    if compare is not None:
        comparison = compare_runs(out, compare)
        write_text(out / "comparison.json", json.dumps(asdict(comparison), indent=1))
        console.print(comparison_table(comparison))
