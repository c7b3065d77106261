"""Measure accuracy against labels spent: does `rsft data suggest` choose better chips than chance?

    OMP_NUM_THREADS=1 python -m tools.reproduction.simulated_analyst STORE --out OUT
    --report TABLE.md

STORE is a chip store with a long tail, such as MSTAR with ratio 50 (`rsft prepare
folder MSTAR_FOLDER --root STORE
--imbalance 50`). Its training chips are the pool, and its validation chips are the test
split. A simulated analyst has labeled `--start` chips of the pool: one of each class,
the others at random. In each round a classifier on the embedded backbone is trained on
the labeled chips, of which a fifth are validation chips for its calibration. `rsft
predict` classifies the other chips of the pool, a strategy chooses `--count` of them,
and they get their true labels. All strategies of a seed begin with the same chips and
the same first classifier. The same command continues a stopped study; with other seeds
or strategies, it adds to it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsft.data.chips.manifest import MANIFEST
from rsft.data.chips.record import stratified_split
from rsft.data.chips.store import DATASET, REJECTED, ChipStore
from rsft.data.loading.batches import ChipImages
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.job import predict
from rsft.models.batch_outputs import collect_outputs
from rsft.models.bundle.bundle import Bundle
from rsft.models.loading import load_classifier
from rsft.plugins.suggestions.suggest import suggest_chips
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.training.finetune import finetune
from rsft.utils.atomic_files import write_text
from tools.errors import explained_errors
from tools.reproduction.quality_results import half_width

OVERRIDES = (
    "meta=null",
    "head.earlier_blocks=[]",
    "evaluate.every=1000",
    "evaluate.tta=none",
    "name=analyst",
)
"""Settings that make the training short: plain PEFT with one head, and no validation
before the last epoch."""

VALIDATION_SHARE = 0.2


class Round(NamedTuple):
    """A round of one analyst.

    Attributes:
        chips: names of the labeled chips.
        recall: recall of every class on the test split, in %.
        seconds: CPU seconds of training, prediction and test.
    """

    chips: list[str]
    recall: dict[str, float]
    seconds: float

    def accuracy(self, classes: Sequence[str]) -> float:
        """Return the mean recall of some classes in %.

        Args:
            classes: names of the classes.
        """
        return float(np.mean([self.recall[name] for name in classes]))


class Analyst(NamedTuple):
    """Settings of a simulated analyst.

    Attributes:
        store: pool and test split.
        out: folder of the results.
        recipe: name of a recipe, or its file.
        overrides: recipe keys to override, beside those of `OVERRIDES`.
        start: number of chips with a label at the beginning.
        batch: number of chips that get a label in each round.
        rounds: number of rounds after the first classifier.
    """

    store: ChipStore
    out: Path
    recipe: str
    overrides: Sequence[str]
    start: int
    batch: int
    rounds: int


def choose_randomly(table: Path, count: int, rng: np.random.Generator) -> list[str]:
    """Return paths of randomly chosen chips of a predictions table.

    Args:
        table: the table, in Parquet.
        count: number of chips.
        rng: source of random numbers.
    """
    return list(
        rng.permutation(np.sort(pd.read_parquet(table)["path"].to_numpy(str)))[:count]
    )


def choose_least_certain(
    table: Path, count: int, rng: np.random.Generator
) -> list[str]:
    """Return paths of the chips with the lowest probability, which the review page shows first.

    Args:
        table: the table, in Parquet.
        count: number of chips.
        rng: not used.
    """
    return (
        pd.read_parquet(table)
        .sort_values("probability", kind="stable")["path"]
        .head(count)
        .tolist()
    )


def choose_suggested(table: Path, count: int, rng: np.random.Generator) -> list[str]:
    """Return paths of the chips that `rsft data suggest` lists.

    Args:
        table: the table, in Parquet.
        count: number of chips.
        rng: not used.
    """
    return suggest_chips(table, count).table["path"].tolist()


STRATEGIES: dict[str, Callable[[Path, int, np.random.Generator], list[str]]] = {
    "random": choose_randomly,
    "least certain": choose_least_certain,
    "suggest": choose_suggested,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the missing rounds, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", type=Path)
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        default=["data.size=48", "data.crop=48", "train.epochs=20"],
    )
    parser.add_argument(
        "--recipe", default="mstar_lt_metalora", help="recipe on the embedded backbone"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--report", type=Path, help="table to write")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES)
    )
    parser.add_argument(
        "--start", type=int, default=100, help="labels at the beginning"
    )
    parser.add_argument("--count", type=int, default=50, help="labels in each round")
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args(arguments)
    store = ChipStore.open(options.store)
    numbers = options.start, options.count, options.rounds
    analyst = Analyst(store, options.out, options.recipe, options.overrides, *numbers)
    for seed in options.seeds:
        for strategy in options.strategies:
            label_rounds(analyst, strategy, seed)
    table = format_table(read_rounds(options.out), analyst.store.groups)
    print(table)
    if options.report is not None:
        write_text(options.report, table)


def label_rounds(analyst: Analyst, strategy: str, seed: int) -> None:
    """Do the missing rounds of one strategy and seed.

    Args:
        analyst: the settings.
        strategy: how chips are chosen; see `STRATEGIES`.
        seed: seed of the first labels, of the training and of random choices.
    """
    pool = analyst.store.split("train")
    chips = draw_start(pool["class"].to_numpy(str), analyst.start, seed)
    names = pool["name"].to_numpy(str)[chips].tolist()
    for number in range(analyst.rounds + 1):
        label = "start" if number == 0 else strategy
        file = (
            analyst.out / "rounds" / f"{label.replace(' ', '-')}-{number}-{seed}.json"
        )
        if not file.exists():
            began = time.process_time()
            work = analyst.out / "work" / file.stem
            recall, predictions = _train_and_test(analyst, names, seed, work)
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(predictions, file.with_suffix(".parquet"))
            write_text(
                file,
                json.dumps(Round(names, recall, time.process_time() - began)._asdict()),
            )
            shutil.rmtree(work)
            print(
                f"{file.stem}: {len(names)} labels, macro"
                f" {np.mean(list(recall.values())):.1f}",
                flush=True,
            )
        rng = np.random.default_rng([seed, number])
        paths = STRATEGIES[strategy](file.with_suffix(".parquet"), analyst.batch, rng)
        names = [*names, *(Path(path).stem for path in paths)]


def draw_start(labels: NDArray[np.str_], count: int, seed: int) -> NDArray[np.int64]:
    """Draw the chips that have a label at the beginning.

    Args:
        labels: class of every chip of the pool (N,).
        count: number of chips, at least one per class.
        seed: seed of the draw.

    Returns:
        (count,) indices: one chip of each class, then random ones.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    _, first = np.unique(labels[order], return_index=True)
    rest = np.setdiff1d(np.arange(len(labels)), first)
    return np.asarray(order[np.concatenate([np.sort(first), rest])[:count]], np.int64)


