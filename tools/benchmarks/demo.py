"""Train the recipe of the quick start with several seeds, and compare it with its baselines; print tables in Markdown.

python -m tools.benchmarks.demo [--seeds 4,5,6] [--test 400] [--scenes 0,1,2] [--out
DIR]

Each seed simulates its own chips and trains on them: the training chips of `rsft
prepare demo`, and TEST test chips of each class, more than the quick start has, so that
the intervals are narrower. MetaLoRA, its baselines and plain LoRA classify the same
chips. The intervals are those of metrics.json: a paired bootstrap over the test chips.
Then the network of the first seed detects and classifies the ships of simulated scenes
with the seeds SCENES. With --out, jobs that have ended are not run again.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated

import typer

from rsft.evaluation.files import read_json
from rsft.evaluation.schema import EVALUATION_FILE, Evaluation
from rsft.metrics.intervals import Interval
from rsft.plugins.demo.prepare import (
    DEMO_CLASSES,
    DEMO_COUNTS,
    prepare_demo,
    prepare_demo_scene,
)
from tools.benchmarks.growth import run_job
from tools.errors import explained_errors

MEASURES = ("head", "tail", "macro")
RUNS: Mapping[str, Sequence[str]] = {
    "quickstart": (),
    "lora": ("meta=null", "evaluate.baselines=0"),
}
"""Overrides of the recipe by name of the run."""


def main(
    seeds: Annotated[
        str, typer.Option(help="Seeds of chips and training, separated by commas.")
    ] = "4,5,6",
    test: Annotated[int, typer.Option(help="Test chips of each class.")] = 400,
    scenes: Annotated[
        str, typer.Option(help="Seeds of the simulated scenes, separated by commas.")
    ] = "0,1,2",
    out: Annotated[Path | None, typer.Option(help="Keep the files there.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Keys of the recipe.")
    ] = None,
) -> None:
    """Run all jobs and print the tables."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = out or Path(temporary)
        runs = [
            train(folder / seed, int(seed), test, overrides or [])
            for seed in seeds.split(",")
        ]
        print(accuracy_table(runs))
        first = (folder / seeds.partition(",")[0]).resolve()
        for seed in scenes.split(","):
            print(f"scene {seed}:", find_ships(first, int(seed)))


def train(
    folder: Path, seed: int, test: int, overrides: Sequence[str]
) -> dict[str, Evaluation]:
    """Simulate the chips of a seed and train on them.

    Args:
        folder: where the chips and the runs lie.
        seed: seed of the chips and of the training.
        test: test chips of each class.
        overrides: keys of the recipe.

    Returns:
        The evaluation by name of the run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    counts = {**DEMO_COUNTS, "test": dict.fromkeys(DEMO_CLASSES, test)}
    prepare_demo(folder / "chips", seed=seed, counts=counts)
    evaluations = {}
    for name, own in RUNS.items():
        keys = ("data.root=chips", f"seed={seed}", f"name={name}", *own, *overrides)
        metrics = folder / "runs" / name / "001" / "evaluation" / EVALUATION_FILE
        if not metrics.is_file():
            run_job(folder, ("finetune", "quickstart", *keys), threads=2)
        evaluations[name] = read_json(metrics, Evaluation)
    return evaluations


def accuracy_table(runs: Sequence[Mapping[str, Evaluation]]) -> str:
    """Return the accuracies and the gains of MetaLoRA: mean, range of the seeds, and the lowest limit of an interval.

    Args:
        runs: evaluations of each seed, by name of the run.
    """
    lines = [
        "| method | "
        + " | ".join(MEASURES)
        + " | "
        + " | ".join(f"gain, {measure}" for measure in MEASURES)
        + " |",
        "|---|" + "---:|" * (2 * len(MEASURES)),
    ]
    evaluations = [run["quickstart"] for run in runs]
    for method in evaluations[0].methods:
        cells = [
            _mean_and_range([getattr(x.methods[method], measure) for x in evaluations])
            for measure in MEASURES
        ]
        if method in evaluations[0].differences:
            cells += [
                _gain([x.differences[method][measure] for x in evaluations])
                for measure in MEASURES
            ]
        lines.append(_row(method, cells))
    lora = [next(iter(run["lora"].methods.values())) for run in runs]
    lines.append(
        _row(
            "LoRA",
            [
                _mean_and_range([getattr(x, measure) for x in lora])
                for measure in MEASURES
            ],
        )
    )
    return "\n".join(lines)


def find_ships(folder: Path, seed: int) -> str:
    """Detect and classify the ships of a simulated scene with the network in `folder`; return what `predict` says."""
    scene = folder / f"scene{seed}"
    prepare_demo_scene(scene, seed)
    paths = (
        f"{scene}/scene.tif",
        "--land",
        f"{scene}/land.gpkg",
        "--truth",
        f"{scene}/ships.gpkg",
    )
    run_job(
        folder,
        (
            "predict",
            "runs/quickstart",
            *paths,
            "--detect",
            "-o",
            f"{scene}/found.gpkg",
            "--overwrite",
        ),
    )
    found = re.search(
        r"\d+ of \d+ true objects found.*", (folder / "log.txt").read_text()
    )
    assert found is not None, "rsft predict no longer compares the scene with its truth"
    return found[0]


def _row(method: str, cells: Sequence[str]) -> str:
    return (
        f"| {method} | "
        + " | ".join([*cells, *[""] * (2 * len(MEASURES) - len(cells))])
        + " |"
    )


def _mean_and_range(intervals: Sequence[Interval]) -> str:
    values = [100 * interval.value for interval in intervals]
    return f"{fmean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def _gain(differences: Sequence[Interval]) -> str:
    values = [100 * difference.value for difference in differences]
    lowest = 100 * min(difference.low for difference in differences)
    return f"{min(values):+.1f} to {max(values):+.1f}, above {lowest:+.1f}"


if __name__ == "__main__":
    with explained_errors():
        typer.run(main)
