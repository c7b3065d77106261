"""`rsft sweep`: run a recipe with many settings."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rsft.cli.display.console import (
    console,
    print_lines,
    print_rows,
    progress,
    show_paths,
)
from rsft.cli.options import (
    OverridesArgument,
    RunsOption,
    documented,
    find_named_recipe,
)
from rsft.errors import Interrupted
from rsft.utils.command_options import Access, Argument, Option

app = typer.Typer()


@app.command("sweep")
@documented
def sweep(
    file: Annotated[str | None, Argument()] = None,
    overrides: OverridesArgument = None,
    runs: RunsOption = Path("runs"),
    ray: Annotated[bool, Option(access=Access.ONLINE)] = False,
    jobs: Annotated[int | None, Option(min=1)] = None,
) -> None:
    """Run a recipe with many settings.

    The same command resumes a stopped sweep, runs failed trials again, and writes the
    results again.

    Writes RUNS/sweeps/<name>/ with one folder per trial, results.parquet, results.md
    and heat maps.

    Args:
        file: Sweep file, or name of a shipped sweep (default: list the shipped sweeps).
        ray: Use the Ray cluster of RAY_ADDRESS or of this machine. If there is none,
            start one here.
        jobs: Maximum number of parallel trials.
    """
    if file is None:
        return _list_sweeps()
    from rsft.plugins.sweeps.sweep_file import find_stores, read_sweep
    from rsft.plugins.sweeps.trial_list import list_trials

    path = find_named_recipe(file, "sweep")
    exit_code = 0
    settings, document = read_sweep(path, overrides or [])
    settings, sentences = find_stores(settings)
    print_lines(sentences)
    trials = list_trials(settings, document)

    from rsft.plugins.sweeps.lines import TrialLines  # imports PyTorch
    from rsft.plugins.sweeps.sweep import SweepFolder, run_sweep
    from rsft.study.outcomes import describe_keys, format_measure
    from rsft.training.runs.reader import find_runs_folder

    folder = SweepFolder(find_runs_folder(runs / "sweeps", path.stem), settings, trials)
    ended = len(folder.finished())
    try:
        with progress() as report:
            say = partial(console.print, soft_wrap=True)
            lines = TrialLines(settings.metric, folder.planned, ended, say, report)
            run_sweep(folder, lines, address="auto" if ray else None, jobs=jobs)
    except Interrupted as error:
        exit_code = error.exit_code
    results = folder.report()
    if results.best is not None:
        value = format_measure(settings.metric, results.best.metrics[settings.metric])
        best = describe_keys(results.best.keys)
        console.print(f"best  {best}  {settings.metric} {value}")
    if results.remaining:
        console.print(
            f"{results.remaining} of {folder.planned} trials remain: run the same"
            " command to continue"
        )
    show_paths(results.paths)
    raise typer.Exit(exit_code)


def _list_sweeps() -> None:
    from rsft.recipe.library import list_entries

    print_rows({entry.name: entry.title for entry in list_entries("sweep")})
    console.print("`rsft sweep NAME` runs one", style="dim")
