"""Write the report of a run and the page that compares runs.

Every section has its content, or why it is missing.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import pandas as pd
from markupsafe import Markup

from rsft.data.chips.folds import open_store
from rsft.data.chips.store import ChipStore
from rsft.errors import RequestError, RsftError
from rsft.evaluation.files import compare_runs
from rsft.evaluation.report import charts, maps, metric_tables
from rsft.evaluation.report.dataset import (
    ChipPictures,
    draw_samples,
    make_gallery,
    read_scene_maps,
    summarize_store,
)
from rsft.evaluation.report.render import fill_template, join_words, write_page
from rsft.evaluation.report.run_files import RunFiles, read_run_files
from rsft.peft.sites import ALL_POSITIONS, select_positions
from rsft.recipe.components import summarize
from rsft.recipe.registries import SAMPLERS, sampling_exponent
from rsft.recipe.schema import Recipe
from rsft.recipe.text import to_yaml
from rsft.training.runs.reader import (
    hash_manifest,
    read_run_info,
    recipe_differences,
)
from rsft.training.runs.replay_file import TERMS
from rsft.types import GROUPS, Progress
from rsft.utils.licenses import UNKNOWN

REPORT_FILE = "report.html"

MAX_RUNS = len(ascii_uppercase)
"""Largest number of runs on a page, because a letter names each run."""

MAX_FEATURE_MAPS = 6
"""Largest number of feature maps on a page. A map has up to 800 chips."""

POOLS = {
    "token": "the class token",
    "avg": "the mean of the patch tokens or of the feature map",
}
"""Description of each value of `backbone.pool`."""

HEAD_INITS = {
    "class-mean": "the class means of frozen features",
    "lda": "a linear discriminant of frozen features",
    "k-shot": "the means of {shots} frozen features per class",
    "linear-probe": "a logistic regression on frozen features",
    "random": "random weights",
}
"""Description of each value of `head.init`."""

SITE_KEYS = (
    "positions",
    "blocks",
    "scale",
    "adapter_scale",
    "dropout",
    "alpha",
    "init",
    "out_insertion",
    "modulator",
)
"""Keys of PEFT methods that are not sizes of modules."""


def write_report(
    run_dir: Path,
    data: Path | None = None,
    *,
    pictures: bool = True,
    progress: Progress | None = None,
) -> Path:
    """Write report.html from the files of a run.

    Its chip store is used if it still exists.

    Args:
        run_dir: the run folder.
        data: the chip store (default: its path in the evaluation or in the run).
        pictures: whether the page contains small pictures of chips, and the maps of
            scenes in the run folder.
        progress: called while chips are read.

    Returns:
        The path of the page.

    Raises:
        RequestError: `run_dir` is not a run folder.
        DataError: one of its files is damaged.
        WeightsError: the index of its bundle is damaged or was edited.
    """
    run = read_run_files(run_dir)
    store, missing = _open_chips(run, data)
    chips = None
    scenes = []
    if not pictures:
        missing = "Pictures of chips were left out on request."
    else:
        scenes = read_scene_maps(run_dir)
        if store is not None:
            try:
                chips = ChipPictures(run, store, progress)
            except RsftError as error:
                missing = f"No pictures of chips: {error}."
    content = _page_content(run, store, chips)
    content["missing_reason"] = missing
    content["scenes"] = scenes
    return write_page(run_dir / REPORT_FILE, "run.html", content)


def _open_chips(run: RunFiles, data: Path | None) -> tuple[ChipStore | None, str]:
    """Return the chip store of a run, or None and the reason."""
    if data is not None:
        candidates = [data]
    else:
        trained_on = run.metadata.data.get("root", run.recipe.data.root)
        candidates = [Path(run.data), Path(trained_on)]
        # a stranger's run would show chips that only the user can read
        digest = run.metadata.data.get("manifest_sha256")
        candidates = [x for x in candidates if hash_manifest(x) == digest]
    hint = "Use --data to give the folder of the chip store."
    if not candidates:
        return None, f"The chips were not found, or are not those of the run. {hint}"
    try:
        return open_store(candidates[0], run.recipe.data.fold), ""
    except RsftError as error:
        place = f"{error.message}: {error.location}"
        return None, f"The chips were not found ({place}). {hint}"


def _page_content(
    run: RunFiles, store: ChipStore | None, pictures: ChipPictures | None
) -> dict[str, Any]:
    """Return the variables of the template, which calls charts and tables.

    None means that a file is missing.
    """
    predictions = _select_predictions(run)
    gallery = None
    samples = []
    if predictions is not None:
        assert run.evaluation is not None
        classes = run.evaluation.classes
        gallery = make_gallery(predictions, classes, pictures)
        if pictures is not None:
            order = metric_tables.order_by_training(run.evaluation)
            samples = draw_samples(predictions, [classes[i] for i in order], pictures)
    start = run.recipe.train.start_bundle
    return {
        "run": run,
        "number": run.folder.resolve().name,
        "evaluation": run.evaluation,
        "predictions": predictions,
        "pictures": pictures,
        "charts": charts,
        "tables": metric_tables,
        "maps": maps,
        "method": describe_recipe(run.recipe),
        "overview": _overview(run),
        "start": start and run.metadata.start.get("bundle", start),
        "terms": TERMS,
        "modulator": maps.ModulatorMap.of_run(run),
        "map": _feature_map(run, pictures),
        "gallery": gallery,
        "samples": samples,
        "dataset": summarize_store(run, store) if store else None,
    }


def _select_predictions(run: RunFiles) -> pd.DataFrame | None:
    """Return the predictions of the classes in metrics.json, or None without any."""
    if run.predictions is None or run.evaluation is None:
        return None
    is_evaluated = run.predictions["class"].isin(run.evaluation.classes)
    if not is_evaluated.any():
        return None
    return run.predictions[is_evaluated]


def _feature_map(run: RunFiles, pictures: ChipPictures | None) -> dict[str, Any] | None:
    """Return the variables of the map of the features, or None without a map."""
    if run.evaluation is None or run.embedding is None:
        return None
    chips = maps.ChipMap(run.embedding, run.evaluation, run.predictions)
    figures = []
    for stage, title in maps.STAGES.items():
        figures.append((title, title.partition(":")[0], chips, stage))
    sheet = ""
    if pictures is not None:
        sheet = pictures.sheet(chips.paths, maps.TILE_SIZE, maps.SHEET_COLUMNS)
    data = maps.linked_maps_data(
        [(chips, stage) for stage in maps.STAGES], with_pictures=pictures is not None
    )
    return {"figures": figures, "data": data, "sheet": sheet}


def _overview(run: RunFiles) -> dict[str, str]:
    """Return the rows at the head of the page: data, chips, classes and licenses."""
    evaluation = run.evaluation
    counts = {
        "training": run.metadata.train_chips,
        "validation": run.metadata.val_chips,
    }
    if evaluation and evaluation.split != "val":
        counts[evaluation.split] = evaluation.count
    sizes = [f"{n:,} {split}" for split, n in counts.items() if n is not None]
    overview = {"Data": Path(run.data).name, "Chips": ", ".join(sizes)}
    if evaluation:
        overview["Classes"] = str(len(evaluation.classes))
        groups = []
        for group in GROUPS:
            if evaluation.groups.get(group):
                groups.append(f"{len(evaluation.groups[group])} {group}")
        if groups:
            overview["Classes"] += f" ({join_words(groups)})"
    restrictions: dict[str, None] = {}
    for entry in run.licenses or ():
        restrictions.update(dict.fromkeys(entry.restrictions))
    restrictions.pop(UNKNOWN, None)
    overview["Restrictions"] = ", ".join(restrictions)
    overview["Started"] = f"{run.metadata.started:%Y-%m-%d %H:%M}"
    return overview


def describe_recipe(recipe: Recipe) -> Markup:
    """Describe method, modulator, loss, head, training and input of a recipe.

    Each takes one or two sentences.
    """
    settings = recipe.peft.settings
    sizes = []
    for key, value in settings.items():
        if key not in SITE_KEYS:
            sizes.append(f"{key} {_setting_text(value)}")
    positions = ""
    if settings.get("positions") == ALL_POSITIONS:
        positions = "all positions"
    elif "positions" in settings:
        positions = join_words(select_positions(settings["positions"]))
    head_init = HEAD_INITS[recipe.head.init].format(shots=recipe.head.shots)
    content = {
        "settings": settings | {"scale": _setting_text(settings.get("scale", ""))},
        "sizes": sizes,
        "positions": positions,
        "blocks": _blocks(settings["blocks"]) if "blocks" in settings else "",
        "objective": _objective(recipe),
        "pool": POOLS[recipe.backbone.pool],
        "head_init": head_init,
        "sampler": SAMPLERS[recipe.train.sampler].title,
    }
    text = fill_template("recipe.html", dict(recipe) | content)
    return Markup(" ".join(text.split()))


def _setting_text(value: Any) -> str:
    return to_yaml(value) if isinstance(value, dict) else str(value)


def _objective(recipe: Recipe) -> str:
    """Return the loss as a sentence, with the class priors that it corrects."""
    loss = recipe.loss.build()
    text = summarize(loss)
    samplers = [recipe.train.sampler]
    if recipe.meta is not None:
        samplers.append(recipe.meta.sampling)
    exponents = [sampling_exponent(name) for name in samplers]
    is_drawn_by_frequency = set(exponents) == {1.0}
    if getattr(loss, "uses_prior", False) and not is_drawn_by_frequency:
        inner = _prior(exponents[0])
        outer = _prior(exponents[-1])
        text += f", with class priors as drawn: {inner} for n chips"
        if outer != inner:
            text += f" (outer loop: {outer})"
    return text[0].upper() + text[1:]


def _prior(exponent: float) -> str:
    return "n" if exponent == 1 else f"n^{exponent:g}"


def _blocks(blocks: str | Sequence[int]) -> str:
    if not isinstance(blocks, str):
        return f"blocks {join_words([str(block) for block in blocks])}"
    form, _, number = blocks.partition(":")
    if "-" in form:
        return f"blocks {form.replace('-', ' to ')}"
    return {
        "all": "all blocks",
        "last": f"the last {number} blocks",
        "every": f"one of every {number} blocks",
    }[form]


def write_comparison(runs: Sequence[Path], page_path: Path) -> Path:
    """Write one page that compares runs with the first run.

    Args:
        runs: 2 to 26 different run folders; the first one is the reference.
        page_path: path of the page.

    Raises:
        RequestError: the number of runs is not 2 to 26, a run is repeated, or a folder
            is not a run folder.
        DataError: a file of a run is damaged.
    """
    are_different = len({run.resolve() for run in runs}) == len(runs)
    if not are_different or not 2 <= len(runs) <= MAX_RUNS:
        raise RequestError(
            f"{len(runs)} runs cannot be compared, or one of them is listed twice",
            ", ".join(map(str, runs)),
            f"name 2 to {MAX_RUNS} different runs",
        )
    files = [read_run_files(run) for run in runs]
    by_letter = dict(zip(ascii_uppercase, files, strict=False))
    evaluated = {}
    machines = set()
    for letter, run in by_letter.items():
        if run.evaluation:
            evaluated[f"{letter} {run.name}"] = run.evaluation.summary
        metadata = run.metadata
        machines.add((metadata.machine, str(metadata.hardware), metadata.device))
    differences = recipe_differences([read_run_info(run) for run in runs])
    keys = {key: [to_yaml(x) for x in values] for key, values in differences.items()}
    others = list(by_letter.items())[1:]
    content = {
        "runs": by_letter,
        "keys": keys,
        "rows": metric_tables.accuracy_rows([run.evaluation for run in files]),
        "plot": charts.accuracy_plot(evaluated) if evaluated else None,
        "pairs": [_pair(files[0], letter, run) for letter, run in others],
        "measures": metric_tables.ACCURACIES,
        "pareto": _pareto_plots(by_letter),
        "features": _feature_section(by_letter),
        "modulators": _modulator_section(by_letter),
        "costs": _cost_rows([metric_tables.cost_table(run) for run in files]),
        "several_machines": len(machines) > 1,
    }
    return write_page(page_path, "compare.html", content)


def _cost_rows(tables: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """Return each cost with its value in every table."""
    names: dict[str, None] = {}
    for table in tables:
        names.update(dict.fromkeys(table))
    return {name: [table.get(name, "–") for table in tables] for name in names}


def _pair(reference: RunFiles, letter: str, run: RunFiles) -> dict[str, Any]:
    """Return a run's differences from the reference, or why there are none."""
    pair = {"letter": letter, "name": run.name, "reason": ""}
    try:
        paired = compare_runs(run.folder, reference.folder).paired
    except RsftError as error:
        return pair | {"reason": f"{error.message} ({error.location})"}
    cells = [paired.differences.get(measure) for measure in metric_tables.ACCURACIES]
    return pair | {"cells": cells, "test": paired.mcnemar["all"]}