def _train_and_test(
    analyst: Analyst, names: Sequence[str], seed: int, work: Path
) -> tuple[dict[str, float], Path]:
    """Train on the labeled chips.

    Return the recall of every class, and the table of the other chips of the pool.
    """
    shutil.rmtree(work, ignore_errors=True)
    store, unlabeled = label_store(analyst.store, names, seed, work / "store")
    overrides = [
        *OVERRIDES,
        *analyst.overrides,
        f"data.root={store.root}",
        f"seed={seed}",
    ]
    run = finetune(load_recipe(find_recipe(analyst.recipe), overrides), work / "runs")
    request = PredictionRequest(engine="torch", batch_size=64)
    predict(
        run.bundle_dir,
        [store.root / path for path in unlabeled],
        work / "pool.parquet",
        request,
    )
    return measure_recall(store, Bundle.load(run.bundle_dir)), work / "pool.parquet"


def label_store(
    store: ChipStore, names: Sequence[str], seed: int, root: Path
) -> tuple[ChipStore, list[str]]:
    """Write a chip store whose training and validation chips are the labeled ones.

    Args:
        store: pool (split train) and test chips (split val).
        names: names of the labeled chips of the pool.
        seed: seed of the split of the labeled chips.
        root: folder of the new store.

    Returns:
        The new store, and the paths of the other chips of the pool.
    """
    root.mkdir(parents=True)
    for file in (DATASET, REJECTED):
        shutil.copy(store.root / file, root / file)
    (root / "chips").symlink_to((store.root / "chips").resolve())
    pool = store.split("train").set_index("name", drop=False)
    labeled = pool.loc[list(names)]
    train, _ = stratified_split(labeled["class"].tolist(), VALIDATION_SHARE, seed)
    splits = np.full(len(labeled), "val", object)
    splits[train] = "train"
    table = pd.concat(
        [labeled.assign(split=splits), store.split("val").assign(split="test")],
        ignore_index=True,
    )
    table.to_parquet(root / MANIFEST)
    return ChipStore.open(root), pool["path"].drop(list(names)).tolist()


