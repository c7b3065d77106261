"""`rsft runs`, `rsft report` and `rsft recipes`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from rsft.cli.display.console import (
    MEASURES,
    console,
    escape_controls,
    make_table,
    print_lines,
    print_rows,
    progress,
    show_paths,
)
from rsft.cli.options import (
    OverridesArgument,
    RecipeArgument,
    WordArgument,
    documented,
    find_named_recipe,
)
from rsft.cli.plugin_commands import ExtensibleGroup
from rsft.errors import RequestError
from rsft.utils.command_options import Argument, Option

if TYPE_CHECKING:
    from rsft.training.runs.reader import RunInfo

app = typer.Typer(
    name="runs",
    cls=ExtensibleGroup,
    help="List, show, compare and remove runs.",
)

RunsFolderArgument = Annotated[
    Path, Argument("Folder with runs: runs, or runs/<recipe>.")
]
RunArgument = Annotated[
    Path, Argument("Run folder, or runs/<recipe> for its newest run.")
]
RunsArgument = Annotated[
    list[Path], Argument("Run folders, or runs/<recipe> for its newest run.")
]
ExactRunsArgument = Annotated[
    list[Path], Argument("Run folders: runs/<recipe>/<number>.")
]

STYLES = {
    "done": "green",
    "running": "cyan",
    "interrupted": "yellow",
    "trained": "yellow",
}


@app.command("ls")
@documented
def runs_ls(folder: RunsFolderArgument = Path("runs")) -> None:
    """List runs, oldest first: status, accuracy in %, epochs, time."""
    from rsft.training.runs.reader import TRAINED, find_runs

    runs = find_runs(folder)
    # three measures, and times without year, fit into 80 columns; `show` has all
    listed = {key: MEASURES[key] for key in ("macro", "micro", "tail")}
    rows: list[list[str | Text]] = []
    for run in runs:
        epochs = "-"
        if run.recipe:
            total = run.recipe.train.epochs
            done = next(iter(run.metadata.get("position", ())), 0)
            epochs = f"{total if run.status in TRAINED else done}/{total}"
        started = str(run.metadata.get("started", ""))[5:16].replace("T", " ")
        status = Text(escape_controls(run.status), STYLES.get(run.status, "red"))
        scores = [_percent(run, key) for key in listed]
        rows.append(
            [str(run.folder), status, *scores, epochs, _time(run.seconds), started]
        )
    columns = ("run", "status", *listed.values(), "epochs", "time", "started")
    if runs:
        console.print(make_table("", columns, rows, texts=columns[:2]))
    else:
        console.print(f"no runs in {folder}")
    _show_leaks(runs)
    for run in runs:
        _show_faults(f"  {run.folder}: {fault}" for fault in run.faults)
        if run.status == "trained":
            console.print(f"complete with: rsft finetune --resume {run.folder}")


@app.command("show")
@documented
def runs_show(run: RunArgument) -> None:
    """Show a run: status, accuracy, and everything in run.json."""
    import yaml

    from rsft.training.runs.reader import find_newest_run, read_run_info

    run = find_newest_run(run)
    info = read_run_info(run)
    measured = {
        name: _percent(info, key)
        for key, name in MEASURES.items()
        if key in info.accuracy
    }
    print_rows({"status": info.status, "time": _time(info.seconds), **measured}, 24)
    shown = ("recipe", "status", "seconds")
    metadata = {key: x for key, x in info.metadata.items() if key not in shown}
    _print_yaml(
        yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=10_000)
    )
    _show_leaks([info])
    _show_faults(f"  {fault}" for fault in info.faults)
    if info.status in ("killed", "interrupted", "failed", "trained"):
        console.print(f"resume with: rsft finetune --resume {run}")


@app.command("compare")
@documented
def runs_compare(runs: RunsArgument) -> None:
    """Compare runs: recipe keys that differ, and results side by side."""
    from rich.table import Table

    from rsft.recipe.text import to_yaml
    from rsft.training.runs.reader import (
        find_newest_run,
        read_run_info,
        recipe_differences,
    )

    infos = [read_run_info(find_newest_run(folder)) for folder in runs]
    table = Table("", *(str(run.folder) for run in infos), box=None, pad_edge=False)
    for key, values in recipe_differences(infos).items():
        table.add_row(key, *map(to_yaml, values))
    table.add_section()
    table.add_row("status", *(run.status for run in infos))
    for key, name in MEASURES.items():
        table.add_row(f"{name}, %", *(_percent(run, key) for run in infos))
    table.add_row("time", *(_time(run.seconds) for run in infos))
    console.print(table)
    _show_leaks(infos)


@app.command("rm")
@documented
def runs_rm(
    runs: ExactRunsArgument, yes: Annotated[bool, Option(short="-y")] = False
) -> None:
    """Remove run folders with everything in them.

    Args:
        yes: Do not ask for confirmation.
    """
    from rsft.training.runs.reader import find_newest_run, read_run_info, remove_run

    for folder in runs:
        newest = find_newest_run(folder)
        if newest != folder:
            raise RequestError(
                "the folder contains runs and is not a run",
                folder,
                f"name the runs to remove: {newest}",
            )
    for run in [read_run_info(folder) for folder in runs]:
        if yes or typer.confirm(
            escape_controls(f"remove {run.folder} ({run.status})?")
        ):
            remove_run(run)
            console.print(f"removed {run.folder}")


def _show_faults(faults: Iterable[str]) -> None:
    for fault in faults:
        console.print(Text.assemble(("broken", "red"), escape_controls(fault)))


def _percent(run: RunInfo, measure: str) -> str:
    """Return an accuracy in percent, marked with * if evaluated chips leak."""
    value = run.accuracy.get(measure)
    if value is None or value != value:
        return "-"
    return f"{100 * value:.1f}{'*' * bool(run.leaks)}"


def _show_leaks(runs: Iterable[RunInfo]) -> None:
    for run in runs:
        if run.leaks:
            console.print(
                f"* {run.folder}: {run.leaks:,} evaluated chips leak from training: the"
                " accuracy is too high"
            )


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return str(timedelta(seconds=round(seconds)))


report_app = typer.Typer()


@report_app.command("report")
@documented
def report(
    run: Path,
    data: Path | None = None,
    no_pictures: bool = False,
    scene_map: Annotated[
        Path | None, Option(name="--map", metavar="PREDICTIONS")
    ] = None,
) -> None:
    """Write RUN/report.html again from the files of the run.

    Args:
        run: Run folder, or RUNS/<recipe> for its newest run.
        data: Folder of the chip store (default: its folder during the run).
        no_pictures: Write the page without images of chips and scenes, for sharing.
        scene_map: Table of `rsft predict`: show its scene with the classes. RUN keeps
            the map for later reports.
    """
    from rsft.evaluation.report.pages import write_report
    from rsft.training.runs.reader import find_newest_run

    folder = find_newest_run(run)
    paths = {}
    if scene_map:
        from rsft.evaluation.report.dataset import SceneMap, save_scene_maps
        from rsft.inference.review.map_picture import draw_scene_maps
        from rsft.models.bundle.bundle import Bundle

        drawn = draw_scene_maps(scene_map, Bundle.load(folder).sha256)
        save_scene_maps(folder, [(SceneMap(*x[:5]), x[5]) for x in drawn])
        paths["map"] = folder / "maps/1.png"
    with progress() as show:
        page = write_report(folder, data, pictures=not no_pictures, progress=show)
    show_paths(paths | {"report": page})


recipes_app = typer.Typer(
    name="recipes",
    cls=ExtensibleGroup,
    help="List, show, copy and check recipes.",
)


@recipes_app.command("ls")
@documented
def recipes_ls(word: WordArgument = "") -> None:
    """List the shipped recipes, grouped by transfer, such as natural images to SAR.

    Those that reproduce the tables of the MetaPEFT paper are only listed with a WORD.
    """
    from itertools import groupby

    from rsft.recipe.library import list_entries

    entries = list_entries("recipe")
    if word:
        entries = [x for x in list_entries("recipe", "paper") if x.matches(word)]
    if not entries:
        raise RequestError(
            "no recipe contains this word",
            word,
            "leave the word out to list all recipes",
        )
    width = max(len(entry.name) for entry in entries)
    for group, members in groupby(entries, key=lambda entry: entry.group):
        console.print(group)
        for entry in members:
            title = entry.title.rpartition(": ")[2]
            console.print(f"  {entry.name:<{width}}  {title}")
        console.print()
    lines = [
        f"{len(entries)} recipes; `rsft recipes show NAME` prints one with its commands"
    ]
    if not word:
        lines += [
            "`rsft finetune STORE` chooses among further ones: `rsft recipes show"
            " auto`",
            f"{len(list_entries('paper'))} more reproduce the paper: `rsft recipes ls"
            " paper`",
        ]
    print_lines(lines, style="dim")


@recipes_app.command("show")
@documented
def recipes_show(recipe: RecipeArgument) -> None:
    """Print a recipe."""
    _print_yaml(find_named_recipe(recipe).read_text(encoding="utf-8"))


@recipes_app.command("cp")
@documented
def recipes_cp(recipe: RecipeArgument, target: Path) -> None:
    """Copy a shipped recipe to a new file, for editing.

    Args:
        target: New file, or a folder for it.
    """
    from rsft.utils.atomic_files import write_bytes

    source = find_named_recipe(recipe)
    if target.is_dir():
        target /= source.name
    if target.exists():
        raise RequestError("the file exists already", target, "choose another name")
    write_bytes(target, source.read_bytes())
    console.print(f"{target}")


@recipes_app.command("validate")
@documented
def recipes_validate(
    recipe: RecipeArgument, overrides: OverridesArgument = None
) -> None:
    """Check a recipe, report all faults at once, and print it with all defaults."""
    from rsft.recipe.load import dump_recipe, load_recipe

    _print_yaml(dump_recipe(load_recipe(find_named_recipe(recipe), overrides or [])))


def _print_yaml(text: str) -> None:
    """Print YAML line by line as it is."""
    console.print(Text(text), end="")
