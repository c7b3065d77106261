"""`rsft finetune`, `evaluate` and `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rsft.cli.display.console import (
    comparison_table,
    console,
    hushed,
    progress,
    show_evaluation,
    show_event,
    show_paths,
)
from rsft.cli.options import (
    BundleArgument,
    DeviceOption,
    OverridesArgument,
    RunsOption,
)
from rsft.errors import RequestError

if TYPE_CHECKING:
    from rsft.recipe.schema import Recipe

app = typer.Typer()


@app.command()
def finetune(
    recipe: Annotated[
        str, typer.Argument(help="A recipe file, the name of a shipped one, or with --resume the folder of a run.")
    ] = "",
    overrides: OverridesArgument = None,
    runs: RunsOption = Path("runs"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run: this one, or the newest unfinished one of the recipe.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the folder of the run and nothing else.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line: what happens, as it does.")
    ] = False,
    log_every: Annotated[int, typer.Option(min=1, help="Steps from line to line, in a log and with --json.")] = 50,
    plain: Annotated[bool, typer.Option("--no-report", help="No baselines, map or report: accuracy alone.")] = False,
) -> None:
    """Train as a recipe says, then evaluate beside two cheap baselines and write the report.

    Leaves RUNS/<recipe>/<number>/ with bundle/, report.html, metrics.csv and the resolved recipe. A run that was
    stopped or killed goes on with --resume, to the same result.
    """
    with hushed(quiet, as_json):
        resolved, how = _asked(recipe, overrides or [], runs, resume)

        from rsft.cli.display.train_live import choose_display
        from rsft.evaluation.evaluate import evaluate as evaluate_bundle
        from rsft.evaluation.report.run_page import write_report
        from rsft.training.ensemble import finetune as train

        folder = how.pop("done", None)
        if folder is None:
            with choose_display(resolved, console, quiet=quiet, as_json=as_json, every=log_every) as display:
                run = train(resolved, runs, display, **how)
            if not run.writing:  # of several processes the first one goes on alone
                return
            folder = run.folder
        bundle, out = folder / "bundle", folder / "evaluation"
        with progress() as report:
            evaluation = evaluate_bundle(
                bundle,
                Path(resolved.data.root),
                out,
                baselines=not plain,
                representation=not plain,
                device=resolved.train.device,
                progress=report,
            )
        paths = {"bundle": bundle, "metrics": out / "metrics.json"}
        if not plain:
            paths["report"] = write_report(folder)
        show_evaluation(evaluation)
        show_paths(paths)
    if as_json:
        show_event("done", {"run": str(folder), **{name: str(path) for name, path in paths.items()}})
    elif quiet:
        typer.echo(folder)


def _asked(recipe: str, overrides: list[str], runs: Path, resume: bool) -> tuple[Recipe, dict[str, Path]]:
    """The recipe of the run that is asked for, and how `finetune` is told of the run; "done" stands for one that is."""
    from rsft.recipe.library import find_recipe
    from rsft.recipe.load import load_recipe
    from rsft.training.runs.reader import take_up

    if resume:
        if "=" in recipe:
            recipe, overrides = "", [recipe, *overrides]
        run, resolved = take_up(recipe or None, runs, overrides)
        return resolved, {"done" if run.status == "done" else "resume": run.folder}
    if not recipe:
        raise RequestError("Missing argument RECIPE", fix="`rsft recipes ls` lists those that come with rsft")
    source = find_recipe(recipe)
    return load_recipe(source, overrides), {"source": source}


@app.command()
def evaluate(
    bundle: BundleArgument,
    data: Annotated[Path, typer.Argument(help="A folder that `rsft prepare` made, with the bundle's classes.")],
    split: Annotated[str | None, typer.Option(help="train, val or test; the recipe's choice if left out.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for metrics.json and predictions.parquet.")] = Path(
        "evaluation"
    ),
    compare: Annotated[
        Path | None, typer.Option(help="Another run, or what `evaluate` wrote of it: the difference, chip by chip.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Measure a bundle on labelled chips, beside k-nearest neighbours on frozen features and on 16 x 16 pixels."""
    import json

    from rsft.evaluation.evaluate import evaluate as evaluate_bundle
    from rsft.evaluation.paired_comparison import compare_runs
    from rsft.utils.atomic_files import write_text

    with progress() as report:
        evaluation = evaluate_bundle(bundle, data, out, split=split, device=device, progress=report)
    show_evaluation(evaluation)
    show_paths({"metrics": out / "metrics.json", "predictions": out / "predictions.parquet"})
    if compare is not None:
        comparison = compare_runs(out, compare)
        write_text(out / "comparison.json", json.dumps(comparison.to_dict(), indent=1))
        console.print(comparison_table(comparison))


@app.command()
def doctor() -> None:
    """What rsft runs on here: versions, device, threads, speed in bfloat16, free disk and memory, weights."""
    from rich.table import Table

    from rsft.cli.environment_report import examine

    with console.status("measuring"):
        report = examine()
    marks = {"ok": "[green]ok[/green]", "warn": "[yellow]warn[/yellow]", "fail": "[red]fail[/red]"}
    table = Table("", "what", "found", "hint", box=None, pad_edge=False)
    for row in report.rows:
        table.add_row(marks[row.status], row.name, row.value, row.hint)
    console.print(table)
    if any(row.status == "fail" for row in report.rows):
        raise typer.Exit(1)
