"""MetaPEFT beside what costs as much or more, on one long-tailed data set, several seeds each.

    python -m tools.reproduction.quality_table recipes/mstar_lt_metalora.yaml --out quality --seeds 5 --jobs 2

Every run is a file in OUT/; a table that was stopped goes on where it was. The validation split is cut in two halves by
the number of a chip within its class: "the best of" is chosen on the first by macro accuracy, and all that is reported
was measured on the second. Differences are paired by seed; intervals are those of Student's t over the seeds. Cost is
told in seconds of one core, as the machine counts them for the process: what else runs there does not change it.
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
from typing import TYPE_CHECKING, Any
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
STARTS = (0.25, 1.0, 2.0, 4.0)
TRIALS = 3
PEFT = {
    "lora": "peft={method: lora, rank: 8, positions: qkvo12, blocks: all%s}",
    "adaptformer": "peft={method: adaptformer, dim: 16, blocks: all%s}",
}
TITLES = {"lora": "LoRA", "adaptformer": "AdaptFormer"}
Job = tuple[str, int, list[str]]  # name of the configuration, seed, overrides


def jobs_of(method: str, seed: int, meta: str, starts_only: bool = False) -> Iterator[Job]:
    """The configurations of a method: global scales, random scales a site, and the modulator from several starts."""

    def plain(scale: str) -> list[str]:
        return [PEFT[method] % f", scale: {scale}", "meta=null"]

    def learned(schedule: str, start: float, **more: bool) -> list[str]:
        keys = {"schedule": schedule, "init": start, **yaml.safe_load(f"{{{meta}}}"), **more}
        return [PEFT[method] % "", f"meta={yaml.safe_dump(keys, default_flow_style=True, width=999).strip()}"]

    for scale in STARTS if starts_only else SCALES:
        yield f"{method} scale {scale:g}", seed, plain(f"{scale}")
    for start in STARTS:
        yield f"{method} alternating from {start:g}", seed, learned("alternating", start)
    if not starts_only:
        for trial in range(TRIALS):
            yield f"{method} random {trial}", seed, plain(random_scales(method, seed, trial))
        yield f"{method} joint from 1", seed, learned("joint", 1.0)
        yield f"{method} held out from 1", seed, learned("alternating", 1.0, holdout=True)


def random_scales(method: str, seed: int, trial: int, depth: int = 6) -> str:
    """A scale a site, log-uniform over the range of SCALES, as a pattern in YAML."""
    rng = np.random.default_rng((seed, trial))
    positions = ("mlp",) if method == "adaptformer" else ("q", "k", "v", "out", "mlp1", "mlp2")
    sites = [f"blocks.{block}.{position}" for block in range(depth) for position in positions]
    values = np.exp(rng.uniform(np.log(SCALES[0]), np.log(SCALES[-1]), len(sites)))
    return "{" + ", ".join(f"{site}: {value:.4f}" for site, value in zip(sites, values, strict=True)) + "}"


def run(recipe: Path, out: Path, job: Job, overrides: Sequence[str]) -> None:
    """Train one configuration and write accuracy by class of both halves as OUT/<name>, seed <seed>.json."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    torch.set_num_threads(1)
    from rsft.data.chips.store import ChipStore
    from rsft.data.loading.datamodule import ChipImages
    from rsft.models.bundle.bundle import Bundle
    from rsft.models.factory import load_classifier
    from rsft.models.outputs import collect_outputs
    from rsft.recipe.load import load_recipe
    from rsft.training.finetune import finetune

    name, seed, wishes = job
    resolved = load_recipe(recipe, [f"seed={seed}", *wishes, *overrides])
    began = time.process_time()
    with patch(
        "rsft.training.single_run.calibrate_bundle", side_effect=_as_it_is
    ):  # nobody asks how far a row can be trusted
        made = finetune(resolved, out / "runs" / f"{name}, seed {seed}")
    seconds = time.process_time() - began
    bundle = Bundle.load(made.bundle_dir)
    store = ChipStore.open(Path(bundle.recipe.data.root))
    chips = ChipImages(store.root, store.split("val"), store.classes, bundle.contract)
    right = collect_outputs(load_classifier(bundle, "cpu"), chips.batches(256)).logits.argmax(1) == chips.labels
    half = pd.Series(chips.labels).groupby(chips.labels).cumcount().to_numpy() % 2
    labels, classes = chips.labels, range(len(store.classes))
    recall = [[float(right[(half == h) & (labels == c)].mean()) for c in classes] for h in (0, 1)]
    facts = {"name": name, "seed": seed, "seconds": seconds, "recall": recall, "groups": bundle.group_indices}
    facts["scales"] = pd.read_csv(made.folder / "modulator.csv").to_dict("list") if resolved.meta else None
    write_text(out / f"{name}, seed {seed}.json", json.dumps(facts))
    shutil.rmtree(made.folder.parent.parent)


def _as_it_is(bundle: Bundle, *_: Any) -> Bundle:
    return bundle


def read(out: Path) -> pd.DataFrame:
    """A row a run and half: name, seed, seconds, half, head, medium, tail, macro in %."""
    rows: list[dict[str, Any]] = []
    for path in sorted(out.glob("*.json")):
        facts = json.loads(path.read_text())
        for half, recall in enumerate(facts["recall"]):
            groups = {group: 100 * np.mean([recall[c] for c in members]) for group, members in facts["groups"].items()}
            row = {"name": facts["name"], "seed": facts["seed"], "seconds": facts["seconds"], "half": half}
            rows.append(row | groups | {"macro": 100 * float(np.mean(recall))})
    return pd.DataFrame(rows)


