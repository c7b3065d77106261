"""The command line: arguments in, one call, tables out. Heavy imports live inside the commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rsft import __version__
from rsft.console import console, counts_table, errors, metrics_table, progress, show_error
from rsft.errors import RsftError

if TYPE_CHECKING:
    from rsft.chips.store import ChipStore
    from rsft.evaluate import Evaluation

app = typer.Typer(
    help="Fine-tune a frozen vision transformer on remote-sensing chips: few labels, rare classes, "
    "one learned scale for every site of the network."
    "\n\nA first run:  rsft prepare demo --root data/demo  then  rsft finetune recipes/quickstart.yaml",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
prepare_app = typer.Typer(help="Turn raw data into a folder of chips with one manifest.", no_args_is_help=True)
recipes_app = typer.Typer(help="List, show, copy and check recipes.", no_args_is_help=True)
app.add_typer(prepare_app, name="prepare")
app.add_typer(recipes_app, name="recipes")

RootOption = Annotated[Path, typer.Option("--root", help="Folder to make; a recipe names it as data.root.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Every random choice follows from it.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier call made there.")]
RunsOption = Annotated[Path, typer.Option("--runs", help="Where run folders go: RUNS/<recipe>/<number>.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
RecipeArgument = Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped one.")]
BundleArgument = Annotated[Path, typer.Argument(help="The folder bundle/ of a run.")]
OverridesArgument = Annotated[
    list[str] | None, typer.Argument(help="Keys to change, as section.key=value: peft.rank=8 train.epochs=3 meta=null")
]


def _version(wanted: bool) -> None:
    if wanted:
        console.print(f"rsft {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of every command; --debug is taken by `main`, wherever it stands."""


@prepare_app.command("demo")
def prepare_demo(root: RootOption, seed: SeedOption = 0, overwrite: OverwriteOption = False) -> None:
    """Simulate SAR ship chips (FUSAR-Ship and SRSDD formats) and make them a long-tailed data set of four classes."""
    from rsft.prepare.demo import prepare_demo as prepare

    with progress() as report:
        store = prepare(root, seed=seed, overwrite=overwrite, progress=report)
    _show_store(store)


