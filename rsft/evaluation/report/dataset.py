"""Summarize the chip store of a run: numbers of chips, audit, and pictures of chips.

Make the gallery of the most confident mistakes and the least confident predictions.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsft.data.audit.findings import AUDIT_FILE, AuditResult, read_audits
from rsft.data.chips.store import DATASET, MANIFEST, SPLITS, ChipStore
from rsft.data.loading.batches import ChipImages
from rsft.errors import RequestError
from rsft.evaluation.report.render import format_percent, join_words
from rsft.evaluation.report.run_files import RunFiles
from rsft.models.bundle.bundle import Bundle
from rsft.types import GROUPS, Progress
from rsft.utils.atomic_files import sha256
from rsft.utils.untrusted.documents import parse_json

WEBP_QUALITY = 72
MAX_CLASSES = 24
"""Up to this number of classes, chips are counted by class; with more, by group."""

RGB_PLANES = (("R", "G", "B"), ("red", "green", "blue"), ("B04", "B03", "B02"), ("B4", "B3", "B2"))
"""Names of the planes that are shown as red, green and blue; the last two are those of Sentinel-2."""


@dataclass(frozen=True)
class DatasetSummary:
    """The chip store in numbers.

    Attributes:
        name: name of the chip store.
        root: folder of the chip store.
        splits: the splits that have chips.
        row_kind: whether a row is a "class" or a "group".
        rows: name of each row, with the number of chips of each split.
        skipped: number of inputs that were left out on purpose, by reason.
        rejected: number of inputs that could not be used.
        command: the command that made the store; "" if unknown.
        altered: whether the manifest differs from the one that the run was trained on; None if unknown.
        audit: result of the audit; None if the store was not audited.
    """

    name: str
    root: str
    splits: list[str]
    row_kind: str
    rows: list[tuple[str, list[int]]]
    skipped: dict[str, int]
    rejected: int
    command: str
    altered: bool | None
    audit: AuditResult | None


def open_chip_store(run: RunFiles, root: Path | None) -> ChipStore:
    """Open the chip store of a run.

    Args:
        run: files of the run.
        root: folder of the chip store (default: its folder when the run was evaluated or trained).

    Returns:
        The chip store.

    Raises:
        RequestError: the folder is not a chip store.
        DataError: the chip store is damaged.
    """
    trained_on = Path(run.metadata.data.get("root", run.recipe.data.root))
    candidates = [root] if root else [Path(run.data), trained_on]
    return ChipStore.open(next((path for path in candidates if (path / MANIFEST).is_file()), candidates[0]))


def summarize_store(run: RunFiles, store: ChipStore) -> DatasetSummary:
    """Count the chips of a store and read its audit.

    Args:
        run: files of the run, which contain the hash of the manifest that it was trained on.
        store: the chip store.

    Returns:
        The summary.

    Raises:
        DataError: a file of the store is damaged.
    """
    splits = [name for name in SPLITS if not store.split(name).empty]
    column = "class" if len(store.classes) <= MAX_CLASSES else "group"
    names = store.classes if column == "class" else GROUPS
    counts = [store.split(split)[column].value_counts() for split in splits]
    trained_hash = run.metadata.data.get("manifest_sha256")
    audit_path = store.root / AUDIT_FILE
    audits = read_audits(audit_path) if audit_path.is_file() else []
    return DatasetSummary(
        name=store.name,
        root=str(store.root),
        splits=splits,
        row_kind=column,
        rows=[(name, [int(count.get(name, 0)) for count in counts]) for name in names],
        skipped=store.skipped,
        rejected=store.rejected,
        command=str(parse_json((store.root / DATASET).read_text("utf-8")).get("command", "")),
        altered=None if trained_hash is None else trained_hash != sha256(store.root / MANIFEST),
        audit=audits[0] if audits else None,
    )


class ChipPictures:
    """Evaluated chips as the network sees them: cropped, resized and stretched according to the run's contract.

    Args:
        run: files of the run.
        store: the chip store.
        progress: called while chips are read.

    Attributes:
        plane_names: names of the planes in the pictures.

    Raises:
        RsftError: the bundle or a chip cannot be read, or a class or the split is not in the store.
    """

    def __init__(self, run: RunFiles, store: ChipStore, progress: Progress | None = None) -> None:
        bundle = Bundle.load(run.folder / "bundle")
        table = store.split(run.evaluation.split if run.evaluation else "val")
        if table.empty or set(table["class"]) - set(bundle.classes):
            raise RequestError("the chip store does not match the run", store.root, "give its chip store with --data")
        self.images = ChipImages(store.root, table, bundle.classes, bundle.contract, progress).images
        self.rows = {path: row for row, path in enumerate(table["path"])}
        self.planes = _shown_planes(bundle.contract.planes)
        self.plane_names = ", ".join(dict.fromkeys(bundle.contract.planes[plane] for plane in self.planes))

    def has(self, path: str) -> bool:
        """Return whether the evaluated split has a chip with this path."""
        return path in self.rows

    def picture(self, path: str, side: int) -> str:
        """Return one chip as a data URI.

        Args:
            path: path of the chip.
            side: largest side in pixels.
        """
        return _data_uri(self._image(path, side))

    def sheet(self, paths: Sequence[str], side: int, columns: int) -> str:
        """Return many chips in one picture as a data URI. Chips that do not exist are black.

        Args:
            paths: paths of the chips, row by row.
            side: side of a chip in pixels.
            columns: number of chips per row.
        """
        rows = -(-len(paths) // columns)
        sheet = np.zeros((rows * side, columns * side, 3), np.uint8)
        for number, path in enumerate(paths):
            top, left = (side * index for index in divmod(number, columns))
            if self.has(path):
                sheet[top : top + side, left : left + side] = self._image(path, side, exact=True)
        return _data_uri(sheet)

    def _image(self, path: str, side: int, exact: bool = False) -> NDArray[np.uint8]:
        """Return pixels (side, side, 3) as blue, green and red. A smaller chip keeps its size unless `exact`."""
        image = np.ascontiguousarray(self.images[self.rows[path]][:, :, self.planes[::-1]])
        if exact or image.shape[0] > side:
            image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        return image


def _shown_planes(planes: Sequence[str]) -> list[int]:
    """Return the indices of the planes for red, green and blue; the first plane for each if no names match."""
    for names in RGB_PLANES:
        if set(names) <= set(planes):
            return [planes.index(name) for name in names]
    return [0, 0, 0]


def _data_uri(image: NDArray[np.uint8]) -> str:
    data = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY])[1].tobytes()
    return f"data:image/webp;base64,{base64.b64encode(data).decode()}"


MAX_MISTAKES, MAX_UNSURE = 96, 48
"""Largest numbers of mistakes and of predictions with low confidence in the gallery."""

PICTURE_SIZE = 96
"""Largest side of a picture in pixels."""


@dataclass(frozen=True)
class GalleryChip:
    """A chip of the gallery.

    Attributes:
        name: name of the chip.
        truth: name of the true class.
        predicted: name of the predicted class.
        confidence: probability of the predicted class in percent.
        truth_share: probability of the true class in percent.
        kinds: "mistake", "unsure" or both, separated by a space.
        class_set: the possible classes as text; "" without class sets.
        ood: the out-of-distribution score if it is above 1; otherwise "".
        picture: a data URI; "" without pictures.
    """

    name: str
    truth: str
    predicted: str
    confidence: str
    truth_share: str
    kinds: str
    class_set: str
    ood: str
    picture: str


@dataclass(frozen=True)
class Gallery:
    """The chips of the gallery.

    Attributes:
        chips: the chips in the order of the page.
        mistakes: number of mistakes in the evaluation.
        shown: number of mistakes in the gallery.
    """

    chips: list[GalleryChip]
    mistakes: int
    shown: int

    @property
    def true_classes(self) -> list[str]:
        """True classes of the chips."""
        return sorted({chip.truth for chip in self.chips})

    @property
    def predicted_classes(self) -> list[str]:
        """Predicted classes of the chips."""
        return sorted({chip.predicted for chip in self.chips})


def make_gallery(predictions: pd.DataFrame, classes: Sequence[str], pictures: ChipPictures | None) -> Gallery:
    """Choose the most confident mistakes and the least confident predictions.

    Args:
        predictions: the table predictions.parquet.
        classes: class names by index.
        pictures: pictures of the chips; None for a gallery without pictures.

    Returns:
        The gallery. If it cannot show all mistakes, it shows some of every class.
    """
    probabilities = predictions[[f"p_{name}" for name in classes]].to_numpy(float)
    table = predictions.reset_index(drop=True)
    table["confidence"] = probabilities.max(axis=1)
    truth = table["class"].map({name: index for index, name in enumerate(classes)}).to_numpy(int)
    table["truth_share"] = probabilities[np.arange(len(table)), truth]
    wrong = table[table["class"] != table["predicted"]]
    mistakes, unsure = _most_confident(wrong), table.nsmallest(MAX_UNSURE, "confidence", keep="first").index
    kinds = {row: ["mistake"] for row in mistakes}
    for row in unsure:
        kinds.setdefault(row, []).append("unsure")
    chips = [_gallery_chip(table.iloc[row], " ".join(words), pictures) for row, words in kinds.items()]
    return Gallery(chips, len(wrong), len(mistakes))


def _most_confident(wrong: pd.DataFrame) -> list[int]:
    """Return up to `MAX_MISTAKES` rows by falling confidence, with the most confident mistakes of every class."""
    ordered = wrong.sort_values("confidence", ascending=False, kind="stable")
    rank = ordered.groupby("class", sort=False).cumcount()
    chosen = ordered.assign(rank=rank).sort_values("rank", kind="stable").head(MAX_MISTAKES)
    rows: list[int] = chosen.sort_values("confidence", ascending=False, kind="stable").index.tolist()
    return rows


def _gallery_chip(row: pd.Series, kinds: str, pictures: ChipPictures | None) -> GalleryChip:
    class_set = row.get("class_set")
    ood = row.get("ood")
    return GalleryChip(
        name=str(row["name"]),
        truth=str(row["class"]),
        predicted=str(row["predicted"]),
        confidence=format_percent(row["confidence"]),
        truth_share=format_percent(row["truth_share"]),
        kinds=kinds,
        class_set="" if class_set is None else join_words(list(class_set), "or"),
        ood=f"{ood:.1f}" if ood is not None and ood > 1 else "",
        picture=pictures.picture(row["path"], PICTURE_SIZE) if pictures and pictures.has(row["path"]) else "",
    )
