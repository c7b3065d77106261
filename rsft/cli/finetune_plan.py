"""What `rsft finetune` trains: a new run, a run to resume, or nothing more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rsft.cli.display import console as display
from rsft.cli.display.console import console, print_lines, shorten
from rsft.cli.finetune_steps import FinetuneRequest, Steps, list_keys
from rsft.errors import Interrupted, RequestError, RsftError
from rsft.recipe.library import find_recipe

if TYPE_CHECKING:
    from rsft.recipe.schema import Recipe
    from rsft.study.choice_file import AutoPlan
    from rsft.training.listeners import RunListener
    from rsft.training.runs.reader import RunInfo
    from rsft.training.runs.writer import Run
    from rsft.types import JsonObject


@dataclass(frozen=True)
class RunPlan:
    """A run to start or to continue, or one that needs no training.

    Attributes:
        recipe: the resolved recipe.
        folder: folder of the run; None for a new one.
        is_trained: whether it needs no training.
        source: file of the recipe of a new run; None for a short run with the recipe of
            a bundle.
        entries: what run.json of a new run records besides.
    """

    recipe: Recipe
    folder: Path | None = None
    is_trained: bool = False
    source: Path | None = None
    entries: JsonObject = field(default_factory=dict)


def plan_run(request: FinetuneRequest) -> RunPlan:
    """Return the run that a request with a recipe, a run or a bundle names.

    Raises:
        RequestError: the request names none of them, or names that do not fit.
        RecipeError: the recipe is wrong.
    """
    from rsft.models.bundle.bundle import find_bundle

    if request.names_key and (request.resume or request.start):
        keys = [request.recipe, *request.recipe_keys]
        request = replace(request, recipe="", overrides=keys)
    overrides = request.recipe_keys
    if request.resume:
        return _plan_resumed_run(request)
    if not request.start and not request.recipe:
        raise RequestError(
            "Missing argument RECIPE",
            hint="give chips, one folder per class, or a recipe of `rsft recipes ls`",
        )
    if not request.start:
        return _plan_new_run(request, overrides)
    start = find_bundle(request.start)
    if request.recipe:
        keys = list_keys({"train.start_bundle": str(start)})
        return _plan_new_run(request, [*keys, *overrides])

    from rsft.training.replay import correction_recipe  # imports PyTorch

    return RunPlan(correction_recipe(start, overrides))


def _plan_resumed_run(request: FinetuneRequest) -> RunPlan:
    from rsft.training.runs.reader import require_same_chips, resolve_resume

    if request.start:
        raise RequestError(
            "a resumed run starts at its checkpoint",
            "--from",
            "leave out --from or --resume",
        )
    if request.recipe_keys:
        raise RequestError(
            "a resumed run keeps its recipe",
            " ".join(request.recipe_keys),
            "leave the keys out, or leave out --resume for a new run",
        )
    run, recipe = resolve_resume(request.recipe or None, request.runs)
    require_same_chips(run, recipe.data)
    return _plan_known_run(run, recipe)


def _plan_known_run(run: RunInfo, recipe: Recipe) -> RunPlan:
    from rsft.training.runs.reader import TRAINED

    return RunPlan(recipe, run.folder, run.status in TRAINED)


def _plan_new_run(request: FinetuneRequest, overrides: Sequence[str]) -> RunPlan:
    """Return the run of a recipe, on the chip store of its name that this machine has.

    Another store than that of the recipe is only looked for if no override names one.
    """
    from rsft.recipe.load import load_recipe
    from rsft.training.store_lookup import find_chip_store

    source = find_recipe(request.recipe)
    recipe = load_recipe(source, overrides)
    keys = [text.partition("=")[0] for text in overrides]
    if "data" in keys or "data.root" in keys:
        return RunPlan(recipe, source=source)
    root, sentence = find_chip_store(recipe.data.root, source)
    if not sentence:
        return RunPlan(recipe, source=source)
    console.print(sentence)
    if request.as_json:
        display.emit_json_event("store", {"root": root, "sentence": sentence})
    recipe = load_recipe(source, [*overrides, *list_keys({"data.root": root})])
    return RunPlan(recipe, source=source, entries={"store": sentence})


def find_auto_file(request: FinetuneRequest) -> Path | None:
    """Return the file that lets rsft choose the recipe; None for a recipe or run.

    Raises:
        RequestError: there is no such recipe, or --from does not fit.
    """
    from rsft.study.choice_file import read_auto_name

    is_run = request.resume and Path(request.recipe).is_dir()
    if not request.recipe or request.names_key or is_run:
        return None
    path = find_recipe(request.recipe)
    if read_auto_name(path) is None:
        return None
    if request.start:
        raise RequestError(
            "a run that starts at a bundle takes its recipe",
            "--from",
            "leave out --from, or the store",
        )
    return path


def choose_run(path: Path, request: FinetuneRequest, steps: Steps | None) -> RunPlan:
    """Choose a recipe by cross-validation, and return its run.

    Args:
        path: the file with the candidates.
        request: the request.
        steps: the steps before, if there are any; a run of the same recipe and chips is
            kept then.
    """
    from rsft.study.choice import AutoSearch
    from rsft.study.choice_file import read_auto, read_auto_name
    from rsft.training.runs.reader import find_runs, find_runs_folder

    folder = find_runs_folder(request.runs, str(read_auto_name(path)))
    statuses = {run.status for run in find_runs(folder)}
    if request.resume and statuses - {"done", "broken"}:
        return plan_run(replace(request, recipe=str(folder), overrides=[], data=None))
    plan = read_auto(path, steps.keys if steps else request.recipe_keys)
    if steps:
        _write_first_bundle(plan, request)
        steps.begin("choose")
    with display.show_waiting(display.IMPORTS):
        from rsft.cli.display.choice import choose_search_display

    studies = find_runs_folder(request.runs / "sweeps", plan.settings.name)
    with choose_search_display(
        plan, quiet=request.quiet, as_json=request.as_json
    ) as listener:
        choice = AutoSearch(plan, studies, listener).run()
    console.print(choice.sentence)
    if request.as_json:
        display.emit_json_event("choice", choice.metadata)
    if steps:
        steps.begin("train")
        same = find_same_run(choice.recipe, request.runs)
        if same and same.recipe:
            console.print(
                f"kept {same.folder}, {same.status}: the same recipe and chips"
            )
            return _plan_known_run(same, same.recipe)
    return RunPlan(
        choice.recipe, source=choice.source, entries={"choice": choice.metadata}
    )


FIRST_CANDIDATE = "discriminant"
"""File name of the candidate that is trained on all chips before the choice."""


def _write_first_bundle(plan: AutoPlan, request: FinetuneRequest) -> None:
    """Train the discriminant on all training chips, for use before the choice ends.

    Its run is called like the chosen one, with the suffix -first. It is a run like any
    other: the same command keeps it, and nothing deletes it.
    """
    from rsft.training.runs.reader import TRAINED, read_run_info

    names = [candidate.path.stem for candidate in plan.candidates]
    if FIRST_CANDIDATE not in names:
        return
    candidate = plan.candidates[names.index(FIRST_CANDIDATE)]
    recipe = candidate.recipe.model_copy(update={"name": f"{plan.settings.name}-first"})
    run = find_same_run(recipe, request.runs)
    if not run or run.status not in TRAINED:
        plan_first = RunPlan(recipe, source=candidate.path)
        try:
            with display.show_waiting("training the first bundle"):
                folder = train_run(plan_first, request.runs, None).folder
        except Interrupted:
            raise
        except RsftError as error:  # the choice tells more of the same fault
            console.print(f"no first bundle: {error.message}")
            return
        run = read_run_info(folder)
    bundle = run.folder / "bundle"
    sentence = (
        f"first bundle, until a better one is trained: {bundle} ({candidate.name},"
        f" macro {100 * run.accuracy['macro']:.1f} on the validation chips)"
    )
    console.print(sentence)
    if request.as_json:
        display.emit_json_event("first", {"bundle": bundle, "sentence": sentence})
    _warn_of_rare_classes(bundle, recipe.data.root, request)


def _warn_of_rare_classes(folder: Path, root: str, request: FinetuneRequest) -> None:
    """Say what leaving out one chip at a time says of classes with few chips."""
    from rsft.data.chips.store import ChipStore
    from rsft.evaluation.rare_classes import check_rare_classes
    from rsft.models.bundle.bundle import Bundle

    rare = check_rare_classes(Bundle.load(folder), ChipStore.open(Path(root)))
    if not rare:
        return
    shown, lines = shorten((f"  {row}" for row in rare), "--json")
    print_lines(["each training chip classified by all others:", *shown, *lines])
    if any(row.wrong >= row.right for row in rare):
        console.print(
            "rsft prepare --rare merge makes one class of them, --rare drop leaves"
            " them out"
        )
    if request.as_json:
        display.emit_json_event(
            "rare_classes", {"classes": [row._asdict() for row in rare]}
        )


def train_run(
    plan: RunPlan,
    runs: Path,
    listener: RunListener | None,
    *,
    evaluation_follows: bool = False,
) -> Run:
    """Train what a plan names, from its start or from its last checkpoint.

    Args:
        plan: a new run, or one to resume.
        runs: folder of all runs.
        listener: called with the progress.
        evaluation_follows: see `rsft.training.finetune.finetune`.

    Raises:
        Interrupted: SIGINT or SIGTERM; the run can be resumed.
        RsftError: the recipe cannot be trained.
    """
    from rsft.training.finetune import finetune as train

    return train(
        plan.recipe,
        runs,
        listener,
        source=plan.source,
        resume=plan.folder,
        entries=plan.entries,
        evaluation_follows=evaluation_follows,
    )


def find_same_run(recipe: Recipe, runs: Path) -> RunInfo | None:
    """Return the newest run of a recipe on the same chips; None without one."""
    from rsft.training.runs.reader import (
        CHANGEABLE_KEYS,
        find_runs,
        hash_data,
        read_data_hash,
        recipe_differences,
    )

    ignored = set(CHANGEABLE_KEYS)
    if recipe.train.precision == "auto":
        ignored.add("train.precision")
    chips = hash_data(recipe.data)
    for run in reversed(find_runs(runs)):
        if run.status != "broken" and read_data_hash(run.metadata) == chips:
            same = replace(run, recipe=recipe)
            if not set(recipe_differences([run, same])) - ignored:
                return run
    return None
