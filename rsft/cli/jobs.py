"""`rsft finetune`, `rsft evaluate`, `rsft doctor` and `rsft sweep`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rsft.cli.display import console as display
from rsft.cli.display.console import console, progress, show_paths
from rsft.cli.options import (
    OUT,
    BundleArgument,
    DeviceOption,
    OverridesArgument,
    RunsOption,
    check_store,
    documented,
    find_named_recipe,
)
from rsft.cli.start import FinetuneRequest, Steps, find_same_run, find_steps, list_keys
from rsft.errors import Interrupted, RequestError
from rsft.recipe.library import AUTO, SHIPPED, find_recipe
from rsft.utils.command_options import Argument, Option

if TYPE_CHECKING:
    from rsft.cli.environment_report import EnvironmentCheck
    from rsft.recipe.schema import Recipe
    from rsft.study.sweep_file import Sweep


app = typer.Typer()

IMPORTS = "loading PyTorch"
"""What a command waits for while it imports PyTorch and the packages that need it."""


@app.command()
@documented
def finetune(
    recipe: Annotated[str, Argument()] = "",
    overrides: OverridesArgument = None,
    data: Path | None = None,
    runs: RunsOption = Path("runs"),
    resume: bool = False,
    start: Annotated[Path | None, Option(name="--from", metavar="BUNDLE")] = None,
    quiet: bool = False,
    as_json: bool = False,
    log_every: Annotated[int, Option(min=1)] = 50,
    no_report: bool = False,
    budget: Annotated[str | None, Option(metavar="TIME")] = None,
    measure: Annotated[str | None, Option(name="--for", metavar="macro|tail")] = None,
    labels: Path | None = None,
    ais: Path | None = None,
    root: Path | None = None,
    prepare: Annotated[str, Option(metavar="OPTIONS")] = "",
    dry_run: bool = False,
) -> None:
    """Fine-tune with a recipe, or with the method that suits your chips; evaluate it, and write a report.

    rsft finetune CHIPS, with one folder per class, prepares and audits the chips,
    chooses a method by cross-validation on the training chips (recipes/auto.yaml),
    trains and evaluates it. It prints the command of each step. The same command again
    continues what was stopped or killed. rsft finetune SCENES --labels FILE begins with
    scenes.

    Writes RUNS/<recipe or chips>/<number>/ with bundle/, report.html, metrics.csv and
    the resolved recipe. A stopped or killed run of a recipe can be continued with
    --resume, and gives the same result.

    Args:
        recipe: Recipe file, name of a shipped recipe, class folders, .csv of
            path,class, chip store, scenes, or with
            --resume a run folder. With --from it may be left out.
        data: Chip store of a recipe, the same as data.root=DIR (default: that of the
            recipe; where it does not exist, the only store of its name that `rsft
            prepare` noted on this machine).
        resume: Continue a run: the given one, or the newest unfinished run of the
            recipe.
        start: Start at the modules, scales and head of a bundle (bundle, run folder, or
            runs/<recipe>). Without RECIPE: a short run with the recipe of the bundle,
            which trains the last blocks and the head.
        log_every: Steps between two lines, in a log or with --json.
        no_report: Only measure accuracy: no baselines, no t-SNE map, no report.
        budget: CPU time of the choice of a recipe, such as 90s, 10min or 2h (default:
            that of the file, 10min).
        measure: Measure of the choice: macro, or tail for the rare classes.
        labels: Labels of the objects in scenes, as for `rsft prepare scenes`.
        ais: AIS messages in place of labels, as for `rsft prepare scenes`.
        root: Folder of the chip store that is prepared (default: data/<name of the
            chips or scenes>).
        prepare: Further options of `rsft prepare folder` or `rsft prepare scenes`, as
            one text: "--unit db --val 0.3".
        dry_run: Only say what the run of a recipe needs and what is missing: data,
            weights, disk, memory, hours.
    """
    arguments = locals() | {"overrides": overrides or []}
    del arguments["dry_run"]
    request = FinetuneRequest(**arguments)
    if dry_run:
        return _show_needs(request)
    folder, paths, _ = run_finetune(request)
    if not paths:
        return
    if as_json:
        display.emit_json_event(
            "done",
            {"run": str(folder), **{name: str(path) for name, path in paths.items()}},
        )
    elif quiet:
        typer.echo(display.escape_controls(str(folder)))


def run_finetune(
    request: FinetuneRequest,
) -> tuple[Path, dict[str, Path], Steps | None]:
    """Do what `rsft finetune` does.

    Returns:
        The run folder; the files in it by name, none in all but the first of several
        processes; and the steps, if the request names chips or scenes.
    """
    request = _find_shipped_recipe(request)
    steps = find_steps(request)
    if steps is not None:
        steps.make_store()
    if steps is None:
        auto_file = _find_auto_file(request)
    else:
        auto_file = find_recipe(AUTO)
    resolved, options = (
        _resolve_request(request)
        if auto_file is None
        else _choose_recipe(auto_file, request, steps)
    )

    check_store(Path(resolved.data.root))

    with display.show_waiting(IMPORTS):
        from rsft.cli.display.training import choose_display
        from rsft.training.finetune import finetune as train
        from rsft.training.runs.reader import lock_run
        from rsft.training.runs.writer import mark_done

    folder = options.pop("done", None)
    if folder is None:
        quiet = request.quiet
        as_json = request.as_json
        with choose_display(
            resolved, console, quiet=quiet, as_json=as_json, every=request.log_every
        ) as listener:
            run = train(
                resolved, request.runs, listener, evaluation_follows=True, **options
            )
        if not run.is_writer:  # only the first of several processes evaluates
            return run.folder, {}, steps
        folder = run.folder
    if steps is not None:
        steps.begin("report")
        paths = _show_kept_run(folder, request)
        if paths:
            return folder, paths, steps
    lock = lock_run(folder)
    try:
        paths = _evaluate_run(folder, resolved, with_report=not request.no_report)
        mark_done(folder)
    finally:
        lock.release()
    return folder, paths, steps


def _find_shipped_recipe(request: FinetuneRequest) -> FinetuneRequest:
    """Return a request whose recipe is the file that recipes/NAME.yaml stands for, if it names no file itself."""
    if (
        Path(request.recipe).parts[:1] == (SHIPPED,)
        and not Path(request.recipe).exists()
    ):
        return replace(request, recipe=str(find_named_recipe(request.recipe)))
    return request


def _show_needs(request: FinetuneRequest) -> None:
    """Print what the run of a recipe needs, in one table; the exit code is 1 if something is missing."""
    from rsft.cli.run_needs import list_needs
    from rsft.recipe.load import load_recipe

    request = _find_shipped_recipe(request)
    if (
        request.resume
        or not request.recipe
        or find_steps(request)
        or _find_auto_file(request)
    ):
        raise RequestError(
            "a dry run takes a recipe",
            "--dry-run",
            "name a recipe, or leave the option out",
        )
    recipe = load_recipe(find_recipe(request.recipe), request.recipe_keys)
    fault = None
    try:
        recipe, _ = _resolve_request(request)
    except RequestError as error:
        fault = error
    with display.show_waiting(IMPORTS):
        rows = list(list_needs(recipe, request.runs, fault))
    _show_checks(rows)


def _find_auto_file(request: FinetuneRequest) -> Path | None:
    """Return the file that lets rsft choose the recipe; None for a recipe or run."""
    from rsft.study.choice_file import read_auto_name

    recipe = request.recipe
    folder = Path(request.recipe)
    path = None
    if (
        recipe
        and not ("=" in recipe and not folder.exists())
        and not (request.resume and folder.is_dir())
    ):
        path = find_recipe(recipe)
    if path is None or read_auto_name(path) is None:
        if request.budget is not None or request.measure is not None:
            raise RequestError(
                (
                    f"--{'for' if request.budget is None else 'budget'} only works where"
                    " rsft chooses the recipe"
                ),
                recipe,
                "give chips, a chip store, or recipes/auto.yaml",
            )
        return None
    if request.start is not None:
        raise RequestError(
            "a run that starts at a bundle takes its recipe",
            "--from",
            "leave out --from, or the store",
        )
    return path


def _choose_recipe(
    path: Path, request: FinetuneRequest, steps: Steps | None
) -> tuple[Recipe, dict[str, Any]]:
    """Return the recipe that rsft chooses, and keyword arguments for training; or those of the run to resume."""
    from rsft.study.choice import AutoSearch
    from rsft.study.choice_file import read_auto, read_auto_name
    from rsft.training.runs.reader import TRAINED, find_runs, find_runs_folder

    runs = request.runs
    folder = find_runs_folder(request.runs, str(read_auto_name(path)))
    if request.resume and any(
        run.status not in ("done", "broken") for run in find_runs(folder)
    ):
        return _resolve_request(replace(request, recipe=str(folder), overrides=()))
    plan = read_auto(path, request.auto_keys if steps is None else steps.keys)
    if steps is not None:
        limit = (
            f"at most {plan.settings.budget} of CPU time, which --budget sets; the"
            " training comes after it"
        )
        steps.begin("choose", f" among {len(plan.candidates)}: {limit}")
    with display.show_waiting(IMPORTS):
        from rsft.cli.display.choice import choose_search_display

    with choose_search_display(
        plan, console, quiet=request.quiet, as_json=request.as_json
    ) as listener:
        choice = AutoSearch(
            plan, find_runs_folder(runs / "sweeps", plan.settings.name), listener
        ).run()
    console.print(choice.sentence, soft_wrap=True)
    if request.as_json:
        display.emit_json_event("choice", choice.metadata)
    if steps is not None:
        steps.begin("train")
        same = find_same_run(choice.recipe, runs)
        if same is not None and same.recipe is not None:
            console.print(
                f"kept {same.folder}, {same.status}: the same recipe and chips",
                soft_wrap=True,
            )
            return same.recipe, {
                "done" if same.status in TRAINED else "resume": same.folder
            }
    return choice.recipe, {
        "source": choice.source,
        "entries": {"choice": choice.metadata},
    }


def _show_kept_run(folder: Path, request: FinetuneRequest) -> dict[str, Path]:
    """Show the result of a run that is complete, and return its files; none if something is missing."""
    from rsft.evaluation.report.run_files import read_json
    from rsft.evaluation.schema import Evaluation
    from rsft.training.runs.reader import OUTPUTS, read_run_info

    paths = {"bundle": folder / "bundle", "metrics": folder / OUTPUTS["evaluation"]}
    paths |= {} if request.no_report else {"report": folder / OUTPUTS["report"]}
    if read_run_info(folder).status != "done" or not all(
        path.exists() for path in paths.values()
    ):
        return {}
    display.show_evaluation(read_json(paths["metrics"], Evaluation), folder)
    console.print(
        f"kept; to train once more: rsft finetune {folder / 'recipe.yaml'}",
        soft_wrap=True,
    )
    show_paths(paths)
    return paths


def _evaluate_run(
    folder: Path, recipe: Recipe, *, with_report: bool
) -> dict[str, Path]:
    """Evaluate the bundle of a finished run, show the result, and return what was written."""
    from rsft.utils.process_pool import return_freed_memory

    return_freed_memory()  # of the training
    bundle = folder / "bundle"
    out = folder / "evaluation"
    with progress() as report:
        report(0, 0, "preparing the evaluation")
        from rsft.evaluation.evaluate import evaluate as evaluate_bundle
        from rsft.training.replay import replay
        from rsft.training.runs.reader import REPLAY_FILE

        evaluation = evaluate_bundle(
            bundle,
            Path(recipe.data.root),
            out,
            baselines=with_report,
            representation=with_report,
            device=recipe.train.device,
            progress=report,
        )
        paths = {"bundle": bundle, "metrics": out / "metrics.json"}
        if recipe.train.start_bundle is not None:
            check = replay(folder, recipe.train.device, report)
        else:
            check = None
        if with_report:
            report(0, 0, "writing the report")
            from rsft.evaluation.report.pages import write_report

            paths["report"] = write_report(folder, progress=report)
    display.show_evaluation(evaluation, bundle)
    if check is not None:
        from rsft.cli.display.training import replay_table

        for part in check.parts:
            console.print(replay_table(part))
        for sentence in check.sentences():
            console.print(sentence)
        paths["replay"] = folder / REPLAY_FILE
    show_paths(paths)
    return paths


def _resolve_request(request: FinetuneRequest) -> tuple[Recipe, dict[str, Any]]:
    """Return the recipe of a run and keyword arguments for training; "done" is the folder of a trained run."""
    from rsft.models.bundle.bundle import find_bundle
    from rsft.recipe.load import load_recipe
    from rsft.recipe.text import to_yaml
    from rsft.training.runs.reader import TRAINED, resolve_resume

    recipe = request.recipe
    overrides = request.recipe_keys
    start = request.start
    if (
        (request.resume or start is not None)
        and "=" in recipe
        and not Path(recipe).exists()
    ):
        recipe, overrides = "", [recipe, *overrides]
    if request.resume:
        if start is not None:
            raise RequestError(
                "a resumed run starts at its checkpoint",
                "--from",
                "leave out --from or --resume",
            )
        run, resolved = resolve_resume(recipe or None, request.runs, overrides)
        return resolved, {"done" if run.status in TRAINED else "resume": run.folder}
    if not recipe:
        if start is not None:
            start = find_bundle(start)

            from rsft.training.replay import correction_recipe  # imports PyTorch

            return correction_recipe(start, overrides), {}
        raise RequestError(
            "Missing argument RECIPE",
            hint="list the shipped recipes with `rsft recipes ls`",
        )
    source = find_recipe(recipe)
    if start is not None:
        overrides = [
            f"train.start_bundle={to_yaml(str(find_bundle(start)))}",
            *overrides,
        ]
    keys, options = _find_store(source, overrides, request)
    return load_recipe(source, [*overrides, *keys]), {"source": source, **options}


def _find_store(
    source: Path, overrides: Sequence[str], request: FinetuneRequest
) -> tuple[list[str], dict[str, Any]]:
    """Return the key that names another chip store than the recipe, and what run.json records of it; often nothing.

    A store is only looked for if the overrides do not name one.
    """
    from rsft.recipe.load import load_recipe
    from rsft.training.store_lookup import find_chip_store

    recipe = load_recipe(source, overrides)
    if any(text.partition("=")[0] in ("data", "data.root") for text in overrides):
        return [], {}
    root, sentence = find_chip_store(recipe.data.root, source)
    if not sentence:
        return [], {}
    console.print(sentence, soft_wrap=True)
    if request.as_json:
        display.emit_json_event("store", {"root": root, "sentence": sentence})
    return list_keys({"data.root": root}), {"entries": {"store": sentence}}


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
    """Evaluate a bundle on labeled chips, and baselines: linear probe, k-nearest neighbors, small network.

    Args:
        data: Chip store with the classes of the bundle; with --all also class folders.
        split: Split: train, val or test (default: evaluate.split of the recipe).
        all_chips: Every chip is a test chip, whatever its split: for chips of another
            source.
        out: Folder for metrics.json and predictions.parquet.
        compare: Run, runs/<recipe>, or output of `rsft evaluate`, for a paired
            comparison.
    """
    import json
    from dataclasses import asdict

    from rsft.data.chips.store import MANIFEST
    from rsft.evaluation.schema import ALL_CHIPS, CHIPS_DIR
    from rsft.utils.atomic_files import write_text

    if all_chips and split is not None:
        raise RequestError(
            "--all takes the chips of all splits",
            "--split",
            "leave out --split or --all",
        )
    split = ALL_CHIPS if all_chips else split
    if split != ALL_CHIPS:
        check_store(data)
    elif not data.exists():  # before PyTorch is imported
        raise RequestError(
            "the folder does not exist", data, "name a chip store, or class folders"
        )

    with progress() as report:
        report(0, 0, IMPORTS)
        from rsft.evaluation.evaluate import evaluate as evaluate_bundle
        from rsft.evaluation.files import compare_runs

        evaluation = evaluate_bundle(
            bundle, data, out, split=split, device=device, progress=report
        )
    display.show_evaluation(evaluation, bundle)
    if split != ALL_CHIPS or (data / MANIFEST).is_file():
        chips = {}
    else:
        chips = {"chips": out / CHIPS_DIR}
    show_paths(
        {
            "metrics": out / "metrics.json",
            "predictions": out / "predictions.parquet",
            **chips,
        }
    )
    if compare is not None:
        comparison = compare_runs(out, compare)
        write_text(out / "comparison.json", json.dumps(asdict(comparison), indent=1))
        console.print(display.comparison_table(comparison))


@app.command()
@documented
def doctor() -> None:
    """Report the environment of rsft: versions, device, threads, speed in bfloat16, free disk and memory, weights."""
    from rsft.cli.environment_report import environment_report

    with console.status("measuring"):
        rows = environment_report()
    _show_checks(rows)


def _show_checks(rows: Sequence[EnvironmentCheck]) -> None:
    """Print checks as a table; the exit code is 1 if one failed."""
    from rich.table import Table
    from rich.text import Text

    styles = {"ok": "green", "warn": "yellow", "fail": "red"}
    table = Table("", "check", "value", "hint", box=None, pad_edge=False)
    for row in rows:
        table.add_row(
            Text(row.status, styles[row.status]), row.name, row.value, row.hint
        )
    console.print(table)
    if any(row.status == "fail" for row in rows):
        raise typer.Exit(1)


sweep_app = typer.Typer()


@sweep_app.command("sweep")
@documented
def sweep(
    file: Annotated[str | None, Argument()] = None,
    overrides: OverridesArgument = None,
    runs: RunsOption = Path("runs"),
    report: bool = False,
    retry: bool = False,
    address: str | None = None,
    jobs: Annotated[int | None, Option(min=1)] = None,
) -> None:
    """Run a recipe with many settings on Ray Tune.

    The same command resumes a stopped sweep.

    Writes RUNS/sweeps/<name>/ with one folder per trial, results.parquet, results.md
    and heat maps.

    Args:
        file: Sweep file, or name of a shipped sweep (default: list the shipped sweeps).
        report: Run nothing; write the table and the heat maps again.
        retry: Run failed trials again.
        address: Address of a Ray cluster, such as auto (default: this machine).
        jobs: Maximum number of parallel trials.
    """
    if file is None:
        from rich.table import Table
        from rich.text import Text

        from rsft.recipe.library import list_entries

        table = Table.grid(padding=(0, 2))
        for entry in list_entries("sweep"):
            table.add_row(Text(entry.name, "bold"), entry.title)
        console.print(table)
        console.print("`rsft sweep NAME` runs one", style="dim")
        return
    from rsft.study.sweep_file import list_trials, read_sweep

    path = find_named_recipe(file, "sweep")
    exit_code = 0
    settings, document = read_sweep(path, overrides or [])
    settings = _find_sweep_stores(settings, is_needed=not report)
    trials = list_trials(settings, document)

    from rsft.cli.display.training import SweepDisplay  # imports PyTorch
    from rsft.study.outcomes import describe_keys, format_measure
    from rsft.study.sweep import SweepFolder, run_sweep
    from rsft.training.runs.reader import find_runs_folder

    folder = SweepFolder(find_runs_folder(runs / "sweeps", path.stem), settings, trials)
    if not report:
        try:
            with SweepDisplay(
                settings, folder.planned, folder.finished(retry), console
            ) as board:
                run_sweep(folder, board, address=address, jobs=jobs, retry=retry)
        except Interrupted as error:
            exit_code = error.exit_code
    results = folder.report()
    lines = [
        f"failed  {describe_keys(outcome.keys)}  {outcome.reason}"
        for outcome in results.failed
    ]
    if results.best is not None:
        value = format_measure(settings.metric, results.best.metrics[settings.metric])
        lines.append(
            f"best  {describe_keys(results.best.keys)}  {settings.metric} {value}"
        )
    if results.remaining:
        lines.append(
            f"{results.remaining} of {folder.planned} trials remain: run the same"
            " command to continue"
        )
    for line in lines:
        console.print(line, soft_wrap=True)
    show_paths(results.paths)
    raise typer.Exit(exit_code)


def _find_sweep_stores(settings: Sweep, *, is_needed: bool) -> Sweep:
    """Return a sweep with the chip stores of all recipes, and say which of them are not in their `data.root`."""
    from rsft.study.sweep_file import find_stores

    try:
        settings, sentences = find_stores(settings)
    except RequestError:
        if is_needed:
            raise
        return settings
    for sentence in sentences:
        console.print(sentence, soft_wrap=True)
    return settings
