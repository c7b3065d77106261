"""Compare MetaPEFT with baselines of equal or higher cost on one long-tailed chip store, with several seeds.

    python -m tools.reproduction.quality_table recipes/mstar_lt_metalora.yaml --out quality --seeds 5 --jobs 2

Each run writes one file to OUT; the same command continues a stopped table. The validation split is cut into two
halves, alternating within each class. "Best of N" rows choose a configuration by macro accuracy on the first half. All
printed accuracies are those of the second half. Differences are paired by seed; intervals are 95 % intervals of
Student's t over seeds. Cost is CPU time of one process with one thread, which other processes do not change.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from scipy.stats import t

from rsft.utils.atomic_files import write_text

if TYPE_CHECKING:
    from rsft.models.bundle.bundle import Bundle

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Global scales of plain PEFT."""

INIT_SCALES = (0.25, 1.0, 2.0, 4.0)
"""Initial scales of the modulator."""

RANDOM_DRAWS = 3
"""Draws of random scales per site."""

PEFT = {
    "lora": "peft={method: lora, rank: 8, positions: qkvo12, blocks: all%s}",
    "adaptformer": "peft={method: adaptformer, dim: 16, blocks: all%s}",
}
TITLES = {"lora": "LoRA", "adaptformer": "AdaptFormer"}


class Job(NamedTuple):
    """One run: the name of its configuration, its seed, and KEY=VALUE overrides of the recipe."""

    name: str
    seed: int
    overrides: list[str]

    def result_file(self, folder: Path) -> Path:
        """Return the path of the run's result in a folder."""
        return folder / f"{self.name}, seed {self.seed}.json"


def method_jobs(method: str, seed: int, meta: str, init_scales_only: bool = False) -> Iterator[Job]:
    """Iterate over the runs of a method and seed: global scales, random scales per site, and modulators.

    Args:
        method: "lora" or "adaptformer".
        seed: seed of the runs.
        meta: keys of the section meta, as YAML without braces.
        init_scales_only: only run the initial scales, as global scales and as starts of the modulator.

    Yields:
        One job per run.
    """

    def plain(scale: str) -> list[str]:
        return [PEFT[method] % f", scale: {scale}", "meta=null"]

    def learned(schedule: str, init_scale: float, **options: bool) -> list[str]:
        keys = {"schedule": schedule, "init_scale": init_scale, **yaml.safe_load(f"{{{meta}}}"), **options}
        return [PEFT[method] % "", f"meta={yaml.safe_dump(keys, default_flow_style=True, width=999).strip()}"]

    for scale in INIT_SCALES if init_scales_only else SCALES:
        yield Job(f"{method} scale {scale:g}", seed, plain(f"{scale}"))
    for init_scale in INIT_SCALES:
        yield Job(f"{method} alternating from {init_scale:g}", seed, learned("alternating", init_scale))
    if not init_scales_only:
        for draw in range(RANDOM_DRAWS):
            yield Job(f"{method} random {draw}", seed, plain(random_scales(method, seed, draw)))
        yield Job(f"{method} joint from 1", seed, learned("joint", 1.0))
        yield Job(f"{method} held out from 1", seed, learned("alternating", 1.0, holdout=True))


def random_scales(method: str, seed: int, draw: int, depth: int = 6) -> str:
    """Return one scale per site, log-uniform over the range of `SCALES`, as a YAML mapping.

    Args:
        method: "lora" or "adaptformer".
        seed: seed of the run.
        draw: number of the draw, from 0.
        depth: number of blocks.
    """
    rng = np.random.default_rng((seed, draw))
    positions = ("mlp",) if method == "adaptformer" else ("q", "k", "v", "out", "mlp1", "mlp2")
    sites = [f"blocks.{block}.{position}" for block in range(depth) for position in positions]
    values = np.exp(rng.uniform(np.log(SCALES[0]), np.log(SCALES[-1]), len(sites)))
    return "{" + ", ".join(f"{site}: {value:.4f}" for site, value in zip(sites, values, strict=True)) + "}"


