"""Compare methods with few labels per class, and write the tables of the page.

    rsft prepare folder MSTAR --root data/mstar
    rsft prepare folder RSSCN7 --root data/rsscn7 --val 0.5
    rsft prepare opensarship OPENSARSHIP --root data/opensarship --product cal
    --val 0.4 --test 0
    OMP_NUM_THREADS=1 python -m tools.reproduction.few_labels_table data/mstar
    data/rsscn7 data/opensarship --folder data/few --methods discriminant "class means"

Each result is one row of RESULTS, and is written when it is there. The same command
continues: it skips the rows that the file has. Without stores, only the tables of the
page are written again. The draws of labels are those of
tools/reproduction/few_labels.py. Features of frozen methods are computed once for each
store, without test-time views. CPU seconds are those of the training, and without the
features.
"""

import argparse
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import normalize

from rsft.data.chips.store import ChipStore
from rsft.data.loading.batches import ChipImages
from rsft.evaluation.baselines import discriminant_predict, linear_probe_predict
from rsft.models.batch_outputs import collect_outputs
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.training.setup import set_up
from rsft.utils.atomic_files import atomic_file, write_text
from tools.errors import explained_errors
from tools.reproduction.few_labels import draw_labels, write_store
from tools.reproduction.quality_methods import predict_finetuned
from tools.reproduction.quality_results import format_interval
from tools.reproduction.quality_study import parse_seeds

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs/results/quality/few_labels.csv"
PAGE = ROOT / "docs/results/few_labels.md"
KEY = ["data", "method", "labels", "draw"]
"""Columns of RESULTS that name a result; the others are macro (%) and cpu_s."""

CHIPS = {
    "mstar": ["data.crop=48", "data.augment=sar"],
    "rsscn7": ["data.augment=optical"],
    "opensarship": ["data.augment=sar", "data.remap=expand"],
}
"""What the recipes are told about the chips, by the name of the store."""

TITLES = {"mstar": "MSTAR", "rsscn7": "RSSCN7", "opensarship": "OpenSARShip"}
LABELS = (1, 2, 5, 10, 20, 50)

_TABLES = re.compile(r"(<!-- tables -->\n).*(<!-- end -->)", re.DOTALL)


def class_means_predict(
    train_x: NDArray[Any], train_y: NDArray[Any], test_x: NDArray[Any], n_classes: int
) -> NDArray[Any]:
    """Return the cosine (M, C) of chips to the mean of each class."""
    is_member = np.eye(n_classes)[train_y]
    means = normalize(is_member.T @ normalize(train_x))
    return np.asarray(normalize(test_x) @ means.T)


FROZEN = {
    "class means": class_means_predict,
    "linear probe": linear_probe_predict,
    "discriminant": discriminant_predict,
}
"""Methods on features of the embedded encoder."""

_LDA = ("head.kind=linear", "head.init=lda")
_META = ("data.size=64", "train.min_steps=300")

TRAINED: dict[str, tuple[str, Sequence[str]]] = {
    "small network": ("small_network_few", ()),
    "padded small network": ("small_network_padded", ()),
    "LoRA": ("lora", ()),
    "LoRA from the discriminant": ("lora", _LDA),
    "MetaLoRA": ("quickstart", _META),
    "MetaLoRA from the discriminant": ("quickstart", (*_META, *_LDA)),
}
"""Recipe and overrides of each trained method."""


class Draw(NamedTuple):
    """Some labels of a store, by the columns `KEY`."""

    data: str
    method: str
    labels: int
    draw: int


def compute_features(store: ChipStore, cache: Path) -> NDArray[Any]:
    """Return the features (N, D) of all chips of a store, from `cache` if it exists."""
    if not cache.is_file():
        overrides = [f"data.root={store.root}", *CHIPS[store.root.name]]
        frozen = ["data.augment=none", "evaluate.tta=none"]
        recipe = load_recipe(find_recipe("discriminant"), [*overrides, *frozen])
        setup = set_up(recipe)
        chips = ChipImages(store.root, store.table, store.classes, setup.contract)
        outputs = collect_outputs(setup.classifier.eval(), chips.batches(256))
        with atomic_file(cache) as temporary, temporary.open("wb") as stream:
            np.save(stream, outputs.features)
    return np.asarray(np.load(cache))