@prepare_app.command("folder")
def prepare_folder(
    source: Annotated[
        Path, typer.Argument(help="Class folders (with train/ val/ test/ above them or not), or path-label lists.")
    ],
    root: RootOption,
    imbalance: Annotated[
        float | None, typer.Option(min=1, help="Make the training split long-tailed: largest class / smallest class.")
    ] = None,
    val: Annotated[float, typer.Option(help="Share of each class for validation, where SOURCE has no split.")] = 0.2,
    names: Annotated[Path | None, typer.Option(help="Text file of class names: one `folder name` pair a line.")] = None,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> None:
    """Make chips from a tree of class folders; pixels and files stay as they are."""
    from rsft.prepare.folder import prepare_folder as prepare

    with progress() as report:
        store = prepare(
            source, root, imbalance=imbalance, val=val, names=names, seed=seed, overwrite=overwrite, progress=report
        )
    _show_store(store)


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
    _show_evaluation(evaluation)
    _show_paths({"bundle": run.bundle, "report": page, "metrics": out / "metrics.json"})


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
    _show_evaluation(evaluation)
    _show_paths({"metrics": out / "metrics.json", "predictions": out / "predictions.parquet"})


@app.command()
def predict(
    bundle: BundleArgument,
    chips: Annotated[list[Path], typer.Argument(help="Chips: files, folders or globs.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Table to write: .gpkg, .geojson or .csv.")],
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if any chip was refused.")] = False,
    overwrite: OverwriteOption = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Chips in a pass.")] = 64,
    device: DeviceOption = "auto",
) -> None:
    """Classify new chips. What cannot be read or breaks the bundle's contract is listed with its reason."""
    from rsft.predict.run import predict as classify

    with progress() as report:
        result = classify(
            bundle,
            chips,
            out,
            overwrite=overwrite,
            batch_size=batch_size,
            device=device,
            progress=report,
        )
    _show_predictions(result)
    if strict and result.rejected:
        raise typer.Exit(1)


@recipes_app.command("ls")
def recipes_ls() -> None:
    """The recipes that come with rsft."""
    from rich.table import Table

    from rsft.recipe.library import list_recipes

    table = Table.grid(padding=(0, 2))
    for entry in list_recipes():
        table.add_row(f"[bold]{entry.name}[/bold]", entry.title)
    console.print(table)
    console.print("[dim]rsft recipes show NAME prints one, with its command[/dim]")


@recipes_app.command("show")
def recipes_show(recipe: RecipeArgument) -> None:
    """Print a recipe."""
    from rich.syntax import Syntax

    from rsft.recipe.library import find_recipe

    console.print(Syntax(find_recipe(recipe).read_text(encoding="utf-8"), "yaml", background_color="default"))


@recipes_app.command("cp")
def recipes_cp(recipe: RecipeArgument, target: Annotated[Path, typer.Argument(help="File to make.")]) -> None:
    """Copy a recipe, to change it."""
    from rsft.errors import RequestError
    from rsft.files import write_bytes
    from rsft.recipe.library import find_recipe

    source = find_recipe(recipe)
    target = target / source.name if target.is_dir() else target
    if target.exists():
        raise RequestError("there is a file already", target, "name another one")
    write_bytes(target, source.read_bytes())
    console.print(f"{target}")


@recipes_app.command("validate")
def recipes_validate(recipe: RecipeArgument, overrides: OverridesArgument = None) -> None:
    """Check a recipe, with all its faults at once, and print it with every default filled in."""
    from rich.syntax import Syntax

    from rsft.recipe.library import find_recipe
    from rsft.recipe.load import dump_recipe, load_recipe

    resolved = load_recipe(find_recipe(recipe), overrides or [])
    console.print(Syntax(dump_recipe(resolved), "yaml", background_color="default"))


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


def _show_store(store: ChipStore) -> None:
    by_split = store.table.groupby("split", sort=False)["class"].value_counts()
    splits = [split for split in ("train", "val", "test") if not store.split(split).empty]
    counts = {name: {split: int(by_split.get((split, name), 0)) for split in splits} for name in store.classes}
    console.print(counts_table(f"{_many(len(store.table))} in {store.root}", counts))
    for reason, count in store.skipped.items():
        console.print(f"left out: {count:,}  {reason}", markup=False)
    if store.rejected:
        console.print(f"{store.rejected:,} rejected: see {store.root / 'rejected.csv'}")


def _show_evaluation(evaluation: Evaluation) -> None:
    console.print(metrics_table(evaluation))


def _show_predictions(result: Any) -> None:
    from rich.table import Table

    table = Table("class", "chips", title=f"{_many(len(result.table))} classified", title_justify="left")
    for name, count in result.counts.items():
        table.add_row(name, f"{count:,}")
    console.print(table)
    for note in result.notes:
        console.print(note)
    if result.rejected:
        console.print(f"[yellow]{len(result.rejected):,} refused[/yellow]")
        for path, reason in result.rejected[:20]:
            console.print(f"  {path}: {reason}", soft_wrap=True, markup=False)
    _show_paths({"predictions": result.out})


def _many(count: int) -> str:
    return f"{count:,} chip{'s' * (count != 1)}"


def _show_paths(paths: dict[str, Path]) -> None:
    for name, path in paths.items():
        console.print(f"{name:<12} {path}", soft_wrap=True, markup=False)


def main() -> None:
    """Run the command line; every error that has a way out is shown with it."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    try:
        app(args=arguments)
    except RsftError as error:
        if debug:
            raise
        show_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        errors.print("stopped")
        sys.exit(130)
    except OSError as error:
        if debug:
            raise
        show_error(
            RsftError(
                error.strerror or str(error), error.filename or "", "check the path, its permissions and the free space"
            )
        )
        sys.exit(1)