def run_job(recipe_path: Path, out: Path, job: Job, overrides: Sequence[str]) -> None:
    """Train one configuration, and write its recall by class on both halves of the validation split.

    Args:
        recipe_path: path of the recipe.
        out: folder of the results.
        job: configuration and seed.
        overrides: KEY=VALUE overrides of every run.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    torch.set_num_threads(1)
    from rsft.data.chips.store import ChipStore
    from rsft.data.loading.batches import ChipImages
    from rsft.models.bundle.bundle import Bundle
    from rsft.models.factory import load_classifier
    from rsft.models.outputs import collect_outputs
    from rsft.recipe.load import load_recipe
    from rsft.training.finetune import finetune

    recipe = load_recipe(recipe_path, [f"seed={job.seed}", *job.overrides, *overrides])
    start = time.process_time()
    # calibration takes time and does not change accuracies
    with patch("rsft.training.single_run.calibrate_bundle", side_effect=_skip_calibration):
        run = finetune(recipe, out / "runs" / f"{job.name}, seed {job.seed}")
    seconds = time.process_time() - start
    bundle = Bundle.load(run.bundle_dir)
    store = ChipStore.open(Path(bundle.recipe.data.root))
    chips = ChipImages(store.root, store.split("val"), store.classes, bundle.contract)
    predicted = collect_outputs(load_classifier(bundle, "cpu"), chips.batches(256)).logits.argmax(1)
    is_correct = predicted == chips.labels
    half = pd.Series(chips.labels).groupby(chips.labels).cumcount().to_numpy() % 2
    labels, classes = chips.labels, range(len(store.classes))
    recall = [[float(is_correct[(half == h) & (labels == c)].mean()) for c in classes] for h in (0, 1)]
    result = {"name": job.name, "seed": job.seed, "seconds": seconds, "recall": recall, "groups": bundle.group_indices}
    result["scales"] = pd.read_csv(run.folder / "modulator.csv").to_dict("list") if recipe.meta else None
    write_text(job.result_file(out), json.dumps(result))
    shutil.rmtree(run.folder.parent.parent)


def _skip_calibration(bundle: Bundle, *_: Any) -> Bundle:
    return bundle


def read_results(out: Path) -> pd.DataFrame:
    """Read all results.

    Args:
        out: folder of the results.

    Returns:
        One row per run and half: name, seed, seconds, half; head, medium, tail and macro in %.
    """
    rows: list[dict[str, Any]] = []
    for path in sorted(out.glob("*.json")):
        result = json.loads(path.read_text())
        for half, recall in enumerate(result["recall"]):
            groups = {group: 100 * np.mean([recall[c] for c in members]) for group, members in result["groups"].items()}
            row = {"name": result["name"], "seed": result["seed"], "seconds": result["seconds"], "half": half}
            rows.append(row | groups | {"macro": 100 * float(np.mean(recall))})
    return pd.DataFrame(rows)


def choose_best(table: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """Choose the best configuration of each seed on the first half, and return its accuracy on the second half.

    Args:
        table: rows of `read_results`.
        prefix: the names of the candidate configurations begin with it.

    Returns:
        One row per seed; `seconds` is the sum over all candidates.
    """
    candidates = table[table["name"].str.startswith(prefix)]
    first_half, second_half = candidates[candidates["half"] == 0], candidates[candidates["half"] == 1]
    best = first_half.sort_values("macro").groupby("seed")["name"].last()
    rows = [second_half[(second_half["seed"] == seed) & (second_half["name"] == name)] for seed, name in best.items()]
    seconds = first_half.groupby("seed")["seconds"].sum()
    chosen: pd.DataFrame = pd.concat(rows)
    return chosen.assign(seconds=chosen["seed"].map(seconds))


def mean_and_interval(values: NDArray[np.floating[Any]]) -> str:
    """Return "mean ± half width of the 95 % interval", or only the mean of a single value.

    Args:
        values: (N,), one value per seed.
    """
    if len(values) < 2:
        return f"{values.mean():.1f}"
    return f"{values.mean():.1f} ± {t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5:.1f}"


def results_markdown(out: Path, methods: Sequence[str]) -> str:
    """Return two Markdown tables per method, over the seeds whose runs are complete.

    Args:
        out: folder of the results.
        methods: names of the methods.
    """
    table = read_results(out)
    parts = []
    for method in methods:
        runs = table[table["name"].str.startswith(f"{method} ")]
        run_counts = runs.groupby("seed")["name"].nunique()
        runs = runs[runs["seed"].isin(run_counts[run_counts == run_counts.max()].index)]
        measured = runs[runs["half"] == 1]
        title = TITLES[method]
        rows = {
            f"{title}, scale 1": measured[measured["name"] == f"{method} scale 1"],
            f"{title}, best of {len(SCALES)} scales": choose_best(runs, f"{method} scale"),
            f"{title}, best of {RANDOM_DRAWS} random scales per site": choose_best(runs, f"{method} random"),
            f"Meta{title}, alternating": measured[measured["name"] == f"{method} alternating from 1"],
            f"Meta{title}, joint": measured[measured["name"] == f"{method} joint from 1"],
            f"Meta{title}, alternating from 4": measured[measured["name"] == f"{method} alternating from 4"],
            f"Meta{title}, alternating, subset held out": measured[measured["name"] == f"{method} held out from 1"],
        }
        parts += [accuracy_table(rows, f"{title}, scale 1"), "", init_scale_table(measured, method, title), ""]
    return "\n".join(parts)


def accuracy_table(rows: dict[str, pd.DataFrame], base: str) -> str:
    """Return accuracies by group, the paired tail difference to the base row, and seconds per seed, in Markdown.

    Args:
        rows: rows of `read_results` by row name.
        base: name of the row to compare with.
    """
    lines = [
        "| | head | medium | tail | macro | tail - tail of scale 1 | CPU s per seed |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, runs in rows.items():
        runs, base_runs = runs.set_index("seed").sort_index(), rows[base].set_index("seed").sort_index()
        cells = [mean_and_interval(runs[group].to_numpy()) for group in ("head", "medium", "tail", "macro")]
        gain = "" if name == base else mean_and_interval((runs["tail"] - base_runs["tail"]).to_numpy())
        lines.append(f"| {name} | {' | '.join(cells)} | {gain} | {runs['seconds'].median():.0f} |")
    return "\n".join(lines)


def init_scale_table(measured: pd.DataFrame, method: str, title: str) -> str:
    """Return macro and tail accuracy from each initial scale, and the difference of best and worst, in Markdown.

    Args:
        measured: rows of `read_results` on the second half.
        method: name of the method.
        title: its title in the table.
    """
    headings = " | ".join(f"from {init_scale:g}" for init_scale in INIT_SCALES)
    lines = [f"| | | {headings} | best - worst |", "|---|---|" + "---|" * (len(INIT_SCALES) + 1)]
    for row_title, pattern in ((title, f"{method} scale %g"), (f"Meta{title}", f"{method} alternating from %g")):
        for group in ("macro", "tail"):
            runs = [
                measured[measured["name"] == pattern % init_scale].sort_values("seed") for init_scale in INIT_SCALES
            ]
            values = np.stack([rows[group].to_numpy() for rows in runs])
            cells = " | ".join(map(mean_and_interval, values))
            lines.append(f"| {row_title} | {group} | {cells} | {mean_and_interval(np.ptp(values, axis=0))} |")
    return "\n".join(lines)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line.

    Returns:
        Options by name.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="recipe with data, backbone and training")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="recipe keys of every run")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results, one file per run")
    parser.add_argument("--seeds", type=int, default=5, help="runs per configuration, seeds 0 to N - 1 (%(default)s)")
    parser.add_argument(
        "--methods", nargs="+", choices=sorted(PEFT), default=["lora", "adaptformer"], help="default: both"
    )
    parser.add_argument(
        "--meta",
        default="lr: 0.05, outer_every: 3, ratio: 0.2, warmup: 1, holdout: false",
        help="keys of the recipe section meta (%(default)s)",
    )
    parser.add_argument("--starts-only", action="store_true", help="only run the initial scales")
    parser.add_argument("--jobs", type=int, default=2, help="processes, each with one thread (%(default)s)")
    parser.add_argument("--report", action="store_true", help="print the tables of finished runs without running more")
    return parser.parse_args()


def main() -> None:
    """Do the missing runs, and print the tables."""
    options = parse_arguments()
    jobs = [
        job
        for seed in range(options.seeds)
        for method in options.methods
        for job in method_jobs(method, seed, options.meta, options.starts_only)
    ]
    missing = [job for job in jobs if not job.result_file(options.out).is_file()]
    if not options.report:
        os.environ["OMP_NUM_THREADS"] = "1"
        with ProcessPoolExecutor(options.jobs) as pool:
            futures = {
                pool.submit(run_job, options.recipe, options.out, job, options.overrides): job for job in missing
            }
            for count, future in enumerate(as_completed(futures), 1):
                future.result()
                print(f"{count} of {len(missing)}: {futures[future].name}, seed {futures[future].seed}", flush=True)
    print(results_markdown(options.out, options.methods))


if __name__ == "__main__":
    main()
