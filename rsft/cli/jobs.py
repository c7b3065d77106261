"""`rsft finetune`, `evaluate` and `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsft.cli.options import (
    BundleArgument,
    DeviceOption,
    OverridesArgument,
    RecipeArgument,
    RunsOption,
)
from rsft.console import console, metrics_table, progress, show_paths

app = typer.Typer()


@app.command()
def finetune(recipe: RecipeArgument, overrides: OverridesArgument = None, runs: RunsOption = Path("runs")) -> None:
    """Train as a recipe says, then evaluate beside two cheap baselines and write the report.

    Leaves RUNS/<recipe>/<number>/ with bundle/, report.html, metrics.csv and the resolved recipe.
    """
    from rsft.recipe.library import find_recipe
    from rsft.recipe.load import load_recipe

    resolved = load_recipe(find_recipe(recipe), overrides or [])

    from rsft.evaluate import evaluate as evaluate_bundle
    from rsft.evaluate import write_report
    from rsft.finetune import finetune as train
    from rsft.live import LiveDisplay

    with LiveDisplay(resolved, console) as display:
        run = train(resolved, runs, display)
    with progress() as report:
        out = run.folder / "evaluation"
        evaluation = evaluate_bundle(
            run.bundle, Path(resolved.data.root), out, device=resolved.train.device, progress=report
        )
    page = write_report(run.folder)
    console.print(metrics_table(evaluation))
    show_paths({"bundle": run.bundle, "report": page, "metrics": out / "metrics.json"})


@app.command()
def evaluate(
    bundle: BundleArgument,
    data: Annotated[Path, typer.Argument(help="A folder that `rsft prepare` made, with the bundle's classes.")],
    split: Annotated[str | None, typer.Option(help="train, val or test; the recipe's choice if left out.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for metrics.json and predictions.parquet.")] = Path(
        "evaluation"
    ),
    device: DeviceOption = "auto",
) -> None:
    """Measure a bundle on labelled chips, beside k-nearest neighbours on frozen features and on 16 x 16 pixels."""
    from rsft.evaluate import evaluate as evaluate_bundle

    with progress() as report:
        evaluation = evaluate_bundle(bundle, data, out, split=split, device=device, progress=report)
    console.print(metrics_table(evaluation))
    show_paths({"metrics": out / "metrics.json", "predictions": out / "predictions.parquet"})


@app.command()
def doctor() -> None:
    """What rsft runs on here: versions, device, threads, speed in bfloat16, free disk and memory, weights."""
    from rich.table import Table

    from rsft.doctor import examine

    with console.status("measuring"):
        report = examine()
    marks = {"ok": "[green]ok[/green]", "warn": "[yellow]warn[/yellow]", "fail": "[red]fail[/red]"}
    table = Table("", "what", "found", "hint", box=None, pad_edge=False)
    for row in report.rows:
        table.add_row(marks[row.status], row.name, row.value, row.hint)
    console.print(table)
    if any(row.status == "fail" for row in report.rows):
        raise typer.Exit(1)