def _pareto_plots(runs: Mapping[str, RunFiles]) -> dict[str, Any]:
    """Return one plot per kind of cost.

    It shows the accuracy of the rarest group that all evaluated runs have.
    """
    evaluated = {}
    for letter, run in runs.items():
        if run.evaluation:
            evaluated[letter] = run.evaluation.summary
    measure = "macro"
    for group in GROUPS:
        if all(getattr(summary, group) for summary in evaluated.values()):
            measure = group
    costs_by_name: dict[str, Callable[[RunFiles], float | None]] = {
        "seconds": lambda run: run.metadata.seconds,
        "trained parameters": lambda run: run.metadata.trained_parameters,
        "peak memory, MB": lambda run: metric_tables.peak_memory_mb(run.epochs),
    }
    plots = {}
    for name, cost_of in costs_by_name.items():
        points = []
        for index, (letter, run) in enumerate(runs.items()):
            cost = cost_of(run)
            if cost and letter in evaluated:
                accuracy = getattr(evaluated[letter], measure)
                point = charts.ParetoPoint(letter, index, float(cost), accuracy)
                points.append(point)
        if len(points) > 1:
            plots[name] = charts.pareto_plot(points, f"{measure} accuracy", name)
    return plots


def _feature_section(runs: Mapping[str, RunFiles]) -> dict[str, Any] | None:
    """Return the variables of the section with one feature map per run.

    None without a map.

    The maps show the chips of the first run that has a map. A run with other chips has
    no map, but a reason.
    """
    shown: dict[str, maps.ChipMap] = {}
    reasons: dict[str, str] = {}
    for letter, run in runs.items():
        if run.embedding is None or run.evaluation is None:
            reasons[letter] = (
                "evaluation/embedding.parquet is missing; write it with rsft evaluate"
            )
            continue
        chip_map = maps.ChipMap(run.embedding, run.evaluation, run.predictions)
        first = next(iter(shown.values()), chip_map)
        if (chip_map.paths, chip_map.classes) != (first.paths, first.classes):
            reasons[letter] = (
                f"its chips or classes differ from those of {next(iter(shown))}"
            )
        elif len(shown) == MAX_FEATURE_MAPS:
            reasons[letter] = f"a page has at most {MAX_FEATURE_MAPS} maps"
        else:
            shown[letter] = chip_map
    if not shown:
        return None
    titles = {
        letter: f"{letter}: {runs[letter].method} ({runs[letter].name})"
        for letter in shown
    }
    data = maps.linked_maps_data(
        [(chip_map, "adapted") for chip_map in shown.values()], list(shown)
    )
    figures = [
        (titles[letter], f"Features of {titles[letter]}", shown[letter], "adapted")
        for letter in shown
    ]
    return {"figures": figures, "data": data, "reasons": reasons}


def _modulator_section(runs: Mapping[str, RunFiles]) -> dict[str, Any] | None:
    """Return the variables of the section with each run's learned scales.

    None if no run has a modulator.

    The colors of all maps cover the same distance from the initial scale.
    """
    shown = {}
    for letter, run in runs.items():
        scale_map = maps.ModulatorMap.of_run(run)
        if scale_map is not None:
            shown[letter] = scale_map
    if not shown:
        return None
    widest = max(scale_map.color_range for scale_map in shown.values())
    by_position = []
    names: dict[str, None] = {}
    for scale_map in shown.values():
        scale_map.color_range = widest
        numbers = {name: values for name, *values in scale_map.by_position()}
        by_position.append(numbers)
        names.update(dict.fromkeys(numbers))
    return {
        "maps": shown,
        "without": [letter for letter in runs if letter not in shown],
        "positions": {name: [x.get(name) for x in by_position] for name in names},
    }
