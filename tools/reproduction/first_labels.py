"""Measure accuracy against labels and clicks, from no label on: which chips are labeled first?

    OMP_NUM_THREADS=1 python -m tools.reproduction.first_labels STORE... --out OUT --report TABLE.md

The training chips of a chip store are the pool without labels, and its validation chips
are the test chips. Features of the embedded encoder are computed once and stored in OUT.
A simulated analyst names chips with their true class. One chip is one click. With rows,
the page offers the most similar chips after each label, and the analyst answers with one
more click: these all have the same class, or only those before one of them. The
classifier is a shrunk linear discriminant on the frozen features of all chips with a
label. The choice is that of the page of `rsft data suggest`
(rsft/plugins/suggestions/naming.js).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from rsft.data.chips.store import ChipStore
from rsft.plugins.suggestions.chip_selection import select_chips, uncertainty
from rsft.plugins.suggestions.first_chips import START, reduce_features, typical_chips
from rsft.plugins.suggestions.label_audit import read_chip_features
from rsft.types import Floats, Indices
from rsft.utils.atomic_files import atomic_file, write_text
from tools.errors import explained_errors
from tools.reproduction.quality_results import half_width

SHRINKAGE = 0.3
FAR = 0.9
ROW = 12
"""Numbers of naming.js."""

BUDGETS = (20, 50, 100)
STRATEGIES = {
    "random": 0,
    "k-means": 10,
    "TypiClust": 10,
    "TypiClust, suggest": 10,
    "suggest": START,
    "suggest, rows": START,
    "random, rows": 0,
}
"""Number of clusters at the beginning, by the way to choose chips."""

TARGET = 0.8
"""Share of the accuracy with all labels that is to be reached."""


class Chips(NamedTuple):
    """Features and true classes.

    Attributes:
        pool: principal components of the features of the pool (N, D), for the choice.
        pool_classes: (N,).
        pool_features: features of the pool for the classifier (N, F).
        test_features: features of the test chips (M, F).
        test_classes: (M,).
    """

    pool: Floats
    pool_classes: Indices
    pool_features: Floats
    test_features: Floats
    test_classes: Indices


class Course(NamedTuple):
    """What a simulated analyst did.

    Attributes:
        labeled: numbers of the labeled chips, in order.
        clicks: number of clicks after each of them.
    """

    labeled: list[int]
    clicks: list[int]


def fit_discriminant(
    x: Floats, labels: Indices, fallback: float
) -> tuple[Floats, Floats]:
    """Fit a shrunk linear discriminant with equal priors.

    Args:
        x: features (N, D).
        labels: class indices from 0 to C - 1 (N,), each at least once.
        fallback: variance of the features if each class has one chip.

    Returns:
        Weights (D, C) and offsets (C,).
    """
    means = np.stack(
        [x[labels == label].mean(axis=0) for label in range(labels.max() + 1)]
    )
    size = x.shape[1]
    centered = x - means[labels]
    freedom = len(x) - len(means)
    matrix = np.zeros((size, size))
    variance = fallback
    if freedom > 0:
        matrix = centered.T @ centered / freedom
        variance = np.trace(matrix) / size or fallback
    matrix = (1 - SHRINKAGE) * matrix + SHRINKAGE * variance * np.eye(size)
    weights = np.linalg.solve(matrix, means.T)
    return weights, (means.T * weights).sum(axis=0) / 2


def choose_next(vectors: Floats, labeled: Sequence[int], classes: Sequence[int]) -> int:
    """Return the chip that the page shows next, after the typical ones.

    Args:
        vectors: features of all chips (N, D).
        labeled: numbers of the labeled chips (L,).
        classes: their classes, in any numbers (L,).
    """
    order = list(dict.fromkeys(classes))
    labels = np.array([order.index(name) for name in classes])
    x = vectors[list(labeled)]
    weights, offsets = fit_discriminant(x, labels, float(vectors.var(axis=0).mean()))
    others = np.setdiff1d(np.arange(len(vectors)), labeled)
    scores = vectors[others] @ weights - offsets
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    distances = 1 - (_unit(vectors[others]) @ _unit(x).T).max(axis=1)
    far = np.sort(distances)[int(FAR * (len(others) - 1))] or 1.0
    gains = (uncertainty(probabilities) + 1e-9) * np.minimum(distances / far, 1)
    counts = np.bincount(labels).astype(float)
    return int(others[select_chips(probabilities, gains, counts, 1)[0]])


def find_similar(vectors: Floats, labeled: Sequence[int], source: int) -> list[int]:
    """Return the `ROW` chips without a label that are most similar to a chip."""
    others = np.setdiff1d(np.arange(len(vectors)), labeled)
    likeness = _unit(vectors[others]) @ _unit(vectors[[source]])[0]
    return [
        int(number) for number in others[np.argsort(-likeness, kind="stable")[:ROW]]
    ]


def _unit(x: Floats) -> Floats:
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


def label_chips(chips: Chips, strategy: str, seed: int, clicks: int) -> Course:
    """Name chips until the clicks are spent.

    Args:
        chips: the pool.
        strategy: one of `STRATEGIES`.
        seed: seed of random choices, and of the pool: each seed leaves out a tenth.
        clicks: number of clicks.
    """
    rng = np.random.default_rng(seed)
    kept = np.sort(rng.permutation(len(chips.pool))[: int(0.9 * len(chips.pool))])
    vectors = chips.pool[kept]
    truth = chips.pool_classes[kept]
    first = rng.permutation(len(vectors)).tolist()
    starts = STRATEGIES[strategy]
    if strategy == "k-means":
        first = _central_chips(vectors, starts, seed) + first
    elif starts:
        first = list(typical_chips(vectors, starts)) + first
    labeled: list[int] = []
    spent: list[int] = []
    count = 0
    while count < clicks and len(labeled) < len(vectors):
        has_started = set(first[:starts]) <= set(labeled)
        if "suggest" in strategy and has_started:
            number = choose_next(vectors, labeled, truth[labeled].tolist())
        else:
            number = next(chip for chip in first if chip not in labeled)
        labeled.append(number)
        count += 1
        spent.append(count)
        if strategy.endswith("rows") and count < clicks:
            count += 1
            for other in find_similar(vectors, labeled, number):
                if truth[other] != truth[number]:
                    break
                labeled.append(other)
                spent.append(count)
    return Course(kept[labeled].tolist(), spent)


def _central_chips(vectors: Floats, count: int, seed: int) -> list[int]:
    model = KMeans(count, n_init=3, random_state=seed).fit(vectors)
    distances = model.transform(vectors)
    return [int(number) for number in distances.argmin(axis=0)]


def measure(chips: Chips, labeled: Sequence[int]) -> float:
    """Return the macro accuracy on the test chips in %, of a discriminant on labeled chips."""
    names, labels = np.unique(chips.pool_classes[list(labeled)], return_inverse=True)
    x = chips.pool_features[list(labeled)]
    weights, offsets = fit_discriminant(
        x, labels, float(chips.pool_features.var(axis=0).mean())
    )
    predicted = names[(chips.test_features @ weights - offsets).argmax(axis=1)]
    hits = predicted == chips.test_classes
    return 100 * float(
        np.mean(
            [
                hits[chips.test_classes == name].mean()
                for name in np.unique(chips.test_classes)
            ]
        )
    )


def read_chips(store: ChipStore, folder: Path) -> Chips:
    """Return the features of a store, which are computed once."""
    file = folder / f"{store.root.name}.npz"
    if not file.is_file():
        inputs = read_chip_features(store, device="cpu")
        classes = [store.classes.index(name) for name in inputs.table["class"]]
        is_pool = (inputs.table["split"] == "train").to_numpy()
        with atomic_file(file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, features=inputs.features, classes=classes, is_pool=is_pool)
    content = np.load(file)
    is_pool = content["is_pool"]
    features = content["features"].astype(np.float64)
    center = features[is_pool].mean(axis=0)
    _, _, axes = np.linalg.svd(features[is_pool] - center, full_matrices=False)
    reduced = (features - center) @ axes[:128].T
    return Chips(
        reduce_features(features[is_pool]),
        content["classes"][is_pool],
        reduced[is_pool],
        reduced[~is_pool],
        content["classes"][~is_pool],
    )


def format_table(
    results: dict[str, NDArray[np.float64]], name: str, target: float
) -> str:
    """Return the results of a store as Markdown.

    Args:
        results: by strategy, one row per seed: accuracy at each budget, found classes at 60
            clicks, and clicks until `TARGET` of the accuracy `target` is reached.
        name: of the store.
        target: accuracy with all labels of the pool.
    """
    columns = [f"macro at {budget}" for budget in BUDGETS]
    columns += [f"at {budget}, minus random" for budget in BUDGETS]
    columns += ["classes at 60", f"clicks to {TARGET:.0%} of {target:.1f}"]
    lines = [
        f"**{name}**",
        "",
        f"| choice | {' | '.join(columns)} |",
        "|---|" + "---:|" * len(columns),
    ]
    random = results["random"]
    for strategy, rows in results.items():
        cells = [f"{value:.1f}" for value in rows[:, :3].mean(axis=0)]
        for column in range(3):
            gain = rows[:, column] - random[:, column]
            cells.append(
                ""
                if strategy == "random"
                else f"{gain.mean():+.1f} ± {half_width(gain):.1f}"
            )
        cells.append(f"{rows[:, 3].mean():.1f} ({rows[:, 3].min():.0f})")
        cells.append(f"{np.median(rows[:, 4]):.0f}")
        lines.append(f"| {strategy} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def simulate(chips: Chips, strategy: str, seed: int, target: float) -> list[float]:
    """Return one row of `format_table`."""
    limit = 2 * BUDGETS[-1]
    course = label_chips(chips, strategy, seed, limit)

    def after(clicks: int) -> list[int]:
        return course.labeled[: int(np.searchsorted(course.clicks, clicks, "right"))]

    row = [measure(chips, after(budget)) for budget in BUDGETS]
    row.append(len(np.unique(chips.pool_classes[after(60)])))
    steps = range(10, limit + 1, 10)
    reached = [step for step in steps if measure(chips, after(step)) >= TARGET * target]
    return [*row, reached[0] if reached else np.inf]


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate all strategies on all stores, and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stores", type=Path, nargs="+")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the features"
    )
    parser.add_argument("--report", type=Path, help="tables to write")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES)
    )
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    tables = []
    for root in options.stores:
        chips = read_chips(ChipStore.open(root), options.out)
        target = measure(chips, range(len(chips.pool)))
        results = {}
        for strategy in options.strategies:
            rows = [
                simulate(chips, strategy, seed, target) for seed in range(options.seeds)
            ]
            results[strategy] = np.array(rows)
            print(
                root.name, strategy, results[strategy].mean(axis=0).round(1), flush=True
            )
        tables.append(format_table(results, root.name, target))
        print(tables[-1], flush=True)
        if options.report is not None:
            write_text(options.report, "\n".join(tables))


if __name__ == "__main__":
    with explained_errors():
        main()
