"""Measure how many corrections stick: a bundle gets the labels of chips that it classifies wrongly.

    OMP_NUM_THREADS=1 python -m tools.reproduction.corrections STORE --pool POOL
    --recipe RECIPE --out OUT [KEYS]

STORE has the training and validation chips of the bundle, POOL other chips with their
classes, such as a scene cut by `rsft prepare scenes`. For each seed, a bundle is
trained, `--count` chips of POOL that it classifies wrongly are drawn and added to a
copy of STORE, and `rsft finetune --from` trains on with KEYS, such as train.epochs=10.
POOL and STORE may contain {seed}. The result of each seed is kept in OUT; the same
command with other KEYS uses the same bundles and chips.
"""

import argparse
import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsft.corrections.add import add_corrections
from rsft.data.chips.store import ChipStore
from rsft.data.loading.batches import ChipImages
from rsft.models.averaging import with_tta
from rsft.models.batch_outputs import collect_outputs
from rsft.models.bundle.bundle import Bundle
from rsft.models.loading import load_classifier
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.training.finetune import finetune
from rsft.training.replay import correction_recipe
from rsft.training.runs.replay_file import REPLAY_FILE, VALIDATION, read_replay
from rsft.utils.atomic_files import write_text
from tools.errors import explained_errors


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the missing seeds, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="recipe keys of the correction",
    )
    parser.add_argument(
        "--pool", required=True, help="store of the chips that get labels"
    )
    parser.add_argument("--recipe", required=True, help="recipe of the bundle")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--count", type=int, default=12, help="number of corrected chips"
    )
    options = parser.parse_intermixed_args(arguments)
    key = hashlib.sha256(" ".join(options.overrides).encode()).hexdigest()[:8]
    rows = []
    for seed in options.seeds:
        store = ChipStore.open(Path(options.store.format(seed=seed)))
        pool = ChipStore.open(Path(options.pool.format(seed=seed)))
        file = options.out / f"{key}-{seed}.json"
        if not file.exists():
            bundle = _train(store, options.recipe, seed, options.out)
            result = correct(
                bundle,
                store,
                pool,
                seed,
                options.count,
                options.overrides,
                options.out / f"work-{seed}",
            )
            write_text(file, json.dumps(result))
        rows.append(json.loads(file.read_text()))
    print(format_row(" ".join(options.overrides) or "default", rows))


def _train(store: ChipStore, recipe: str, seed: int, out: Path) -> Path:
    """Return the bundle of a seed; train it first if it is missing."""
    target = out / f"bundle-{seed}"
    if not target.exists():
        values = [f"data.root={store.root}", f"seed={seed}", "name=start"]
        run = finetune(load_recipe(find_recipe(recipe), values), out / "runs")
        shutil.copytree(run.bundle_dir, target)
    return target


def correct(
    bundle: Path,
    store: ChipStore,
    pool: ChipStore,
    seed: int,
    count: int,
    overrides: Sequence[str],
    work: Path,
) -> dict[str, Any]:
    """Add wrongly classified chips to a copy of a store, train on, and compare.

    Args:
        bundle: the bundle that is corrected.
        store: the chips on which it was trained.
        pool: chips with their classes; those that the store has are left out.
        seed: seed of the draw and of the training.
        count: number of corrected chips.
        overrides: recipe keys of the correction.
        work: folder of the copy.

    Returns:
        Numbers of chips of the pool, and recalls of the validation chips, as in the
        table of `format_row`.
    """
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(store.root, work / "store")
    table = pool.table[~pool.table["sha256"].isin(store.table["sha256"])].reset_index(
        drop=True
    )
    labels = table["class"].to_numpy(str)
    was_right = _classify(bundle, pool, table) == labels
    chosen = np.random.default_rng(seed).permutation(np.flatnonzero(~was_right))[:count]
    rows = table.iloc[chosen]
    page = {
        "path": [str((pool.root / path).resolve()) for path in rows["path"]],
        "class": rows["class"],
    }
    pd.DataFrame(page | {"verdict": "class"}).to_csv(
        work / "corrected.csv", index=False
    )
    summary = add_corrections(work / "store", work / "corrected.csv")
    assert len(summary.result.rejected) == 0, summary.result.rejected
    began = time.process_time()
    values = [
        f"data.root={work / 'store'}",
        f"seed={seed}",
        "name=corrected",
        *overrides,
    ]
    run = finetune(correction_recipe(bundle, values), work / "runs")
    seconds = time.process_time() - began
    is_right = _classify(run.bundle_dir, pool, table) == labels
    others = np.setdiff1d(np.flatnonzero(~was_right), chosen)
    replay = read_replay(run.folder / REPLAY_FILE)
    assert replay is not None
    (part,) = (part for part in replay.parts if part.name == VALIDATION)
    falls = {item.name: (item.before or 0) - item.after for item in part.classes}
    sentences = replay.sentences()

    def said(name: str) -> bool:
        return any(
            text.startswith((f"{name} lost", f"{name} fell")) for text in sentences
        )

    return {
        "corrected": [int(is_right[chosen].sum()), len(chosen)],
        "others": [int(is_right[others].sum()), len(others)],
        "broken": [int((~is_right[was_right]).sum()), int(was_right.sum())],
        "macro": [part.macro_before, part.macro_after],
        "fall": max(falls.values()),
        "unsaid": sum(fall > 0.1 and not said(name) for name, fall in falls.items()),
        "seconds": seconds,
    }


def _classify(
    bundle_dir: Path, store: ChipStore, table: pd.DataFrame
) -> NDArray[np.str_]:
    """Return the class that a bundle predicts for each chip of a table, with its test-time views."""
    bundle = Bundle.load(bundle_dir)
    model, contract = with_tta(
        load_classifier(bundle, "cpu"), bundle.contract, bundle.recipe.evaluate
    )
    chips = ChipImages(
        store.root,
        table,
        bundle.classes,
        contract.model_copy(update={"bands": store.bands}),
    )
    names: NDArray[np.str_] = np.array(bundle.classes)[
        collect_outputs(model, chips.batches(256)).logits.argmax(axis=1)
    ]
    return names


def format_row(name: str, rows: Sequence[dict[str, Any]]) -> str:
    """Return a row of Markdown: the mean over the seeds, and the worst seed of the corrected chips.

    Args:
        name: first cell.
        rows: results of `correct`.
    """
    share = {
        key: [100 * row[key][0] / max(1, row[key][1]) for row in rows]
        for key in ("corrected", "others", "broken")
    }
    gains = [100 * (row["macro"][1] - row["macro"][0]) for row in rows]
    cells = [
        name,
        (
            f"{np.mean([row['corrected'][0] for row in rows]):.1f} of"
            f" {rows[0]['corrected'][1]}"
        ),
        str(min(row["corrected"][0] for row in rows)),
        f"{np.mean(share['others']):.0f}",
        f"{np.mean(share['broken']):.1f}",
        f"{100 * np.mean([row['macro'][0] for row in rows]):.1f}",
        f"{np.mean(gains):+.1f}",
        f"{100 * max(row['fall'] for row in rows):.0f}",
        str(sum(row["unsaid"] for row in rows)),
        f"{np.mean([row['seconds'] for row in rows]):.0f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    with explained_errors():
        main()