def measure_recall(store: ChipStore, bundle: Bundle) -> dict[str, float]:
    """Return the recall of every class on the test split in %.

    Args:
        store: the chip store.
        bundle: the classifier.
    """
    chips = ChipImages(store.root, store.split("test"), store.classes, bundle.contract)
    outputs = collect_outputs(load_classifier(bundle, "cpu"), chips.batches(256))
    hits = outputs.logits.argmax(axis=1) == chips.labels
    return {
        name: 100 * float(hits[chips.labels == index].mean())
        for index, name in enumerate(store.classes)
    }


def read_rounds(out: Path) -> dict[str, dict[tuple[int, int], Round]]:
    """Read the results of all rounds.

    Args:
        out: folder of the results.

    Returns:
        Strategy -> (number of the round, seed) -> round; round 0 belongs to every
        strategy.
    """
    rounds: dict[str, dict[tuple[int, int], Round]] = {}
    for file in sorted((out / "rounds").glob("*.json")):
        strategy, number, seed = file.stem.rsplit("-", 2)
        rounds.setdefault(strategy.replace("-", " "), {})[int(number), int(seed)] = (
            Round(**json.loads(file.read_text()))
        )
    start = rounds.pop("start", {})
    return {
        strategy: start | rounds[strategy]
        for strategy in STRATEGIES
        if strategy in rounds
    }


def format_table(
    rounds: Mapping[str, Mapping[tuple[int, int], Round]],
    groups: Mapping[str, Sequence[str]],
) -> str:
    """Return the results as Markdown: one row per number of labels, and the paired difference to random choice.

    Args:
        rounds: from `read_rounds`.
        groups: class names of head, medium and tail.
    """
    first = next(iter(rounds.values()))
    measures = {
        "macro": list(next(iter(first.values())).recall),
        "tail": list(groups["tail"]),
    }
    others = [name for name in rounds if name != "random"]
    names = [*rounds, *(f"{name} - random" for name in others if "random" in rounds)]
    head = " | ".join(f"{measure}: {name}" for measure in measures for name in names)
    lines = [
        f"| labels | seeds | {head} |",
        "|---:" * (2 + len(measures) * len(names)) + "|",
    ]
    for number in sorted({number for number, _ in first}):
        seeds = sorted(
            set.intersection(
                *({seed for n, seed in of if n == number} for of in rounds.values())
            )
        )
        if not seeds:
            continue
        cells = [str(len(first[number, seeds[0]].chips)), f"{len(seeds)}"]
        for classes in measures.values():
            accuracy = {
                name: np.array([of[number, seed].accuracy(classes) for seed in seeds])
                for name, of in rounds.items()
            }
            cells += [f"{values.mean():.1f}" for values in accuracy.values()]
            if "random" in rounds:
                cells += [
                    _difference(accuracy[name] - accuracy["random"]) for name in others
                ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _difference(values: NDArray[np.float64]) -> str:
    return f"{values.mean():+.1f} ± {half_width(values):.1f}"


if __name__ == "__main__":
    with explained_errors():
        main()