def measure_frozen(
    store: ChipStore, draw: Draw, features: NDArray[Any]
) -> tuple[float, float]:
    """Return the macro accuracy in % on the held-out chips, and CPU seconds."""
    start = time.process_time()
    table = store.table.reset_index(drop=True)
    labels = table["class"].map(store.classes.index).to_numpy()
    drawn = draw_labels(table, draw.labels, draw.draw)
    train = drawn.index[drawn["split"] == "train"]
    held_out = table.index[table["split"] != "train"]
    scores = FROZEN[draw.method](
        features[train], labels[train], features[held_out], len(store.classes)
    )
    hits = pd.Series(scores.argmax(1) == labels[held_out])
    macro = 100 * hits.groupby(labels[held_out]).mean().mean()
    return float(macro), time.process_time() - start


def measure_trained(store: ChipStore, draw: Draw, folder: Path) -> tuple[float, float]:
    """Return the macro accuracy in % on the held-out chips, and CPU seconds.

    Args:
        store: the store with all labels.
        draw: the method and the labels.
        folder: folder of the stores with few labels.
    """
    root = folder / f"{draw.data}_{draw.labels}_{draw.draw}"
    if not root.exists():
        write_store(store, root, draw.labels, draw.draw)
    recipe, overrides = TRAINED[draw.method]
    told = [f"data.root={root}", *CHIPS[draw.data], *overrides]
    start = time.process_time()
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)  # of a process that was killed
    predicted = predict_finetuned(load_recipe(find_recipe(recipe), told), run)
    shutil.rmtree(run)
    recalls = [recall for recall in predicted.recall()[-1] if recall is not None]
    return 100 * float(np.mean(recalls)), predicted.seconds - start


def read_results() -> pd.DataFrame:
    """Return the rows of RESULTS."""
    if RESULTS.is_file():
        return pd.read_csv(RESULTS)
    return pd.DataFrame(columns=[*KEY, "macro", "cpu_s"])


def write_results(results: pd.DataFrame) -> None:
    """Write RESULTS in the order of its key."""
    text = results.sort_values(KEY).to_csv(index=False, lineterminator="\n")
    write_text(RESULTS, text)


def format_tables(results: pd.DataFrame) -> Iterator[str]:
    """Yield the lines of one table per data set: mean and interval over the draws."""
    for data, title in TITLES.items():
        rows = results[results["data"] == data]
        header = "".join(f" {labels} |" for labels in LABELS)
        yield f"| {title}: labels per class |{header}"
        yield "|---|" + "---:|" * len(LABELS)
        for method in (*FROZEN, *TRAINED):
            is_method = rows["method"] == method
            cells = []
            for labels in LABELS:
                values = rows.loc[is_method & (rows["labels"] == labels), "macro"]
                count = f" ({len(values)})" if 0 < len(values) < 5 else ""
                text = format_interval(values.to_numpy()) if len(values) else ""
                cells.append(f" {text}{count} |")
            if is_method.any():
                yield f"| {method} |{''.join(cells)}"
        yield ""


def fill_page(text: str, results: pd.DataFrame) -> str:
    """Return the text of the page with the tables of the results."""
    tables = "\n".join(format_tables(results))
    return _TABLES.sub(lambda match: f"{match[1]}\n{tables}\n{match[2]}", text)


def main() -> None:
    """Measure what is missing, and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stores", type=Path, nargs="*")
    parser.add_argument("--folder", type=Path, default=Path("data/few"))
    parser.add_argument("--labels", type=parse_seeds, default=LABELS)
    parser.add_argument("--seeds", type=parse_seeds, default=range(5))
    parser.add_argument(
        "--methods", nargs="+", choices=[*FROZEN, *TRAINED], default=list(FROZEN)
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    for root in options.stores:
        store = ChipStore.open(root)
        for method in options.methods:
            for labels in options.labels:
                for seed in options.seeds:
                    draw = Draw(root.name, method, labels, seed)
                    add_result(store, draw, options.folder)
    write_text(PAGE, fill_page(PAGE.read_text("utf-8"), read_results()))


def add_result(store: ChipStore, draw: Draw, folder: Path) -> None:
    """Measure a draw, and add it to RESULTS, unless it has the row."""
    results = read_results()
    if (results[KEY] == list(draw)).all(axis=1).any():
        return
    if draw.method in FROZEN:
        features = compute_features(store, folder / f"{draw.data}.npy")
        macro, seconds = measure_frozen(store, draw, features)
    else:
        macro, seconds = measure_trained(store, draw, folder)
    row = pd.DataFrame([[*draw, round(macro, 2), round(seconds, 2)]])
    row.columns = results.columns
    write_results(pd.concat([results, row]) if len(results) else row)
    print(*draw, f"{macro:.1f}", f"{seconds:.1f} CPU s", flush=True)


if __name__ == "__main__":
    with explained_errors():
        main()