def choose(table: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """Of the configurations that begin with `prefix`, each seed's best on the first half, measured on the second."""
    some = table[table["name"].str.startswith(prefix)]
    best = some[some["half"] == 0].sort_values("macro").groupby("seed")["name"].last()
    rows = [some[(some["half"] == 1) & (some["seed"] == seed) & (some["name"] == name)] for seed, name in best.items()]
    seconds = some[some["half"] == 0].groupby("seed")["seconds"].sum()
    chosen: pd.DataFrame = pd.concat(rows)
    return chosen.assign(seconds=chosen["seed"].map(seconds))


def interval(values: NDArray[np.floating[Any]]) -> str:
    """Mean and half width of the 95 % interval."""
    if len(values) < 2:
        return f"{values.mean():.1f}"
    return f"{values.mean():.1f} ± {t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5:.1f}"


def report(out: Path, methods: Sequence[str]) -> str:
    """The tables in Markdown, of the seeds that have every run."""
    table = read(out)
    parts = []
    for method in methods:
        mine = table[table["name"].str.startswith(f"{method} ")]
        runs = mine.groupby("seed")["name"].nunique()
        mine = mine[mine["seed"].isin(runs[runs == runs.max()].index)]
        measured = mine[mine["half"] == 1]
        title = TITLES[method]
        rows = {
            f"{title}, scale 1": measured[measured["name"] == f"{method} scale 1"],
            f"{title}, best of {len(SCALES)} scales": choose(mine, f"{method} scale"),
            f"{title}, best of {TRIALS} random scales a site": choose(mine, f"{method} random"),
            f"Meta{title}, alternating": measured[measured["name"] == f"{method} alternating from 1"],
            f"Meta{title}, joint": measured[measured["name"] == f"{method} joint from 1"],
            f"Meta{title}, alternating from 4": measured[measured["name"] == f"{method} alternating from 4"],
            f"Meta{title}, alternating, subset held out": measured[measured["name"] == f"{method} held out from 1"],
        }
        parts += [quality(rows, f"{title}, scale 1"), "", starts(measured, method, title), ""]
    return "\n".join(parts)


def quality(rows: dict[str, pd.DataFrame], base: str) -> str:
    """Accuracy by group, the paired difference in the tail, and seconds a seed."""
    lines = ["| | head | medium | tail | macro | tail, against scale 1 | s a seed |", "|---|---|---|---|---|---|---|"]
    for name, runs in rows.items():
        runs, first = runs.set_index("seed").sort_index(), rows[base].set_index("seed").sort_index()
        cells = [interval(runs[group].to_numpy()) for group in ("head", "medium", "tail", "macro")]
        gain = "" if name == base else interval((runs["tail"] - first["tail"]).to_numpy())
        lines.append(f"| {name} | {' | '.join(cells)} | {gain} | {runs['seconds'].median():.0f} |")
    return "\n".join(lines)


def starts(measured: pd.DataFrame, method: str, title: str) -> str:
    """Macro and tail accuracy from each starting scale, and the spread from the best of them to the worst."""
    heads = " | ".join(f"from {start:g}" for start in STARTS)
    lines = [f"| | | {heads} | spread |", "|---|---|" + "---|" * (len(STARTS) + 1)]
    for name, form in ((title, f"{method} scale %g"), (f"Meta{title}", f"{method} alternating from %g")):
        for group in ("macro", "tail"):
            runs = [measured[measured["name"] == form % start].sort_values("seed")[group] for start in STARTS]
            values = np.stack([own.to_numpy() for own in runs])
            cells = " | ".join(map(interval, values))
            lines.append(f"| {name} | {group} | {cells} | {interval(np.ptp(values, axis=0))} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*", help="as `rsft finetune` takes them")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results, one file a run")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", choices=sorted(PEFT), default=["lora", "adaptformer"])
    parser.add_argument(
        "--meta",
        default="lr: 0.05, outer_every: 3, ratio: 0.2, warmup: 1, holdout: false",
        help="keys of the meta section",
    )
    parser.add_argument("--starts-only", action="store_true", help="the starting scales alone")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--report", action="store_true", help="print the tables of what is there, and run nothing")
    options = parser.parse_args()
    wanted = [
        job
        for seed in range(options.seeds)
        for method in options.methods
        for job in jobs_of(method, seed, options.meta, options.starts_only)
    ]
    todo = [job for job in wanted if not (options.out / f"{job[0]}, seed {job[1]}.json").is_file()]
    if not options.report:
        os.environ["OMP_NUM_THREADS"] = "1"
        with ProcessPoolExecutor(options.jobs) as pool:
            tasks = {pool.submit(run, options.recipe, options.out, job, options.overrides): job for job in todo}
            for count, task in enumerate(as_completed(tasks), 1):
                task.result()
                print(f"{count} of {len(todo)}: {tasks[task][0]}, seed {tasks[task][1]}", flush=True)
    print(report(options.out, options.methods))


if __name__ == "__main__":
    main()
