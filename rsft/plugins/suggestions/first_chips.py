"""Choose the chips that are labeled first, without any label.

The typical chip of each large cluster is the first (TypiClust, Hacohen et al. 2022,
https://arxiv.org/abs/2202.02794).
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from rsft.data.chips.chip_content import StoredChip, make_chip
from rsft.data.chips.record import ChipRecord
from rsft.errors import DataError, RequestError
from rsft.plugins.suggestions.label_audit import compute_chip_features
from rsft.plugins.suggestions.suggest import Suggestions, suggestion_table
from rsft.scenes.options import Declaration
from rsft.types import Floats, Pixels, Progress, Reals
from rsft.utils.operating_system import path_to_text

START = 1
"""Number of clusters whose typical chips a page shows first. Then the labels choose. Of
1, 5 and 10, one cluster found all classes of MSTAR with the fewest labels, see
docs/results/first_labels.md."""

DIMENSIONS = 64
"""Number of principal components of the features."""

_NEIGHBORS = 20  # of the density of a chip, as in TypiClust
_SEED = 0


class FirstChips(NamedTuple):
    """Unlabeled chips, those to label first at the beginning.

    Attributes:
        suggestions: the typical chips, that of the largest cluster first.
        table: one row per chip, the suggested ones first: path and class, which is "".
        vectors: principal components of the features of these chips (N, D).
        pixels: the chips (H, W, B).
    """

    suggestions: Suggestions
    table: pd.DataFrame
    vectors: Floats
    pixels: list[Pixels]


def suggest_first_chips(
    files: Mapping[str, Declaration],
    count: int,
    limit: int,
    progress: Progress | None = None,
) -> FirstChips:
    """Suggest the typical chips of the largest clusters of unlabeled chips.

    Args:
        files: paths of the chips, with what is declared about each one.
        count: number of clusters.
        limit: largest number of chips; more are drawn at random.
        progress: called while chips are read.

    Raises:
        RequestError: no chip can be used.
    """
    paths = list(files)
    notes = []
    if len(paths) > limit:
        drawn = np.random.default_rng(_SEED).permutation(len(paths))[:limit]
        notes.append(f"{limit:,} of {len(paths):,} chips, drawn at random")
        paths = [paths[number] for number in sorted(drawn)]
    chips, faults = _read_chips({path: files[path] for path in paths})
    if faults:
        notes.append(f"chips that were left out: {len(faults):,}, such as {faults[0]}")
    rows = [chip.row for chip in chips.values()]
    pixels = [chip.pixels for chip in chips.values()]
    units = [str(row["unit"]) for row in rows]
    table = pd.DataFrame({"path": list(chips), "class": "", "unit": units})
    bands = tuple(str(rows[0]["bands"]).split(","))
    features = compute_chip_features(
        table, bands, pixels.__getitem__, progress=progress
    )
    vectors = reduce_features(features.features)
    clusters = typical_chips(vectors, count)
    rest = np.setdiff1d(np.arange(len(vectors)), list(clusters))
    order = [*clusters, *rest]
    table = features.table[["path", "class"]].iloc[order].reset_index(drop=True)
    first = table[: len(clusters)]
    reasons = [f"typical of {size:,} similar chips" for size in clusters.values()]
    suggested, path_notes = suggestion_table(first, reasons)
    notes += features.notes + path_notes
    suggestions = Suggestions(suggested, first, (), {}, len(table), notes)
    pixels = [chips[path].pixels for path in table["path"]]
    return FirstChips(suggestions, table, vectors[order], pixels)


def _read_chips(
    files: Mapping[str, Declaration],
) -> tuple[dict[str, StoredChip], list[str]]:
    """Return the chips that have the most common bands, and faults of the others.

    Raises:
        RequestError: no chip can be used.
    """
    chips = {}
    faults = []
    for path, declared in files.items():
        record = ChipRecord(
            "chip",
            "train",
            "object",
            Path(path),
            selected_bands=declared.bands,
            extra_columns={"unit": declared.unit} if declared.unit else {},
        )
        try:
            chips[path] = make_chip(record)
        except DataError as error:
            faults.append(f"{path_to_text(Path(path))}: {error.message}")
    if not chips:
        raise RequestError(
            "no chip can be used", "chips", "; ".join(faults[:3]) or "give image files"
        )
    bands = {path: chip.row["bands"] for path, chip in chips.items()}
    common, _ = Counter(bands.values()).most_common(1)[0]
    for path, names in bands.items():
        if names != common:
            faults.append(f"{path_to_text(Path(path))}: bands other than {common}")
            del chips[path]
    return chips, faults


def reduce_features(features: Reals, count: int = DIMENSIONS) -> Floats:
    """Return the principal components (N, D) of features (N, F), at most `count`."""
    x = np.asarray(features, np.float64)
    model = PCA(min(count, *x.shape), svd_solver="full")
    return np.asarray(model.fit_transform(x), np.float64)


def typical_chips(vectors: Floats, count: int) -> dict[int, int]:
    """Return the typical chip of each cluster, that of the largest cluster first.

    The typical chip has the smallest mean distance to its neighbors in the cluster.

    Args:
        vectors: features (N, D).
        count: number of clusters, of k-means.

    Returns:
        Size of the cluster by the number of its typical chip.
    """
    model = KMeans(min(count, len(vectors)), n_init=3, random_state=_SEED)
    labels = model.fit_predict(vectors)
    sizes = Counter(labels.tolist())
    chips = {}
    for cluster, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        members = np.flatnonzero(labels == cluster)
        index = NearestNeighbors(n_neighbors=min(_NEIGHBORS + 1, size))
        distances, _ = index.fit(vectors[members]).kneighbors(vectors[members])
        chips[int(members[distances.mean(axis=1).argmin()])] = size
    return chips
