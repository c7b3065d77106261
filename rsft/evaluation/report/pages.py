"""Write the report of a run and the page that compares runs.

Every section has its content, or why it is missing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from markupsafe import Markup

from rsft.data.chips.folds import open_store
from rsft.data.chips.store import MANIFEST, ChipStore
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
from rsft.training.runs.reader import TERMS, read_run_info, recipe_differences
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
    store = None
    chips = None
    if pictures:
        reason = ""
    else:
        reason = "Pictures of chips were left out on request."
    trained_on = Path(run.metadata.data.get("root", run.recipe.data.root))
    candidates = [data] if data else [Path(run.data), trained_on]
    try:
        root = next(
            (path for path in candidates if (path / MANIFEST).is_file()), candidates[0]
        )
        store = open_store(root, run.recipe.data.fold)
    except RsftError as error:
        location = f"The chips were not found ({error.message}: {error.location})."
        reason = (
            reason or f"{location} Use --data to give the folder of the chip store."
        )
    if store and pictures:
        try:
            chips = ChipPictures(run, store, progress)
        except RsftError as error:
            reason = f"No pictures of chips: {error}."
    scenes = read_scene_maps(run_dir) if pictures else []
    content = _page_content(run, store, chips) | {
        "missing_reason": reason,
        "scenes": scenes,
    }
    return write_page(run_dir / REPORT_FILE, "run.html", content)


def _page_content(
    run: RunFiles, store: ChipStore | None, pictures: ChipPictures | None
) -> dict[str, Any]:
    """Return the variables of the template, which calls charts and tables.

    None means that a file is missing.
    """
    evaluation = run.evaluation
    predictions = run.predictions
    chip_map = None
    gallery = None
    samples = []
    if predictions is not None:  # without classes that are not in metrics.json
        if evaluation:
            predictions = predictions[predictions["class"].isin(evaluation.classes)]
        else:
            predictions = None
    if predictions is not None and predictions.empty:
        predictions = None
    if evaluation and run.embedding is not None:
        chips = maps.ChipMap(run.embedding, evaluation, run.predictions)
        chip_map = {
            "figures": [
                (title, title.partition(":")[0], chips, stage)
                for stage, title in maps.STAGES.items()
            ],
            "data": maps.linked_maps_data(
                [(chips, stage) for stage in maps.STAGES],
                with_pictures=pictures is not None,
            ),
            "sheet": (
                pictures.sheet(chips.paths, maps.TILE_SIZE, maps.SHEET_COLUMNS)
                if pictures
                else ""
            ),
        }
    if evaluation and predictions is not None:
        gallery = make_gallery(predictions, evaluation.classes, pictures)
        classes = [
            evaluation.classes[index]
            for index in metric_tables.order_by_training(evaluation)
        ]
        if pictures:
            samples = draw_samples(predictions, classes, pictures)
        else:
            samples = []
    chips_by_split = {
        "training": run.metadata.train_chips,
        "validation": run.metadata.val_chips,
    }
    if evaluation and evaluation.split != "val":
        chips_by_split[evaluation.split] = evaluation.count
    sizes = [
        f"{count:,} {split}"
        for split, count in chips_by_split.items()
        if count is not None
    ]
    overview = {"Data": Path(run.data).name, "Chips": ", ".join(sizes)}
    if evaluation:
        groups = [
            f"{len(indices)} {group}"
            for group in GROUPS
            if (indices := evaluation.groups.get(group))
        ]
        overview["Classes"] = f"{len(evaluation.classes)}" + (
            f" ({join_words(groups)})" if groups else ""
        )
    restrictions = dict.fromkeys(
        name
        for entry in run.licenses or ()
        for name in entry.restrictions
        if name != UNKNOWN
    )
    overview |= {
        "Restrictions": ", ".join(restrictions),
        "Started": f"{run.metadata.started:%Y-%m-%d %H:%M}",
    }
    start = run.recipe.train.start_bundle
    return {
        "run": run,
        "number": run.folder.resolve().name,
        "evaluation": evaluation,
        "predictions": predictions,
        "pictures": pictures,
        "charts": charts,
        "tables": metric_tables,
        "contribution_map": maps.contribution_map,
        "method": describe_recipe(run.recipe),
        "overview": overview,
        "start": start and run.metadata.start.get("bundle", start),
        "terms": TERMS,
        "modulator": maps.ModulatorMap.of_run(run),
        "map": chip_map,
        "gallery": gallery,
        "samples": samples,
        "dataset": summarize_store(run, store) if store else None,
    }


def describe_recipe(recipe: Recipe) -> Markup:
    """Describe method, modulator, loss, head, training and input of a recipe.

    Each takes one or two sentences.
    """
    head = recipe.head
    settings = recipe.peft.settings
    texts: dict[str, Any] = {
        key: to_yaml(x) if isinstance(x, dict) else f"{x}"
        for key, x in settings.items()
    }
    positions = ""
    if "positions" in settings:
        every = settings["positions"] == ALL_POSITIONS
        if every:
            positions = "all positions"
        else:
            positions = join_words(select_positions(settings["positions"]))
    loss = recipe.loss.build()
    samplers = [recipe.train.sampler, *([recipe.meta.sampling] if recipe.meta else [])]
    objective = summarize(loss)
    exponents = [sampling_exponent(name) for name in samplers]
    if set(exponents) != {1.0} and getattr(
        loss, "uses_prior", False
    ):  # not drawn as often as they occur
        inner, *outer = ("n" if q == 1 else f"n^{q:g}" for q in exponents)
        if outer and outer[0] != inner:
            outer_prior = f" (outer loop: {outer[0]})"
        else:
            outer_prior = ""
        objective += f", with class priors as drawn: {inner} for n chips{outer_prior}"
    content = {
        "settings": settings | {"scale": texts.get("scale", "")},
        "sizes": [
            f"{key} {text}" for key, text in texts.items() if key not in SITE_KEYS
        ],
        "positions": positions,
        "blocks": _blocks(settings["blocks"]) if "blocks" in settings else "",
        "objective": f"{objective[0].upper()}{objective[1:]}",
        "pool": POOLS[recipe.backbone.pool],
        "head_init": HEAD_INITS[head.init].format(shots=head.shots),
        "sampler": SAMPLERS[recipe.train.sampler].title,
    }
    text = fill_template("recipe.html", dict(recipe) | content)
    return Markup(" ".join(text.split()))


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
    if (
        len(runs) < 2
        or len(runs) > MAX_RUNS
        or len({run.resolve() for run in runs}) < len(runs)
    ):
        raise RequestError(
            f"{len(runs)} runs cannot be compared, or one of them is listed twice",
            ", ".join(map(str, runs)),
            f"name 2 to {MAX_RUNS} different runs",
        )
    files = [read_run_files(run) for run in runs]
    by_letter = dict(zip(ascii_uppercase, files, strict=False))
    evaluated = {
        f"{x} {run.name}": run.evaluation.summary
        for x, run in by_letter.items()
        if run.evaluation
    }
    differences = recipe_differences([read_run_info(run) for run in runs])
    costs = [metric_tables.cost_table(run) for run in files]
    machines = {
        (run.metadata.machine, str(run.metadata.hardware), run.metadata.device)
        for run in files
    }
    content = {
        "runs": by_letter,
        "keys": {
            key: [to_yaml(value) for value in values]
            for key, values in differences.items()
        },
        "rows": metric_tables.accuracy_rows([run.evaluation for run in files]),
        "plot": charts.accuracy_plot(evaluated) if evaluated else None,
        "pairs": [
            _pair(files[0], letter, run) for letter, run in list(by_letter.items())[1:]
        ],
        "measures": metric_tables.ACCURACIES,
        "pareto": _pareto_plots(by_letter),
        "features": _feature_section(by_letter),
        "modulators": _modulator_section(by_letter),
        "costs": {
            name: [cost.get(name, "–") for cost in costs]
            for name in dict.fromkeys(n for c in costs for n in c)
        },
        "several_machines": len(machines) > 1,
    }
    return write_page(page_path, "compare.html", content)


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
    summaries = {
        letter: run.evaluation.summary for letter, run in runs.items() if run.evaluation
    }
    shared = [
        group
        for group in GROUPS
        if all(getattr(summary, group) for summary in summaries.values())
    ]
    measure = shared[-1] if shared else "macro"
    costs_by_name: dict[str, list[float | None]] = {
        "seconds": [run.metadata.seconds for run in runs.values()],
        "trained parameters": [
            run.metadata.trained_parameters for run in runs.values()
        ],
        "peak memory, MB": [
            metric_tables.peak_memory_mb(run.epochs) for run in runs.values()
        ],
    }
    plots = {}
    for name, costs in costs_by_name.items():
        points = [
            charts.ParetoPoint(
                letter, index, float(cost), getattr(summaries[letter], measure)
            )
            for index, (letter, cost) in enumerate(zip(runs, costs, strict=True))
            if cost and letter in summaries
        ]
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
    shown = {
        x: scale_map
        for x, run in runs.items()
        if (scale_map := maps.ModulatorMap.of_run(run)) is not None
    }
    if not shown:
        return None
    widest = max(scale_map.color_range for scale_map in shown.values())
    for scale_map in shown.values():
        scale_map.color_range = widest
    by_position = [
        {name: numbers for name, *numbers in scale_map.by_position()}
        for scale_map in shown.values()
    ]
    positions = dict.fromkeys(name for values in by_position for name in values)
    return {
        "maps": shown,
        "without": [letter for letter in runs if letter not in shown],
        "positions": {
            name: [values.get(name) for values in by_position] for name in positions
        },
    }
