"""`rsft finetune`: train with a recipe, or with the method that suits the chips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rsft.cli.display import console as display
from rsft.cli.display.console import console, print_lines, progress, show_paths
from rsft.cli.finetune_plan import choose_run, find_auto_file, plan_run, train_run
from rsft.cli.finetune_steps import FinetuneRequest, Steps, find_steps
from rsft.cli.options import check_store, documented, find_named_recipe
from rsft.errors import RequestError
from rsft.recipe.library import AUTO, SHIPPED, find_recipe

if TYPE_CHECKING:
    from rsft.recipe.schema import Recipe

app = typer.Typer()


@app.command()
@documented
def finetune(request: FinetuneRequest, dry_run: bool = False) -> None:
    """Fine-tune with a recipe, or with the method that suits your chips; report it.

    rsft finetune CHIPS, with one folder per class, prepares and audits the chips,
    chooses a method by cross-validation on the training chips (recipes/auto.yaml),
    trains and evaluates it. It prints the command of each step. The same command again
    continues what was stopped or killed. rsft finetune SCENES --at FILE begins with
    scenes. budget=30min limits the CPU time of the choice, and for=tail chooses for the
    rare classes.

    Writes RUNS/<recipe or chips>/<number>/ with bundle/, report.html, metrics.csv and
    the resolved recipe. A stopped or killed run of a recipe can be continued with
    --resume, and gives the same result. With --quiet, only the run folder is printed.

    Args:
        dry_run: Only say what the run of a recipe needs and what is missing: data,
            weights, disk, memory, hours.
    """
    if dry_run:
        return _show_needs(request)
    folder, paths, _ = run_finetune(request)
    if not paths:
        return
    if request.as_json:
        display.emit_json_event("done", {"run": folder, **paths})
    elif request.quiet:
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
    if steps:
        steps.make_store()
        plan = choose_run(find_recipe(AUTO), request, steps)
    else:
        auto_file = find_auto_file(request)
        if not auto_file:
            plan = plan_run(request)
        else:
            plan = choose_run(auto_file, request, None)
    check_store(Path(plan.recipe.data.root))

    with display.show_waiting(display.IMPORTS):
        from rsft.cli.display.training import choose_display
        from rsft.training.runs.reader import lock_run
        from rsft.training.runs.writer import mark_done

    folder = plan.folder
    if not folder or not plan.is_trained:
        with choose_display(
            plan.recipe, quiet=request.quiet, as_json=request.as_json
        ) as listener:
            run = train_run(plan, request.runs, listener, evaluation_follows=True)
        folder = run.folder
        if not run.is_writer:  # only the first of several processes evaluates
            return folder, {}, steps
    if steps:
        steps.begin("report")
        paths = _show_kept_run(folder, request)
        if paths:
            return folder, paths, steps
    lock = lock_run(folder)
    try:
        paths = _evaluate_run(folder, plan.recipe, with_report=not request.no_report)
        mark_done(folder)
    finally:
        lock.release()
    return folder, paths, steps


def _find_shipped_recipe(request: FinetuneRequest) -> FinetuneRequest:
    """Return a request in which recipes/NAME.yaml names a shipped recipe."""
    path = Path(request.recipe)
    if path.parts[:1] == (SHIPPED,) and not path.exists():
        return replace(request, recipe=str(find_named_recipe(request.recipe)))
    return request


def _show_needs(request: FinetuneRequest) -> None:
    """Print what a run needs; the exit code is 1 if something is missing."""
    from rsft.cli.doctor import show_environment
    from rsft.cli.run_needs import list_needs
    from rsft.recipe.load import load_recipe

    request = _find_shipped_recipe(request)
    names_no_recipe = request.resume or not request.recipe
    if names_no_recipe or find_steps(request) or find_auto_file(request):
        raise RequestError(
            "a dry run takes a recipe",
            "--dry-run",
            "name a recipe, or leave out --dry-run",
        )
    fault = None
    try:
        recipe = plan_run(request).recipe
    except RequestError as error:
        recipe = load_recipe(find_recipe(request.recipe), request.recipe_keys)
        fault = error
    with display.show_waiting(display.IMPORTS):
        rows = list(list_needs(recipe, request.runs, fault))
    show_environment(rows)


def _show_kept_run(folder: Path, request: FinetuneRequest) -> dict[str, Path]:
    """Show a complete run, and return its files; none if one is missing."""
    from rsft.cli.display.evaluation import show_evaluation
    from rsft.evaluation.files import read_json
    from rsft.evaluation.schema import Evaluation
    from rsft.training.runs.reader import OUTPUTS, read_run_info

    paths = {"bundle": folder / "bundle", "metrics": folder / OUTPUTS["evaluation"]}
    if not request.no_report:
        paths["report"] = folder / OUTPUTS["report"]
    is_complete = all(path.exists() for path in paths.values())
    if read_run_info(folder).status != "done" or not is_complete:
        return {}
    show_evaluation(read_json(paths["metrics"], Evaluation), folder)
    console.print(f"kept; to train once more: rsft finetune {folder / 'recipe.yaml'}")
    show_paths(paths)
    return paths


def _evaluate_run(
    folder: Path, recipe: Recipe, *, with_report: bool
) -> dict[str, Path]:
    """Evaluate the bundle of a run, show the result, and return what was written."""
    from rsft.utils.memory import return_freed_memory

    return_freed_memory()  # of the training
    bundle = folder / "bundle"
    out = folder / "evaluation"
    check = None
    with progress() as report:
        report(0, 0, "preparing the evaluation")
        from rsft.cli.display.evaluation import show_evaluation
        from rsft.evaluation.evaluate import evaluate
        from rsft.training.replay import replay
        from rsft.training.runs.replay_file import REPLAY_FILE

        evaluation = evaluate(
            bundle,
            Path(recipe.data.root),
            out,
            baselines=with_report,
            device=recipe.train.device,
            progress=report,
        )
        paths = {"bundle": bundle, "metrics": out / "metrics.json"}
        if recipe.train.start_bundle is not None:
            check = replay(folder, recipe.train.device, report)
        if with_report:
            report(0, 0, "writing the report")
            from rsft.evaluation.report.pages import write_report

            paths["report"] = write_report(folder, progress=report)
    show_evaluation(evaluation, bundle)
    if check:
        print_lines(check.sentences())
        paths["replay"] = folder / REPLAY_FILE
    show_paths(paths)
    return paths
